//! The latency canary: what the agent asks of it, and what it delivers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{GpuUuid, ProcessKey};

/// What the kernel calls a canary's worker.
pub const WORKER_NAME: &str = "slicewatch-cana";

/// Whether a device's canary probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryState {
    /// It holds a context, or is about to.
    Running,
    /// It would run, and gave its memory back for tenants to have.
    Yielded,
    /// A probe, or a call into the driver, has not come back.
    Stalled,
    /// It is not wanted, or cannot run here.
    Off,
}

impl CanaryState {
    /// All of them, for series that are 0 or 1.
    pub const ALL: [Self; 4] = [Self::Running, Self::Yielded, Self::Stalled, Self::Off];

    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Yielded => "yielded",
            Self::Stalled => "stalled",
            Self::Off => "off",
        }
    }
}

/// Why a canary is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryReason {
    /// Running: tenants share the device.
    Shared,
    /// Running: asked for on every device with a tenant.
    Forced,
    /// Running: its worker has no context yet.
    Starting,
    /// Running: the GPU's clock is not yet tied to the host's, so no delay is told.
    Calibrating,
    /// Yielded: free framebuffer came near the floor.
    LowMemory,
    /// Yielded: its own context did not fit.
    OutOfMemory,
    /// Stalled: a probe was launched and has not started.
    ProbeOutstanding,
    /// Stalled: its worker does not come out of a call into the driver.
    CallHung,
    /// Off: by the agent's settings.
    Disabled,
    /// Off: nothing is known of the device yet.
    NotYet,
    /// Off: nobody holds a context, and its own would keep the card from resting.
    NoTenant,
    /// Off: one tenant at most can be there.
    NotShared,
    /// Off: the compute mode allows one process.
    ExclusiveProcess,
    /// Off: a MIG instance that was not chosen for it.
    Mig,
    /// Off: under MPS, without being asked.
    Mps,
    /// Off: the device does not answer.
    GpuDown,
    /// Off: there is no libcuda.so.1 that can be loaded.
    NoLibrary,
    /// Off: the driver's CUDA lacks a call that it needs.
    OldDriver,
    /// Off: CUDA refused, or its worker died; tried again later.
    Failed,
}

impl CanaryReason {
    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Forced => "forced",
            Self::Starting => "starting",
            Self::Calibrating => "calibrating",
            Self::LowMemory => "low_memory",
            Self::OutOfMemory => "out_of_memory",
            Self::ProbeOutstanding => "probe_outstanding",
            Self::CallHung => "call_hung",
            Self::Disabled => "disabled",
            Self::NotYet => "not_yet",
            Self::NoTenant => "no_tenant",
            Self::NotShared => "not_shared",
            Self::ExclusiveProcess => "exclusive_process",
            Self::Mig => "mig",
            Self::Mps => "mps",
            Self::GpuDown => "gpu_down",
            Self::NoLibrary => "no_library",
            Self::OldDriver => "old_driver",
            Self::Failed => "failed",
        }
    }
}

/// What a device's canary shall do from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryWish {
    pub gpu: GpuUuid,
    /// [`CanaryState::Running`] asks for probes; any other state for none, and no context.
    pub state: CanaryState,
    pub reason: CanaryReason,
}

/// One probe: a kernel of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Monotonic time of its launch.
    #[serde(rename = "launched_seconds", with = "super::time::seconds")]
    pub launched: Duration,
    /// From its launch to its start, by the GPU's clock.
    #[serde(rename = "delay_seconds", with = "super::time::seconds")]
    pub delay: Duration,
    /// False where it was given up before it started: it waited at least this long.
    pub started: bool,
}

/// A device's canary since the last step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryWindow {
    pub gpu: GpuUuid,
    pub state: CanaryState,
    pub reason: CanaryReason,
    /// Probes that came back or were given up, in the order of launches.
    pub probes: Vec<Probe>,
    /// Arrivals that could not be launched at their time, since no place for them was left.
    pub missed: u32,
    /// Age of the oldest probe that has not started; zero without one. `None` while it does not
    /// probe.
    pub waiting: Option<Duration>,
    /// How late delays may be told: the width of the bounds that tie the GPU's clock to the host's.
    pub clock_error: Option<Duration>,
    /// Its worker, and those of the last minute: tenants of nobody.
    pub workers: Vec<ProcessKey>,
}

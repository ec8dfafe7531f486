//! What the collectors deliver: one window of one node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Bytes, CanaryWindow, Cause, GpuSeconds, GpuUuid, HostPid, Moment, ProcessFacts, Reading,
};

/// A MIG instance's place on its card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigInstance {
    /// `1g.18gb`, as NVML names it.
    pub profile: Arc<str>,
    pub gpu_instance: u32,
    pub compute_instance: u32,
}

/// Who a device is: constant while the driver is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuIdentity {
    pub uuid: GpuUuid,
    /// The card, where this is a MIG instance.
    pub parent: Option<GpuUuid>,
    /// NVML's index of the card, `0`, or of an instance, `0:1`: for legends, never identity.
    pub index: Arc<str>,
    pub model: Arc<str>,
    /// The number in `/dev/nvidiaN` of the card, where known.
    pub minor: Option<u32>,
    pub pci_bus_id: Arc<str>,
    pub driver_version: Arc<str>,
    /// MIG mode of the card: `Some(true)` on, `None` where the card has no MIG.
    pub mig_enabled: Option<bool>,
    /// Set where this is a MIG instance.
    pub mig: Option<MigInstance>,
    /// True under EXCLUSIVE_PROCESS compute mode.
    pub exclusive_process: bool,
}

/// What one MIG profile would offer: from NVML, for the sizing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigProfile {
    pub profile: Arc<str>,
    /// Memory as really usable.
    #[serde(rename = "memory_bytes")]
    pub memory: Bytes,
    pub multiprocessors: u32,
    /// Compute slices of an instance.
    pub slices: u32,
    /// Instances of this profile that an empty card holds.
    pub instances: u32,
}

/// A device's own memory figures at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub total: Bytes,
    /// The driver's own; [`Reading::Unsupported`] on drivers whose `used` contains it.
    pub reserved: Reading<Bytes>,
    pub used: Bytes,
    pub free: Bytes,
}

/// Which list a process was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextKind {
    Compute,
    Graphics,
    /// A client of the MPS server.
    Mps,
}

/// A process with a context on the device, its lists merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedProcess {
    pub pid: HostPid,
    pub kind: ContextKind,
    pub used: Reading<Bytes>,
    /// Who the host says it is: `Failed` with [`Cause::ProcessGone`], [`Cause::PidNamespace`],
    /// [`Cause::PermissionDenied`] and so on where it could not be told.
    pub facts: Reading<Arc<ProcessFacts>>,
}

/// One reading of a device's process list, between two readings of its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessList {
    pub at: Moment,
    /// Memory just before the list was read.
    pub memory: Memory,
    /// True where `used` was another just after: the rows belong to neither.
    pub torn: bool,
    /// False where the driver had more rows than it gave.
    pub complete: bool,
    pub processes: Vec<ListedProcess>,
}

/// One row of the utilization ring as the driver gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingRow {
    pub pid: HostPid,
    /// Time of the last sample this process won, on the driver's clock since 1970.
    pub last_won: Duration,
    /// Whole percent, rounded up, of the mean over all samples of the read.
    pub sm_percent: u32,
}

/// One sample of the whole card: 5 a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSample {
    pub at: Duration,
    pub percent: u32,
}

/// One read of the ring: rows of processes and the card's own samples of the same stretch.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingRead {
    pub rows: Vec<RingRow>,
    /// Oldest first; empty where the card cannot give them.
    pub samples: Vec<RingSample>,
}

/// Why a row of the ring was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// A percentage over 100.
    OutOfRange,
    /// A time not newer than the watermark, or newer than the newest sample.
    OutOfTime,
    /// A PID that was in no list since the watermark, or stood for two processes since.
    UnknownPid,
    /// The whole read: the wall clock stepped, so its times mean nothing.
    ClockStep,
}

impl Refusal {
    /// All of them, for series that start at 0.
    pub const ALL: [Self; 4] = [
        Self::OutOfRange,
        Self::OutOfTime,
        Self::UnknownPid,
        Self::ClockStep,
    ];

    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OutOfRange => "row_out_of_range",
            Self::OutOfTime => "row_out_of_time",
            Self::UnknownPid => "row_unknown_pid",
            Self::ClockStep => "clock_step",
        }
    }
}

/// GPU time of one process in one drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainRow {
    pub pid: HostPid,
    /// Who the process was when it was last listed.
    pub facts: Reading<Arc<ProcessFacts>>,
    pub time: GpuSeconds,
    /// Ring samples that this process won.
    pub samples: u32,
    /// True where the process had ended and its time is what no other row claims.
    pub inferred: bool,
}

/// The utilization ring since the last drain, as GPU time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Time covered: samples times their spacing.
    pub covered: Duration,
    /// Ring samples in it, idle ones included.
    pub samples: u32,
    /// Of those, the ones in which the card was busy.
    pub busy_samples: u32,
    /// GPU time of the whole card.
    pub busy: GpuSeconds,
    pub rows: Vec<DrainRow>,
    pub refused: BTreeMap<Refusal, u32>,
}

/// An XID of the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct XidEvent {
    pub xid: u32,
}

/// One device (card or MIG instance) over one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceWindow {
    pub identity: Arc<GpuIdentity>,
    /// The last reading in the window.
    pub memory: Reading<Memory>,
    /// Highest `used` of the window's 10 Hz readings.
    pub used_peak: Reading<Bytes>,
    /// Time in the window with free memory under the floor.
    pub under_floor: Duration,
    /// Every list read in the window, oldest first; at least the 1 Hz one.
    pub lists: Vec<ProcessList>,
    /// Why there is no list, where there is none.
    pub lists_failed: Option<Cause>,
    /// Lists that memory moved under (re-read ones included).
    pub torn: u32,
}

/// One physical GPU over one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuWindow {
    pub card: Arc<GpuIdentity>,
    pub from: Moment,
    pub to: Moment,
    /// `Failed` where the card did not answer: devices are then empty.
    pub up: Reading<()>,
    pub devices: Vec<DeviceWindow>,
    /// Set in windows in which the ring was drained; `Unsupported` under MIG.
    pub drain: Option<Reading<Drain>>,
    pub xids: Vec<XidEvent>,
    pub mig_profiles: Reading<Arc<[MigProfile]>>,
}

/// All windows that reached the agent in one step, and the cards that have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSample {
    pub at: Moment,
    pub windows: Vec<GpuWindow>,
    /// Cards that are known and silent, with the reason.
    pub silent: Vec<(Arc<GpuIdentity>, Cause)>,
    /// Of each device that has a canary, or was told to have none.
    pub canaries: Vec<CanaryWindow>,
}

//! What tenants of a device wait, and because of whom: the canary's delays as the snapshot has
//! them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CanaryReason, CanaryState, Reading};

/// Seconds of probes' delay, added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DelaySeconds(pub f64);

impl std::ops::AddAssign for DelaySeconds {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// Upper bounds of the delay histogram's buckets, in seconds: 25 us doubling to 102 ms, 1 s, 10 s.
pub const DELAY_BOUNDS: [f64; 15] = [
    25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 25.6e-3,
    51.2e-3, 102.4e-3, 1.0, 10.0,
];

/// Every probe since the agent started.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelayHistogram {
    /// Probes up to each of [`DELAY_BOUNDS`] and over the one before it; the last entry has those
    /// over all.
    pub counts: [u64; DELAY_BOUNDS.len() + 1],
    #[serde(rename = "sum_seconds")]
    pub sum: DelaySeconds,
    /// The same probes in the exponential buckets of a native histogram, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<NativeBuckets>,
}

impl DelayHistogram {
    /// Probes.
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(0, |sum, &count| sum.saturating_add(count))
    }
}

/// Buckets of a Prometheus native histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NativeBuckets {
    /// Each bucket is `2^(2^-schema)` times as wide as the one below.
    pub schema: i32,
    /// Delays up to this count as zero.
    #[serde(rename = "zero_threshold_seconds")]
    pub zero_threshold: f64,
    pub zero_count: u64,
    /// By bucket number: number `i` ends at `2^(i * 2^-schema)` seconds.
    pub positive: BTreeMap<i32, u64>,
}

/// Some quantiles of delays, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Probes that it stands on.
    pub probes: u64,
    #[serde(rename = "mean_seconds", with = "super::time::seconds")]
    pub mean: Duration,
    #[serde(rename = "p50_seconds", with = "super::time::seconds")]
    pub p50: Duration,
    #[serde(rename = "p90_seconds", with = "super::time::seconds")]
    pub p90: Duration,
    #[serde(rename = "p99_seconds", with = "super::time::seconds")]
    pub p99: Duration,
}

/// Delay that no pod is charged for, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayRemainder {
    /// What a probe waits with nobody active.
    Baseline,
    /// Put down to processes of the host.
    HostProcess,
    /// Put down to processes whose pod is not known.
    UnknownProcess,
    /// Nobody's share of the GPU's time is known for the time of the probes.
    NoShare,
}

impl DelayRemainder {
    /// All of them, for series that start at 0.
    pub const ALL: [Self; 4] = [
        Self::Baseline,
        Self::HostProcess,
        Self::UnknownProcess,
        Self::NoShare,
    ];

    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::HostProcess => "host_process",
            Self::UnknownProcess => "unknown_process",
            Self::NoShare => "no_share",
        }
    }
}

/// By what a pod's part of the delay was weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Its share of the GPU's time alone: how long it holds the GPU cannot be told apart yet.
    Share,
    /// Its share and the length of its turns, learnt from windows with other mixes of tenants.
    Turn,
}

impl Weight {
    /// A word for tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Turn => "turn",
        }
    }
}

/// What one container inflicted and suffered on one device, since it was first seen there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ContainerDelay {
    /// Delay of all probes that is put down to it.
    #[serde(rename = "inflicted_seconds")]
    pub inflicted: DelaySeconds,
    /// Delay that the others inflicted on probes made while it was active.
    #[serde(rename = "exposed_seconds")]
    pub exposed: DelaySeconds,
    /// Probes made while it was active: an estimate, so no whole number.
    pub exposed_probes: f64,
    /// How long it keeps the GPU once it has it, where that could be learnt.
    #[serde(rename = "turn_seconds", with = "super::time::seconds::option")]
    pub turn: Option<Duration>,
    /// Of the newest window that had it.
    pub weight: Weight,
}

/// What one tenant inflicted on another, over the trailing ten minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelayPair {
    /// Indexes into the device's containers.
    pub victim: usize,
    pub aggressor: usize,
    #[serde(rename = "delay_seconds")]
    pub delay: DelaySeconds,
    /// Probes made while the victim was active.
    pub probes: f64,
}

/// The canary of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryView {
    pub state: CanaryState,
    pub reason: CanaryReason,
    /// `Unsupported` where no canary ever probed.
    pub delays: Reading<DelayHistogram>,
    /// Over the trailing 60 s; `Failed(Stale)` without a probe in them.
    pub recent: Reading<Quantiles>,
    /// With nobody else active; `Failed(NotYet)` until that was seen.
    pub baseline: Reading<Quantiles>,
    /// Age of the oldest probe that has not started; zero without one.
    #[serde(rename = "stall_seconds", with = "super::time::seconds::reading")]
    pub stall: Reading<Duration>,
    /// Arrivals that could not be launched at their time.
    pub missed: u64,
    /// How late delays may be told: the width of the bounds that tie the GPU's clock to the host's.
    #[serde(rename = "clock_error_seconds", with = "super::time::seconds::option")]
    pub clock_error: Option<Duration>,
    /// With what the containers inflicted, these add up to the histogram's sum.
    #[serde(rename = "unattributed_seconds")]
    pub unattributed: BTreeMap<DelayRemainder, DelaySeconds>,
    /// The ten pairs with the longest delay, longest first.
    pub pairs: Vec<DelayPair>,
}

impl CanaryView {
    /// Of a device without one.
    pub fn off(reason: CanaryReason) -> Self {
        Self {
            state: CanaryState::Off,
            reason,
            delays: Reading::Unsupported,
            recent: Reading::Unsupported,
            baseline: Reading::Unsupported,
            stall: Reading::Unsupported,
            missed: 0,
            clock_error: None,
            unattributed: BTreeMap::new(),
            pairs: Vec::new(),
        }
    }
}

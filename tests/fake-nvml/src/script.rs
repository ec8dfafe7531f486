//! What the fake driver shows and how it misbehaves.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The whole node. Setting a script replaces the one before and lets go of its hanging calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    pub driver_version: String,
    /// Every call, and initialising, says that the driver is not loaded.
    pub unloaded: bool,
    pub gpus: Vec<Gpu>,
    pub faults: Vec<Fault>,
}

impl Script {
    /// A node with these cards.
    pub fn of(gpus: Vec<Gpu>) -> Self {
        Self {
            driver_version: "580.159.04".to_owned(),
            gpus,
            ..Self::default()
        }
    }

    /// This script with a fault more.
    #[must_use]
    pub fn with(mut self, call: &str, gpu: Option<usize>, what: What) -> Self {
        self.faults.push(Fault {
            call: call.to_owned(),
            gpu,
            what,
        });
        self
    }
}

/// One card.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    pub uuid: String,
    pub name: String,
    pub minor: u32,
    pub pci_bus_id: String,
    /// NVML's number of the compute mode; 3 is EXCLUSIVE_PROCESS.
    pub compute_mode: u32,
    /// Fell off the bus: each of its calls says so.
    pub lost: bool,
    pub memory: Memory,
    pub compute: Vec<Process>,
    pub graphics: Vec<Process>,
    pub mps: Vec<Process>,
    /// The utilization ring, oldest first.
    pub ring: Vec<Sample>,
    /// Ring samples show only once their time has come: a script of the future.
    pub ring_in_time: bool,
    /// PIDs that have ended: they have no ring rows any more.
    pub exited: Vec<u32>,
    /// Since when (microseconds) a process has its context, where that is not for ever.
    pub began: BTreeMap<u32, u64>,
    /// Ring rows that the driver makes up.
    pub garbage: Vec<Row>,
    /// NVML's number of the value type of samples; 1 is unsigned int.
    pub sample_type: u32,
    /// `None`: a card without MIG.
    pub mig: Option<Mig>,
    /// XIDs to deliver once.
    pub xids: Vec<u64>,
}

impl Gpu {
    /// An idle H200 with this number.
    pub fn h200(number: u32) -> Self {
        Self {
            uuid: format!("GPU-00000000-0000-0000-0000-{number:012}"),
            name: "NVIDIA H200".to_owned(),
            minor: number,
            pci_bus_id: format!("00000000:{:02X}:00.0", 0x1b + number),
            memory: Memory {
                total: 143_771 << 20,
                reserved: 615 << 20,
                used: 0,
            },
            sample_type: 1,
            mig: Some(Mig {
                enabled: false,
                instances: Vec::new(),
                profiles: Profile::h200(),
            }),
            ..Self::default()
        }
    }

    /// The samples that the driver has and that are newer than `after`.
    pub(crate) fn samples(&self, after: u64) -> impl Iterator<Item = &Sample> {
        let now = match self.ring_in_time {
            true => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as u64),
            false => u64::MAX,
        };
        self.ring
            .iter()
            .filter(move |sample| sample.at > after && sample.at <= now)
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub total: u64,
    pub reserved: u64,
    pub used: u64,
}

/// A row of a process list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// `None`: NVML_VALUE_NOT_AVAILABLE.
    pub used: Option<u64>,
}

impl Process {
    /// A process with this many MiB.
    pub const fn mib(pid: u32, mib: u64) -> Self {
        Self {
            pid,
            used: Some(mib << 20),
        }
    }
}

/// One sample of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Microseconds since 1970.
    pub at: u64,
    pub winner: Option<u32>,
    pub percent: u32,
}

/// A row of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub pid: u32,
    pub at: u64,
    pub percent: u32,
}

/// A card's MIG side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mig {
    pub enabled: bool,
    /// By slot; a slot may be empty.
    pub instances: Vec<Option<Instance>>,
    pub profiles: Vec<Profile>,
}

/// One MIG device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub uuid: String,
    /// `NVIDIA H200 MIG 1g.18gb`.
    pub name: String,
    pub gpu_instance: u32,
    pub compute_instance: u32,
    pub slices: u32,
    pub memory: Memory,
    pub compute: Vec<Process>,
}

/// One MIG profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// NVML's number of it.
    pub number: u32,
    /// `MIG 1g.18gb`.
    pub name: String,
    pub memory_mib: u64,
    pub multiprocessors: u32,
    pub slices: u32,
    pub instances: u32,
}

impl Profile {
    /// What an H200 offers.
    pub fn h200() -> Vec<Self> {
        let rows = [
            (0, "1g.18gb", 16_384, 16, 1, 7),
            (7, "1g.18gb+me", 16_384, 16, 1, 1),
            (9, "1g.35gb", 33_280, 26, 1, 4),
            (1, "2g.35gb", 33_280, 32, 2, 3),
            (2, "3g.71gb", 71_424, 60, 3, 2),
            (3, "4g.71gb", 71_424, 64, 4, 1),
            (4, "7g.141gb", 143_360, 132, 7, 1),
        ];
        rows.map(|(number, name, memory_mib, sms, slices, instances)| Self {
            number,
            name: format!("MIG {name}"),
            memory_mib,
            multiprocessors: sms,
            slices,
            instances,
        })
        .to_vec()
    }
}

/// One way to misbehave, in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The C symbol.
    pub call: String,
    /// On which card; `None` is all, and calls without a card.
    pub gpu: Option<usize>,
    pub what: What,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Does not return until a script without this fault is set.
    Hang,
    /// Takes this many milliseconds.
    Slow(u64),
    /// Returns this code.
    Code(u32),
    /// Says so many times that the buffer is one row too short, however long it is, and fills
    /// it as far as it goes.
    Short(u32),
}

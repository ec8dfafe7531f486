//! What a scenario asks of the simulated node: cards, workloads, faults.

use std::ops::RangeInclusive;

use rand::Rng;
use rand::rngs::SmallRng;

use super::names::Naming;
use crate::model::ContextKind;

/// Nanoseconds since the start of the simulation.
pub(super) type Nanos = u64;
/// A time that does not come.
pub(super) const NEVER: Nanos = Nanos::MAX;
/// One MiB in bytes.
pub(super) const MIB: u64 = 1 << 20;
/// Framebuffer of a bare CUDA context (measured: 518 MiB and a little).
pub(super) const CONTEXT: u64 = 520 * MIB;

/// Nanoseconds of `seconds`, at least one.
pub(super) fn nanos(seconds: f64) -> Nanos {
    ((seconds * 1e9) as Nanos).max(1)
}

/// An exponential gap, in seconds.
pub(super) fn exponential(mean: f64, rng: &mut SmallRng) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

/// Between `low` and `high`, each order of magnitude as likely as the next.
pub(super) fn log_uniform((low, high): (f64, f64), rng: &mut SmallRng) -> f64 {
    (rng.random_range(low.ln()..=high.ln())).exp()
}

/// When a process has work for the GPU. Closed loops: a gap starts when the work is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Demand {
    /// Kernels back to back, for ever.
    Steady { kernel: f64 },
    /// Bursts of `work` seconds of GPU time in kernels of `kernel` seconds, gaps of mean `gap`.
    Bursts {
        kernel: f64,
        work: (f64, f64),
        gap: f64,
    },
    /// Nothing at all.
    Idle,
}

impl Demand {
    /// A trainer: 8 ms kernels, never a gap.
    pub(super) const HEAVY: Self = Self::Steady { kernel: 8e-3 };
    /// Half-millisecond kernels in short runs, about half of the time alone.
    pub(super) const MEDIUM: Self = Self::Bursts {
        kernel: 0.5e-3,
        work: (5e-3, 25e-3),
        gap: 15e-3,
    };

    /// Requests of `work` seconds, `gap` seconds apart.
    pub(super) const fn requests(work: (f64, f64), gap: f64) -> Self {
        Self::Bursts {
            kernel: 1.2e-3,
            work,
            gap,
        }
    }

    /// On for about 0.4 s, off so that `duty` of the time is on when alone.
    pub(super) fn bursty(duty: f64) -> Self {
        Self::Bursts {
            kernel: 4e-3,
            work: (0.2, 0.6),
            gap: 0.4 * (1.0 - duty) / duty,
        }
    }

    /// Length of one kernel in seconds.
    pub(super) const fn kernel(self) -> f64 {
        match self {
            Self::Steady { kernel } | Self::Bursts { kernel, .. } => kernel,
            Self::Idle => 1e-3,
        }
    }
}

/// What a process does with framebuffer above its context. Sizes in MiB, times in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum MemoryPlan {
    /// One allocation soon after the start.
    Flat { working: u64 },
    /// Up and down between two sizes.
    Sway {
        low: u64,
        high: u64,
        step: u64,
        every: f64,
    },
    /// Up to the ceiling step by step, then all freed and from the start.
    Grow { step: u64, ceiling: u64, every: f64 },
}

/// What runs: the same for processes of pods and of the host.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    /// The program's name; the kernel keeps 15 bytes of it.
    pub(super) program: &'static str,
    pub(super) kind: ContextKind,
    pub(super) demand: Demand,
    pub(super) memory: MemoryPlan,
    /// After a failed allocation: try again (true) or exit.
    pub(super) patient: bool,
    /// Framebuffer of the bare context in bytes.
    pub(super) context: u64,
}

impl Workload {
    /// A CUDA program that exits when memory runs out.
    pub(super) const fn cuda(program: &'static str, demand: Demand, memory: MemoryPlan) -> Self {
        Self {
            program,
            kind: ContextKind::Compute,
            demand,
            memory,
            patient: false,
            context: CONTEXT,
        }
    }
}

/// How a pod's life goes. Ranges in seconds, drawn log-uniformly.
#[derive(Debug, Clone, Copy)]
pub(super) enum Life {
    /// Runs on; its container is started again if it ends.
    Service,
    /// Ends by itself; a pod of another name comes after the gap.
    Job { run: (f64, f64), gap: (f64, f64) },
    /// The container ends again and again, in the same pod; `xid` is the fault it causes.
    Crash { after: (f64, f64), xid: Option<u32> },
    /// Deleted and made anew under the same name with another UID.
    Recreated { after: (f64, f64) },
}

/// QoS class, as the cgroup path shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// A workload that keeps one pod on the node.
#[derive(Debug, Clone)]
pub(super) struct PodPlan {
    pub(super) namespace: String,
    pub(super) naming: Naming,
    pub(super) container: &'static str,
    /// A second container that needs no GPU.
    pub(super) sidecar: Option<&'static str>,
    pub(super) qos: Qos,
    /// Device and replicas that the kubelet granted.
    pub(super) grant: Option<(usize, u32)>,
    /// Device that its processes use.
    pub(super) runs: Option<usize>,
    pub(super) processes: u32,
    pub(super) workload: Workload,
    pub(super) life: Life,
    /// Seconds after the start of the simulation.
    pub(super) begins: f64,
    /// Its `/proc/PID/cgroup` refuses to be read.
    pub(super) unreadable: bool,
    /// The driver has no figure for its memory.
    pub(super) memory_unknown: bool,
}

impl PodPlan {
    /// A service with one process on `device`, granted one replica of it.
    pub(super) fn new(namespace: &str, naming: Naming, device: usize, workload: Workload) -> Self {
        Self {
            namespace: namespace.to_owned(),
            naming,
            container: "main",
            sidecar: None,
            qos: Qos::Burstable,
            grant: Some((device, 1)),
            runs: Some(device),
            processes: 1,
            workload,
            life: Life::Service,
            begins: 0.0,
            unreadable: false,
            memory_unknown: false,
        }
    }
}

/// A process outside of every pod.
#[derive(Debug, Clone)]
pub(super) struct HostPlan {
    pub(super) device: usize,
    /// Its path below `/`; `None`: the driver gives PID 0 for it.
    pub(super) cgroup: Option<&'static str>,
    pub(super) workload: Workload,
    /// The ring gives it the time of all MPS clients.
    pub(super) mps_server: bool,
}

/// Driver memory that no row names, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Overhead {
    pub(super) first: u64,
    pub(super) further: u64,
}

impl Overhead {
    /// Measured on an H200: 8.8 MiB with one process, 14.4 MiB with two.
    pub(super) const MEASURED: Self = Self {
        first: 9_227_469,
        further: 5_872_026,
    };

    /// With so many processes.
    pub(super) const fn of(self, processes: usize) -> u64 {
        match processes {
            0 => 0,
            n => self.first + self.further * (n as u64 - 1),
        }
    }
}

/// Which form `/proc/PID/cgroup` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CgroupForm {
    /// v2, systemd driver, with the runtime's scope prefix (`cri-containerd`, `crio`).
    Systemd(&'static str),
    /// v2, cgroupfs driver.
    Cgroupfs,
    /// v1 hybrid, cgroupfs driver.
    V1,
}

/// One card to build.
#[derive(Debug, Clone)]
pub(super) struct CardPlan {
    /// Indexes into the profile table; `None`: MIG is off.
    pub(super) mig: Option<Vec<usize>>,
    /// Advertised of each of its devices.
    pub(super) replicas: u32,
}

/// Something that breaks or mends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Xid(usize, u32),
    CardLost(usize),
    CardBack(usize),
    DriverUnloaded,
    DriverLoaded,
    /// Nobody runs on the card for so many seconds.
    Stall(usize, f64),
    /// The worker of the device's latency canary dies.
    CanaryKilled(usize),
    KubeletDown,
    KubeletUp,
}

/// A whole scenario.
#[derive(Debug, Clone)]
pub(super) struct NodePlan {
    pub(super) cards: Vec<CardPlan>,
    pub(super) pods: Vec<PodPlan>,
    pub(super) hosts: Vec<HostPlan>,
    pub(super) overhead: Overhead,
    pub(super) cgroups: CgroupForm,
    /// `nvidia.com/gpu`, or `nvidia.com/gpu.shared` where the plugin renames.
    pub(super) resource: &'static str,
    pub(super) pids: RangeInclusive<u32>,
    /// Chance that memory moves right after a list was read.
    pub(super) torn_chance: f64,
    /// One read of the ring in so many carries a garbage row; 0: none.
    pub(super) garbage_every: u32,
    /// Seconds after the start.
    pub(super) faults: Vec<(f64, Fault)>,
}

impl NodePlan {
    /// An empty node with so many whole cards.
    pub(super) fn new(cards: usize, replicas: u32, cgroups: CgroupForm) -> Self {
        Self {
            cards: vec![
                CardPlan {
                    mig: None,
                    replicas
                };
                cards
            ],
            pods: Vec::new(),
            hosts: Vec::new(),
            overhead: Overhead::MEASURED,
            cgroups,
            resource: "nvidia.com/gpu",
            pids: 21_000..=4_194_303,
            torn_chance: 0.0,
            garbage_every: 0,
            faults: Vec::new(),
        }
    }
}

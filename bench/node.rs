//! A made-up node for the benchmarks: cards behind the driver's seam, made of arithmetic so that
//! they keep nothing, and a host's files, really written, so that they are read as a host's are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slicewatch::collect::host::{NameBook, ProcessTable, RealFiles};
use slicewatch::collect::sampler::{Sampler, SamplerSettings};
use slicewatch::model::{
    Allocations, Bytes, ContainerAllocation, ContextKind, DeviceRef, GpuError, GpuIdentity,
    GpuSource, GpuUuid, Grant, HostFiles, HostPid, Memory, MigProfile, Moment, RawProcess, Reading,
    RingRead, RingRow, RingSample, XidEvent,
};

/// A sampler's beat.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Beats of a window.
pub(crate) const TICKS_A_WINDOW: u32 = 10;
const FIRST_PID: u32 = 1000;
/// Of one process: 400 of them fit on a card.
const PROCESS: Bytes = Bytes::mib(300);
/// One process of a card takes this much, and gives it back, once in [`STEP_EVERY`].
const STEP: Bytes = Bytes::mib(64);
const STEP_EVERY: Duration = Duration::from_secs(3);
/// The driver's ring: one sample in so long, and so many of them.
const RING_PERIOD: u64 = 200_000;
const RING_SAMPLES: u64 = 70;

/// How large the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) gpus: u32,
    /// On all cards together, one container each: as many as processes, or a multiple of `gpus`.
    pub(crate) pods: u32,
    /// On all cards together.
    pub(crate) processes: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            gpus,
            pods,
            processes,
        } = self;
        write!(f, "{gpus} GPUs, {pods} pods, {processes} processes")
    }
}

struct Names {
    namespace: String,
    pod: String,
    uid: String,
    container_id: String,
}

const CONTAINER: &str = "server";

fn names(pod: u32) -> Names {
    Names {
        namespace: format!("team-{:02}", pod % 12),
        pod: format!("text-embedding-{pod:04}-7c9d8f6b5d-x{pod:04}"),
        uid: format!("{pod:08x}-1fb5-4b34-b5f4-5b1f2d1b6b11"),
        container_id: format!("{pod:064x}"),
    }
}

fn gpu_uuid(gpu: u32) -> GpuUuid {
    GpuUuid::new(format!("GPU-7d3f8a52-0b61-4c2e-9f0a-{gpu:012}"))
}

impl Shape {
    /// Writes /proc and the kubelet's log folders below `root`.
    ///
    /// # Errors
    /// As of writing files.
    pub(crate) fn write_host(self, root: &Path) -> io::Result<()> {
        let logs = root.join("var/log");
        fs::create_dir_all(logs.join("containers"))?;
        for pod in 0..self.pods {
            let Names {
                namespace,
                pod,
                uid,
                container_id,
            } = names(pod);
            fs::create_dir_all(logs.join(format!("pods/{namespace}_{pod}_{uid}")))?;
            let log = format!("containers/{pod}_{namespace}_{CONTAINER}-{container_id}.log");
            fs::write(logs.join(log), "")?;
        }
        for process in 0..self.processes {
            let pid = FIRST_PID + process;
            let Names {
                uid, container_id, ..
            } = names(process % self.pods);
            let folder = root.join(format!("proc/{pid}"));
            fs::create_dir_all(&folder)?;
            let rest = "20 0 24 0 123456 41943040000 310000 18446744073709551615 1 1 0 0 0 0 0";
            let stat =
                format!("{pid} (python3) S 1 {pid} {pid} 0 -1 4194560 9 0 0 0 9 5 0 0 {rest}");
            fs::write(folder.join("stat"), stat)?;
            let uid = uid.replace('-', "_");
            let slice = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable";
            let cgroup =
                format!("0::/{slice}-pod{uid}.slice/cri-containerd-{container_id}.scope\n");
            fs::write(folder.join("cgroup"), cgroup)?;
        }
        Ok(())
    }

    /// What the kubelet answers: a replica a pod.
    pub(crate) fn allocations(self) -> Arc<Allocations> {
        let grant = |gpu, replicas| Grant {
            resource: "nvidia.com/gpu".into(),
            device: DeviceRef::Uuid(gpu_uuid(gpu)),
            replicas,
            shared: true,
        };
        let containers = (0..self.pods)
            .map(|pod| {
                let gpu = pod % self.gpus;
                let Names { namespace, pod, .. } = names(pod);
                ContainerAllocation {
                    namespace: namespace.into(),
                    pod: pod.into(),
                    container: CONTAINER.into(),
                    grants: vec![grant(gpu, 1)],
                    claims: Vec::new(),
                }
            })
            .collect();
        let replicas = self.pods.div_ceil(self.gpus);
        let allocatable: BTreeMap<_, _> = (0..self.gpus)
            .map(|gpu| (DeviceRef::Uuid(gpu_uuid(gpu)), grant(gpu, replicas)))
            .collect();
        Arc::new(Allocations {
            containers,
            allocatable,
        })
    }

    /// The agent's sampler of one card; the node's files are below `root`.
    pub(crate) fn card(self, gpu: u32, root: &Path, start: Moment) -> Card {
        let source = Source::new(self, gpu, start);
        let now = Arc::clone(&source.now);
        let files: Arc<dyn HostFiles> = Arc::new(RealFiles::new(root));
        let table = ProcessTable::with_namespace(files, "/proc", Reading::Value(()));
        Card {
            sampler: Sampler::new(Box::new(source), table, SamplerSettings::default(), start),
            now,
        }
    }
}

/// The book of names of the node whose files are below `root`.
pub(crate) fn name_book(root: &Path) -> NameBook {
    let files: Arc<dyn HostFiles> = Arc::new(RealFiles::new(root));
    NameBook::new(files, "/var/log/pods", "/var/log/containers")
}

/// Some instant.
pub(crate) fn start() -> Moment {
    Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_764_000_000),
    }
}

/// A made-up card and the agent's sampler of it.
pub(crate) struct Card {
    sampler: Sampler,
    now: Arc<AtomicU64>,
}

impl Card {
    /// Polls the sampler at `now`.
    pub(crate) fn poll(&mut self, now: Moment) -> Option<slicewatch::model::GpuWindow> {
        self.now
            .store(now.unix.as_micros() as u64, Ordering::Relaxed);
        self.sampler.poll(now).window
    }
}

/// One card, without MIG.
struct Source {
    identity: GpuIdentity,
    shape: Shape,
    gpu: u32,
    /// Microseconds since 1970.
    now: Arc<AtomicU64>,
}

impl Source {
    fn new(shape: Shape, gpu: u32, start: Moment) -> Self {
        Self {
            identity: GpuIdentity {
                uuid: gpu_uuid(gpu),
                parent: None,
                index: gpu.to_string().into(),
                model: "NVIDIA H200".into(),
                minor: Some(gpu),
                pci_bus_id: format!("00000000:{:02X}:00.0", 0x1b + gpu).into(),
                driver_version: "580.159.04".into(),
                mig_enabled: Some(false),
                mig: None,
                exclusive_process: false,
            },
            shape,
            gpu,
            now: Arc::new(AtomicU64::new(start.unix.as_micros() as u64)),
        }
    }

    /// PIDs on this card.
    fn pids(&self) -> impl Iterator<Item = HostPid> + use<> {
        let Shape {
            gpus, processes, ..
        } = self.shape;
        (self.gpu..processes)
            .step_by(gpus as usize)
            .map(|process| HostPid(FIRST_PID + process))
    }

    fn count(&self) -> u32 {
        let Shape {
            gpus, processes, ..
        } = self.shape;
        processes.saturating_sub(self.gpu).div_ceil(gpus)
    }

    /// What the first process holds above the others now.
    fn extra(&self) -> Bytes {
        let steps = self.now.load(Ordering::Relaxed) / STEP_EVERY.as_micros() as u64;
        Bytes(STEP.0 * (steps % 2))
    }
}

impl GpuSource for Source {
    fn card(&self) -> &GpuIdentity {
        &self.identity
    }

    fn devices(&mut self) -> Result<Vec<GpuIdentity>, GpuError> {
        Ok(vec![self.identity.clone()])
    }

    fn memory(&mut self, _: usize) -> Result<Memory, GpuError> {
        let (total, reserved) = (Bytes::mib(143_771), Bytes::mib(615));
        let used = match self.count() {
            0 => Bytes(0),
            count => Bytes(PROCESS.0 * u64::from(count)) + self.extra(),
        };
        Ok(Memory {
            total,
            reserved: Reading::Value(reserved),
            used,
            free: total.saturating_sub(reserved).saturating_sub(used),
        })
    }

    fn processes(&mut self, _: usize, into: &mut Vec<RawProcess>) -> Result<bool, GpuError> {
        let mut extra = self.extra();
        into.extend(self.pids().map(|pid| RawProcess {
            pid,
            kind: ContextKind::Compute,
            used: Reading::Value(PROCESS + std::mem::take(&mut extra)),
        }));
        Ok(true)
    }

    /// Never idle; the winners take turns, at random as it were.
    fn ring(&mut self, after: Duration) -> Result<RingRead, GpuError> {
        let newest = self.now.load(Ordering::Relaxed) / RING_PERIOD;
        let oldest = (after.as_micros() as u64 / RING_PERIOD + 1).max(newest - RING_SAMPLES + 1);
        let count = u64::from(self.count());
        if count == 0 || oldest > newest {
            return Ok(RingRead::default());
        }
        let at = |sample| Duration::from_micros(sample * RING_PERIOD);
        let samples: Vec<_> = (oldest..=newest)
            .map(|sample| RingSample {
                at: at(sample),
                percent: 100,
            })
            .collect();
        let mut won: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
        for sample in oldest..=newest {
            let turns = won
                .entry(sample.wrapping_mul(0x9E37_79B9) % count)
                .or_default();
            *turns = (turns.0 + 1, sample);
        }
        let rows = won.into_iter().map(|(place, (turns, last))| RingRow {
            pid: HostPid(FIRST_PID + self.gpu + place as u32 * self.shape.gpus),
            last_won: at(last),
            sm_percent: (100 * turns).div_ceil(samples.len() as u32),
        });
        Ok(RingRead {
            rows: rows.collect(),
            samples,
        })
    }

    fn xids(&mut self) -> Result<Vec<XidEvent>, GpuError> {
        Ok(Vec::new())
    }

    fn mig_profiles(&mut self) -> Result<Vec<MigProfile>, GpuError> {
        Err(GpuError::Unsupported)
    }
}

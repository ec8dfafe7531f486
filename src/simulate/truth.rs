//! What really happens on the simulated node: the word that the agent's is compared with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Bytes, GpuSeconds, GpuUuid, HostPid, Moment, PodUid, StartTime};

/// Gone tenants whose totals are kept; older ones are forgotten.
const GONE_TENANTS: usize = 16_384;
/// Pods whose names are kept; older ones are forgotten.
const PODS: usize = 16_384;

/// One container on one device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantKey {
    /// The card, or the MIG instance.
    pub gpu_uuid: GpuUuid,
    pub pod_uid: PodUid,
    pub container: Arc<str>,
}

/// What one container really holds and received on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantTruth {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    /// Held now.
    pub memory: Bytes,
    /// Received since the pod began: time in which its kernels really ran.
    pub gpu_seconds: GpuSeconds,
    /// Time in which it had work for the GPU.
    pub active: Duration,
    /// Of it, the time in which another container or process had work too.
    pub contended: Duration,
    /// Time in which it had work, times how long it keeps the card once it has it (of all its
    /// processes). Half of that a second is what it adds to a newcomer's mean wait.
    pub turn_seconds: f64,
    /// Its processes now.
    pub processes: Vec<HostPid>,
    /// Replicas of this device that the kubelet granted to it.
    pub granted: u32,
    /// Allocations that failed, contexts included.
    pub ooms: u64,
    /// Processes that ended.
    pub exits: u64,
    /// Of them, those that ended while less than 5 % of the framebuffer was free.
    pub exits_under_pressure: u64,
    /// False once the pod has ended.
    pub present: bool,
}

/// What really happens on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceTruth {
    /// False while the card is lost or the driver is not loaded.
    pub up: bool,
    /// As the driver reports it: every process and [`DeviceTruth::unexplained`].
    pub used: Bytes,
    /// Driver memory that no row names.
    pub unexplained: Bytes,
    /// Time in which any kernel ran. A saturated card reaches 0.979 of the time.
    pub busy: GpuSeconds,
    /// Of it, what went to processes outside of every pod, ended ones included.
    pub outside_pods: GpuSeconds,
    /// Time in which two or more containers or processes had work.
    pub contended: Duration,
    /// As [`TenantTruth::turn_seconds`], of processes outside of every pod, ended ones included.
    pub outside_turn_seconds: f64,
    /// What a newcomer has to wait on the mean, added up over time: half of everybody's turns, and
    /// the rest of stalls. A second's is the mean delay of a probe above that on an idle card.
    pub expected_delay: f64,
    /// Time with less than 5 % of the framebuffer free.
    pub pressure: Duration,
    /// Allocations that failed.
    pub ooms: u64,
    /// Of the card, by number, since the start.
    pub xids: BTreeMap<u32, u64>,
}

/// Whose a process really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrueOwner {
    Container {
        namespace: Arc<str>,
        pod: Arc<str>,
        container: Arc<str>,
        pod_uid: PodUid,
    },
    /// A process of the host, by its `comm`.
    Host(Arc<str>),
    /// The driver gives PID 0 for it.
    Nobody,
    /// The worker of the agent's own latency canary.
    Canary,
}

/// One live process with a context.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessTruth {
    pub gpu_uuid: GpuUuid,
    pub pid: HostPid,
    pub started: StartTime,
    pub owner: TrueOwner,
    pub memory: Bytes,
    /// The driver has no figure for its memory, which is in the device's `used` all the same.
    pub memory_hidden: bool,
    /// Its cgroup cannot be read: nobody can prove its owner.
    pub owner_hidden: bool,
    pub gpu_seconds: GpuSeconds,
}

/// A pod that was on the node at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTruth {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    /// The container that may use a GPU.
    pub container: Arc<str>,
    pub uid: PodUid,
    pub workload: Arc<str>,
    /// `Deployment`, `StatefulSet`, `CronJob`, `DaemonSet` or `Pod`.
    pub workload_kind: &'static str,
}

/// The whole node at one instant. Totals run since the start of the simulation; of tenants and
/// pods that are gone the youngest 16,384 are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub at: Moment,
    pub kubelet_up: bool,
    /// Cards without MIG and MIG instances.
    pub devices: BTreeMap<GpuUuid, DeviceTruth>,
    pub tenants: BTreeMap<TenantKey, TenantTruth>,
    /// Live ones, device by device.
    pub processes: Vec<ProcessTruth>,
    /// Every pod, oldest first.
    pub pods: Vec<PodTruth>,
}

impl Truth {
    /// The live process of this PID.
    pub fn process(&self, pid: HostPid) -> Option<&ProcessTruth> {
        self.processes.iter().find(|process| process.pid == pid)
    }
}

/// One waiting process of the time-slicing queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    pub pid: HostPid,
    /// Length of its kernels.
    pub kernel: Duration,
    /// How long it keeps the GPU once it has it: its kernel, at most a time slice.
    pub turn: Duration,
}

/// A stretch of time in which the queue did not change: the processes in it take turns in a
/// circle, each for its [`Turn::turn`]. Nobody runs between two stretches that do not touch.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// On the monotonic clock of [`Moment`].
    pub from: Duration,
    pub to: Duration,
    pub turns: Vec<Turn>,
}

/// Totals of one tenant while it lasts.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) key: TenantKey,
    pub(super) namespace: Arc<str>,
    pub(super) pod: Arc<str>,
    pub(super) granted: u32,
    pub(super) gpu: f64,
    pub(super) turns: f64,
    pub(super) active: f64,
    pub(super) contended: f64,
    pub(super) ooms: u64,
    pub(super) exits: u64,
    pub(super) exits_under_pressure: u64,
    pub(super) present: bool,
    /// The last settled step that counted it as active, so that two processes count once.
    pub(super) stamp: u64,
}

/// All tenants' totals, by slot, bounded.
#[derive(Debug, Default)]
pub(super) struct Records {
    slots: Vec<Record>,
    gone: VecDeque<usize>,
    free: Vec<usize>,
    pub(super) pods: VecDeque<PodTruth>,
    pub(super) stamp: u64,
}

impl Records {
    /// Opens the totals of a tenant and says in which slot.
    pub(super) fn open(
        &mut self,
        key: TenantKey,
        namespace: Arc<str>,
        pod: Arc<str>,
        granted: u32,
    ) -> usize {
        let record = Record {
            key,
            namespace,
            pod,
            granted,
            gpu: 0.0,
            turns: 0.0,
            active: 0.0,
            contended: 0.0,
            ooms: 0,
            exits: 0,
            exits_under_pressure: 0,
            present: true,
            stamp: 0,
        };
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = record;
            slot
        } else {
            self.slots.push(record);
            self.slots.len() - 1
        }
    }

    /// Notes that the tenant's pod has ended; its totals stay until too many have.
    pub(super) fn close(&mut self, slot: usize) {
        self.slots[slot].present = false;
        self.gone.push_back(slot);
        if self.gone.len() > GONE_TENANTS {
            self.free.extend(self.gone.pop_front());
        }
    }

    pub(super) fn note_pod(&mut self, pod: PodTruth) {
        self.pods.push_back(pod);
        if self.pods.len() > PODS {
            self.pods.pop_front();
        }
    }

    pub(super) fn get(&mut self, slot: usize) -> &mut Record {
        &mut self.slots[slot]
    }

    /// Tenants that are not forgotten, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(slot, _)| !self.free.contains(slot))
    }
}

//! Who may have a latency canary now.
//!
//! A canary is itself a tenant: its context keeps an idle card from resting (41 W, measured on an
//! H200) and takes framebuffer. So it is there only while tenants hold contexts and really share
//! the device, and it leaves *before* its memory is needed. Time is the snapshot's.
//!
//! Invariant: what no rule allows is never asked for; and no canary comes and goes faster than
//! [`LINGER`] with its tenants, or [`CALM`] with free memory.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::canary::WORKER_NAME;
use crate::model::snapshot::Owner;
use crate::model::{
    Bytes, CanaryReason, CanaryState, CanaryWish, Cause, GpuUuid, GpuView, Memory, Moment, Reading,
    Remainder, Sharing, Snapshot,
};

#[cfg(test)]
mod tests;

/// A canary stays for so long after its last tenant, or the last but one: a container that starts
/// again would find it gone otherwise.
pub const LINGER: Duration = Duration::from_secs(10);
/// Framebuffer has been free for so long before a canary comes back.
pub const CALM: Duration = Duration::from_secs(30);
/// A canary leaves when free framebuffer was not known for so long.
pub const BLIND: Duration = Duration::from_secs(5);
/// This part of the framebuffer is free beyond what a canary needs, before it comes.
const MARGIN: f64 = 0.025;

/// Which devices get a canary.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum CanaryMode {
    /// Where tenants share the device: more than one replica, or more than one tenant.
    #[default]
    Auto,
    /// Where there is a tenant.
    Always,
    /// None.
    Off,
}

/// By what canaries are allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseSettings {
    pub mode: CanaryMode,
    /// Part of the framebuffer that is to stay free, as the sampler's.
    pub floor_ratio: f64,
    /// Framebuffer of a canary's own context.
    pub memory: Bytes,
    /// Also under MPS, whose clients run side by side, so that a canary's delay is not theirs.
    pub under_mps: bool,
    /// The MIG instances that get one.
    pub mig_instances: Vec<GpuUuid>,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            mode: CanaryMode::Auto,
            floor_ratio: 0.05,
            // Measured on an H200, with the context's limits cut.
            memory: Bytes::mib(254),
            under_mps: false,
            mig_instances: Vec::new(),
        }
    }
}

impl LeaseSettings {
    /// A running canary leaves below this much free framebuffer: the floor, and its own once more,
    /// so that what it gives back is there before tenants reach the floor.
    fn leaves_below(&self, total: Bytes) -> Bytes {
        Bytes((total.0 as f64 * self.floor_ratio) as u64) + self.memory
    }

    /// One that is not there comes at this much: with it, more is free than where it leaves.
    fn comes_at(&self, total: Bytes) -> Bytes {
        self.leaves_below(total) + self.memory + Bytes((total.0 as f64 * MARGIN) as u64)
    }
}

/// Who has a canary, and what is remembered for it.
#[derive(Debug)]
pub struct Leases {
    settings: LeaseSettings,
    devices: BTreeMap<GpuUuid, Lease>,
}

impl Leases {
    /// Nobody has one yet.
    pub fn new(settings: LeaseSettings) -> Self {
        Self {
            settings,
            devices: BTreeMap::new(),
        }
    }

    /// What each device's canary shall do from now on, in the order of the snapshot's devices.
    pub fn decide(&mut self, snapshot: &Snapshot) -> Vec<CanaryWish> {
        let mut before = std::mem::take(&mut self.devices);
        snapshot
            .gpus
            .iter()
            .map(|gpu| {
                let uuid = &gpu.identity.uuid;
                let mut lease = before.remove(uuid).unwrap_or_default();
                let (state, reason) = lease.decide(gpu, &self.settings, snapshot.at);
                self.devices.insert(uuid.clone(), lease);
                CanaryWish {
                    gpu: uuid.clone(),
                    state,
                    reason,
                }
            })
            .collect()
    }
}

/// One device's.
#[derive(Debug, Default)]
struct Lease {
    running: bool,
    /// A tenant was last seen.
    tenant_at: Option<Moment>,
    /// The device was last seen shared.
    shared_at: Option<Moment>,
    /// Free framebuffer was last known.
    memory_at: Option<Moment>,
    /// There was too little of it, and not yet enough for [`CALM`].
    short: bool,
    enough_since: Option<Moment>,
}

impl Lease {
    fn decide(
        &mut self,
        gpu: &GpuView,
        settings: &LeaseSettings,
        now: Moment,
    ) -> (CanaryState, CanaryReason) {
        self.watch_memory(gpu.memory, settings, now);
        let verdict = forbidden(gpu, settings)
            .or_else(|| self.unwanted(gpu, settings.mode, now))
            .map(|reason| (CanaryState::Off, reason))
            .unwrap_or_else(|| self.by_memory(settings.mode, now));
        self.running = verdict.0 == CanaryState::Running;
        verdict
    }

    /// Why nobody has use for it here, if so. What is not known leaves things as they are.
    fn unwanted(&mut self, gpu: &GpuView, mode: CanaryMode, now: Moment) -> Option<CanaryReason> {
        let tenants = match gpu.tenants {
            Reading::Value(_) => Tenants::of(gpu),
            Reading::Unsupported | Reading::Failed(_) if self.running => return None,
            Reading::Unsupported | Reading::Failed(_) => return Some(CanaryReason::NotYet),
        };
        if tenants.any {
            self.tenant_at = Some(now);
        }
        if tenants.shared == Some(true) {
            self.shared_at = Some(now);
        }
        let lately = |at: Option<Moment>| at.is_some_and(|at| now.since(at) < LINGER);
        let stays = self.running && lately(self.tenant_at);
        if !(tenants.any || stays) {
            return Some(CanaryReason::NoTenant);
        }
        let shared = match tenants.shared {
            Some(true) => true,
            Some(false) => self.running && lately(self.shared_at),
            None => self.running,
        };
        (mode == CanaryMode::Auto && !shared).then_some(CanaryReason::NotShared)
    }

    /// Learns whether there is framebuffer for it.
    fn watch_memory(&mut self, memory: Reading<Memory>, settings: &LeaseSettings, now: Moment) {
        let Reading::Value(Memory { total, free, .. }) = memory else {
            self.enough_since = None;
            // It may have been needed meanwhile.
            self.short |= self.running && self.is_blind(now);
            return;
        };
        self.memory_at = Some(now);
        let enough = if self.running {
            free >= settings.leaves_below(total)
        } else {
            free >= settings.comes_at(total)
        };
        if !enough {
            self.short = true;
            self.enough_since = None;
        } else if now.since(*self.enough_since.get_or_insert(now)) >= CALM {
            self.short = false;
        }
    }

    fn is_blind(&self, now: Moment) -> bool {
        self.memory_at.is_none_or(|at| now.since(at) >= BLIND)
    }

    /// It is wanted: whether there is framebuffer for it.
    fn by_memory(&self, mode: CanaryMode, now: Moment) -> (CanaryState, CanaryReason) {
        let known_now = self.memory_at == Some(now);
        if self.is_blind(now) || !(known_now || self.running) {
            (CanaryState::Off, CanaryReason::NotYet)
        } else if self.short {
            (CanaryState::Yielded, CanaryReason::LowMemory)
        } else if mode == CanaryMode::Always {
            (CanaryState::Running, CanaryReason::Forced)
        } else {
            (CanaryState::Running, CanaryReason::Shared)
        }
    }
}

/// What forbids a canary whoever is there, if anything.
fn forbidden(gpu: &GpuView, settings: &LeaseSettings) -> Option<CanaryReason> {
    let identity = &gpu.identity;
    if settings.mode == CanaryMode::Off {
        return Some(CanaryReason::Disabled);
    }
    match gpu.up {
        Reading::Value(()) => {}
        Reading::Failed(Cause::NotYet) => return Some(CanaryReason::NotYet),
        Reading::Failed(_) | Reading::Unsupported => return Some(CanaryReason::GpuDown),
    }
    if identity.exclusive_process {
        return Some(CanaryReason::ExclusiveProcess);
    }
    let is_instance = identity.mig.is_some() || identity.parent.is_some();
    if is_instance && !settings.mig_instances.contains(&identity.uuid) {
        return Some(CanaryReason::Mig);
    }
    (gpu.sharing == Sharing::Mps && !settings.under_mps).then_some(CanaryReason::Mps)
}

/// Who holds a context, canaries apart.
struct Tenants {
    any: bool,
    /// Whether two can be there, or are; `None` where the kubelet does not say.
    shared: Option<bool>,
}

impl Tenants {
    fn of(gpu: &GpuView) -> Self {
        let mut owners = gpu
            .processes
            .iter()
            // By name too, for that of another agent on this node: each would keep the other's
            // alive. Who takes the name loses nothing but a canary for itself.
            .filter(|process| &*process.name != WORKER_NAME)
            .map(|process| process.owner)
            .filter(|owner| *owner != Owner::Unattributed(Remainder::Canary));
        let first = owners.next();
        // Processes that are nobody's may be each another's.
        let differs = |owner| Some(owner) != first || matches!(owner, Owner::Unattributed(_));
        let shared = match gpu.replicas {
            _ if owners.any(differs) => Some(true),
            Reading::Value(replicas) => Some(replicas > 1),
            Reading::Unsupported => Some(false),
            Reading::Failed(_) => None,
        };
        Self {
            any: first.is_some(),
            shared,
        }
    }
}

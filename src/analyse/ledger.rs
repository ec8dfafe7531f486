//! The contention ledger: windows in, counters and gauges out.
//!
//! Time is an argument. Memory, presence and peaks come from process lists; GPU time from drains
//! of the utilization ring.
//!
//! # GPU time
//! A sample of the ring names the process that ran last before it, and is given with all that the
//! card was busy in those 200 ms. On a card that is never idle, and for a tenant alone on a card,
//! sums of them are GPU time, without bias. On one that several tenants share and leave idle in
//! between, who ran last is who runs often: beside a tenant with kernels of 2 ms each 22 ms and 8.9 %
//! of an H200's time, one with kernels of 20 ms each 140 ms and 14.3 % of it was given 5.9 %, the
//! other 17.3 %. The driver tells nothing that could mend it. What the canary's own probes take is
//! given back.
//!
//! # Active and contended time
//! The ring names one winner each 200 ms, so a drain of a few seconds says *who* had how much of
//! the card, not when. A tenant is taken to have been active for the time it received, times the
//! number of tenants in the drain (as if each other one had received as much meanwhile), at most
//! for as long as the card was busy; and contended for as much of that as the others were active.
//! So tenants that take turns within a drain are told too high; tenants whose kernels yield before
//! their slice ends, tenants of a crowd that win none of the fifteen samples of a drain, and the
//! last moments of short jobs, too low. Read contended time as *shared a drain with another*: it
//! compares like tenants on like cards, and is no measure of waiting.
//!
//! What was said over what was true, in the simulation, ten minutes a seed, drains of 3 s
//! (`cargo test --test it estimator -- --nocapture` repeats it and holds the bounds):
//!
//! | scenario: tenant | truly active | said/true active | said/true contended |
//! |---|---|---|---|
//! | noisy-neighbour: trainer, never idle | 100 % | 0.97 | 0.80 |
//! | noisy-neighbour: scorer, short kernels | 87 % | 0.46 | 0.46 |
//! | noisy-neighbour: two services, short requests | 24-28 % | 0.90-0.98 | 0.90-0.98 |
//! | memory-hog: explorer, on and off | 43 % | 1.15 | 2.4 |
//! | memory-hog: three services | 1-14 % | 1.5-1.7 | 2.2-2.4 |
//! | quiet: notebook, embedder | under 1 % | 1.02-1.03 | 13 of nearly nothing |
//! | churn: tenants of a crowd that stay | 36-42 % each | 0.25-0.52 | 0.25-0.51 |
//! | churn: short jobs | - | 0.20-0.78 | 0.20-0.75 |
//! | the card itself: noisy-neighbour, churn, memory-hog | - | - | 0.80, 0.91, 2.3 |

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::analyse::attribution::Context;
use crate::analyse::grants::Grants;
use crate::model::{
    Allocations, CanaryWindow, Cause, GpuIdentity, GpuUuid, GpuWindow, MigProfile, Moment,
    NodeSample, PodNames, ProcessKey, Reading, Refusal,
};

mod container;
mod device;
mod drain;
mod peak;
mod tenancy;
mod view;
mod workloads;

pub use container::LINGER;
pub use peak::PEAK_WINDOW;

use device::DeviceState;
use workloads::Workloads;

/// A window older than this says nothing about now.
const STALE: Duration = Duration::from_secs(5);

/// XIDs that a shared GPU's tenants cause or suffer: their counters start at 0.
pub const KNOWN_XIDS: [u32; 14] = [13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 119, 154];

/// One physical card: what belongs to no instance.
#[derive(Debug)]
struct CardState {
    identity: Arc<GpuIdentity>,
    up: Reading<()>,
    last_window: Moment,
    xids: BTreeMap<u32, u64>,
    mig_profiles: Reading<Arc<[MigProfile]>>,
}

/// What the agent's flags say of the ledger.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Whether delays are also counted in the buckets of native histograms.
    pub native_histograms: bool,
}

/// All that the agent keeps between windows.
#[derive(Debug, Default)]
pub struct Ledger {
    settings: LedgerSettings,
    cards: BTreeMap<GpuUuid, CardState>,
    devices: BTreeMap<GpuUuid, DeviceState>,
    workloads: Workloads,
    refused: BTreeMap<Refusal, u64>,
    /// Each device's canaries, as it told last.
    workers: BTreeMap<GpuUuid, Vec<ProcessKey>>,
    allocations: Option<(Reading<Arc<Allocations>>, Reading<Grants>)>,
}

impl Ledger {
    /// A ledger that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with these settings.
    pub fn with(settings: LedgerSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Takes in everything that is new at `sample.at`. Windows of one card must come in order;
    /// a missed one loses what was in it and invents nothing.
    pub fn observe(
        &mut self,
        sample: &NodeSample,
        allocations: &Reading<Arc<Allocations>>,
        names: &PodNames,
    ) {
        // The index is made anew only when the kubelet's answer is another one.
        let (_, grants) = match self.allocations.take() {
            Some((old, grants)) if same_answer(&old, allocations) => {
                self.allocations.insert((old, grants))
            }
            _ => self.allocations.insert((
                allocations.clone(),
                allocations
                    .as_ref()
                    .map(|allocations| Grants::new(allocations)),
            )),
        };
        self.workers.retain(|gpu, _| self.devices.contains_key(gpu));
        for canary in &sample.canaries {
            self.workers
                .insert(canary.gpu.clone(), canary.workers.clone());
        }
        let workers: Vec<ProcessKey> = self.workers.values().flatten().copied().collect();
        let context = Context {
            names,
            grants,
            workers: &workers,
        };
        // Probes come before the drain of their time; a device that is new comes with its window.
        let (known, new): (Vec<_>, Vec<_>) = sample
            .canaries
            .iter()
            .partition(|canary| self.devices.contains_key(&canary.gpu));
        take(&mut self.devices, &known, sample.at);
        for window in &sample.windows {
            let card = self
                .cards
                .entry(window.card.uuid.clone())
                .or_insert_with(|| CardState {
                    identity: Arc::clone(&window.card),
                    up: Reading::Failed(Cause::NotYet),
                    last_window: window.to,
                    xids: KNOWN_XIDS.iter().map(|xid| (*xid, 0)).collect(),
                    mig_profiles: Reading::Failed(Cause::NotYet),
                });
            observe_card(card, window);
            observe_devices(
                &mut self.devices,
                &mut self.workloads,
                window,
                context,
                self.settings,
            );
            if let Some(Reading::Value(drain)) = &window.drain {
                for (refusal, count) in &drain.refused {
                    *self.refused.entry(*refusal).or_insert(0) += u64::from(*count);
                }
            }
        }
        for (identity, cause) in &sample.silent {
            let card = self
                .cards
                .entry(identity.uuid.clone())
                .or_insert_with(|| CardState {
                    identity: Arc::clone(identity),
                    up: Reading::Failed(*cause),
                    last_window: sample.at,
                    xids: KNOWN_XIDS.iter().map(|xid| (*xid, 0)).collect(),
                    mig_profiles: Reading::Failed(*cause),
                });
            card.up = Reading::Failed(*cause);
            card.last_window = sample.at;
            silence(
                &mut self.devices,
                identity,
                *cause,
                sample.at,
                self.settings,
            );
        }
        take(&mut self.devices, &new, sample.at);
        for (uuid, card) in &mut self.cards {
            if sample.at.since(card.last_window) > STALE {
                card.up = Reading::Failed(Cause::Stale);
                for device in self
                    .devices
                    .values_mut()
                    .filter(|d| card_of(&d.identity) == uuid)
                {
                    device.silence(Cause::Stale);
                }
            }
        }
        for device in self.devices.values_mut() {
            device.settle(context, sample.at);
        }
        self.workloads.expire(sample.at);
    }
}

fn take(devices: &mut BTreeMap<GpuUuid, DeviceState>, canaries: &[&CanaryWindow], now: Moment) {
    for canary in canaries {
        if let Some(device) = devices.get_mut(&canary.gpu) {
            device.contention.take(canary, now);
        }
    }
}

fn observe_card(card: &mut CardState, window: &GpuWindow) {
    card.identity = Arc::clone(&window.card);
    card.up = window.up;
    card.last_window = window.to;
    card.mig_profiles = window.mig_profiles.clone();
    for event in &window.xids {
        // An XID's number is the driver's: a few hundred at most, but never trust a size.
        if card.xids.len() < 256 || card.xids.contains_key(&event.xid) {
            *card.xids.entry(event.xid).or_insert(0) += 1;
        }
    }
}

fn observe_devices(
    devices: &mut BTreeMap<GpuUuid, DeviceState>,
    workloads: &mut Workloads,
    window: &GpuWindow,
    context: Context<'_>,
    settings: LedgerSettings,
) {
    if let Reading::Failed(cause) = window.up {
        silence(devices, &window.card, cause, window.to, settings);
        return;
    }
    let here: HashSet<&GpuUuid> = window
        .devices
        .iter()
        .map(|device| &device.identity.uuid)
        .collect();
    // Instances that were taken apart, or the card itself once MIG is on.
    devices.retain(|uuid, device| {
        card_of(&device.identity) != &window.card.uuid || here.contains(uuid)
    });
    for device_window in &window.devices {
        let device = devices
            .entry(device_window.identity.uuid.clone())
            .or_insert_with(|| {
                DeviceState::new(Arc::clone(&device_window.identity), window.to, settings)
            });
        device.observe(device_window, window.to, context);
        if let Some(drain) = &window.drain {
            device.drain(drain, context, workloads, window.to);
        }
    }
}

fn silence(
    devices: &mut BTreeMap<GpuUuid, DeviceState>,
    card: &Arc<GpuIdentity>,
    cause: Cause,
    now: Moment,
    settings: LedgerSettings,
) {
    let mut known = false;
    for device in devices
        .values_mut()
        .filter(|device| card_of(&device.identity) == &card.uuid)
    {
        device.silence(cause);
        known = true;
    }
    if !known && card.mig_enabled != Some(true) {
        let mut device = DeviceState::new(Arc::clone(card), now, settings);
        device.silence(cause);
        devices.insert(card.uuid.clone(), device);
    }
}

/// The card a device is, or is part of.
fn card_of(identity: &GpuIdentity) -> &GpuUuid {
    identity.parent.as_ref().unwrap_or(&identity.uuid)
}

fn same_answer(a: &Reading<Arc<Allocations>>, b: &Reading<Arc<Allocations>>) -> bool {
    match (a, b) {
        (Reading::Value(a), Reading::Value(b)) => Arc::ptr_eq(a, b),
        (Reading::Unsupported, Reading::Unsupported) => true,
        (Reading::Failed(a), Reading::Failed(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests;

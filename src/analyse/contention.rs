//! From probes of the latency canary and drains of the utilization ring to delays, and who
//! inflicted them on whom.
//!
//! # From a probe to a charge
//! A probe waits in a buffer until the drain that covers its time; histogram, charges and named
//! remainders then move together, so at every instant what containers were charged with, those
//! that are gone included, and the remainders are the histogram's sum. Without a drain within ten
//! seconds (MIG has no ring; a stepped clock refuses one) its delay belongs to
//! [`DelayRemainder::NoShare`].
//!
//! Of a window with n probes, a sum S of delays and a median b of the baseline, `E = max(0, S - n b)`
//! was inflicted by somebody and the rest is [`DelayRemainder::Baseline`]; where the ring shows an
//! idle card, all of it is, stalls apart. E is put down to tenants by their shares and turns, the turns learnt from windows.
//! What a container suffered is the part of E that the others inflicted, for the part of the time
//! in which it had work: as if its own work and theirs came independently of one another.
//!
//! # Figures
//! All measured on an H200 under time-slicing. At one instant a newcomer waits for about the sum of
//! the turns of those that have work: 1.5, 2.7 and 4.1 ms beside one, two and three tenants with
//! kernels of 8 ms, 0.5, 0.9 and 1.4 ms beside one, two and four with kernels of 0.5 ms. A saturated
//! card's ring says 98 %. An idle card's probes wait 18 us.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{
    CanaryReason, CanaryState, CanaryView, CanaryWindow, Cause, DelayHistogram, DelayRemainder,
    DelaySeconds, Moment, Probe, Reading, Weight,
};

mod baseline;
mod blame;
mod circle;
mod histogram;
mod pairs;
mod regimes;
mod turns;

use baseline::Baseline;
use blame::Shares;
use histogram::Recent;
use pairs::Pairs;
use regimes::Window;
use turns::Turns;

/// Probes wait so long for a drain.
const PATIENCE: Duration = Duration::from_secs(10);
/// Probes that wait for one, at the most.
const MOST_PENDING: usize = 4096;
/// A probe may be told so long after its end.
const LATE: Duration = Duration::from_secs(2);
/// What the ring says of a card that is never idle.
const SATURATED: f64 = 0.98;
/// A longer delay is a stall, and says nothing about turns.
const LONGEST_TURNS: Duration = Duration::from_millis(100);
/// A canary that was not heard of for so long says nothing about now.
const STALE: Duration = Duration::from_secs(5);

/// Who may be charged on one device: a container for as long as it is the same one, or a remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(u32);

impl TenantId {
    /// Processes of the host.
    pub const HOST: Self = Self(0);
    /// Processes whose pod is not known.
    pub const UNKNOWN: Self = Self(1);

    fn remainder(self) -> Option<DelayRemainder> {
        match self {
            Self::HOST => Some(DelayRemainder::HostProcess),
            Self::UNKNOWN => Some(DelayRemainder::UnknownProcess),
            _ => None,
        }
    }
}

/// What a drain of the ring says of who had the GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenancy {
    pub covered: Duration,
    /// Of the ring.
    pub samples: u32,
    /// True where nobody but the canary had any time and the card was not busy.
    pub idle: bool,
    /// Part of the covered time of each tenant.
    pub shares: BTreeMap<TenantId, f64>,
}

/// What one drain adds to a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Charge {
    pub tenant: TenantId,
    pub inflicted: DelaySeconds,
    pub exposed: DelaySeconds,
    pub exposed_probes: f64,
    pub weight: Weight,
}

/// The newest word of a device's canary.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Moment,
    state: CanaryState,
    reason: CanaryReason,
    waiting: Option<Duration>,
    clock_error: Option<Duration>,
}

/// What is kept of one device.
#[derive(Debug)]
pub struct Contention {
    next_tenant: u32,
    heard: Option<Heard>,
    probed: bool,
    missed: u64,
    /// With the time at which each came.
    pending: VecDeque<(Duration, Probe)>,
    histogram: DelayHistogram,
    recent: Recent,
    baseline: Baseline,
    unattributed: BTreeMap<DelayRemainder, DelaySeconds>,
    shares: Shares,
    turns: Turns,
    pairs: Pairs,
}

impl Contention {
    /// Of a device whose canary was not heard of.
    pub fn new(native_histograms: bool) -> Self {
        Self {
            next_tenant: TenantId::UNKNOWN.0 + 1,
            heard: None,
            probed: false,
            missed: 0,
            pending: VecDeque::new(),
            histogram: histogram::empty(native_histograms),
            recent: Recent::default(),
            baseline: Baseline::default(),
            unattributed: DelayRemainder::ALL
                .iter()
                .map(|remainder| (*remainder, DelaySeconds(0.0)))
                .collect(),
            shares: Shares::default(),
            turns: Turns::default(),
            pairs: Pairs::default(),
        }
    }

    /// An identity for a container that is new on the device.
    pub fn new_tenant(&mut self) -> TenantId {
        let tenant = TenantId(self.next_tenant);
        self.next_tenant = self.next_tenant.saturating_add(1);
        tenant
    }

    /// Forgets what was learnt of containers that are no more, and the share of those that are
    /// still told but have no process left: it would be taken for a silence.
    pub fn retain(&mut self, lives: impl Fn(TenantId) -> bool, runs: impl Fn(TenantId) -> bool) {
        let told = |tenant: TenantId| tenant.remainder().is_some();
        self.shares.retain(|tenant| told(tenant) || runs(tenant));
        self.turns.retain(|tenant| told(tenant) || lives(tenant));
    }

    /// Takes in what the canary delivered.
    pub fn take(&mut self, window: &CanaryWindow, now: Moment) {
        self.heard = Some(Heard {
            at: now,
            state: window.state,
            reason: window.reason,
            waiting: window.waiting,
            clock_error: window.clock_error,
        });
        self.missed += u64::from(window.missed);
        self.probed |= !window.probes.is_empty();
        for probe in &window.probes {
            self.recent.record(probe, now.monotonic);
            self.pending.push_back((now.monotonic, *probe));
        }
        let over = self.pending.len().saturating_sub(MOST_PENDING);
        let over: Vec<Probe> = self.pending.drain(..over).map(|(_, probe)| probe).collect();
        self.settle_without_share(&over, now);
    }

    /// Settles what waited for a drain for too long.
    pub fn expire(&mut self, now: Moment) {
        let late = |came: Duration| now.monotonic.saturating_sub(came) > PATIENCE;
        // They came in the order of time.
        let late = self.pending.partition_point(|(came, _)| late(*came));
        let late: Vec<Probe> = self.pending.drain(..late).map(|(_, probe)| probe).collect();
        self.settle_without_share(&late, now);
        self.pairs.expire(now.monotonic);
    }

    /// Takes in a drain of the ring that ends at `to`; `None` where it does not say who had the
    /// GPU, and will not.
    pub fn drain(&mut self, tenancy: Option<&Tenancy>, to: Moment) -> Vec<Charge> {
        let from = tenancy.map_or(Duration::ZERO, |tenancy| {
            to.monotonic.saturating_sub(tenancy.covered + LATE)
        });
        let (mut due, mut before) = (Vec::new(), Vec::new());
        self.pending.retain(|(_, probe)| {
            let end = probe.launched.saturating_add(probe.delay);
            if end > to.monotonic {
                return true;
            }
            if end < from {
                before.push(*probe);
            } else {
                due.push(*probe);
            }
            false
        });
        self.settle_without_share(&before, to);
        match tenancy {
            Some(tenancy) => self.settle(&due, tenancy, to),
            None => {
                self.settle_without_share(&due, to);
                Vec::new()
            }
        }
    }

    /// A container's turn, where it is known.
    pub fn turn_of(&self, tenant: TenantId) -> Option<Duration> {
        let turn = self.turns.of(tenant);
        turn.known.then(|| Duration::from_secs_f64(turn.seconds))
    }

    /// Whether probes come now, so that a tenant without a charge inflicted nothing.
    pub fn probes(&self) -> bool {
        let running =
            |heard: &Heard| matches!(heard.state, CanaryState::Running | CanaryState::Stalled);
        self.probed && self.heard.as_ref().is_some_and(running)
    }

    /// As the snapshot has it; `place` tells where a container is in the view.
    pub fn view(&self, now: Moment, place: impl Fn(TenantId) -> Option<usize>) -> CanaryView {
        let Some(heard) = self.heard else {
            return CanaryView::off(CanaryReason::NotYet);
        };
        let probing = matches!(heard.state, CanaryState::Running | CanaryState::Stalled);
        let mut view = CanaryView {
            state: heard.state,
            missed: self.missed,
            clock_error: heard.clock_error,
            stall: match heard.waiting {
                _ if !probing => Reading::Unsupported,
                _ if now.since(heard.at) > STALE => Reading::Failed(Cause::Stale),
                Some(waiting) => Reading::Value(waiting),
                None => Reading::Unsupported,
            },
            ..CanaryView::off(heard.reason)
        };
        if self.probed {
            view.delays = Reading::Value(self.histogram.clone());
            view.recent = match self.recent.merged(now.monotonic).quantiles() {
                Some(quantiles) => Reading::Value(quantiles),
                None => Reading::Failed(Cause::Stale),
            };
            view.baseline = self.baseline.view();
            view.unattributed = self.unattributed.clone();
            view.pairs = self.pairs.top(place);
        }
        view
    }

    fn charge(&mut self, remainder: DelayRemainder, seconds: f64) {
        *self.unattributed.entry(remainder).or_default() += DelaySeconds(seconds);
    }

    fn baseline(&self, now: Moment) -> f64 {
        self.baseline.usual(|| self.recent.merged(now.monotonic))
    }

    /// Counts probes; of their delay, what nobody inflicted and what somebody did.
    fn count(&mut self, probes: &[Probe], baseline: f64) -> (f64, f64) {
        let mut sum = 0.0;
        for probe in probes {
            histogram::record(&mut self.histogram, probe.delay);
            sum += probe.delay.as_secs_f64();
        }
        let inflicted = (sum - baseline * probes.len() as f64).max(0.0);
        (sum - inflicted, inflicted)
    }

    fn settle_without_share(&mut self, probes: &[Probe], now: Moment) {
        if probes.is_empty() {
            return;
        }
        let (baseline, inflicted) = self.count(probes, self.baseline(now));
        self.charge(DelayRemainder::Baseline, baseline);
        self.charge(DelayRemainder::NoShare, inflicted);
    }

    fn settle(&mut self, probes: &[Probe], tenancy: &Tenancy, to: Moment) -> Vec<Charge> {
        // Shares of a card that is never idle add up to one, as turns of a circle do.
        let sum: f64 = tenancy.shares.values().sum();
        let scale = if sum > 0.0 {
            (1.0 / SATURATED).min(1.0 / sum)
        } else {
            1.0
        };
        let shares: BTreeMap<TenantId, f64> = tenancy
            .shares
            .iter()
            .map(|(tenant, share)| (*tenant, share * scale))
            .collect();
        self.shares.push(to.monotonic, &shares, tenancy.samples);
        let baseline = self.baseline(to);
        let count = probes.len() as f64;
        let stalls_cut = probes.iter().map(|probe| probe.delay.min(LONGEST_TURNS));
        let delay = stalls_cut.sum::<Duration>().as_secs_f64() / count.max(1.0) - baseline;
        let (by_nobody, mut inflicted) = self.count(probes, baseline);
        self.charge(DelayRemainder::Baseline, by_nobody);
        if tenancy.idle {
            // What stalls there is nobody's that is known, and no baseline.
            let over = |probe: &Probe| probe.delay.saturating_sub(LONGEST_TURNS).as_secs_f64();
            let stalled = probes.iter().map(over).sum::<f64>().min(inflicted);
            self.charge(DelayRemainder::NoShare, stalled);
            self.charge(DelayRemainder::Baseline, inflicted - stalled);
            self.baseline.learn(probes);
            inflicted = 0.0;
        }
        self.turns.push(Window {
            at: to.monotonic,
            samples: tenancy.samples,
            shares,
            probes: count,
            delay,
        });
        if probes.is_empty() || tenancy.idle {
            return Vec::new();
        }
        let parts = blame::parts(&self.shares, &self.turns);
        if parts.is_empty() {
            self.charge(DelayRemainder::NoShare, inflicted);
        }
        let mut charges = Vec::with_capacity(parts.len());
        for part in &parts {
            let blamed = inflicted * part.blame;
            if let Some(remainder) = part.tenant.remainder() {
                self.charge(remainder, blamed);
                continue;
            }
            charges.push(Charge {
                tenant: part.tenant,
                inflicted: DelaySeconds(blamed),
                exposed: DelaySeconds((inflicted - blamed).max(0.0) * part.active),
                exposed_probes: count * part.active,
                weight: part.weight,
            });
        }
        self.pair(&parts, inflicted, count, to);
        charges
    }

    fn pair(&mut self, parts: &[blame::Part], inflicted: f64, probes: f64, to: Moment) {
        let containers = || {
            let of_pods = parts
                .iter()
                .filter(|part| part.tenant.remainder().is_none());
            of_pods.take(blame::MOST)
        };
        for victim in containers() {
            for aggressor in containers().filter(|other| other.tenant != victim.tenant) {
                self.pairs.add(
                    to.monotonic,
                    (victim.tenant, aggressor.tenant),
                    inflicted * aggressor.blame * victim.active,
                    probes * victim.active,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Windows grouped by who was there: what [`super::turns`] learns from.
//!
//! The ring names one winner each 200 ms, fifteen in a window of 3 s: a tenant with a twentieth of
//! the time has no sample in every second window. A regression on windows would take that chance
//! for change and find every weight too small. Within a group the mean over many windows is right,
//! so the groups are compared, not the windows. For the same reason a tenant counts as there in a
//! window without a sample of it, if it has some both shortly before and shortly after, and so few
//! that it may have missed this one by chance. One that rests for seconds at a time is seen to.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::TenantId;

/// Windows that are looked at before and after one, to tell who was there.
const REACH: usize = 4;
/// A gap is put down to chance where chance gives as long a one this often.
const CHANCE: f64 = 0.05;
/// Who has less of the time that tenants had is left out.
const LEAST_PART: f64 = 0.01;
/// Without a window for so long, what came before says nothing about who is there.
const GAP: Duration = Duration::from_secs(15);
/// What a regime knows counts half after so long.
const HALF_LIFE: f64 = 15.0 * 60.0;
/// Regimes kept; the one with the least weight goes first.
const MOST_REGIMES: usize = 32;
/// Tenants of one regime; who has most time is one of them.
const MOST_TENANTS: usize = 16;

/// What one drain of the ring and the probes of its time say.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Monotonic time of its end.
    pub(super) at: Duration,
    /// Of the ring.
    pub(super) samples: u32,
    /// Part of all time that each tenant had the GPU.
    pub(super) shares: BTreeMap<TenantId, f64>,
    pub(super) probes: f64,
    /// Mean seconds above the baseline.
    pub(super) delay: f64,
}

/// All windows with the same tenants. Sums are over windows, each weighed by its probes, and fade.
#[derive(Debug)]
pub(super) struct Regime {
    pub(super) tenants: Vec<TenantId>,
    shares: Vec<f64>,
    probes: f64,
    delay: f64,
    squares: f64,
    /// Of the weights: how many windows that is worth.
    weights: f64,
}

impl Regime {
    fn new(tenants: Vec<TenantId>) -> Self {
        Self {
            shares: vec![0.0; tenants.len()],
            tenants,
            probes: 0.0,
            delay: 0.0,
            squares: 0.0,
            weights: 0.0,
        }
    }

    fn add(&mut self, window: &Window) {
        let Window { probes, delay, .. } = *window;
        for (sum, tenant) in self.shares.iter_mut().zip(&self.tenants) {
            *sum += probes * window.shares.get(tenant).copied().unwrap_or(0.0);
        }
        self.probes += probes;
        self.delay += probes * delay;
        self.squares += probes * delay * delay;
        self.weights += probes * probes;
    }

    fn fade(&mut self, by: f64) {
        let Self {
            tenants: _,
            shares,
            probes,
            delay,
            squares,
            weights,
        } = self;
        for sum in shares.iter_mut().chain([probes, delay, squares, weights]) {
            *sum *= by;
        }
    }

    /// Probes, faded.
    pub(super) fn weight(&self) -> f64 {
        self.probes
    }

    /// Mean shares, in the order of `tenants`.
    pub(super) fn shares(&self) -> Vec<f64> {
        self.shares.iter().map(|sum| sum / self.probes).collect()
    }

    /// Mean seconds above the baseline.
    pub(super) fn delay(&self) -> f64 {
        self.delay / self.probes
    }

    /// Windows that it is worth. The sum of squares fades as slowly as the sum, so that old windows
    /// are worth less and less.
    pub(super) fn windows(&self) -> f64 {
        if self.weights > 0.0 {
            self.probes * self.probes / self.weights
        } else {
            0.0
        }
    }

    /// Variance of its mean delay, by how far its windows differ.
    pub(super) fn variance(&self) -> f64 {
        let mean = self.delay();
        let spread = (self.squares / self.probes - mean * mean).max(0.0);
        spread / (self.windows() - 1.0).max(0.1)
    }
}

/// The regimes of one device.
#[derive(Debug, Default)]
pub(super) struct Regimes {
    /// Oldest first: those that were taken in, then those whose neighbours have not all come.
    line: VecDeque<Window>,
    /// The first of the line that was not taken in.
    next: usize,
    all: Vec<Regime>,
    faded: Duration,
}

impl Regimes {
    /// Takes in a window, once those after it have come.
    pub(super) fn push(&mut self, window: Window) {
        let gap = |last: &Window| window.at.saturating_sub(last.at) > GAP;
        if self.line.back().is_some_and(gap) {
            while self.next < self.line.len() {
                self.take_next();
            }
            self.line.clear();
            self.next = 0;
        }
        self.fade(window.at);
        self.line.push_back(window);
        while self.line.len() > self.next + REACH {
            self.take_next();
        }
        while self.next > REACH {
            self.line.pop_front();
            self.next -= 1;
        }
    }

    /// Forgets every regime with a tenant that is no more.
    pub(super) fn retain(&mut self, lives: impl Fn(TenantId) -> bool) {
        self.all
            .retain(|regime| regime.tenants.iter().all(|tenant| lives(*tenant)));
        for window in &mut self.line {
            // Without its share the window would be another regime's.
            if !window.shares.keys().all(|tenant| lives(*tenant)) {
                window.probes = 0.0;
                window.shares.retain(|tenant, _| lives(*tenant));
            }
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Regime> {
        self.all.iter()
    }

    /// That of these tenants, who are sorted.
    pub(super) fn of(&self, tenants: &[TenantId]) -> Option<&Regime> {
        self.all.iter().find(|regime| regime.tenants == tenants)
    }

    fn take_next(&mut self) {
        let tenants = self.tenants_at(self.next);
        if let Some(window) = self.line.get(self.next)
            && window.probes > 0.0
            && !tenants.is_empty()
        {
            let known = self.all.iter().position(|known| known.tenants == tenants);
            let index = known.unwrap_or_else(|| {
                if self.all.len() >= MOST_REGIMES {
                    let weights = self.all.iter().map(Regime::weight).enumerate();
                    if let Some((least, _)) = weights.min_by(|a, b| a.1.total_cmp(&b.1)) {
                        self.all.swap_remove(least);
                    }
                }
                self.all.push(Regime::new(tenants));
                self.all.len() - 1
            });
            if let Some(regime) = self.all.get_mut(index) {
                regime.add(window);
            }
        }
        self.next += 1;
    }

    /// Who was there in a window of the line, sorted.
    fn tenants_at(&self, index: usize) -> Vec<TenantId> {
        let from = index.saturating_sub(REACH);
        let to = (index + REACH + 1).min(self.line.len());
        let mut times: BTreeMap<TenantId, f64> = BTreeMap::new();
        for (tenant, share) in self.line.range(from..to).flat_map(|window| &window.shares) {
            *times.entry(*tenant).or_default() += share;
        }
        let all: f64 = times.values().sum();
        let mut there: Vec<(TenantId, f64)> = times
            .into_iter()
            .filter(|(tenant, time)| {
                *time > 0.0 && *time >= LEAST_PART * all && self.was_there(*tenant, index, from..to)
            })
            .collect();
        there.sort_by(|a, b| b.1.total_cmp(&a.1));
        there.truncate(MOST_TENANTS);
        let mut tenants: Vec<TenantId> = there.into_iter().map(|(tenant, _)| tenant).collect();
        tenants.sort_unstable();
        tenants
    }

    /// Whether a tenant had time in a window, or may have missed it by chance.
    fn was_there(&self, tenant: TenantId, index: usize, near: Range<usize>) -> bool {
        let share = |i: usize| {
            let share = self.line.get(i)?.shares.get(&tenant).copied();
            share.filter(|share| *share > 0.0)
        };
        if share(index).is_some() {
            return true;
        }
        let before = (near.start..index).rev().find_map(|i| Some((i, share(i)?)));
        let after = (index + 1..near.end).find_map(|i| Some((i, share(i)?)));
        let (Some((before, earlier)), Some((after, later))) = (before, after) else {
            return false;
        };
        let mean = (earlier + later) / (after - before + 1) as f64;
        let missed = self
            .line
            .range(before + 1..after)
            .map(|window| window.samples);
        (1.0 - mean.min(1.0)).powf(f64::from(missed.sum::<u32>())) > CHANCE
    }

    fn fade(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.faded).as_secs_f64();
        self.faded = self.faded.max(now);
        let by = 0.5f64.powf(passed / HALF_LIFE);
        for regime in &mut self.all {
            regime.fade(by);
        }
        // A probe faded to a hundredth is nothing to learn from.
        self.all.retain(|regime| regime.probes > 0.01);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantId = TenantId(10);
    const B: TenantId = TenantId(11);

    fn window(second: u64, shares: &[(TenantId, f64)]) -> Window {
        Window {
            at: Duration::from_secs(second),
            samples: 15,
            shares: shares.iter().copied().collect(),
            probes: 30.0,
            delay: 1e-3,
        }
    }

    #[test]
    fn a_tenant_that_won_no_sample_for_a_moment_was_there_and_one_that_left_was_not() {
        let mut regimes = Regimes::default();
        let mut second = 0;
        let mut push = |shares: &[(TenantId, f64)]| {
            second += 3;
            regimes.push(window(second, shares));
        };
        for _ in 0..5 {
            push(&[(A, 0.9), (B, 0.1)]);
            push(&[(A, 1.0)]);
            push(&[(A, 1.0)]);
        }
        push(&[(A, 0.9), (B, 0.1)]);
        for _ in 0..10 {
            push(&[(A, 1.0)]);
        }
        let mut found: Vec<(usize, f64)> = regimes
            .iter()
            .map(|regime| (regime.tenants.len(), (regime.weight() / 30.0).round()))
            .collect();
        found.sort_by_key(|(tenants, _)| *tenants);
        // Of the ten windows of A alone, four wait for those after them.
        assert_eq!(found, [(1, 6.0), (2, 16.0)]);
    }

    #[test]
    fn a_tenant_that_rests_for_seconds_was_not_there() {
        let mut regimes = Regimes::default();
        for second in 0..40 {
            let both = [(A, 0.5), (B, 0.5)];
            let shares = if second / 3 % 2 == 0 {
                &both[..]
            } else {
                &both[..1]
            };
            regimes.push(window(3 * second, shares));
        }
        let found: Vec<usize> = regimes.iter().map(|regime| regime.tenants.len()).collect();
        assert_eq!(found, [2, 1]);
    }

    #[test]
    fn a_regime_fades_and_goes_with_its_tenants() {
        let mut regimes = Regimes::default();
        for i in 0..20 {
            regimes.push(window(3 * i, &[(A, 0.5), (B, 0.5)]));
        }
        let weight = |regimes: &Regimes| regimes.iter().map(Regime::weight).sum::<f64>();
        let before = weight(&regimes);
        regimes.push(window(57 + 900, &[]));
        // The four that waited for others came in as well.
        assert!((weight(&regimes) - (before + 4.0 * 30.0) / 2.0).abs() < 0.1 * before);
        regimes.retain(|tenant| tenant != B);
        assert_eq!(regimes.iter().count(), 0);
    }

    #[test]
    fn regimes_and_tenants_are_bounded() {
        let mut regimes = Regimes::default();
        for i in 0..200u32 {
            let crowd: Vec<_> = (0..40).map(|p| (TenantId(p), 0.025)).collect();
            let mut shares = vec![(TenantId(1000 + i), 0.5)];
            if i % 2 == 0 {
                shares = crowd;
            }
            // Far apart: each is a regime by itself.
            regimes.push(window(u64::from(i) * 20, &shares));
        }
        assert!(regimes.iter().count() <= MOST_REGIMES);
        assert!(
            regimes
                .iter()
                .all(|regime| regime.tenants.len() <= MOST_TENANTS)
        );
        assert!(regimes.line.len() <= 2 * REACH + 1);
    }
}

//! Who is charged for the delay of one window.
//!
//! By turns where those are known: p is charged in proportion to a_p T_p, the part of the time in
//! which it has work times how long it then keeps the GPU; that is what it adds to a newcomer's
//! wait. Else by share of the GPU's time. A window is weighed by turns where tenants with known
//! turns had at least half of the time that tenants had; another one takes part with the common
//! turn, and is told to be weighed by share.
//!
//! Where each of them was seen to go and come, what went with it is known, and is its weight: the
//! ring's shares are not asked ([`Turns::falls`]).
//!
//! One window has about fifteen winners of samples, so shares are averaged over a few windows,
//! until they change by more than chance does: then they begin anew. Who is silent for longer than
//! its share explains is gone, however many windows it takes to say so.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TenantId;
use super::circle::activities;
use super::turns::Turns;
use crate::model::Weight;

/// Part of the newest window in the mean: five windows, about.
const NEWEST: f64 = 1.0 / 3.0;
/// A mean of so many windows, for telling chance from change.
const WINDOWS: f64 = 5.0;
/// Standard errors that chance explains.
const CHANCE: f64 = 3.0;
/// A tenant with samples on one side only has come or gone where its share would have left it without
/// one less often than this. The standard error is no judge of none.
const UNHEARD: f64 = 0.01;
/// A tenant whose mean share fell below it, and that had nothing, is left out.
const LEAST_SHARE: f64 = 1e-3;
/// Without a window for so long, the mean begins anew.
const GAP: Duration = Duration::from_secs(10);
/// Tenants weighed by turns, those with most time; the others by share.
pub(super) const MOST: usize = 16;

/// Mean shares of the newest windows.
#[derive(Debug, Default)]
pub(super) struct Shares {
    mean: BTreeMap<TenantId, f64>,
    /// Of who has a mean and no sample of late: that mean before its silence, and the samples since.
    silent: BTreeMap<TenantId, (f64, u32)>,
    at: Duration,
}

impl Shares {
    /// Takes in a window's shares, which are means over so many samples of the ring.
    pub(super) fn push(&mut self, at: Duration, window: &BTreeMap<TenantId, f64>, samples: u32) {
        let of = |shares: &BTreeMap<TenantId, f64>, tenant| shares.get(tenant).copied();
        let errors = (1.0 + 1.0 / WINDOWS) / f64::from(samples.max(1));
        let heard = |tenant: &TenantId| window.get(tenant).is_some_and(|share| *share > 0.0);
        self.silent.retain(|tenant, _| !heard(tenant));
        for (tenant, mean) in self.mean.iter().filter(|(tenant, _)| !heard(tenant)) {
            self.silent.entry(*tenant).or_insert((*mean, 0)).1 += samples;
        }
        let tenants = self.mean.keys().chain(window.keys());
        let changed = tenants.into_iter().any(|tenant| {
            let before = of(&self.mean, tenant).unwrap_or(0.0);
            let now = of(window, tenant).unwrap_or(0.0);
            let part = ((before + now) / 2.0).min(1.0);
            let (share, unheard) = match self.silent.get(tenant) {
                Some((before, unheard)) => (*before, *unheard),
                None => (before.max(now), samples),
            };
            let none = (1.0 - share.min(1.0)).powf(f64::from(unheard));
            let came_or_went = before.min(now) <= 0.0 && none < UNHEARD;
            came_or_went || (now - before).abs() > CHANCE * (part * (1.0 - part) * errors).sqrt()
        });
        if changed || self.mean.is_empty() || at.saturating_sub(self.at) > GAP {
            self.mean.clone_from(window);
        } else {
            for mean in self.mean.values_mut() {
                *mean *= 1.0 - NEWEST;
            }
            for (tenant, share) in window {
                *self.mean.entry(*tenant).or_default() += NEWEST * share;
            }
            self.mean
                .retain(|tenant, mean| *mean >= LEAST_SHARE || window.contains_key(tenant));
        }
        self.mean.retain(|_, mean| *mean > 0.0);
        let mean = &self.mean;
        self.silent.retain(|tenant, _| mean.contains_key(tenant));
        self.at = at;
    }

    /// Forgets tenants that are no more.
    pub(super) fn retain(&mut self, lives: impl Fn(TenantId) -> bool) {
        self.mean.retain(|tenant, _| lives(*tenant));
        self.silent.retain(|tenant, _| lives(*tenant));
    }
}

/// A tenant's part in one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) tenant: TenantId,
    /// Of the delay; all parts add up to one.
    pub(super) blame: f64,
    /// Part of the time in which it had work.
    pub(super) active: f64,
    pub(super) weight: Weight,
}

/// Everybody's part in the delay of a window, who has most time first; empty where nobody has any.
pub(super) fn parts(shares: &Shares, turns: &Turns) -> Vec<Part> {
    let mut parts = by_time(shares, turns);
    by_falls(&mut parts, turns);
    parts
}

/// By turns where they are known, else by share.
fn by_time(shares: &Shares, turns: &Turns) -> Vec<Part> {
    let mut shares: Vec<(TenantId, f64)> = shares.mean.iter().map(|(p, s)| (*p, *s)).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = shares.iter().map(|(_, share)| share).sum();
    if all <= 0.0 {
        return Vec::new();
    }
    let count = shares.len() as f64;
    let mut parts: Vec<Part> = shares
        .iter()
        .map(|(tenant, share)| Part {
            tenant: *tenant,
            blame: share / all,
            active: (share * count).min(1.0),
            weight: Weight::Share,
        })
        .collect();
    let known: f64 = shares
        .iter()
        .filter(|(tenant, _)| turns.of(*tenant).known)
        .map(|(_, share)| share)
        .sum();
    if known < 0.5 * all {
        return parts;
    }
    let heaviest = &mut parts[..shares.len().min(MOST)];
    let of: Vec<f64> = shares.iter().take(MOST).map(|(_, share)| *share).collect();
    let seconds: Vec<f64> = heaviest
        .iter()
        .map(|part| turns.of(part.tenant).seconds)
        .collect();
    let active = activities(&of, &seconds);
    let weights: Vec<f64> = active.iter().zip(&seconds).map(|(a, t)| a * t).collect();
    let sum: f64 = weights.iter().sum();
    let theirs: f64 = heaviest.iter().map(|part| part.blame).sum();
    if sum > 0.0 {
        for ((part, active), weight) in heaviest.iter_mut().zip(active).zip(weights) {
            part.active = active;
            part.blame = theirs * weight / sum;
            if turns.of(part.tenant).known {
                part.weight = Weight::Turn;
            }
        }
    }
    parts
}

/// Blames each by what went with it, where that was seen of all of them; they stay active as their
/// shares and turns say.
fn by_falls(parts: &mut [Part], turns: &Turns) {
    let mut tenants: Vec<TenantId> = parts.iter().map(|part| part.tenant).collect();
    tenants.sort_unstable();
    let Some(falls) = turns.falls(&tenants) else {
        return;
    };
    let sum: f64 = falls.iter().sum();
    for part in parts {
        if let Ok(place) = tenants.binary_search(&part.tenant) {
            part.blame = falls[place] / sum;
            part.weight = Weight::Turn;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::contention::regimes::Window;

    const A: TenantId = TenantId(10);
    const B: TenantId = TenantId(11);

    fn push(shares: &mut Shares, second: u64, window: &[(TenantId, f64)]) {
        let window = window.iter().copied().collect();
        shares.push(Duration::from_secs(second), &window, 15);
    }

    fn of(shares: &Shares, tenant: TenantId) -> f64 {
        shares.mean.get(&tenant).copied().unwrap_or(0.0)
    }

    #[test]
    fn chance_is_averaged_and_change_is_seen_at_once() {
        let mut shares = Shares::default();
        push(&mut shares, 3, &[(A, 0.6), (B, 0.4)]);
        push(&mut shares, 6, &[(A, 0.4), (B, 0.6)]);
        assert!((of(&shares, A) - (0.4 + 0.4) / 1.5).abs() < 1e-9);
        push(&mut shares, 9, &[(A, 1.0)]);
        assert_eq!((of(&shares, A), of(&shares, B)), (1.0, 0.0));
        // A newcomer with one sample of fifteen may have been there before.
        push(&mut shares, 12, &[(A, 14.0 / 15.0), (B, 1.0 / 15.0)]);
        assert!((of(&shares, B) - 1.0 / 45.0).abs() < 1e-9);
        push(&mut shares, 60, &[(B, 0.1)]);
        assert_eq!((of(&shares, A), of(&shares, B)), (0.0, 0.1));
    }

    #[test]
    fn who_falls_silent_is_out_and_who_is_seldom_heard_is_not() {
        let mut shares = Shares::default();
        push(&mut shares, 3, &[(A, 0.3), (B, 0.05)]);
        assert_eq!(of(&shares, A), 0.3);
        push(&mut shares, 6, &[(A, 0.3)]);
        assert!(of(&shares, B) > 0.03);
        // One window in two hundred is without a sample of the one that has 30 %.
        push(&mut shares, 9, &[(B, 0.05)]);
        assert_eq!((of(&shares, A), of(&shares, B)), (0.0, 0.05));
        push(&mut shares, 12, &[]);
        shares.retain(|tenant| tenant != B);
        assert_eq!(of(&shares, B), 0.0);
        // Fifteen samples without one that has a quarter are chance, thirty are not.
        push(&mut shares, 60, &[(A, 0.25), (B, 0.3)]);
        push(&mut shares, 63, &[(B, 0.3)]);
        assert!(of(&shares, A) > 0.15);
        push(&mut shares, 66, &[(B, 0.3)]);
        assert_eq!((of(&shares, A), of(&shares, B)), (0.0, 0.3));
    }

    #[test]
    fn nobody_has_no_part_and_without_turns_share_is_the_weight() {
        let mut shares = Shares::default();
        assert!(parts(&shares, &Turns::default()).is_empty());
        push(&mut shares, 3, &[(A, 0.75), (B, 0.25)]);
        let parts = parts(&shares, &Turns::default());
        let told: Vec<_> = parts
            .iter()
            .map(|part| (part.tenant, part.blame, part.active, part.weight))
            .collect();
        assert_eq!(
            told,
            [(A, 0.75, 1.0, Weight::Share), (B, 0.25, 0.5, Weight::Share)]
        );
    }

    #[test]
    fn what_went_with_each_is_its_part_whatever_the_ring_says() {
        let mut turns = Turns::default();
        let mut second = 0;
        let mut phase = |turns: &mut Turns, window: &[(TenantId, f64)], delay: f64| {
            for i in 0..16 {
                second += 3;
                turns.push(Window {
                    at: Duration::from_secs(second),
                    samples: 15,
                    shares: window.iter().copied().collect(),
                    probes: 30.0,
                    delay: delay * if i % 2 == 0 { 0.95 } else { 1.05 },
                });
            }
        };
        let both = [(A, 0.2), (B, 0.42)];
        // As on an H200; the ring gives A too little where both are there.
        phase(&mut turns, &both[..1], 445e-6);
        phase(&mut turns, &both, 809e-6);
        let mut shares = Shares::default();
        push(&mut shares, 3, &both);
        let of_a = |turns: &Turns| {
            let parts = parts(&shares, turns);
            parts
                .iter()
                .find(|part| part.tenant == A)
                .map(|part| part.blame)
        };
        // B alone was not seen.
        assert_eq!(turns.falls(&[A, B]), None);
        phase(&mut turns, &[(B, 0.46)], 228e-6);
        phase(&mut turns, &both, 809e-6);
        let falls = (809.0 - 228.0, 809.0 - 445.0);
        let expected = falls.0 / (falls.0 + falls.1);
        assert!(
            of_a(&turns).is_some_and(|blame| (blame - expected).abs() < 0.02),
            "{:?}",
            of_a(&turns)
        );
    }
}

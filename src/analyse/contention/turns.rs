//! How long a tenant keeps the GPU once it has it, learnt from what probes waited.
//!
//! Measured on an H200: beside one, two and three tenants with long kernels a newcomer waits 1.5,
//! 2.7 and 4.1 ms; beside one, two and four with kernels of 0.5 ms 0.5, 0.9 and 1.4 ms. So at an
//! instant the wait is about the sum of the turns of those that have work, and over a window
//!
//! ```text
//! D = sum of a_p T_p
//! ```
//!
//! with a_p the part of the time in which p has work. Share of time alone does not tell T: a tenant
//! that is never idle and has short turns holds the GPU for long while the one with long turns
//! rests, and inflicts less with more time. (T is what a probe waits for the turn, about half of
//! its true length: only the ratios enter the shares, so the factor does no harm.)
//!
//! Given turns, the shares of a regime (windows with the same tenants) name the activities
//! ([`super::circle`]); given activities, the turns are the non-negative least squares of the
//! regimes' delays. The two are alternated, one round a drain, from the turns known so far.
//! A weak prior draws every turn to the common one, so that what the regimes do not tell apart
//! stays there; a turn is *known* once their say leaves it a small part of the prior's width.

use std::collections::{BTreeMap, BTreeSet};

use super::TenantId;
use super::circle::activities;
use super::regimes::{Regime, Regimes, Window};

/// Windows that a regime must be worth before it says anything.
const LEAST_WINDOWS: f64 = 3.0;
/// The model's own error: a part of the delay, and seconds of the clock.
const MODEL_ERROR: f64 = 0.05;
const CLOCK_ERROR: f64 = 10e-6;
/// Width of the prior, in common turns.
const PRIOR_WIDTH: f64 = 2.0;
/// A turn is known to this part of itself, or of the common turn where that is longer.
const KNOWN: f64 = 0.25;
/// Shortest turn that activities are computed with, in seconds.
const SHORTEST: f64 = 1e-6;
/// Tenants whose turns are fitted together.
const MOST_TENANTS: usize = 24;

/// What is known of one tenant's turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    pub(super) seconds: f64,
    /// False where the regimes do not tell it from the others'.
    pub(super) known: bool,
}

/// The turns of one device's tenants.
#[derive(Debug, Default)]
pub(super) struct Turns {
    regimes: Regimes,
    learnt: BTreeMap<TenantId, Turn>,
    /// Of a tenant of which nothing is known.
    common: f64,
}

impl Turns {
    /// Takes in a window and, if it has probes, fits anew.
    pub(super) fn push(&mut self, window: Window) {
        let probed = window.probes > 0.0;
        self.regimes.push(window);
        if probed {
            self.fit();
        }
    }

    /// Forgets tenants that are no more.
    pub(super) fn retain(&mut self, lives: impl Fn(TenantId) -> bool) {
        self.regimes.retain(&lives);
        self.learnt.retain(|tenant, _| lives(*tenant));
    }

    /// A tenant's turn; the common one where nothing is known of it.
    pub(super) fn of(&self, tenant: TenantId) -> Turn {
        let unknown = Turn {
            seconds: self.common,
            known: false,
        };
        let turn = self.learnt.get(&tenant).copied().unwrap_or(unknown);
        Turn {
            seconds: turn.seconds.max(SHORTEST),
            ..turn
        }
    }

    /// By how much the delay beside these tenants, who are sorted, falls without each of them, in
    /// seconds; `None` unless all of it was seen, and for long enough.
    ///
    /// Where several tenants leave the card idle in between, the ring tells their sum and not who had
    /// how much of it: beside 33 % in kernels of 8 ms and 29 % in kernels of 0.5 ms, turns put 433 us
    /// down to the first, and without it a probe waited 578 us less (measured on an H200).
    pub(super) fn falls(&self, tenants: &[TenantId]) -> Option<Vec<f64>> {
        let seen = |tenants: &[TenantId]| {
            let regime = self.regimes.of(tenants)?;
            (regime.windows() >= LEAST_WINDOWS).then_some(regime)
        };
        if tenants.len() < 2 {
            return None;
        }
        let together = seen(tenants)?;
        let mut falls = Vec::with_capacity(tenants.len());
        let mut widest = 0.0f64;
        for away in 0..tenants.len() {
            let mut others = tenants.to_vec();
            others.remove(away);
            let without = seen(&others)?;
            widest = widest.max(together.variance() + without.variance());
            falls.push((together.delay() - without.delay()).max(0.0));
        }
        let mean = falls.iter().sum::<f64>() / falls.len() as f64;
        (widest.sqrt() < KNOWN * mean).then_some(falls)
    }

    fn fit(&mut self) {
        let all: Vec<&Regime> = self
            .regimes
            .iter()
            .filter(|regime| regime.windows() >= LEAST_WINDOWS)
            .collect();
        let tenants = heaviest(&all);
        let regimes: Vec<&Regime> = all
            .into_iter()
            .filter(|regime| regime.tenants.iter().all(|p| tenants.contains(p)))
            .collect();
        if regimes.is_empty() {
            self.learnt.clear();
            return;
        }
        let position = |tenant: &TenantId| tenants.binary_search(tenant).ok();
        let weight = |regime: &Regime| {
            let model = MODEL_ERROR * regime.delay();
            1.0 / (regime.variance() + model * model + CLOCK_ERROR * CLOCK_ERROR)
        };
        if self.common <= 0.0 {
            let rows: Vec<_> = regimes
                .iter()
                .map(|regime| (*regime, regime.shares()))
                .collect();
            self.common = common(&rows);
        }
        let mut turns: Vec<f64> = tenants
            .iter()
            .map(|tenant| match self.learnt.get(tenant) {
                Some(turn) => turn.seconds,
                None => self.common,
            })
            .collect();
        let rows: Vec<(&Regime, Vec<f64>)> = regimes
            .iter()
            .map(|regime| {
                let of: Vec<f64> = regime
                    .tenants
                    .iter()
                    .map(|p| position(p).map_or(SHORTEST, |p| turns[p].max(SHORTEST)))
                    .collect();
                (*regime, activities(&regime.shares(), &of))
            })
            .collect();
        self.common = common(&rows);
        let mut normal = Normal::with_prior(turns.len(), self.common, PRIOR_WIDTH * self.common);
        for (regime, active) in &rows {
            let row: Vec<(usize, f64)> = regime
                .tenants
                .iter()
                .zip(active)
                .filter_map(|(tenant, active)| Some((position(tenant)?, *active)))
                .collect();
            normal.add(&row, regime.delay(), weight(regime));
        }
        normal.solve(&mut turns);
        let known: Vec<bool> = normal
            .variances()
            .iter()
            .zip(&turns)
            .map(|(variance, turn)| variance.sqrt() <= KNOWN * turn.max(self.common))
            .collect();
        self.learnt = tenants
            .into_iter()
            .zip(turns.into_iter().zip(known))
            .map(|(tenant, (seconds, known))| (tenant, Turn { seconds, known }))
            .collect();
    }
}

/// The tenants with most probes beside them, sorted.
fn heaviest(regimes: &[&Regime]) -> Vec<TenantId> {
    let mut weights: BTreeMap<TenantId, f64> = BTreeMap::new();
    for regime in regimes {
        for tenant in &regime.tenants {
            *weights.entry(*tenant).or_default() += regime.weight();
        }
    }
    let mut weights: Vec<(TenantId, f64)> = weights.into_iter().collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    weights.truncate(MOST_TENANTS);
    let tenants: BTreeSet<TenantId> = weights.into_iter().map(|(tenant, _)| tenant).collect();
    tenants.into_iter().collect()
}

/// One turn for all: the delay of all regimes over the activity in them.
fn common(rows: &[(&Regime, Vec<f64>)]) -> f64 {
    let (mut delay, mut active) = (0.0, 0.0);
    for (regime, of) in rows {
        delay += regime.weight() * regime.delay().max(0.0);
        active += regime.weight() * of.iter().sum::<f64>();
    }
    if active > 0.0 {
        (delay / active).clamp(CLOCK_ERROR, 1.0)
    } else {
        CLOCK_ERROR
    }
}

/// The normal equations of a least-squares fit with a prior: symmetric, positive definite.
struct Normal {
    matrix: Vec<Vec<f64>>,
    right: Vec<f64>,
}

impl Normal {
    fn with_prior(size: usize, mean: f64, width: f64) -> Self {
        let weight = 1.0 / (width * width);
        let mut matrix = vec![vec![0.0; size]; size];
        for (i, row) in matrix.iter_mut().enumerate() {
            row[i] = weight;
        }
        Self {
            matrix,
            right: vec![weight * mean; size],
        }
    }

    /// Adds an equation: these coefficients give this value.
    fn add(&mut self, row: &[(usize, f64)], value: f64, weight: f64) {
        for (i, a) in row {
            for (j, b) in row {
                self.matrix[*i][*j] += weight * a * b;
            }
            self.right[*i] += weight * a * value;
        }
    }

    /// The best values that are not negative, by going down one coordinate after the other: there
    /// is one minimum.
    fn solve(&self, values: &mut [f64]) {
        for _ in 0..500 {
            let mut change = 0.0f64;
            for (i, row) in self.matrix.iter().enumerate() {
                let others: f64 = row
                    .iter()
                    .zip(values.iter())
                    .enumerate()
                    .filter(|(j, _)| *j != i)
                    .map(|(_, (a, value))| a * value)
                    .sum();
                let value = ((self.right[i] - others) / row[i]).max(0.0);
                change = change.max((value - values[i]).abs());
                values[i] = value;
            }
            if change < 1e-9 {
                break;
            }
        }
    }

    /// Of each value: the diagonal of the inverse, by Gauss and Jordan without exchanges, which a
    /// positive definite matrix does not need.
    fn variances(mut self) -> Vec<f64> {
        let size = self.matrix.len();
        for pivot in 0..size {
            let divisor = self.matrix[pivot][pivot];
            let mut pivot_row = std::mem::take(&mut self.matrix[pivot]);
            pivot_row[pivot] = 1.0;
            for value in &mut pivot_row {
                *value /= divisor;
            }
            for row in self.matrix.iter_mut().filter(|row| !row.is_empty()) {
                let factor = std::mem::take(&mut row[pivot]);
                for (value, of_pivot) in row.iter_mut().zip(&pivot_row) {
                    *value -= factor * of_pivot;
                }
            }
            self.matrix[pivot] = pivot_row;
        }
        (0..size).map(|i| self.matrix[i][i].max(0.0)).collect()
    }
}

#[cfg(test)]
mod tests;

//! Tenants that take turns: from shares of time to how often each has work.
//!
//! At an instant at which the tenants of a set A have work, they run one after the other in a
//! circle, each for its turn T: p has the part T_p / sum of T over A of the time. With tenants that
//! have work independently of one another, p for the part a_p of the time, its share of all time is
//!
//! ```text
//! S_p = a_p T_p E[1 / (T_p + X_p)],   X_p = sum of T_q over the others that have work
//! E[1 / (T_p + X_p)] = integral over s from 0 of exp(-s T_p) product over q of (1 - a_q + a_q exp(-s T_q))
//! ```
//!
//! The ring tells S; [`activities`] finds the a that make it, by repeated substitution from a = 1,
//! which falls to the largest solution. The integral is taken over log s with equal steps, which is
//! exact to a few parts in a thousand for turns that differ up to a thousandfold.

/// Points of the integral.
const POINTS: usize = 28;
/// Substitutions at the most; near a full card they come closer slowly.
const ROUNDS: usize = 40;
/// The change at which substitution ends.
const ENOUGH: f64 = 1e-4;
/// A factor below it counts as this: products of sixteen stay above zero.
const LEAST_FACTOR: f64 = 1e-12;

/// For how much of the time each tenant has work, from its share of the time and its turn (a
/// share of zero gives zero). Turns must be above zero; shares add up to one at the most.
pub(super) fn activities(shares: &[f64], turns: &[f64]) -> Vec<f64> {
    let mut active: Vec<f64> = shares
        .iter()
        .map(|share| if *share > 0.0 { 1.0 } else { 0.0 })
        .collect();
    if active.iter().filter(|active| **active > 0.0).count() < 2 {
        return shares.iter().map(|share| share.clamp(0.0, 1.0)).collect();
    }
    let least = turns.iter().copied().fold(f64::INFINITY, f64::min);
    let all: f64 = turns.iter().sum();
    let (from, to) = ((1e-3 / all).ln(), (12.0 / least).ln());
    let step = (to - from) / (POINTS - 1) as f64;
    let points: Vec<f64> = (0..POINTS)
        .map(|i| (from + step * i as f64).exp())
        .collect();
    // exp(-s T) of each tenant at each point.
    let falls: Vec<Vec<f64>> = turns
        .iter()
        .map(|turn| points.iter().map(|s| (-s * turn).exp()).collect())
        .collect();
    let factor = |active: f64, fall: f64| (1.0 - active + active * fall).max(LEAST_FACTOR);
    let mut product = vec![1.0; POINTS];
    for (active, falls) in active.iter().zip(&falls) {
        for (product, fall) in product.iter_mut().zip(falls) {
            *product *= factor(*active, *fall);
        }
    }
    for _ in 0..ROUNDS {
        let mut change = 0.0f64;
        for (p, share) in shares.iter().enumerate() {
            if *share <= 0.0 {
                continue;
            }
            let before = active[p];
            // Up to the first point the integrand is one, but for a thousandth.
            let mut integral = points[0];
            for (i, point) in points.iter().enumerate() {
                let others = product[i] / factor(before, falls[p][i]);
                // The trapezium's first point counts half.
                let width = if i == 0 { 0.5 * step } else { step };
                integral += width * point * falls[p][i] * others;
            }
            let after = (share / (turns[p] * integral)).clamp(*share, 1.0);
            for (product, fall) in product.iter_mut().zip(&falls[p]) {
                *product *= factor(after, *fall) / factor(before, *fall);
            }
            active[p] = after;
            change = change.max((after - before).abs());
        }
        if change < ENOUGH {
            break;
        }
    }
    active
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The share of each tenant by going through all sets of tenants that have work.
    fn shares(active: &[f64], turns: &[f64]) -> Vec<f64> {
        let mut shares = vec![0.0; active.len()];
        for set in 1u32..1 << active.len() {
            let has = |p: usize| set >> p & 1 == 1;
            let chance: f64 = (0..active.len())
                .map(|p| if has(p) { active[p] } else { 1.0 - active[p] })
                .product();
            let circle: f64 = (0..active.len())
                .filter(|p| has(*p))
                .map(|p| turns[p])
                .sum();
            for p in (0..active.len()).filter(|p| has(*p)) {
                shares[p] += chance * turns[p] / circle;
            }
        }
        shares
    }

    #[test]
    fn a_tenant_alone_has_work_while_it_has_the_gpu() {
        assert_eq!(activities(&[0.3, 0.0], &[1.0, 5.0]), [0.3, 0.0]);
    }

    #[test]
    fn equal_time_is_not_equal_work() {
        // Turns of 3 ms and 1 ms: the short one always has work, the long one two thirds of it.
        let active = activities(&[0.5, 0.5], &[3e-3, 1e-3]);
        assert!(
            (active[0] - 2.0 / 3.0).abs() < 0.01 && active[1] > 0.99,
            "{active:?}"
        );
    }

    proptest! {
        /// What was put in comes out: from activities to shares and back, for up to six tenants
        /// whose turns differ up to a hundredfold, while the card is not nearly full: there many
        /// activities give the same shares.
        #[test]
        fn activities_are_found_again(
            tenants in proptest::collection::vec((0.02f64..0.8, -2.0f64..0.0), 2..7),
        ) {
            let active: Vec<f64> = tenants.iter().map(|(active, _)| *active).collect();
            let turns: Vec<f64> = tenants.iter().map(|(_, log)| 10f64.powf(*log)).collect();
            prop_assume!(active.iter().map(|active| 1.0 - active).product::<f64>() > 0.03);
            let shares = shares(&active, &turns);
            let found = activities(&shares, &turns);
            for (found, truth) in found.iter().zip(&active) {
                prop_assert!((found - truth).abs() < 0.05, "{:?} for {:?}", found, truth);
            }
        }

        /// Any shares and turns give activities between the share and one.
        #[test]
        fn activities_are_parts_of_the_time(
            tenants in proptest::collection::vec((0.0f64..1.0, -6.0f64..0.0), 1..17),
        ) {
            let all: f64 = tenants.iter().map(|(share, _)| share).sum::<f64>().max(1.0);
            let shares: Vec<f64> = tenants.iter().map(|(share, _)| share / all).collect();
            let turns: Vec<f64> = tenants.iter().map(|(_, log)| 10f64.powf(*log)).collect();
            for (active, share) in activities(&shares, &turns).iter().zip(&shares) {
                prop_assert!(*active >= *share && *active <= 1.0);
            }
        }
    }
}

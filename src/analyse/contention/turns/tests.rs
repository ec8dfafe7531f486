use std::time::Duration;

use proptest::prelude::*;

use super::*;

const A: TenantId = TenantId(10);
const B: TenantId = TenantId(11);
const C: TenantId = TenantId(12);

/// Pushes as many windows with these shares and this mean delay in ms.
fn push(turns: &mut Turns, second: &mut u64, count: usize, shares: &[(TenantId, f64)], ms: f64) {
    for _ in 0..count {
        *second += 3;
        turns.push(Window {
            at: Duration::from_secs(*second),
            samples: 15,
            shares: shares.iter().copied().collect(),
            probes: 30.0,
            delay: ms * 1e-3,
        });
    }
}

fn near(turn: Turn, ms: f64) {
    assert!(turn.known, "{turn:?}");
    assert!(
        (turn.seconds * 1e3 - ms).abs() < 0.1 * ms,
        "{turn:?} is not {ms} ms"
    );
}

#[test]
fn turns_are_learnt_from_tenants_alone_and_hold_for_them_together() {
    let (mut turns, mut second) = (Turns::default(), 0);
    push(&mut turns, &mut second, 15, &[(A, 2.0 / 3.0)], 1.0);
    push(&mut turns, &mut second, 15, &[(B, 1.0)], 0.5);
    near(turns.of(A), 1.5);
    near(turns.of(B), 0.5);
    push(&mut turns, &mut second, 30, &[(A, 0.5), (B, 0.5)], 1.5);
    near(turns.of(A), 1.5);
    near(turns.of(B), 0.5);
}

#[test]
fn turns_are_learnt_from_one_that_comes_to_others() {
    let (mut turns, mut second) = (Turns::default(), 0);
    // B is never alone.
    push(&mut turns, &mut second, 15, &[(A, 1.0)], 1.5);
    push(&mut turns, &mut second, 15, &[(A, 0.75), (B, 0.25)], 2.0);
    near(turns.of(A), 1.5);
    near(turns.of(B), 0.5);
}

#[test]
fn what_was_never_apart_is_not_told_apart() {
    let (mut turns, mut second) = (Turns::default(), 0);
    push(&mut turns, &mut second, 50, &[(A, 0.5), (B, 0.5)], 1.5);
    assert!(!turns.of(A).known && !turns.of(B).known);
    assert!(turns.of(A).seconds > 0.0);
    // A third one that is alone before says nothing of the two.
    push(&mut turns, &mut second, 20, &[(C, 1.0)], 1.0);
    assert!(turns.of(C).known && !turns.of(A).known);
}

#[test]
fn few_windows_say_nothing_and_a_tenant_that_is_gone_is_forgotten() {
    let (mut turns, mut second) = (Turns::default(), 0);
    push(&mut turns, &mut second, 6, &[(A, 1.0)], 1.0);
    assert!(!turns.of(A).known);
    push(&mut turns, &mut second, 3, &[(A, 1.0)], 1.0);
    assert!(turns.of(A).known);
    turns.retain(|tenant| tenant != A);
    assert!(!turns.of(A).known);
}

#[test]
fn the_inverse_is_that_of_the_matrix() {
    let mut normal = Normal::with_prior(3, 1.0, 1.0);
    normal.add(&[(0, 1.0), (1, 2.0)], 1.0, 2.0);
    normal.add(&[(1, 1.0), (2, 1.0)], 1.0, 1.0);
    // [[3, 4, 0], [4, 10, 1], [0, 1, 2]]: determinant 25.
    let found = normal.variances();
    for (found, truth) in found.iter().zip([19.0 / 25.0, 6.0 / 25.0, 14.0 / 25.0]) {
        assert!((found - truth).abs() < 1e-9, "{found} {truth}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever windows come, turns are finite and above zero, and their number is bounded.
    #[test]
    fn turns_are_finite(
        windows in proptest::collection::vec(
            (0u64..40, proptest::collection::btree_map(0u32..60, 0.0f64..1.0, 0..30), 0.0f64..200.0, -1e-3f64..0.1),
            1..80,
        ),
    ) {
        let (mut turns, mut second) = (Turns::default(), 0);
        for (gap, shares, probes, delay) in windows {
            second += gap;
            let all = shares.values().sum::<f64>().max(1.0);
            turns.push(Window {
                at: Duration::from_secs(second),
                samples: 15,
                shares: shares.into_iter().map(|(p, share)| (TenantId(p), share / all)).collect(),
                probes,
                delay,
            });
            prop_assert!(turns.learnt.len() <= MOST_TENANTS);
            for p in 0..60 {
                let turn = turns.of(TenantId(p));
                prop_assert!(turn.seconds.is_finite() && turn.seconds > 0.0);
            }
        }
    }
}

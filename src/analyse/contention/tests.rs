use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod circle;

fn at(seconds: f64) -> Moment {
    Moment {
        monotonic: Duration::from_secs_f64(seconds),
        unix: Duration::ZERO,
    }
}

fn probe(launched: f64, delay: f64) -> Probe {
    Probe {
        launched: Duration::from_secs_f64(launched),
        delay: Duration::from_secs_f64(delay),
        started: true,
    }
}

fn window(probes: Vec<Probe>) -> CanaryWindow {
    CanaryWindow {
        gpu: crate::model::GpuUuid::new("GPU-1"),
        state: CanaryState::Running,
        reason: CanaryReason::Shared,
        probes,
        missed: 1,
        waiting: Some(Duration::ZERO),
        clock_error: Some(Duration::from_micros(3)),
        workers: Vec::new(),
    }
}

fn tenancy(shares: &[(TenantId, f64)]) -> Tenancy {
    Tenancy {
        covered: Duration::from_secs(3),
        samples: 15,
        idle: shares.is_empty(),
        shares: shares.iter().copied().collect(),
    }
}

fn unattributed(view: &CanaryView, remainder: DelayRemainder) -> f64 {
    view.unattributed[&remainder].0
}

fn sum(view: &CanaryView) -> f64 {
    view.delays.value().unwrap().sum.0
}

fn nowhere(_: TenantId) -> Option<usize> {
    None
}

const A: TenantId = TenantId(2);
const B: TenantId = TenantId(3);

#[test]
fn a_device_without_a_canary_says_so_and_one_that_yielded_keeps_its_counters() {
    let mut contention = Contention::new(false);
    let view = contention.view(at(0.0), nowhere);
    assert_eq!(view, CanaryView::off(CanaryReason::NotYet));
    let mut off = window(Vec::new());
    off.state = CanaryState::Off;
    off.reason = CanaryReason::NoTenant;
    off.missed = 0;
    off.waiting = None;
    off.clock_error = None;
    contention.take(&off, at(1.0));
    let view = contention.view(at(1.0), nowhere);
    assert_eq!(view, CanaryView::off(CanaryReason::NoTenant));

    contention.take(&window(vec![probe(1.5, 0.002)]), at(2.0));
    contention.drain(Some(&tenancy(&[(A, 0.9)])), at(3.0));
    let view = contention.view(at(3.0), nowhere);
    assert_eq!(view.stall, Reading::Value(Duration::ZERO));
    assert_eq!(view.delays.value().unwrap().count(), 1);
    off.state = CanaryState::Yielded;
    off.reason = CanaryReason::LowMemory;
    contention.take(&off, at(4.0));
    let view = contention.view(at(4.0), nowhere);
    assert_eq!(
        (view.state, view.reason),
        (CanaryState::Yielded, CanaryReason::LowMemory)
    );
    assert_eq!((view.stall, view.clock_error), (Reading::Unsupported, None));
    assert_eq!(view.recent.value().unwrap().probes, 1);
    let view = contention.view(at(80.0), nowhere);
    assert_eq!(view.delays.value().unwrap().count(), 1);
    assert_eq!(view.recent, Reading::Failed(Cause::Stale));
}

#[test]
fn a_canary_that_was_not_heard_of_for_a_while_says_nothing_of_now() {
    let mut contention = Contention::new(false);
    contention.take(&window(Vec::new()), at(1.0));
    assert_eq!(
        contention.view(at(7.0), nowhere).stall,
        Reading::Failed(Cause::Stale)
    );
}

#[test]
fn a_probe_waits_for_the_drain_of_its_end() {
    let mut contention = Contention::new(false);
    let probes = vec![probe(1.0, 0.001), probe(2.9, 0.5)];
    contention.take(&window(probes), at(3.5));
    assert_eq!(sum(&contention.view(at(3.5), nowhere)), 0.0);
    let charges = contention.drain(Some(&tenancy(&[(A, 0.9)])), at(3.0));
    assert_eq!(charges.len(), 1);
    assert_eq!(
        contention
            .view(at(3.5), nowhere)
            .delays
            .value()
            .unwrap()
            .count(),
        1
    );
    contention.drain(Some(&tenancy(&[(A, 0.9)])), at(6.0));
    assert!((sum(&contention.view(at(6.0), nowhere)) - 0.501).abs() < 1e-12);
}

#[test]
fn without_a_drain_the_delay_is_nobodys_share() {
    let mut contention = Contention::new(false);
    contention.take(&window(vec![probe(0.5, 0.004)]), at(1.0));
    contention.expire(at(10.0));
    assert_eq!(sum(&contention.view(at(10.0), nowhere)), 0.0);
    contention.expire(at(11.5));
    let view = contention.view(at(11.5), nowhere);
    // The shortest delay there is may be the baseline's up to 50 us.
    assert!((unattributed(&view, DelayRemainder::NoShare) - 0.00395).abs() < 1e-12);
    assert!((unattributed(&view, DelayRemainder::Baseline) - 50e-6).abs() < 1e-12);
    // A drain of another time does not cover it; a card without a ring never will.
    contention.take(&window(vec![probe(12.0, 0.001)]), at(12.5));
    assert!(
        contention
            .drain(Some(&tenancy(&[(A, 1.0)])), at(20.0))
            .is_empty()
    );
    contention.take(&window(vec![probe(20.5, 0.001)]), at(21.0));
    assert!(contention.drain(None, at(21.5)).is_empty());
    let view = contention.view(at(21.5), nowhere);
    assert_eq!(view.delays.value().unwrap().count(), 3);
    let named: f64 = view.unattributed.values().map(|delay| delay.0).sum();
    assert!((named - sum(&view)).abs() < 1e-12);
}

#[test]
fn probes_without_a_drain_are_bounded() {
    let mut contention = Contention::new(false);
    let probes: Vec<Probe> = (0..MOST_PENDING + 5).map(|_| probe(0.5, 0.001)).collect();
    contention.take(&window(probes), at(1.0));
    assert_eq!(contention.pending.len(), MOST_PENDING);
    assert_eq!(
        contention
            .view(at(1.0), nowhere)
            .delays
            .value()
            .unwrap()
            .count(),
        5
    );
}

#[test]
fn the_baseline_is_learnt_while_nobody_is_there_and_is_nobodys() {
    let mut contention = Contention::new(false);
    for i in 0..4 {
        let second = 3.0 * f64::from(i);
        let probes = (0..20).map(|_| probe(second + 1.0, 20e-6)).collect();
        contention.take(&window(probes), at(second + 2.0));
        contention.drain(Some(&tenancy(&[])), at(second + 3.0));
    }
    let view = contention.view(at(12.0), nowhere);
    let baseline = *view.baseline.value().unwrap();
    assert_eq!(
        (baseline.probes, baseline.mean),
        (80, Duration::from_micros(20))
    );
    assert!((unattributed(&view, DelayRemainder::Baseline) - 80.0 * 20e-6).abs() < 1e-9);

    let probes = (0..10).map(|_| probe(13.0, 1.02e-3)).collect();
    contention.take(&window(probes), at(14.0));
    let shares = [
        (A, 0.5),
        (B, 0.2),
        (TenantId::HOST, 0.2),
        (TenantId::UNKNOWN, 0.1),
    ];
    let charges = contention.drain(Some(&tenancy(&shares)), at(15.0));
    let inflicted: Vec<f64> = charges.iter().map(|charge| charge.inflicted.0).collect();
    assert!((inflicted[0] - 5e-3).abs() < 1e-9 && (inflicted[1] - 2e-3).abs() < 1e-9);
    // What the others inflicted on it, for as long as it had work.
    assert!((charges[0].exposed.0 - 5e-3).abs() < 1e-9 && charges[0].exposed_probes == 10.0);
    let view = contention.view(at(15.0), |tenant| Some(tenant.0 as usize - 2));
    assert!((unattributed(&view, DelayRemainder::HostProcess) - 2e-3).abs() < 1e-9);
    assert!((unattributed(&view, DelayRemainder::UnknownProcess) - 1e-3).abs() < 1e-9);
    assert_eq!(
        (
            view.pairs.len(),
            view.pairs[0].victim,
            view.pairs[0].aggressor
        ),
        (2, 1, 0)
    );
}

/// What may come to a device, in any order.
#[derive(Debug, Clone)]
enum Event {
    Probes(Vec<(u64, u64)>),
    Drain(BTreeMap<u32, f64>, u32, bool),
    Refused,
    Nothing,
    Gone(u32),
}

fn any_event() -> impl Strategy<Value = Event> {
    let probes = proptest::collection::vec(
        (0u64..20_000, prop_oneof![0u64..5_000_000, any::<u64>()]),
        0..40,
    );
    let shares = proptest::collection::btree_map(0u32..24, 0.0f64..0.5, 0..20);
    prop_oneof![
        4 => probes.prop_map(Event::Probes),
        4 => (shares, 0u32..30, any::<bool>()).prop_map(|(shares, samples, idle)| Event::Drain(shares, samples, idle)),
        1 => Just(Event::Refused),
        1 => Just(Event::Nothing),
        1 => (2u32..24).prop_map(Event::Gone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in whatever order: at every instant the charges ever made and the remainders
    /// are the histogram's sum, none is negative or not a number, nobody is exposed to more probes
    /// than there were, and no counter falls.
    #[test]
    fn the_sum_closes(events in proptest::collection::vec((0u64..8_000, any_event()), 1..80)) {
        let mut contention = Contention::new(true);
        let (mut millis, mut charged, mut before) = (0u64, 0.0, BTreeMap::new());
        let (mut told, mut gone) = (0, std::collections::BTreeSet::new());
        for (gap, event) in events {
            millis += gap;
            let now = at(millis as f64 / 1e3);
            let mut charges = Vec::new();
            match event {
                Event::Probes(probes) => {
                    told += probes.len() as u64;
                    let probes = probes.into_iter().map(|(ago, nanos)| Probe {
                        launched: Duration::from_millis(millis.saturating_sub(ago)),
                        delay: Duration::from_nanos(nanos),
                        started: ago % 2 == 0,
                    });
                    contention.take(&window(probes.collect()), now);
                }
                Event::Drain(shares, samples, idle) => {
                    let shares = shares.into_iter().map(|(p, share)| (TenantId(p), share));
                    let shares = shares.filter(|(p, _)| !gone.contains(p));
                    let tenancy = Tenancy {
                        covered: Duration::from_millis(200) * samples,
                        samples,
                        idle,
                        shares: shares.collect(),
                    };
                    charges = contention.drain(Some(&tenancy), now);
                }
                Event::Refused => charges = contention.drain(None, now),
                Event::Nothing => {}
                Event::Gone(p) => {
                    gone.insert(TenantId(p));
                    let lives = |tenant: TenantId| !gone.contains(&tenant);
                    contention.retain(lives, lives);
                }
            }
            contention.expire(now);
            let settled = contention.histogram.count() as f64;
            for charge in charges {
                prop_assert!(!gone.contains(&charge.tenant));
                prop_assert!(charge.inflicted.0 >= 0.0 && charge.exposed.0 >= 0.0);
                prop_assert!(charge.exposed_probes >= 0.0 && charge.exposed_probes <= settled);
                charged += charge.inflicted.0;
            }
            let view = contention.view(now, nowhere);
            let remainders: f64 = view.unattributed.values().map(|delay| delay.0).sum();
            let sum = contention.histogram.sum.0;
            prop_assert!((charged + remainders - sum).abs() <= 1e-9 * sum.max(1.0), "{charged} + {remainders} is not {sum}");
            for (remainder, delay) in &view.unattributed {
                prop_assert!(delay.0 >= before.insert(*remainder, delay.0).unwrap_or(0.0));
            }
            prop_assert!(contention.histogram.count() + contention.pending.len() as u64 == told);
        }
    }
}

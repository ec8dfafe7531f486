//! The simulated node seen from outside: its seams against its own truth.
#![expect(
    clippy::expect_used,
    reason = "helpers of tests, which clippy does not take for tests"
)]

mod canary;
mod physics;
mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use slicewatch::model::{Cause, GpuSource, Moment, RawProcess, Reading};
use slicewatch::simulate::{SimNode, TenantTruth, TrueOwner, Truth, scenarios};

const START: Moment = Moment {
    monotonic: Duration::from_secs(1_000),
    unix: Duration::from_secs(1_795_000_000),
};

fn at(seconds: f64) -> Moment {
    START.later(Duration::from_secs_f64(seconds))
}

fn node(scenario: &str, seed: u64) -> SimNode {
    SimNode::new(scenario, seed, START).expect("a known scenario")
}

fn list(source: &mut dyn GpuSource, device: usize) -> Vec<RawProcess> {
    let mut rows = Vec::new();
    assert!(source.processes(device, &mut rows).expect("answers"));
    rows
}

/// Sums hold at any instant: memory by process and pod, time by process, pod and elapsed time.
fn check_balance(name: &str, truth: &Truth, elapsed: f64) {
    for (uuid, device) in &truth.devices {
        let rows: u64 = truth
            .processes
            .iter()
            .filter(|process| process.gpu_uuid == *uuid)
            .map(|process| process.memory.0)
            .sum();
        assert_eq!(device.used.0, rows + device.unexplained.0, "{name}: memory");
        let tenants = || {
            truth
                .tenants
                .iter()
                .filter(|(key, _)| key.gpu_uuid == *uuid)
        };
        let shares: f64 = tenants().map(|(_, tenant)| tenant.gpu_seconds.0).sum();
        let given = shares + device.outside_pods.0;
        assert!(
            (given - device.busy.0).abs() < 1e-6,
            "{name}: time is given once"
        );
        assert!(
            device.busy.0 <= elapsed,
            "{name}: no more time than there is"
        );
        for (key, tenant) in tenants() {
            assert!(
                tenant.gpu_seconds.0 <= tenant.active.as_secs_f64() + 1e-6,
                "{key:?}"
            );
            assert!(tenant.contended <= tenant.active, "{key:?}");
            assert!(tenant.exits_under_pressure <= tenant.exits, "{key:?}");
            assert!(tenant.present || tenant.processes.is_empty(), "{key:?}");
        }
    }
    let held: u64 = truth.tenants.values().map(|tenant| tenant.memory.0).sum();
    let in_pods: u64 = truth
        .processes
        .iter()
        .filter(|process| matches!(process.owner, TrueOwner::Container { .. }))
        .map(|process| process.memory.0)
        .sum();
    assert_eq!(held, in_pods, "{name}: memory by pod");
}

#[test]
fn every_scenario_runs_ten_minutes_and_its_sums_hold() {
    for scenario in scenarios() {
        let node = node(scenario.name, 7);
        let mut last: BTreeMap<_, TenantTruth> = BTreeMap::new();
        for step in 0..=120 {
            let elapsed = f64::from(step) * 5.0;
            node.advance(at(elapsed));
            let truth = node.truth();
            assert_eq!(truth.at, at(elapsed));
            check_balance(scenario.name, &truth, elapsed);
            for (key, before) in &last {
                let now = &truth.tenants[key];
                assert!(
                    now.gpu_seconds.0 >= before.gpu_seconds.0,
                    "{key:?} lost time"
                );
                assert!(now.exits >= before.exits && now.ooms >= before.ooms);
            }
            last = truth.tenants;
        }
        assert!(last.values().any(|tenant| tenant.gpu_seconds.0 > 0.0));
    }
}

#[test]
fn the_driver_seam_shows_the_truth_of_the_instant() {
    for scenario in scenarios() {
        let node = node(scenario.name, 11);
        node.set_torn_chance(0.0);
        for step in 1..60 {
            node.advance(at(f64::from(step) * 3.7));
            let truth = node.truth();
            for mut source in node.gpu_sources() {
                for (index, identity) in source.devices().expect("answers").iter().enumerate() {
                    let memory = source.memory(index).expect("answers");
                    let device = &truth.devices[&identity.uuid];
                    assert_eq!(memory.used, device.used);
                    let reserved = memory.reserved.copied().expect("known on this driver");
                    assert_eq!(memory.total, memory.used + memory.free + reserved);
                    let rows = list(&mut *source, index);
                    let true_rows: Vec<_> = truth
                        .processes
                        .iter()
                        .filter(|process| process.gpu_uuid == identity.uuid)
                        .collect();
                    assert_eq!(rows.len(), true_rows.len(), "{}", scenario.name);
                    for (row, process) in rows.iter().zip(true_rows) {
                        assert_eq!(row.pid, process.pid);
                        assert_eq!(row.used.value().is_none(), process.memory_hidden);
                        match row.used {
                            Reading::Value(used) => assert_eq!(used, process.memory),
                            other => assert_eq!(other, Reading::Failed(Cause::NotAvailable)),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_same_seed_and_calls_give_the_same_world_and_another_seed_another() {
    for scenario in scenarios() {
        let run = |seed| {
            let node = node(scenario.name, seed);
            for step in 1..=90 {
                node.advance(at(f64::from(step) * 0.9));
                for mut source in node.gpu_sources() {
                    let devices = source.devices().expect("answers").len();
                    for index in 0..devices {
                        list(&mut *source, index);
                    }
                }
            }
            node.truth()
        };
        assert_eq!(run(5), run(5), "{}", scenario.name);
        assert_ne!(run(5), run(6), "{}", scenario.name);
    }
}

#[test]
fn how_finely_time_is_cut_does_not_matter() {
    let coarse = node("churn", 4);
    coarse.advance(at(120.0));
    let fine = node("churn", 4);
    for step in 1..=12_000 {
        fine.advance(at(f64::from(step) / 100.0));
    }
    let (coarse, fine) = (coarse.truth(), fine.truth());
    assert_eq!(coarse.pods, fine.pods);
    for (key, tenant) in &coarse.tenants {
        let other = &fine.tenants[key];
        assert_eq!(tenant.exits, other.exits);
        assert!((tenant.gpu_seconds.0 - other.gpu_seconds.0).abs() < 1e-4);
    }
}

#[test]
fn an_unknown_scenario_is_refused_with_the_names_there_are() {
    let error = SimNode::new("noisy", 1, START).expect_err("no such scenario");
    let text = error.to_string();
    assert!(text.contains("\"noisy\""), "{text}");
    for scenario in scenarios() {
        assert!(text.contains(scenario.name), "{text}");
    }
}

#[test]
fn every_scenario_has_a_page_and_a_line() {
    let names: BTreeSet<_> = scenarios().iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), 10);
    for scenario in scenarios() {
        assert!(scenario.page.starts_with(&format!("# {}\n", scenario.name)));
        assert!(scenario.page.contains("Look at:"));
        assert!(!scenario.summary.is_empty() && !scenario.summary.contains('\n'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the scenario, the seed and the times at which it is looked at, no byte and no
    /// second is counted twice, and time never runs back.
    #[test]
    fn sums_hold_at_any_time(
        scenario in 0..9_usize,
        seed: u64,
        steps in prop::collection::vec(0.0..20.0_f64, 1..12),
    ) {
        let name = scenarios()[scenario].name;
        let node = node(name, seed);
        let mut elapsed = 0.0;
        for step in steps {
            elapsed += step;
            node.advance(at(elapsed));
            for mut source in node.gpu_sources() {
                list(&mut *source, 0);
            }
            check_balance(name, &node.truth(), elapsed + 1e-6);
            let before = node.now();
            node.advance(at(elapsed / 2.0));
            prop_assert_eq!(node.now(), before);
        }
    }
}

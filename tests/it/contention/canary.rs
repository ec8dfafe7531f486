//! Where a canary is, and where it is not.

use std::collections::BTreeSet;
use std::time::Duration;

use slicewatch::analyse::lease::{CanaryMode, LeaseSettings};
use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::pipeline::PipelineSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::snapshot::Owner;
use slicewatch::model::{Bytes, CanaryReason, CanaryState, GpuView, Reading, Remainder, Source};
use slicewatch::simulate::{TrueOwner, Truth};

use super::{TEN_MINUTES, agent, run, seconds, start};

/// Framebuffer that true canaries hold on the device.
fn held(truth: &Truth, gpu: &GpuView) -> Option<Bytes> {
    truth
        .processes
        .iter()
        .find(|it| it.owner == TrueOwner::Canary && it.gpu_uuid == gpu.identity.uuid)
        .map(|it| it.memory)
}

fn has_tenant(truth: &Truth, gpu: &GpuView) -> bool {
    truth
        .processes
        .iter()
        .any(|it| it.owner != TrueOwner::Canary && it.gpu_uuid == gpu.identity.uuid)
}

#[test]
fn a_card_that_rests_is_left_alone() {
    let (mut empty_since, mut rests, mut runs) = (None, 0, 0);
    run("now-and-then", 5, |node, snapshot| {
        let (truth, gpu) = (node.truth(), &snapshot.gpus[0]);
        let now = seconds(snapshot);
        if has_tenant(&truth, gpu) {
            empty_since = None;
        } else {
            empty_since.get_or_insert(now);
        }
        // Ten seconds after the last tenant, as the agent saw it a window late.
        let rested = empty_since.is_some_and(|since| now - since > 12.0);
        let holds = held(&truth, gpu).is_some();
        assert!(!(rested && holds), "a context without a tenant at {now}");
        if rested {
            assert_eq!(gpu.canary.state, CanaryState::Off);
            assert_eq!(gpu.canary.reason, CanaryReason::NoTenant);
            assert!(gpu.processes.is_empty());
        }
        rests += u32::from(rested);
        runs += u32::from(holds);
    });
    println!("{rests} s of rest, {runs} s with a canary");
    assert!(rests > 60 && runs > 120);
}

#[test]
fn it_is_nobodys_tenant_and_its_memory_has_a_name() {
    let mut balances = 0;
    run("noisy-neighbour", 5, |node, snapshot| {
        let (truth, gpu) = (node.truth(), &snapshot.gpus[0]);
        assert!(
            gpu.containers
                .iter()
                .all(|row| &*row.namespace != "slicewatch")
        );
        assert!(!matches!(gpu.tenants, Reading::Value(tenants) if tenants > 4));
        let canary = Owner::Unattributed(Remainder::Canary);
        let Some(row) = gpu.processes.iter().find(|row| row.owner == canary) else {
            return;
        };
        assert_eq!(row.memory.copied(), held(&truth, gpu));
        let named = gpu.unattributed.value().expect("a whole list");
        assert_eq!(named[&Remainder::Canary], Bytes::mib(254));
        balances += 1;
    });
    assert!(balances > 500, "{balances}");
}

/// It yields while there is framebuffer left for tenants, comes back when it is free for long, and
/// no allocation fails for want of what it holds.
#[test]
fn it_leaves_before_the_card_is_full_and_comes_back() {
    let (mut leaves, mut returns, mut ooms, mut before) = (0, 0, 0, None);
    run("memory-hog", 5, |node, snapshot| {
        let (truth, gpu) = (node.truth(), &snapshot.gpus[0]);
        let card = &truth.devices[&gpu.identity.uuid];
        let now = held(&truth, gpu);
        if card.ooms > ooms {
            // The step that failed lies in the second before.
            assert!(before.is_none(), "it held memory at {}", seconds(snapshot));
        }
        ooms = card.ooms;
        leaves += u32::from(before.is_some() && now.is_none());
        returns += u32::from(leaves > 0 && before.is_none() && now.is_some());
        before = now;
    });
    println!("left {leaves} times, came back {returns} times, {ooms} allocations failed");
    assert!(leaves > 1 && returns > 0 && ooms > 10);
}

#[test]
fn it_is_never_where_it_must_not_be() {
    for (scenario, reason) in [("mig", CanaryReason::Mig), ("mps", CanaryReason::Mps)] {
        let mut seen = BTreeSet::new();
        run(scenario, 5, |node, snapshot| {
            let truth = node.truth();
            for gpu in &snapshot.gpus {
                let whole = gpu.identity.mig.is_none() && scenario == "mig";
                if !whole {
                    assert_eq!(held(&truth, gpu), None, "{scenario}");
                    seen.insert(gpu.canary.reason.label());
                }
            }
        });
        assert!(seen.contains(reason.label()), "{scenario}: {seen:?}");
    }
    let settings = PipelineSettings {
        lease: LeaseSettings {
            mode: CanaryMode::Off,
            ..LeaseSettings::default()
        },
        ..PipelineSettings::default()
    };
    let sampler = SamplerSettings::default();
    let mut off = SimulatedAgent::with("noisy-neighbour", 5, start(), sampler, settings)
        .expect("a known scenario");
    off.run(
        start().monotonic + Duration::from_secs(60),
        |node, snapshot| {
            for gpu in &snapshot.gpus {
                assert_eq!(held(&node.truth(), gpu), None);
                assert!(gpu.canary.delays.value().is_none());
            }
        },
    );
}

/// A stall is visible while it lasts; a worker that dies is told of and comes again; the second
/// card's canary goes with its card.
#[test]
fn faults_are_told_while_they_last() {
    let (mut stalls, mut died, mut lost) = (Vec::new(), 0, 0);
    let mut probes = BTreeSet::new();
    run("faults", 5, |_, snapshot| {
        let now = seconds(snapshot);
        let [first, second] = &snapshot.gpus[..] else {
            return;
        };
        let stall = first.canary.stall.copied().unwrap_or_default();
        if first.canary.state == CanaryState::Stalled {
            assert!((450.0..455.5).contains(&now), "a stall at {now}");
            stalls.push(stall.as_secs_f64());
        }
        let health = snapshot.source(Source::Canary).expect("told of");
        if health.up != Reading::Value(()) {
            died += 1;
            assert!((520.0..524.0).contains(&now), "a worker died at {now}");
        }
        if second.up != Reading::Value(()) && now < 210.0 {
            lost += u32::from(second.canary.reason == CanaryReason::GpuDown);
        }
        if now > 590.0 {
            probes.insert(first.canary.delays.value().map(|it| it.count()));
            assert_eq!(first.canary.state, CanaryState::Running);
            assert_eq!(second.canary.state, CanaryState::Running);
        }
    });
    println!("stalls {stalls:?}, {died} s without a worker, {lost} s lost");
    assert!(stalls.len() >= 2 && stalls.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(died >= 1 && lost > 30 && probes.len() > 3);
}

/// With the canary on, tenants' GPU time is what it is without: it wins no sample of the ring.
#[test]
fn no_other_series_lies_because_of_it() {
    let mut last = None;
    let truth = run("noisy-neighbour", 9, |_, snapshot| {
        last = Some(snapshot.clone())
    });
    let gpu = &last.expect("a step").gpus[0];
    for tenant in truth.tenants.values() {
        let row = gpu.containers.iter().find(|row| row.pod == tenant.pod);
        let said = row.and_then(|row| row.gpu_time.copied()).expect("a row").0;
        let share = tenant.gpu_seconds.0 / TEN_MINUTES.as_secs_f64();
        let bound = 4.0 * (share * (1.0 - share) / 3_000.0).sqrt() * 600.0;
        assert!(
            (said - tenant.gpu_seconds.0).abs() < bound + 3.0,
            "{}: {said}",
            tenant.pod
        );
    }
    assert_eq!(truth.devices[&gpu.identity.uuid].outside_pods.0, 0.0);
}

/// Same seed, same world: also where somebody asks for the truth between two steps.
#[test]
fn looking_on_changes_nothing() {
    let end = start().monotonic + Duration::from_secs(120);
    let told = |looks: bool| {
        let mut agent = agent("memory-hog", 4);
        let mut snapshots = Vec::new();
        agent.run(end, |node, snapshot| {
            if looks {
                node.truth();
                for gpu in &snapshot.gpus {
                    node.queue(&gpu.identity.uuid);
                }
            }
            snapshots.push(snapshot);
        });
        snapshots
    };
    assert!(told(false) == told(true));
}

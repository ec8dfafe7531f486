use std::time::Duration;

use super::{Curiosity, ENDING_LOOKS};
use crate::collect::sampler::SamplerSettings;
use crate::commands::simulated::SimulatedAgent;
use crate::model::{Cause, ContainerView, Moment, Reading, Snapshot};

/// A snapshot with one container alone.
fn snapshot(change: impl FnOnce(&mut ContainerView)) -> Snapshot {
    let start = Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_790_000_000),
    };
    let mut agent = SimulatedAgent::new("quiet", 1, start, SamplerSettings::default()).unwrap();
    let mut last = None;
    agent.run(start.monotonic + Duration::from_secs(20), |_, now| {
        last = Some(now)
    });
    let mut snapshot = Snapshot::clone(&last.unwrap());
    let mut container = snapshot.gpus[0].containers[0].clone();
    container.present = true;
    change(&mut container);
    snapshot.gpus.truncate(1);
    snapshot.gpus[0].containers = vec![container];
    snapshot
}

fn holding(processes: u32, replicas: u32) -> Snapshot {
    snapshot(|container| {
        container.processes = processes;
        container.replicas = Reading::Value(replicas);
    })
}

#[test]
fn a_container_without_a_grant_is_asked_for_once() {
    let mut curiosity = Curiosity::default();
    assert!(curiosity.is_roused(&holding(1, 0)));
    assert!(!curiosity.is_roused(&holding(1, 0)));
    assert!(!curiosity.is_roused(&holding(1, 1)));
    assert!(curiosity.is_roused(&holding(2, 0)), "the grant was lost");
    let not_yet = snapshot(|container| {
        container.processes = 1;
        container.replicas = Reading::Failed(Cause::NotYet);
    });
    assert!(Curiosity::default().is_roused(&not_yet));
}

#[test]
fn a_granted_container_without_its_processes_is_asked_for_some_times() {
    let mut curiosity = Curiosity::default();
    assert!(!curiosity.is_roused(&holding(0, 1)), "it never had one");
    assert!(!curiosity.is_roused(&holding(1, 1)));
    for look in 0..ENDING_LOOKS {
        assert!(curiosity.is_roused(&holding(0, 1)), "look {look}");
    }
    assert!(!curiosity.is_roused(&holding(0, 1)));
    assert!(!curiosity.is_roused(&holding(1, 1)));
    assert!(
        curiosity.is_roused(&holding(0, 1)),
        "it began and ended again"
    );
}

#[test]
fn a_container_that_is_gone_is_forgotten() {
    let mut curiosity = Curiosity::default();
    curiosity.is_roused(&holding(1, 1));
    let gone = snapshot(|container| container.present = false);
    assert!(!curiosity.is_roused(&gone));
    assert!(curiosity.seen.is_empty());
}

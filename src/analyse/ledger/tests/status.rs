//! What pod statuses change, whenever they come.

use super::*;
use crate::model::{PodStatus, Workload, WorkloadTotal};

impl Bench {
    /// The API server tells of a pod, under its name `pod` and UID `uid-<uid>`.
    fn tell(&mut self, uid: &str, pod: &str, kind: &str, workload: &str) {
        let key = PodUid::new(format!("uid-{uid}"));
        let status = PodStatus {
            uid: key.clone(),
            qos: "Guaranteed".into(),
            workload: Workload {
                kind: kind.into(),
                name: workload.into(),
            },
        };
        let name = PodName {
            namespace: "ml".into(),
            pod: pod.into(),
        };
        self.names.pods.insert(key.clone(), name.clone());
        self.names.statuses.insert(key.clone(), Arc::new(status));
        self.names.current.insert(name.clone(), key);
        let container = ContainerName {
            pod: name,
            container: "main".into(),
            from_status: true,
        };
        let id = ContainerId::new(format!("container-{uid}"));
        self.names.containers.insert(id, container);
    }
}

fn totals(snapshot: &Snapshot) -> Vec<(&str, &str, f64)> {
    let row = |total: &'_ WorkloadTotal| total.gpu_time.0;
    snapshot
        .workloads
        .iter()
        .map(|total| (&*total.workload, &*total.kind, row(total)))
        .collect()
}

#[test]
fn an_owner_that_is_told_late_gets_what_comes_after_and_no_counter_falls() {
    let mut bench = Bench::new();
    bench.pods.insert(11, ("a", 700));
    let before = bench.step_with(drain(&[(11, "a", 2.0)]));
    assert_eq!(totals(&before), [("a", "", 2.0)]);
    let a = container(&before, "a").unwrap();
    assert_eq!(
        (&*a.qos, &*a.workload.kind, &*a.workload.name),
        ("", "", "a")
    );

    bench.tell("a", "a", "Deployment", "web");
    let after = bench.step_with(drain(&[(11, "a", 0.5)]));
    assert_eq!(totals(&after), [("a", "", 2.0), ("web", "Deployment", 0.5)]);
    let a = container(&after, "a").unwrap();
    assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(2.5)));
    assert_eq!(
        (&*a.qos, &*a.workload.kind, &*a.workload.name),
        ("Guaranteed", "Deployment", "web")
    );

    // An owner once told stays, whatever is told or forgotten later.
    bench.tell("a", "a", "ReplicaSet", "other");
    bench.step_with(drain(&[(11, "a", 0.5)]));
    bench.names.statuses.clear();
    bench.names.current.clear();
    let last = bench.step_with(drain(&[(11, "a", 0.5)]));
    assert_eq!(totals(&last), [("a", "", 2.0), ("web", "Deployment", 1.5)]);
}

#[test]
fn a_granted_pod_has_its_uid_and_owner_before_its_first_process() {
    let mut bench = Bench::new();
    bench.allocations = granted(&[("a", 1)], 4);
    let snapshot = bench.step();
    assert_eq!(container(&snapshot, "a").unwrap().pod_uid, None);
    bench.tell("a", "a", "StatefulSet", "a");
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.pod_uid, Some(PodUid::new("uid-a")));
    assert_eq!(&*a.workload.kind, "StatefulSet");

    // Its first process proves the same UID: nothing begins anew.
    bench.pods.insert(11, ("a", 700));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    bench.pods.clear();
    bench.step();

    // Deleted and made again: a row that begins at zero, before it has a process.
    bench.tell("a2", "a", "StatefulSet", "a");
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.pod_uid, Some(PodUid::new("uid-a2")));
    assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(0.0)));
}

#[test]
fn an_api_server_that_is_behind_takes_no_counter_away() {
    let mut bench = Bench::new();
    bench.allocations = granted(&[("a", 1)], 4);
    // It still tells of the pod that had the name before.
    bench.tell("old", "a", "StatefulSet", "a");
    bench.step();
    bench.pods.insert(11, ("a", 700));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    for _ in 0..3 {
        bench.pods.clear();
        let snapshot = bench.step();
        let a = container(&snapshot, "a").unwrap();
        assert_eq!(a.pod_uid, Some(PodUid::new("uid-a")));
        assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(2.0)));
        bench.pods.insert(11, ("a", 700));
        bench.step();
    }
}

#[test]
fn a_static_pod_is_told_by_the_uid_of_the_api() {
    let mut bench = Bench::new();
    bench.tell("a", "a", "StaticPod", "a");
    let status = PodStatus {
        uid: PodUid::new("uid-mirror"),
        ..(*bench.names.statuses[&PodUid::new("uid-a")]).clone()
    };
    let key = PodUid::new("uid-a");
    bench.names.statuses.insert(key, Arc::new(status));
    bench.allocations = granted(&[("a", 1)], 4);
    bench.step();
    bench.pods.insert(11, ("a", 700));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    bench.pods.clear();
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.pod_uid, Some(PodUid::new("uid-mirror")));
    assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(2.0)));
}

proptest! {
    /// Whenever an owner is told or forgotten, every second of GPU time is one workload's, and no
    /// total falls.
    #[test]
    fn every_second_is_one_workloads(steps in proptest::collection::vec((0u8..3, 0.0f64..3.0), 1..40)) {
        let mut bench = Bench::new();
        bench.pods.insert(11, ("a", 700));
        let mut given = 0.0;
        let mut before: BTreeMap<(String, String), f64> = BTreeMap::new();
        for (what, seconds) in steps {
            match what {
                0 => bench.tell("a", "a", "Deployment", "web"),
                1 => bench.names.statuses.clear(),
                _ => {}
            }
            let snapshot = bench.step_with(drain(&[(11, "a", seconds)]));
            given += seconds;
            let now: BTreeMap<(String, String), f64> = totals(&snapshot)
                .into_iter()
                .map(|(name, kind, time)| ((name.to_owned(), kind.to_owned()), time))
                .collect();
            prop_assert!((now.values().sum::<f64>() - given).abs() < 1e-6);
            for (workload, time) in &before {
                prop_assert!(now[workload] >= *time);
            }
            before = now;
        }
    }
}

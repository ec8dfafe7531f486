//! What is not known is told as such.

use super::*;

#[test]
fn what_a_cut_list_or_the_driver_does_not_tell_is_unknown_and_so_is_its_peak() {
    let mut bench = Bench::new();
    bench.pods.insert(11, ("a", 300));
    bench.step();
    let mut window = bench.window(None);
    window.devices[0].lists[0].complete = false;
    let snapshot = bench.observe(vec![window], Vec::new());
    let unknown = Reading::Failed(Cause::NotAvailable);
    let a = container(&snapshot, "a").unwrap();
    assert_eq!((a.memory, a.memory_peak), (unknown, unknown));
    assert!(snapshot.gpus[0].unattributed.value().is_none());
    bench.pods.clear();
    let snapshot = bench.step();
    assert_eq!(container(&snapshot, "a").unwrap().memory_peak, unknown);
}

#[test]
fn a_stepped_clock_leaves_no_stale_number_of_active_tenants() {
    let mut bench = Bench::new();
    bench.pods.insert(11, ("a", 1));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    let Some(Reading::Value(mut stepped)) = drain(&[]) else {
        unreachable!()
    };
    (stepped.samples, stepped.busy_samples) = (0, 0);
    let snapshot = bench.step_with(Some(Reading::Value(stepped)));
    assert_eq!(
        snapshot.gpus[0].active_tenants,
        Reading::Failed(Cause::Stale)
    );
}

#[test]
fn a_grant_is_unknown_until_the_kubelet_has_answered_after_the_container_came() {
    let mut bench = Bench::new();
    let answered = |bench: &Bench, seconds_ago: u64| {
        vec![SourceHealth {
            source: Source::Kubelet,
            up: Reading::Value(()),
            detail: "".into(),
            errors: BTreeMap::new(),
            duration: None,
            last_success: Some(bench.now().unix - Duration::from_secs(seconds_ago)),
        }]
    };
    bench.allocations = granted(&[], 4);
    bench.step();
    bench.pods.insert(11, ("a", 300));
    // The step is a second after this: so is the process.
    bench.sources = answered(&bench, 0);
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    let unknown = (
        Reading::Failed(Cause::NotYet),
        Reading::Failed(Cause::NotYet),
    );
    assert_eq!((a.replicas, a.fair_share), unknown);
    assert_eq!(snapshot.gpus[0].disagreements, Reading::Value(0));
    bench.second += 1;
    bench.sources = answered(&bench, 0);
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.replicas, Reading::Value(0));
    assert_eq!(a.fair_share, Reading::Unsupported);
    assert_eq!(snapshot.gpus[0].disagreements, Reading::Value(1));
}

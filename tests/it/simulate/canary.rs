//! A canary's life as the agent sees it.

use std::time::Duration;

use slicewatch::model::{
    Bytes, CanaryReason, CanarySource, CanaryState, CanaryWindow, CanaryWish, GpuUuid, Reading,
    SourceHealth,
};
use slicewatch::simulate::{CanarySettings, SimNode, TrueOwner};

use super::{at, list, node};

const STARTING: (CanaryState, CanaryReason) = (CanaryState::Running, CanaryReason::Starting);
const CALIBRATING: (CanaryState, CanaryReason) = (CanaryState::Running, CanaryReason::Calibrating);
const SHARED: (CanaryState, CanaryReason) = (CanaryState::Running, CanaryReason::Shared);
const NO_TENANT: (CanaryState, CanaryReason) = (CanaryState::Off, CanaryReason::NoTenant);

/// A node, and the canary of one of its cards.
struct Bench {
    node: SimNode,
    source: Box<dyn CanarySource>,
    gpu: GpuUuid,
}

impl Bench {
    fn new(scenario: &str, card: usize) -> Self {
        let node = node(scenario, 3);
        Self {
            source: node.canary(CanarySettings::default()),
            gpu: node.gpu_sources()[card].card().uuid.clone(),
            node,
        }
    }

    fn steer(&mut self, (state, reason): (CanaryState, CanaryReason)) {
        let gpu = self.gpu.clone();
        self.source.steer(vec![CanaryWish { gpu, state, reason }]);
    }

    fn collect(&mut self, seconds: f64) -> (CanaryWindow, SourceHealth) {
        self.node.advance(at(seconds));
        let (mut windows, health) = self.source.collect(self.node.now());
        assert_eq!(windows.len(), 1, "the one device that was named");
        assert_eq!(windows[0].gpu, self.gpu);
        (windows.remove(0), health)
    }

    fn state(&mut self, seconds: f64) -> (CanaryState, CanaryReason) {
        let window = self.collect(seconds).0;
        (window.state, window.reason)
    }

    /// The worker's memory in the driver's list, where it is listed.
    fn listed(&self, window: &CanaryWindow) -> Option<Reading<Bytes>> {
        let rows = list(&mut *self.node.gpu_sources()[0], 0);
        let row = rows
            .iter()
            .find(|row| window.workers.iter().any(|worker| worker.pid == row.pid))?;
        Some(row.used)
    }
}

#[test]
fn a_worker_starts_calibrates_probes_and_is_gone_at_once() {
    let mut bench = Bench::new("noisy-neighbour", 0);
    bench.node.advance(at(10.0));
    assert!(bench.source.collect(at(10.0)).0.is_empty(), "none is named");
    let used = |bench: &Bench| bench.node.truth().devices[&bench.gpu].used;
    bench.steer(SHARED);
    assert_eq!(bench.state(10.5), STARTING);
    let (calibrating, _) = bench.collect(11.5);
    assert_eq!((calibrating.state, calibrating.reason), CALIBRATING);
    assert!(calibrating.probes.is_empty() && calibrating.waiting.is_none());
    let memory = Reading::Value(Bytes::mib(254));
    assert_eq!(bench.listed(&calibrating), Some(memory));

    let worker = calibrating.workers[0];
    let truth = bench.node.truth();
    let process = truth.process(worker.pid).expect("a process of the host");
    assert_eq!(process.owner, TrueOwner::Canary);
    assert_eq!(process.started, worker.started);
    let files = bench.node.host_files();
    let cgroup = files.read(&format!("/proc/{}/cgroup", worker.pid));
    let cgroup = String::from_utf8(cgroup.expect("there")).expect("ASCII");
    let agent = truth.pods.last().expect("the agent's own pod");
    assert!(agent.namespace.starts_with("slicewatch") && agent.pod.starts_with("slicewatch-"));
    assert!(
        cgroup.replace('_', "-").contains(agent.uid.as_str()),
        "{cgroup}"
    );

    let (probing, health) = bench.collect(60.0);
    assert_eq!((probing.state, probing.reason), SHARED);
    assert!((400..570).contains(&probing.probes.len()));
    assert!(probing.waiting.is_some() && probing.clock_error.is_some());
    assert!(health.up == Reading::Value(()) && health.last_success.is_some());
    assert!(probing.probes.is_sorted_by_key(|probe| probe.launched));
    assert_eq!(bench.node.truth().devices[&bench.gpu].outside_pods.0, 0.0);

    let with = used(&bench);
    bench.steer(NO_TENANT);
    assert_eq!(used(&bench) + Bytes::mib(254), with);
    let (off, _) = bench.collect(61.0);
    assert_eq!((off.state, off.reason), NO_TENANT);
    assert_eq!(
        (off.waiting, off.clock_error, bench.listed(&off)),
        (None, None, None)
    );
    assert_eq!(off.workers, [worker], "named for a minute");
    assert!(bench.collect(121.0).0.workers.is_empty());
    bench.source.steer(Vec::new());
    assert!(bench.source.collect(at(121.0)).0.is_empty());
}

#[test]
fn a_worker_that_dies_is_started_again() {
    let mut bench = Bench::new("faults", 0);
    bench.node.advance(at(500.0));
    bench.steer(SHARED);
    assert_eq!(bench.state(519.0), SHARED);
    let (died, health) = bench.collect(520.5);
    assert_eq!(
        (died.state, died.reason),
        (CanaryState::Off, CanaryReason::Failed)
    );
    assert_eq!(health.errors["worker_died"], 1);
    assert!(matches!(health.up, Reading::Failed(_)) && !health.detail.is_empty());
    assert_eq!(bench.listed(&died), None);
    assert_eq!(bench.state(521.5), STARTING);
    assert_eq!(bench.state(522.5), CALIBRATING);
    let (again, health) = bench.collect(530.0);
    assert_eq!((again.state, again.reason), SHARED);
    assert_eq!(again.workers.len(), 2, "the dead one too, for a minute");
    assert_eq!(health.up, Reading::Value(()));
}

#[test]
fn a_lost_card_takes_its_canary_with_it() {
    let mut bench = Bench::new("faults", 1);
    bench.node.advance(at(140.0));
    bench.steer(SHARED);
    assert_eq!(bench.state(149.0), SHARED);
    let down = (CanaryState::Off, CanaryReason::GpuDown);
    assert_eq!(bench.state(150.5), down);
    assert_eq!(bench.state(199.0), down);
    assert_eq!(bench.state(240.0), SHARED);
    bench.node.advance(at(305.0));
    bench.steer(down);
    assert_eq!(bench.state(306.0), down);
    bench.steer(SHARED);
    assert_eq!(bench.state(310.0), down, "asked for without a driver");
}

#[test]
fn a_stall_shows_while_it_lasts_and_its_probes_afterwards() {
    let mut bench = Bench::new("faults", 0);
    bench.node.advance(at(440.0));
    bench.steer(SHARED);
    bench.collect(449.9);
    let (early, _) = bench.collect(450.7);
    assert_eq!((early.state, early.reason), SHARED);
    let stalled = (CanaryState::Stalled, CanaryReason::ProbeOutstanding);
    let mut before = early.waiting.expect("it probes");
    for seconds in [451.7, 452.7, 453.7] {
        let (window, _) = bench.collect(seconds);
        assert_eq!((window.state, window.reason), stalled);
        let waiting = window.waiting.expect("it probes");
        assert_eq!(waiting - before, Duration::from_secs(1), "the same probe");
        assert!(window.probes.is_empty());
        before = waiting;
    }
    let (after, _) = bench.collect(454.5);
    assert_eq!((after.state, after.reason), SHARED);
    assert!(
        after.missed > 0,
        "no place was left for arrivals of four seconds"
    );
    let longest = after.probes.iter().map(|probe| probe.delay).max();
    assert!((3.6..4.1).contains(&longest.expect("probes").as_secs_f64()));
}

/// As measured after Xid 31: the neighbours stand still for 149 ms.
#[test]
fn a_tenants_fault_is_a_delay_of_a_seventh_of_a_second() {
    let mut bench = Bench::new("faults", 0);
    bench.steer(SHARED);
    let (window, _) = bench.collect(440.0);
    let stalls: Vec<f64> = window
        .probes
        .iter()
        .map(|probe| probe.delay.as_secs_f64())
        .filter(|delay| *delay > 0.05)
        .collect();
    assert!(
        stalls.len() > 2 && stalls.iter().all(|delay| *delay < 0.16),
        "{stalls:?}"
    );
}

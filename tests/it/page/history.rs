//! Fifteen minutes, bounded, with gaps where nothing was known.

use std::time::Duration;

use proptest::prelude::*;

use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::{Cause, Moment, Reading, Snapshot};
use slicewatch::publish::history::{History, MAX_BYTES, POINTS, SPAN, Sample};

use super::{at, node, seen};

fn known(samples: &[Sample]) -> Vec<f32> {
    samples.iter().filter_map(|sample| sample.value).collect()
}

fn close(value: f32, wanted: f64) {
    assert!(
        (f64::from(value) - wanted).abs() <= wanted * 0.005,
        "{value}, not {wanted}"
    );
}

#[test]
fn figures_are_those_of_the_counters() {
    let (history, snapshot) = seen(1, 3, 121);
    let gpu = history.device(&snapshot.gpus[0].identity.uuid).unwrap();
    for busy in &known(&gpu.busy())[3..] {
        close(*busy, 0.5);
    }
    for delay in known(&gpu.delay_mean()) {
        close(delay, 2e-3);
    }
    for p99 in known(&gpu.delay_p99()) {
        close(p99, 1.6e-3 + 1.6e-3 * 0.99);
    }
    let ever = gpu.delay().unwrap();
    assert!(
        (ever.mean - 2e-3).abs() < 1e-5 && ever.probes > 1000.0,
        "{ever:?}"
    );
    for (samples, gib) in [(gpu.used(), 40), (gpu.peak(), 50), (gpu.free(), 39)] {
        for value in known(&samples) {
            close(value, f64::from(gib) * f64::from(1 << 30));
        }
    }
    let rows = &snapshot.gpus[0].containers;
    for (view, share, inflicted) in [(&rows[0], 0.3, 1e-3), (&rows[1], 0.1, 0.0)] {
        let row = gpu.row(view).unwrap();
        close(row.share_now().unwrap(), share);
        close(row.share_ever().unwrap(), share);
        close(row.inflicted_now().unwrap(), inflicted);
        close(row.waited_now().unwrap(), 1e-3);
        for memory in known(&row.memory()) {
            close(memory, f64::from(1 << 30));
        }
    }
    assert_eq!(history.length(), Duration::from_secs(120));
}

#[test]
fn it_goes_back_fifteen_minutes_and_no_further() {
    let (history, snapshot) = seen(1, 2, 2000);
    let gpu = history.device(&snapshot.gpus[0].identity.uuid).unwrap();
    for samples in [
        gpu.used(),
        gpu.busy(),
        gpu.row(&snapshot.gpus[0].containers[0]).unwrap().share(),
    ] {
        assert!(
            (POINTS - 1..=POINTS).contains(&samples.len()),
            "{}",
            samples.len()
        );
        assert!(
            samples
                .iter()
                .all(|sample| sample.age <= SPAN && sample.value.is_some())
        );
        assert!(samples.is_sorted_by(|one, other| one.age > other.age));
    }
}

/// Values and gaps of used memory and of a share, oldest first, as words.
fn pattern(samples: &[Sample]) -> String {
    samples
        .iter()
        .map(|sample| if sample.value.is_some() { '=' } else { ' ' })
        .collect()
}

#[test]
fn silence_is_a_gap_and_what_was_gained_in_it_is_in_no_point() {
    let mut history = History::new();
    for second in (0..60).chain(300..360) {
        history.observe(&node(1, 2, second.into()));
    }
    let snapshot = node(1, 2, 359.0);
    let gpu = history.device(&snapshot.gpus[0].identity.uuid).unwrap();
    assert_eq!(pattern(&gpu.used()), "============ ============");
    assert_eq!(pattern(&gpu.busy()), "  ==========   ==========");
    assert!(
        known(&gpu.busy()).iter().all(|busy| *busy < 0.9),
        "no spike after the gap"
    );
}

#[test]
fn a_step_of_the_wall_clock_is_a_gap() {
    let mut history = History::new();
    for second in 0..60u32 {
        let mut snapshot = node(1, 2, second.into());
        if second >= 30 {
            snapshot.at.unix += Duration::from_secs(3600);
        }
        history.observe(&snapshot);
    }
    let gpu = history.device(&node(1, 2, 59.0).gpus[0].identity.uuid);
    assert_eq!(pattern(&gpu.unwrap().used()), "====== ======");
}

#[test]
fn unknown_is_a_gap_and_never_zero() {
    let mut history = History::new();
    for second in 0..90u32 {
        let mut snapshot = node(1, 2, second.into());
        let gpu = &mut snapshot.gpus[0];
        if (30..60).contains(&second) {
            gpu.memory = Reading::Failed(Cause::GpuLost);
            gpu.busy = Reading::Failed(Cause::GpuLost);
            gpu.canary.delays = Reading::Unsupported;
            gpu.containers[0].memory = Reading::Failed(Cause::NotAvailable);
            gpu.containers.truncate(1);
        }
        history.observe(&snapshot);
    }
    let snapshot = node(1, 2, 89.0);
    let gpu = history.device(&snapshot.gpus[0].identity.uuid).unwrap();
    assert_eq!(pattern(&gpu.used()), "======      ======");
    assert_eq!(pattern(&gpu.busy()), "  ====        ====");
    assert_eq!(pattern(&gpu.delay_mean()), " =====       =====");
    let [first, second] = [0, 1].map(|row| gpu.row(&snapshot.gpus[0].containers[row]).unwrap());
    assert_eq!(pattern(&first.memory()), "======      ======");
    assert_eq!(pattern(&second.memory()), "======      ======");
    assert_eq!(pattern(&second.share()), "  ====        ====");
    for samples in [gpu.used(), gpu.busy(), first.memory()] {
        assert!(known(&samples).iter().all(|value| *value > 0.0));
    }
}

#[test]
fn what_cannot_be_measured_has_no_history() {
    let mut history = History::new();
    for second in 0..60u32 {
        let mut snapshot = node(1, 1, second.into());
        snapshot.gpus[0].busy = Reading::Unsupported;
        snapshot.gpus[0].containers[0].gpu_time = Reading::Unsupported;
        history.observe(&snapshot);
    }
    let snapshot = node(1, 1, 59.0);
    let gpu = history.device(&snapshot.gpus[0].identity.uuid).unwrap();
    let row = gpu.row(&snapshot.gpus[0].containers[0]).unwrap();
    assert!(known(&gpu.busy()).is_empty() && known(&row.share()).is_empty());
    assert_eq!((row.share_now(), row.share_ever()), (None, None));
}

#[test]
fn what_a_history_takes_is_what_is_said() {
    for (gpus, pods, kib) in [(1, 10, 27), (8, 10, 206), (8, 64, 920)] {
        let (history, _) = seen(gpus, pods, 20);
        let bytes = history.bytes();
        assert!(
            (bytes as f64 / 1024.0 - f64::from(kib)).abs() < f64::from(kib) * 0.1,
            "{gpus} GPUs with {pods} pods: {bytes} bytes"
        );
        assert!(!history.is_full());
    }
}

#[test]
fn more_than_there_is_room_for_is_left_out_and_told() {
    let (history, snapshot) = seen(16, 100, 20);
    assert!(history.bytes() <= MAX_BYTES, "{}", history.bytes());
    assert!(history.is_full());
    let first = history.device(&snapshot.gpus[0].identity.uuid).unwrap();
    assert!(first.row(&snapshot.gpus[0].containers[99]).is_some());
}

#[test]
fn who_is_gone_is_forgotten_and_makes_room() {
    let (mut history, _) = seen(1, 64, 20);
    let before = history.bytes();
    for second in 20..1000u32 {
        history.observe(&node(1, 2, second.into()));
    }
    assert!(
        history.bytes() < before / 4,
        "{} of {before}",
        history.bytes()
    );
    for second in 1000..2000u32 {
        let mut snapshot = node(1, 2, second.into());
        snapshot.gpus.clear();
        history.observe(&snapshot);
    }
    assert!(
        history
            .device(&node(1, 2, 0.0).gpus[0].identity.uuid)
            .is_none()
    );
}

#[test]
fn an_earlier_snapshot_begins_anew() {
    let (mut history, _) = seen(1, 2, 600);
    history.observe(&node(1, 2, 5.0));
    assert_eq!(history.length(), Duration::ZERO);
}

#[test]
fn the_shares_of_a_simulated_node_are_those_of_its_counters() {
    let start = Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_795_000_000),
    };
    let mut agent = SimulatedAgent::new("noisy-neighbour", 7, start, Default::default()).unwrap();
    let mut history = History::new();
    let mut snapshots: Vec<std::sync::Arc<Snapshot>> = Vec::new();
    agent.run(start.monotonic + Duration::from_secs(600), |_, snapshot| {
        history.observe(&snapshot);
        snapshots.push(snapshot);
    });
    let (early, late) = (&snapshots[100], &snapshots[snapshots.len() - 1]);
    let gpu = history.device(&late.gpus[0].identity.uuid).unwrap();
    for (before, now) in early.gpus[0]
        .containers
        .iter()
        .zip(&late.gpus[0].containers)
    {
        let gained = now.gpu_time.copied().unwrap().0 - before.gpu_time.copied().unwrap().0;
        let share = gained / late.at.since(early.at).as_secs_f64();
        let kept = f64::from(gpu.row(now).unwrap().share_ever().unwrap());
        assert!(
            (kept - share).abs() < 0.02,
            "{}: {kept}, not {share}",
            now.pod
        );
    }
    let busy = known(&gpu.busy());
    assert!(
        busy.iter().all(|busy| (0.6..1.05).contains(busy)),
        "{busy:?}"
    );
}

proptest! {
    /// Whatever comes and whenever, the history stays within its bytes and its 15 minutes.
    #[test]
    fn it_stays_within_its_bounds(
        steps in proptest::collection::vec((0.0f64..40.0, 0usize..4, 0usize..90, any::<bool>()), 1..40),
    ) {
        let mut history = History::new();
        let mut now = 0.0;
        for (step, gpus, pods, lost) in steps {
            now += step;
            let mut snapshot = node(gpus, pods.max(1), now);
            if lost {
                for gpu in &mut snapshot.gpus {
                    gpu.memory = Reading::Failed(Cause::GpuLost);
                    gpu.busy = Reading::Unsupported;
                }
            }
            snapshot.at = at(now);
            history.observe(&snapshot);
            prop_assert!(history.bytes() <= MAX_BYTES);
            prop_assert!(history.length() <= SPAN);
            for view in &snapshot.gpus {
                if let Some(gpu) = history.device(&view.identity.uuid) {
                    for samples in [gpu.used(), gpu.busy(), gpu.delay_mean(), gpu.stall()] {
                        prop_assert!(samples.len() <= POINTS);
                        prop_assert!(known(&samples).iter().all(|value| value.is_finite() && *value >= 0.0));
                    }
                }
            }
        }
    }
}

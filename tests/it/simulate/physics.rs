//! Time: the ring, the clocks, the queue.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use slicewatch::model::HostPid;
use slicewatch::simulate::SimNode;

use super::{START, at, node};

/// Estimates of GPU seconds by PID from the ring alone, read before a second sample can come.
fn from_ring(node: &SimNode, seconds: f64) -> HashMap<HostPid, f64> {
    let mut source = node.gpu_sources().remove(0);
    let mut watermark = START.unix;
    let mut estimate: HashMap<HostPid, f64> = HashMap::new();
    for step in 1..=(seconds * 10.0) as u32 {
        node.advance(at(f64::from(step) / 10.0));
        let read = source.ring(watermark).expect("has a ring");
        assert!(read.samples.len() <= 1);
        let Some(sample) = read.samples.last() else {
            continue;
        };
        watermark = sample.at;
        assert!(read.rows.len() <= 1, "the winner takes all");
        for row in &read.rows {
            assert_eq!((row.last_won, row.sm_percent), (sample.at, sample.percent));
            *estimate.entry(row.pid).or_default() += f64::from(row.sm_percent) / 100.0 * 0.2;
        }
    }
    estimate
}

/// The mean of `errors` is within three of its standard errors of nothing.
fn assert_no_bias(what: &str, errors: &[f64]) {
    let n = errors.len() as f64;
    let mean = errors.iter().sum::<f64>() / n;
    let spread = errors
        .iter()
        .map(|error| (error - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    let standard_error = (spread / n).sqrt();
    assert!(
        mean.abs() <= 3.0 * standard_error,
        "{what}: off by {mean:.4} s, standard error {standard_error:.4} s"
    );
}

#[test]
fn the_ring_is_an_unbiased_estimate_of_true_gpu_time() {
    let scenario = "noisy-neighbour";
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seed in 0..20 {
        let node = node(scenario, seed);
        let estimate = from_ring(&node, 120.0);
        let truth = node.truth();
        for tenant in truth.tenants.values() {
            let guess: f64 = tenant
                .processes
                .iter()
                .filter_map(|pid| estimate.get(pid))
                .sum();
            let error = guess - tenant.gpu_seconds.0;
            let workload = tenant.pod.rsplitn(3, '-').last().unwrap_or_default();
            errors
                .entry(format!("{}/{workload}", tenant.namespace))
                .or_default()
                .push(error);
            // One run: three standard errors of so many draws, and a sample at the edge.
            let share = tenant.gpu_seconds.0 / 120.0;
            let bound = 3.0 * (share * (1.0 - share) / 600.0).sqrt() * 120.0 + 0.4;
            assert!(
                error.abs() < bound.max(1.0),
                "{}: {error} s, bound {bound}",
                tenant.pod
            );
        }
    }
    for (pod, errors) in errors {
        assert_eq!(errors.len(), 20);
        assert_no_bias(&pod, &errors);
    }
}

/// Also where processes end within a stretch: their part of the samples stays.
#[test]
fn samples_are_an_unbiased_estimate_of_the_cards_busy_time() {
    for scenario in ["churn", "memory-hog", "mps"] {
        let mut errors = Vec::new();
        for seed in 0..20 {
            let node = node(scenario, seed);
            let mut source = node.gpu_sources().remove(0);
            let (mut watermark, mut sum) = (START.unix, 0);
            let mut read = |node: &SimNode| {
                let read = source.ring(watermark).expect("has a ring");
                sum += read
                    .samples
                    .iter()
                    .map(|sample| sample.percent)
                    .sum::<u32>();
                watermark = read.samples.last().map_or(watermark, |sample| sample.at);
                node.now().unix - watermark
            };
            for step in 1..=6 {
                node.advance(at(f64::from(step) * 10.0));
                read(&node);
            }
            // To the next sample, so that none of the truth is still to be shown.
            while read(&node) > Duration::from_millis(1) {
                node.advance(node.now().later(Duration::from_micros(500)));
            }
            let truth = node.truth();
            let busy: f64 = truth.devices.values().map(|device| device.busy.0).sum();
            errors.push(f64::from(sum) / 100.0 * 0.2 - busy);
        }
        assert_no_bias(scenario, &errors);
    }
}

#[test]
fn rows_of_a_drain_are_rounded_up_and_a_saturated_card_shows_98_percent() {
    let node = node("noisy-neighbour", 3);
    node.advance(at(30.0));
    let mut source = node.gpu_sources().remove(0);
    let whole = source.ring(Duration::ZERO).expect("has a ring");
    assert!((70..=71).contains(&whole.samples.len()), "14 s deep");
    assert!(
        whole
            .samples
            .iter()
            .all(|sample| (97..=98).contains(&sample.percent))
    );
    let after = whole.samples[whole.samples.len() - 16].at;
    let drain = source.ring(after).expect("has a ring");
    assert_eq!(drain.samples.len(), 15);
    let rows: u32 = drain.rows.iter().map(|row| row.sm_percent).sum();
    assert!(
        (97..=98 + 4).contains(&rows),
        "four rows, each less than one point up"
    );
    let newest = drain.samples[14].at;
    assert!(drain.rows.iter().any(|row| row.last_won == newest));
    assert!(drain.rows.iter().any(|row| row.last_won < newest));
}

#[test]
fn the_wall_clock_steps_and_the_ring_with_it() {
    let node = node("quiet", 1);
    node.advance(at(20.0));
    node.step_wall_clock(3_600.0);
    assert_eq!(node.now().monotonic, at(20.0).monotonic);
    assert_eq!(node.now().unix, at(3_620.0).unix);
    node.advance(at(21.0));
    let mut source = node.gpu_sources().remove(0);
    let after = source.ring(at(3_000.0).unix).expect("has one");
    assert_eq!(after.samples.len(), 5, "one second on the new clock");
    node.step_wall_clock(-7_200.0);
    node.advance(at(22.0));
    let back = source.ring(Duration::ZERO).expect("has one");
    assert!(back.samples.windows(2).any(|pair| pair[1].at < pair[0].at));
}

#[test]
fn stretches_tell_a_canary_who_keeps_the_card_and_for_how_long() {
    let node = node("noisy-neighbour", 1);
    node.keep_stretches(Duration::from_secs(2));
    node.advance(at(10.0));
    let truth = node.truth();
    let uuid = truth.devices.keys().next().expect("one card");
    let stretches = node.stretches(uuid);
    let longest = Duration::from_micros(2_400);
    let (first, last) = (&stretches[0], &stretches[stretches.len() - 1]);
    assert_eq!(last.to, at(10.0).monotonic);
    assert!(last.to - first.to <= Duration::from_secs(2));
    for pair in stretches.windows(2) {
        assert_eq!(pair[0].to, pair[1].from, "the trainer always has work");
    }
    for turn in stretches.iter().flat_map(|stretch| &stretch.turns) {
        assert!(turn.turn <= longest && turn.turn <= turn.kernel);
        assert!(truth.process(turn.pid).is_some());
    }
    assert_eq!(node.queue(uuid).len(), last.turns.len().max(1));
}

//! The utilization ring.

use std::time::Duration;

use fake_nvml::script::{Gpu, Row, Sample, Script, What};
use slicewatch::model::{GpuError, GpuSource, HostPid, RingRow};

use super::{bench, bench_without};

/// Samples 200 ms apart, from one second after 1970.
fn ring(winners: &[(Option<u32>, u32)]) -> Vec<Sample> {
    let at = |i: usize| 1_000_000 + 200_000 * i as u64;
    let samples = winners.iter().enumerate();
    samples
        .map(|(i, &(winner, percent))| Sample {
            at: at(i),
            winner,
            percent,
        })
        .collect()
}

#[test]
fn the_ring_gives_rows_and_samples() {
    let mut winners = vec![(Some(7), 98); 3];
    winners.extend([(Some(8), 98); 2]);
    winners.extend([(None, 0); 10]);
    let mut card = Gpu::h200(0);
    card.ring = ring(&winners);
    // By each type that samples come in: double, unsigned int, unsigned long, long long.
    for sample_type in 0..=3 {
        card.sample_type = sample_type;
        let mut bench = bench(&Script::of(vec![card.clone()]));
        let read = bench.gpu.ring(Duration::ZERO).expect("it answers");
        let won = |pid, millis, sm_percent| RingRow {
            pid: HostPid(pid),
            last_won: Duration::from_millis(millis),
            sm_percent,
        };
        assert_eq!(read.rows, [won(7, 1400, 20), won(8, 1800, 14)]);
        assert_eq!(read.samples.len(), 15);
        assert_eq!(read.samples[0].at, Duration::from_secs(1));
        assert_eq!(read.samples[4].percent, 98);
        assert_eq!(read.samples[14].percent, 0);
        let after = Duration::from_millis(1400);
        let read = bench.gpu.ring(after).expect("it answers");
        assert_eq!(read.rows, [won(8, 1800, 17)], "196 over 12 samples");
        assert_eq!(read.samples.len(), 12);
        assert_eq!(bench.fake.calls("nvmlDeviceGetProcessUtilization"), 2);
    }
}

#[test]
fn no_winner_still_has_samples_and_nothing_new_has_none() {
    let mut card = Gpu::h200(0);
    card.ring = ring(&[(Some(7), 98), (None, 0), (None, 0)]);
    card.exited = vec![7];
    let mut bench = bench(&Script::of(vec![card]));
    let read = bench
        .gpu
        .ring(Duration::ZERO)
        .expect("not found is an answer");
    assert_eq!(read.rows, []);
    assert_eq!(read.samples.len(), 3);
    let read = bench.gpu.ring(Duration::from_secs(9)).expect("an answer");
    assert_eq!((read.rows.len(), read.samples.len()), (0, 0));
}

#[test]
fn the_ring_hands_on_garbage_and_long_lists_and_never_half_a_list() {
    let mut card = Gpu::h200(0);
    let winners: Vec<_> = (0..70).map(|pid| (Some(1000 + pid), 98)).collect();
    card.ring = ring(&winners);
    card.garbage = vec![Row {
        pid: 5,
        at: 17,
        percent: 200,
    }];
    let script = Script::of(vec![card]);
    let mut whole = bench(&script);
    let read = whole.gpu.ring(Duration::ZERO).expect("it answers");
    assert_eq!(read.rows.len(), 71);
    assert_eq!(read.rows[70].sm_percent, 200, "the sampler refuses it");
    assert_eq!(whole.fake.calls("nvmlDeviceGetProcessUtilization"), 2);
    for symbol in ["nvmlDeviceGetProcessUtilization", "nvmlDeviceGetSamples"] {
        let mut half = bench(&script.clone().with(symbol, None, What::Short(9)));
        assert_eq!(half.gpu.ring(Duration::ZERO), Err(GpuError::Code(7)));
    }
}

#[test]
fn a_ring_without_the_cards_own_samples_has_none() {
    let mut card = Gpu::h200(0);
    card.ring = ring(&[(Some(7), 98)]);
    let script = Script::of(vec![card]);
    let mut bench = bench_without(&script, &["nvmlDeviceGetSamples"]);
    let read = bench.gpu.ring(Duration::ZERO).expect("rows alone");
    assert_eq!((read.rows.len(), read.samples.len()), (1, 0));
    let mut none = bench_without(&script, &["nvmlDeviceGetProcessUtilization"]);
    assert_eq!(none.gpu.ring(Duration::ZERO), Err(GpuError::Unsupported));
}

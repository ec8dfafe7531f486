//! Drains on schedule.

use super::*;

/// A ring with a sample of pid 7 each 200 ms up to `until`.
fn ring(until: u64) -> RingRead {
    let samples: Vec<_> = (0..=until)
        .step_by(200)
        .map(|millis| RingSample {
            at: at(millis).unix,
            percent: 98,
        })
        .collect();
    let rows = vec![RingRow {
        pid: HostPid(7),
        last_won: samples.last().unwrap().at,
        sm_percent: 98,
    }];
    RingRead { rows, samples }
}

fn drained(windows: &[GpuWindow]) -> f64 {
    windows
        .iter()
        .filter_map(|window| window.drain.as_ref()?.value())
        .flat_map(|drain| &drain.rows)
        .map(|row| row.time.0)
        .sum()
}

#[test]
fn the_ring_is_drained_every_three_seconds_and_what_was_there_before_us_is_not_ours() {
    let (gpu, mut sampler) = sampler();
    gpu.holds(7, 10);
    gpu.script().ring = ring(0);
    let mut windows = run(&mut sampler, 0, 0);
    for step in 0..10 {
        gpu.script().ring = ring(step * 1000 + 1000);
        windows.extend(run(&mut sampler, step * 1000 + 100, step * 1000 + 1000));
    }
    assert_eq!(
        windows
            .iter()
            .filter(|window| window.drain.is_some())
            .count(),
        3
    );
    assert!(
        (drained(&windows) - 9.0 * 0.98).abs() < 0.03,
        "{}",
        drained(&windows)
    );
}

#[test]
fn the_end_of_a_process_brings_the_drain_forward() {
    let (gpu, mut sampler) = sampler();
    gpu.holds(7, 10);
    gpu.script().ring = ring(0);
    run(&mut sampler, 0, 1500);
    gpu.script().rows.clear();
    gpu.script().used = 0;
    gpu.script().ring = RingRead {
        rows: Vec::new(),
        samples: ring(1400).samples,
    };
    let windows = run(&mut sampler, 1600, 2000);
    let drain = windows[0].drain.as_ref().unwrap().value().unwrap();
    assert!(drain.rows[0].inferred);
    assert!(
        (drain.rows[0].time.0 - 7.0 * 0.98 * 0.2).abs() < 0.01,
        "{drain:?}"
    );
}

#[test]
fn a_clock_step_either_way_invents_no_time() {
    for step in [-3600i64, 3600] {
        let (gpu, mut sampler) = sampler();
        gpu.holds(7, 10);
        gpu.script().ring = ring(0);
        run(&mut sampler, 0, 2900);
        let stepped = |millis: u64| Moment {
            unix: Duration::from_millis(
                (1_000_000 + 10_000_000 + millis as i64 + step * 1000) as u64,
            ),
            ..at(millis)
        };
        gpu.script().ring = ring(2900);
        let mut windows = Vec::new();
        for millis in (3000..=30_000).step_by(100) {
            windows.extend(sampler.poll(stepped(millis)).window);
        }
        let refused: u32 = windows
            .iter()
            .filter_map(|window| window.drain.as_ref()?.value())
            .filter_map(|drain| drain.refused.get(&Refusal::ClockStep))
            .sum();
        assert_eq!(refused, 1, "step {step}");
        assert!(
            drained(&windows) < 3.0,
            "step {step}: {}",
            drained(&windows)
        );
    }
}

#[test]
fn a_card_without_a_ring_is_asked_once() {
    let (gpu, mut sampler) = sampler();
    gpu.script().ring_unsupported = true;
    let windows = run(&mut sampler, 0, 9000);
    assert_eq!(gpu.calls("ring"), 1);
    assert_eq!(windows[3].drain, Some(Reading::Unsupported));
}

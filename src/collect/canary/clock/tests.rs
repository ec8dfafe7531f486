use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A GPU whose clock is off by `offset` and drifts, and probes that wait up to `wait` microseconds.
struct Bench {
    rng: SmallRng,
    offset: i64,
    drift: f64,
    wait: f64,
    /// How long the worker looks for a start, in microseconds.
    look: f64,
    host: u64,
}

impl Bench {
    fn new(drift: f64, wait: f64, look: f64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(1),
            offset: 1_790_000_000_000_000_000,
            drift,
            wait,
            look,
            host: 77_000_000_000_000,
        }
    }

    fn gpu(&self, host: u64) -> u64 {
        let passed = (host - 77_000_000_000_000) as f64 * 1e-9;
        host.wrapping_add_signed(self.offset + (self.drift * passed) as i64)
    }

    /// A probe and its true start on the host's clock.
    fn probe(&mut self, bounds: &mut Bounds) -> (u64, u64) {
        self.host += (self.rng.random_range(0.0..130.0) * 1e6) as u64;
        let micros = 8.0 + self.rng.random_range(0.0..=self.wait);
        let start = self.host + (micros * 1e3) as u64;
        let seen = (micros < self.look).then(|| start + self.rng.random_range(200..3000));
        bounds.push(self.host, self.gpu(start), seen);
        (self.gpu(start), start)
    }

    /// The worst error of the line over the next probes, in microseconds.
    fn worst(&mut self, bounds: &mut Bounds, probes: usize) -> f64 {
        let mut worst: f64 = 0.0;
        for _ in 0..probes {
            let (gpu, start) = self.probe(bounds);
            let tie = bounds.tie().unwrap();
            let off = (tie.host(gpu, self.host) - start as i64).abs() as f64 / 1e3;
            assert!(
                off <= tie.error().as_secs_f64() * 1e6 + 10.0,
                "{off} us, {tie:?}"
            );
            worst = worst.max(off);
        }
        worst
    }
}

#[test]
fn an_idle_gpu_is_tied_to_a_few_microseconds_at_once() {
    let mut bench = Bench::new(8_000.0, 20.0, 60.0);
    let mut bounds = Bounds::default();
    for _ in 0..40 {
        bench.probe(&mut bounds);
    }
    assert!(bench.worst(&mut bounds, 2000) < 5.0);
}

#[test]
fn a_saturated_gpu_is_tied_by_the_probes_that_found_it_free() {
    for drift in [-40_000.0, 0.0, 8_000.0, 100_000.0] {
        let mut bench = Bench::new(drift, 4_000.0, 60.0);
        let mut bounds = Bounds::default();
        for _ in 0..300 {
            bench.probe(&mut bounds);
        }
        let worst = bench.worst(&mut bounds, 1000);
        assert!(worst < 20.0, "{worst} us at {drift} ns a second");
    }
}

#[test]
fn load_that_comes_and_goes_does_not_move_the_line() {
    let mut bench = Bench::new(8_000.0, 20.0, 60.0);
    let mut bounds = Bounds::default();
    for _ in 0..200 {
        bench.probe(&mut bounds);
    }
    bench.wait = 12_000.0;
    assert!(bench.worst(&mut bounds, 600) < 10.0);
}

#[test]
fn a_clock_that_is_set_is_noticed_and_followed() {
    let mut bench = Bench::new(8_000.0, 200.0, 60.0);
    let mut bounds = Bounds::default();
    for _ in 0..500 {
        bench.probe(&mut bounds);
        bounds.tie();
    }
    for step in [300_000_000, -2_000_000] {
        bench.offset += step;
        let before = bounds.resets;
        for _ in 0..40 {
            bench.probe(&mut bounds);
            bounds.tie();
        }
        assert!(bounds.resets > before);
        assert!(bench.worst(&mut bounds, 200) < 20.0);
    }
}

#[test]
fn without_a_start_that_was_seen_there_is_no_line() {
    let mut bench = Bench::new(8_000.0, 4_000.0, 0.0);
    let mut bounds = Bounds::default();
    for _ in 0..100 {
        bench.probe(&mut bounds);
    }
    assert_eq!(bounds.tie(), None);
}

proptest::proptest! {
    /// Whatever the words in the page are, nothing panics and the error is a number.
    #[test]
    fn any_words_are_survived(probes in proptest::collection::vec(proptest::prelude::any::<(u64, u64, Option<u64>)>(), 0..40)) {
        let mut bounds = Bounds::default();
        for (before, started, seen) in probes {
            bounds.push(before, started, seen);
            if let Some(tie) = bounds.tie() {
                let _ = (tie.host(started, before), tie.error());
            }
        }
        proptest::prop_assert!(bounds.seconds.len() <= KEPT as usize + 1);
    }
}

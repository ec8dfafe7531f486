//! Delays as buckets (since the start) and as quantiles (of a stretch of time).

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::model::{DELAY_BOUNDS, DelayHistogram, NativeBuckets, Probe, Quantiles};

/// Eight native buckets to each doubling: a bucket is 9 % wide.
const SCHEMA: i32 = 3;
/// Below it the GPU's own clock does not tell delays apart.
const ZERO_THRESHOLD: f64 = 1e-6;
/// Longest delay that is told apart from longer ones, in quantiles and native buckets.
const LONGEST: Duration = Duration::from_secs(3600);

/// An empty histogram; native buckets only where asked for.
pub(super) fn empty(native: bool) -> DelayHistogram {
    DelayHistogram {
        native: native.then(|| NativeBuckets {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: 0,
            positive: Default::default(),
        }),
        ..DelayHistogram::default()
    }
}

/// Adds one delay. A delay of exactly a bound is in that bound's bucket.
pub(super) fn record(histogram: &mut DelayHistogram, delay: Duration) {
    let seconds = delay.as_secs_f64();
    let bucket = DELAY_BOUNDS.partition_point(|bound| *bound < seconds);
    if let Some(count) = histogram.counts.get_mut(bucket) {
        *count += 1;
    }
    histogram.sum.0 += seconds;
    if let Some(native) = &mut histogram.native {
        if seconds <= native.zero_threshold {
            native.zero_count += 1;
        } else {
            // From 1 us to an hour: 255 buckets at the most.
            let capped = seconds.min(LONGEST.as_secs_f64());
            let number = (capped.log2() * f64::from(1 << SCHEMA)).ceil() as i32;
            *native.positive.entry(number).or_insert(0) += 1;
        }
    }
}

/// Quantiles of some delays, to two digits; it grows with the longest of them, up to 13 KiB.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    micros: Histogram<u32>,
    sum: Duration,
}

impl Default for Sketch {
    #[expect(
        clippy::expect_used,
        reason = "the crate takes any number of digits up to five"
    )]
    fn default() -> Self {
        Self {
            micros: Histogram::new(2).expect("two digits are allowed"),
            sum: Duration::ZERO,
        }
    }
}

impl Sketch {
    /// Adds a probe. One that was given up counts with its length so far.
    pub(super) fn record(&mut self, probe: &Probe) {
        let delay = probe.delay.min(LONGEST);
        let micros = (delay.as_nanos() + 500) / 1000;
        // It can only fail for want of an index that an hour does not reach.
        if self.micros.record(micros as u64).is_ok() {
            self.sum = self.sum.saturating_add(delay);
        }
    }

    /// Adds all of another's.
    pub(super) fn add(&mut self, other: &Self) {
        if self.micros.add(&other.micros).is_ok() {
            self.sum = self.sum.saturating_add(other.sum);
        }
    }

    /// Probes in it.
    pub(super) fn probes(&self) -> u64 {
        self.micros.len()
    }

    /// The delay that this part of the probes did not exceed.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(part))
    }

    /// `None` without a probe.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let probes = self.probes();
        let mean = self.mean()?;
        Some(Quantiles {
            probes,
            mean,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
        })
    }

    /// `None` without a probe.
    pub(super) fn mean(&self) -> Option<Duration> {
        match self.probes() {
            0 => None,
            probes => Some(self.sum.div_f64(probes as f64)),
        }
    }
}

/// Probes of the trailing minute: six stretches of ten seconds.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Each with its number since the start of the clock.
    stretches: [(u64, Option<Sketch>); STRETCHES as usize],
}

const STRETCHES: u64 = 6;
const STRETCH_SECONDS: u64 = 10;

impl Recent {
    /// Adds a probe that came at this monotonic time.
    pub(super) fn record(&mut self, probe: &Probe, now: Duration) {
        let number = now.as_secs() / STRETCH_SECONDS;
        let (of, sketch) = &mut self.stretches[(number % STRETCHES) as usize];
        if *of != number {
            *sketch = None;
            *of = number;
        }
        sketch.get_or_insert_default().record(probe);
    }

    /// All of the last minute, the stretch that has begun included.
    pub(super) fn merged(&self, now: Duration) -> Sketch {
        let number = now.as_secs() / STRETCH_SECONDS;
        let mut all = Sketch::default();
        for (of, sketch) in &self.stretches {
            if let Some(sketch) = sketch
                && number.saturating_sub(*of) < STRETCHES
            {
                all.add(sketch);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn probe(micros: u64) -> Probe {
        Probe {
            launched: Duration::ZERO,
            delay: Duration::from_micros(micros),
            started: true,
        }
    }

    #[test]
    fn a_bound_is_in_its_own_bucket() {
        for (i, bound) in DELAY_BOUNDS.iter().enumerate() {
            for (nanos, bucket) in [(0, i), (1, i + 1)] {
                let mut histogram = empty(false);
                let delay = Duration::from_secs_f64(*bound) + Duration::from_nanos(nanos);
                record(&mut histogram, delay);
                assert_eq!(histogram.counts[bucket], 1, "{bound} + {nanos} ns");
            }
        }
    }

    #[test]
    fn native_buckets_are_there_only_where_asked_for() {
        let mut plain = empty(false);
        record(&mut plain, Duration::from_millis(1));
        assert_eq!(plain.native, None);
        let mut histogram = empty(true);
        for delay in [0, 1_000, 1_001, 1_953_125, 500_000_000, u64::MAX] {
            record(&mut histogram, Duration::from_nanos(delay));
        }
        let native = histogram.native.unwrap();
        assert_eq!((native.schema, native.zero_count), (3, 2));
        // 2^-9 s and 2^-1 s are the ends of their buckets.
        let numbers: Vec<i32> = native.positive.into_keys().collect();
        assert_eq!(numbers, [-159, -72, -8, 95]);
    }

    #[test]
    fn a_minute_is_forgotten_in_steps_of_ten_seconds() {
        let mut recent = Recent::default();
        let at = Duration::from_secs;
        recent.record(&probe(100), at(5));
        recent.record(&probe(300), at(31));
        assert_eq!(recent.merged(at(59)).probes(), 2);
        let left = recent.merged(at(60)).quantiles().unwrap();
        assert_eq!((left.probes, left.mean), (1, Duration::from_micros(300)));
        assert!(recent.merged(at(90)).quantiles().is_none());
        recent.record(&probe(7), at(1_000_000));
        assert_eq!(recent.merged(at(1_000_000)).probes(), 1);
    }

    proptest! {
        /// A quantile of the sketch is the true one within one percent or one microsecond, whatever
        /// was recorded, and the bucket counts are those of the delays.
        #[test]
        fn quantiles_and_buckets_are_those_of_the_delays(
            mut micros in proptest::collection::vec(0u64..3_000_000_000, 1..300),
        ) {
            let (mut sketch, mut histogram) = (Sketch::default(), empty(true));
            for delay in &micros {
                sketch.record(&probe(*delay));
                record(&mut histogram, Duration::from_micros(*delay));
            }
            micros.sort_unstable();
            let quantiles = sketch.quantiles().unwrap();
            for (part, said) in [(0.5, quantiles.p50), (0.9, quantiles.p90), (0.99, quantiles.p99)] {
                let rank = (part * micros.len() as f64).ceil() as usize;
                let truth = micros[rank.max(1) - 1] as f64;
                prop_assert!((said.as_micros() as f64 - truth).abs() <= 0.01 * truth + 1.0);
            }
            prop_assert_eq!(histogram.count(), micros.len() as u64);
            let native = histogram.native.unwrap();
            prop_assert_eq!(native.zero_count + native.positive.values().sum::<u64>(), micros.len() as u64);
            prop_assert!(native.positive.len() <= 255);
            let sum: f64 = micros.iter().map(|delay| *delay as f64 * 1e-6).sum();
            prop_assert!((histogram.sum.0 - sum).abs() <= 1e-9 * sum);
        }
    }
}

//! When a tenant makes its requests: rests between them, and bursts.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::arguments::Gaps;

/// Lengths of time around a mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) mean: Duration,
    pub(crate) kind: Gaps,
}

impl Spread {
    fn draw(&self, random: &mut SmallRng) -> Duration {
        match self.kind {
            Gaps::Fixed => self.mean,
            // 1 - [0, 1) is never 0, so the logarithm is finite.
            Gaps::Exponential => self.mean.mul_f64(-(1.0 - random.random::<f64>()).ln()),
        }
    }
}

/// Requests come in bursts: so long on, so long off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bursts {
    pub(crate) on: Spread,
    pub(crate) off: Spread,
}

/// The rests of one tenant. Times are since its load began.
#[derive(Debug)]
pub(crate) struct Pace {
    gap: Spread,
    bursts: Option<Bursts>,
    /// The end of the burst under way.
    burst_ends: Duration,
    random: SmallRng,
}

impl Pace {
    /// Begins with a burst, where there are any.
    pub(crate) fn new(gap: Spread, bursts: Option<Bursts>, mut random: SmallRng) -> Self {
        let burst_ends = bursts.map_or(Duration::MAX, |bursts| bursts.on.draw(&mut random));
        Self {
            gap,
            bursts,
            burst_ends,
            random,
        }
    }

    /// When the request after one that ended now begins.
    pub(crate) fn next(&mut self, now: Duration) -> Duration {
        let next = now.saturating_add(self.gap.draw(&mut self.random));
        let Some(bursts) = self.bursts else {
            return next;
        };
        if next < self.burst_ends {
            return next;
        }
        // Bursts keep to their own times, however long the requests in them took: the one that is
        // under way at a burst's end is finished, and the next burst is not put off by it.
        let rest = bursts.off.draw(&mut self.random);
        let begins = self.burst_ends.saturating_add(rest).max(now);
        self.burst_ends = begins.saturating_add(bursts.on.draw(&mut self.random));
        begins
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn spread(mean: u32, kind: Gaps) -> Spread {
        Spread {
            mean: MS * mean,
            kind,
        }
    }

    fn pace(gap: Spread, bursts: Option<Bursts>) -> Pace {
        Pace::new(gap, bursts, SmallRng::seed_from_u64(1))
    }

    #[test]
    fn back_to_back_never_rests() {
        let mut pace = pace(spread(0, Gaps::Fixed), None);
        assert_eq!(pace.next(MS * 7), MS * 7);
    }

    #[test]
    fn exponential_rests_have_their_mean() {
        let mut pace = pace(spread(5, Gaps::Exponential), None);
        let sum: Duration = (0..20_000).map(|_| pace.next(Duration::ZERO)).sum();
        let mean = sum.as_secs_f64() / 20_000.0;
        assert!((mean - 0.005).abs() < 0.0002, "{mean}");
    }

    #[test]
    fn fixed_bursts_begin_on_their_own_schedule() {
        let bursts = Bursts {
            on: spread(10, Gaps::Fixed),
            off: spread(30, Gaps::Fixed),
        };
        let mut pace = pace(spread(0, Gaps::Fixed), Some(bursts));
        assert_eq!(pace.next(MS * 9), MS * 9, "still on");
        // A request that ran 4 ms over the end does not put the next burst off.
        assert_eq!(pace.next(MS * 14), MS * 40);
        assert_eq!(pace.next(MS * 49), MS * 49);
        assert_eq!(pace.next(MS * 51), MS * 80);
        // One that took longer than the rest: the next burst begins at once, and is a whole one.
        assert_eq!(pace.next(MS * 200), MS * 200);
        assert_eq!(pace.next(MS * 209), MS * 209);
    }

    #[test]
    fn random_bursts_have_their_duty() {
        let bursts = Bursts {
            on: spread(50, Gaps::Exponential),
            off: spread(200, Gaps::Exponential),
        };
        let mut pace = pace(spread(0, Gaps::Fixed), Some(bursts));
        let (mut now, mut busy) = (Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(2_000) {
            now = pace.next(now);
            now += MS;
            busy += MS;
        }
        let duty = busy.as_secs_f64() / now.as_secs_f64();
        // Half a request is done after the end of each burst on the mean.
        assert!((duty - 0.2).abs() < 0.02, "{duty}");
    }
}

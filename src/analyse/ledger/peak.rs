//! The highest value of a trailing stretch of time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{Bytes, Moment};

/// How far back peaks reach.
pub const PEAK_WINDOW: Duration = Duration::from_secs(60);

/// A sliding maximum. Holds only values that may still become the maximum, in whole-second
/// steps: at most 61, mostly one or two.
#[derive(Debug, Default, Clone)]
pub(super) struct SlidingMax {
    /// (second, value), values falling from front to back.
    values: VecDeque<(u64, Bytes)>,
}

impl SlidingMax {
    /// Takes in a value.
    pub(super) fn push(&mut self, at: Moment, value: Bytes) {
        let second = at.monotonic.as_secs();
        while self.values.back().is_some_and(|(_, old)| *old <= value) {
            self.values.pop_back();
        }
        // A smaller value in the same second can only matter once the larger one has left, and
        // both leave together.
        if self.values.back().is_none_or(|(old, _)| *old != second) {
            self.values.push_back((second, value));
        }
    }

    /// The maximum over the last 60 s (to the second); `None` where nothing was seen in them.
    pub(super) fn get(&self, now: Moment) -> Option<Bytes> {
        let from = now
            .monotonic
            .as_secs()
            .saturating_sub(PEAK_WINDOW.as_secs());
        self.values
            .iter()
            .find(|(second, _)| *second >= from)
            .map(|(_, value)| *value)
    }

    /// Forgets what has left the window.
    pub(super) fn expire(&mut self, now: Moment) {
        let from = now
            .monotonic
            .as_secs()
            .saturating_sub(PEAK_WINDOW.as_secs());
        while self
            .values
            .front()
            .is_some_and(|(second, _)| *second < from)
        {
            self.values.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(seconds),
            unix: Duration::ZERO,
        }
    }

    proptest! {
        /// The sliding maximum is the maximum of the values of the last 60 s, whatever came.
        #[test]
        fn is_the_maximum_of_the_last_minute(
            steps in proptest::collection::vec((0u64..20, 0u64..100), 1..100),
        ) {
            let (mut peak, mut all, mut now) = (SlidingMax::default(), Vec::new(), 0);
            for (gap, value) in steps {
                now += gap;
                peak.push(at(now), Bytes(value));
                all.push((now, value));
                peak.expire(at(now));
                let truth = all.iter().filter(|(t, _)| *t + 60 >= now).map(|(_, v)| *v).max();
                prop_assert_eq!(peak.get(at(now)), truth.map(Bytes));
                prop_assert!(peak.values.len() <= 61);
            }
        }
    }

    #[test]
    fn nothing_seen_is_unknown_not_zero() {
        let mut peak = SlidingMax::default();
        assert_eq!(peak.get(at(0)), None);
        peak.push(at(0), Bytes(5));
        assert_eq!(peak.get(at(61)), None);
    }
}

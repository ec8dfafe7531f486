//! Who made whom wait, over the trailing ten minutes: for the snapshot, never for series.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::TenantId;
use crate::model::{DelayPair, DelaySeconds};

/// Minutes kept, the one that has begun included.
const MINUTES: u64 = 10;
/// Pairs of one minute.
const MOST: usize = 512;
/// Pairs told.
const TOP: usize = 10;

/// A pair's delay in seconds, and the probes made while the victim had work.
#[derive(Debug, Default, Clone, Copy)]
struct Suffered {
    delay: f64,
    probes: f64,
}

/// Victim and aggressor.
type Pair = (TenantId, TenantId);

/// The minutes by number, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    minutes: VecDeque<(u64, BTreeMap<Pair, Suffered>)>,
}

impl Pairs {
    /// Adds what `aggressor` inflicted on probes made while `victim` had work.
    pub(super) fn add(&mut self, at: Duration, (victim, aggressor): Pair, delay: f64, probes: f64) {
        let minute = at.as_secs() / 60;
        if self.minutes.back().is_none_or(|(last, _)| *last < minute) {
            self.minutes.push_back((minute, BTreeMap::new()));
            self.expire(at);
        }
        if let Some((_, pairs)) = self.minutes.back_mut()
            && (pairs.len() < MOST || pairs.contains_key(&(victim, aggressor)))
        {
            let suffered = pairs.entry((victim, aggressor)).or_default();
            suffered.delay += delay;
            suffered.probes += probes;
        }
    }

    /// Forgets what is older than ten minutes.
    pub(super) fn expire(&mut self, now: Duration) {
        let minute = now.as_secs() / 60;
        self.minutes
            .retain(|(number, _)| minute.saturating_sub(*number) < MINUTES);
    }

    /// The pairs with the longest delay, as places of their tenants, where those have one.
    pub(super) fn top(&self, place: impl Fn(TenantId) -> Option<usize>) -> Vec<DelayPair> {
        let mut sums: HashMap<Pair, Suffered> = HashMap::new();
        for (pair, suffered) in self.minutes.iter().flat_map(|(_, pairs)| pairs) {
            let sum = sums.entry(*pair).or_default();
            sum.delay += suffered.delay;
            sum.probes += suffered.probes;
        }
        let mut pairs: Vec<DelayPair> = sums
            .into_iter()
            .filter(|(_, suffered)| suffered.delay > 0.0)
            .filter_map(|((victim, aggressor), suffered)| {
                Some(DelayPair {
                    victim: place(victim)?,
                    aggressor: place(aggressor)?,
                    delay: DelaySeconds(suffered.delay),
                    probes: suffered.probes,
                })
            })
            .collect();
        pairs.sort_by(|a, b| {
            let longer = b.delay.0.total_cmp(&a.delay.0);
            longer.then((a.victim, a.aggressor).cmp(&(b.victim, b.aggressor)))
        });
        pairs.truncate(TOP);
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_pairs_are_told_the_longest_first_and_forgotten_after_ten_minutes() {
        let mut pairs = Pairs::default();
        let at = Duration::from_secs;
        for p in 0..20u32 {
            let pair = (TenantId(p), TenantId(p + 1));
            pairs.add(at(60 * u64::from(p / 10)), pair, f64::from(p), 1.0);
        }
        let place = |tenant: TenantId| (tenant != TenantId(20)).then_some(tenant.0 as usize);
        let top = pairs.top(place);
        assert_eq!((top.len(), top[0].victim, top[0].delay.0), (10, 18, 18.0));
        pairs.expire(at(600));
        assert_eq!(pairs.top(place).len(), 9);
        pairs.expire(at(660));
        assert!(pairs.top(place).is_empty());
    }

    #[test]
    fn pairs_of_a_minute_are_bounded() {
        let mut pairs = Pairs::default();
        for p in 0..2 * MOST as u32 {
            pairs.add(Duration::ZERO, (TenantId(p), TenantId(0)), 1.0, 1.0);
        }
        assert_eq!(pairs.minutes[0].1.len(), MOST);
    }
}

//! What was told, and how much may be told now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{PodEvent, PodUid};

/// Pods and codes that are remembered.
const MOST: usize = 1024;

type Key = (PodUid, Arc<str>);

/// What is to be done about a finding that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A new Event.
    Create,
    /// It was told within the hour: it is counted.
    Wait,
    /// The Event of this name is told to have happened so often.
    Again { name: String, count: u32 },
}

#[derive(Debug)]
struct Told {
    name: String,
    count: u32,
    at: Instant,
}

/// What was told of which pod.
#[derive(Debug)]
pub(super) struct Book {
    again_after: Duration,
    told: HashMap<Key, Told>,
}

impl Book {
    pub(super) fn new(again_after: Duration) -> Self {
        Self {
            again_after,
            told: HashMap::new(),
        }
    }

    /// Takes in that a finding about a pod begins.
    pub(super) fn begins(&mut self, event: &PodEvent, now: Instant) -> Step {
        let Some(told) = self.told.get_mut(&key(event)) else {
            return Step::Create;
        };
        told.count = told.count.saturating_add(1);
        match now.saturating_duration_since(told.at) < self.again_after {
            true => Step::Wait,
            false => Step::Again {
                name: told.name.clone(),
                count: told.count,
            },
        }
    }

    /// It was told, by the Event of this name. Another name is another Event, which begins at one.
    pub(super) fn written(&mut self, event: &PodEvent, name: String, now: Instant) {
        let key = key(event);
        let before = self.told.get(&key).filter(|told| told.name == name);
        let count = before.map_or(1, |told| told.count);
        if self.told.len() >= MOST && before.is_none() {
            self.forget_oldest();
        }
        self.told.insert(
            key,
            Told {
                name,
                count,
                at: now,
            },
        );
    }

    fn forget_oldest(&mut self) {
        let oldest = self.told.iter().min_by_key(|(_, told)| told.at);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.told.remove(&key);
        }
    }
}

fn key(event: &PodEvent) -> Key {
    (event.uid.clone(), Arc::clone(&event.code))
}

/// So many in a minute.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    minute: Duration,
    /// When the last ones were allowed.
    last: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(most: usize, minute: Duration) -> Self {
        Self {
            most: most.max(1),
            minute,
            last: VecDeque::new(),
        }
    }

    /// When the next may be, which is taken as its time.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let at = match self.last.len() >= self.most {
            true => self.last.pop_front().map(|first| first + self.minute),
            false => None,
        };
        let at = at.unwrap_or(now).max(now);
        self.last.push_back(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn event(uid: usize, code: &str) -> PodEvent {
        PodEvent {
            namespace: "a".into(),
            pod: "b".into(),
            uid: PodUid::new(format!("uid-{uid}")),
            code: code.into(),
            note: String::new(),
        }
    }

    #[test]
    fn what_begins_again_within_the_hour_is_counted_and_told_after_it() {
        let mut book = Book::new(HOUR);
        let start = Instant::now();
        let noisy = event(1, "noisy_neighbour");
        assert_eq!(book.begins(&noisy, start), Step::Create);
        // It could not be told.
        assert_eq!(book.begins(&noisy, start), Step::Create);
        book.written(&noisy, "x.1".to_owned(), start);
        assert_eq!(book.begins(&noisy, start + MINUTE), Step::Wait);
        assert_eq!(book.begins(&noisy, start + MINUTE * 59), Step::Wait);
        assert_eq!(
            book.begins(&event(2, "noisy_neighbour"), start),
            Step::Create
        );
        assert_eq!(book.begins(&event(1, "other"), start), Step::Create);
        let again = Step::Again {
            name: "x.1".to_owned(),
            count: 4,
        };
        assert_eq!(book.begins(&noisy, start + HOUR), again);
        book.written(&noisy, "x.1".to_owned(), start + HOUR);
        assert_eq!(book.begins(&noisy, start + HOUR + MINUTE), Step::Wait);
        // Made anew after the server forgot it.
        book.written(&noisy, "x.2".to_owned(), start + HOUR * 2);
        let again = Step::Again {
            name: "x.2".to_owned(),
            count: 2,
        };
        assert_eq!(book.begins(&noisy, start + HOUR * 3), again);
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_oldest() {
        let mut book = Book::new(HOUR);
        let start = Instant::now();
        for uid in 0..MOST + 10 {
            let at = start + Duration::from_millis(uid as u64);
            book.written(&event(uid, "a"), format!("x.{uid}"), at);
        }
        assert_eq!(book.told.len(), MOST);
        assert_eq!(book.begins(&event(9, "a"), start), Step::Create);
        assert_eq!(book.begins(&event(10, "a"), start), Step::Wait);
    }

    #[test]
    fn no_minute_has_more_than_its_number() {
        let mut pace = Pace::new(10, MINUTE);
        let start = Instant::now();
        let times: Vec<Instant> = (0..25)
            .map(|second| pace.next(start + Duration::from_secs(second)))
            .collect();
        for ten in times.windows(11) {
            assert!(ten[10] - ten[0] >= MINUTE);
        }
        assert_eq!(times[9], start + Duration::from_secs(9));
        assert_eq!(times[10], start + MINUTE);
        assert_eq!(times[20], start + MINUTE * 2);
        assert_eq!(pace.next(start + HOUR), start + HOUR);
    }
}

use proptest::prelude::*;

use super::*;
use crate::collect::canary::raw::page::Shared;

const SECOND: u64 = 1_000_000_000;

/// Plays the worker and the GPU: launches all that is wanted, each starting after `delay`.
fn work(page: &Page, now: u64, delay: u64) {
    let from = page.launched.load(Acquire);
    for number in from..page.wanted.load(Acquire) {
        let slot = &page.slots[number as usize % SLOTS];
        slot.before.store(now, Release);
        slot.after.store(now + 5_000, Release);
        slot.started
            .store(now + 5_000 + delay + 7 * SECOND, Release);
        slot.seen.store(now + 5_000 + delay + 1_000, Release);
        page.launched.store(number + 1, Release);
    }
}

#[test]
fn gaps_are_exponential_and_do_not_wait_for_completions() {
    let page = Shared::new().unwrap();
    let start = 100 * SECOND;
    let mut pace = Pace::new(100.0, 7, start);
    let (mut now, mut launches, mut missed) = (start, 0, 0);
    while now < start + 100 * SECOND {
        now = pace.wake(&page, now).max(now + 1);
        let turn = pace.turn(&page, now);
        missed += turn.missed;
        launches += u32::from(turn.go_on);
        // All is launched and nothing ever starts: arrivals go on until there is no room.
        page.launched.store(pace.wanted, Release);
    }
    assert_eq!(pace.wanted, SLOTS as u64);
    let all = missed + SLOTS as u32;
    assert!((9_700..10_300).contains(&all), "{all}");
    assert!(launches > 0);
}

#[test]
fn a_late_turn_launches_once_and_counts_the_rest() {
    let page = Shared::new().unwrap();
    let mut pace = Pace::new(100.0, 7, SECOND);
    let turn = pace.turn(&page, 11 * SECOND);
    assert_eq!(pace.wanted, 1);
    assert!((900..1100).contains(&turn.missed), "{}", turn.missed);
}

#[test]
fn delays_are_the_gpus_and_not_the_hosts() {
    let page = Shared::new().unwrap();
    let mut pace = Pace::new(15.0, 7, SECOND);
    let (mut now, mut probes) = (SECOND, Vec::new());
    while probes.len() < 100 {
        now = pace.wake(&page, now);
        probes.extend(pace.turn(&page, now).probes);
        work(
            &page,
            now,
            if pace.wanted.is_multiple_of(2) {
                800_000
            } else {
                10_000
            },
        );
    }
    // The bounds of the quick ones are 16 us apart: so well are the clocks tied.
    assert!(pace.clock_error(now) <= Some(Duration::from_micros(17)));
    let (slow, quick): (Vec<Timed>, Vec<Timed>) = probes
        .into_iter()
        .partition(|probe| probe.delay > Duration::from_micros(400));
    assert!(slow.len().abs_diff(quick.len()) <= 1);
    for (probes, wanted) in [(slow, 800_000), (quick, 10_000)] {
        for probe in probes {
            // The launch call of 5 us comes before.
            let off = probe.delay.as_nanos().abs_diff(wanted + 5_000);
            assert!(off < 3_000 && probe.started, "{probe:?}");
        }
    }
    pace.turn(&page, now + 1_000);
    assert_eq!(pace.waiting_since(&page), None);
}

#[test]
fn a_launch_call_that_was_preempted_adds_nothing() {
    let page = Shared::new().unwrap();
    let mut pace = Pace::new(15.0, 7, SECOND);
    let (mut now, mut probes) = (SECOND, Vec::new());
    while probes.len() < 50 {
        now = pace.wake(&page, now);
        probes.extend(pace.turn(&page, now).probes);
        work(&page, now, 10_000);
        if probes.len() > 20 {
            // The last one's call began 30 ms before.
            let last = &page.slots[(pace.wanted as usize - 1) % SLOTS];
            last.before.store(now - 30_000_000, Release);
            last.preempted.store(1, Release);
        }
    }
    for probe in probes {
        assert!(probe.delay < Duration::from_micros(40), "{probe:?}");
    }
}

#[test]
fn a_gpu_whose_every_probe_waits_is_told_late_and_less_well() {
    let page = Shared::new().unwrap();
    let mut pace = Pace::new(15.0, 7, SECOND);
    let (mut now, mut first) = (SECOND, None);
    while now < 30 * SECOND {
        now = pace.wake(&page, now);
        let turn = pace.turn(&page, now);
        assert_eq!(turn.missed, 0);
        if !turn.probes.is_empty() {
            first.get_or_insert((now, turn.probes.len()));
        }
        work(&page, now, 3_000_000);
    }
    let (at, told) = first.unwrap();
    assert!(
        (10 * SECOND..13 * SECOND).contains(&at) && told > 100,
        "{at} {told}"
    );
    assert!(pace.clock_error(now) > Some(Duration::from_millis(1)));
}

#[test]
fn a_worker_that_does_not_launch_is_told_again() {
    let page = Shared::new().unwrap();
    let mut pace = Pace::new(15.0, 7, SECOND);
    let now = pace.wake(&page, SECOND);
    assert!(pace.turn(&page, now).go_on);
    assert_eq!(pace.behind_since(&page), Some(now));
    let again = pace.wake(&page, now);
    assert!(again <= now + 5_000_000);
    assert!(pace.turn(&page, again).go_on);
    work(&page, again, 1000);
    let turn = pace.turn(&page, again + 1);
    assert!(!turn.go_on && turn.missed == 0);
}

proptest! {
    /// A page that anything has written into breaks nothing, and probes stay bounded.
    #[test]
    fn any_page_is_survived(
        launched in any::<u64>(),
        words in proptest::collection::vec(any::<[u64; 4]>(), 16),
        steps in proptest::collection::vec(1u64..3_000_000_000, 1..20),
    ) {
        let page = Shared::new().unwrap();
        let mut pace = Pace::new(50.0, 7, SECOND);
        page.launched.store(launched, Release);
        for (slot, [before, after, seen, started]) in page.slots.iter().zip(words) {
            slot.before.store(before, Release);
            slot.after.store(after, Release);
            slot.seen.store(seen, Release);
            slot.started.store(started, Release);
        }
        let mut now = SECOND;
        for step in steps {
            now += step;
            let turn = pace.turn(&page, now);
            prop_assert!(turn.probes.len() <= 5 * SLOTS);
            pace.waiting_since(&page);
        }
        pace.give_up(&page, now);
    }
}

use proptest::prelude::*;

use super::*;
use crate::model::{Cause, RingSample};

fn at(seconds: f64) -> Moment {
    Moment {
        monotonic: Duration::from_secs_f64(seconds),
        unix: Duration::from_secs_f64(1000.0 + seconds),
    }
}

const UNKNOWN: Reading<Arc<ProcessFacts>> = Reading::Failed(Cause::PermissionDenied);

/// A ring at second 0 with these PIDs in its newest list.
fn ring(pids: &[u32]) -> Ring {
    let mut ring = Ring::new(at(0.0).unix, at(0.0));
    for pid in pids {
        ring.note(HostPid(*pid), &UNKNOWN, at(0.0));
        ring.note(HostPid(*pid), &UNKNOWN, at(2.9));
    }
    ring.close_list(at(2.9));
    ring
}

/// What the driver answers for samples (winner, percent): the measured rule.
fn answer(samples: &[(u32, u32)], exited: &[u32]) -> RingRead {
    let mut read = RingRead::default();
    let mut sums: BTreeMap<u32, (u32, Duration)> = BTreeMap::new();
    for (i, (winner, percent)) in samples.iter().enumerate() {
        let time = at(0.2 * (i + 1) as f64).unix;
        read.samples.push(RingSample {
            at: time,
            percent: *percent,
        });
        if *percent > 0 {
            let sum = sums.entry(*winner).or_default();
            sum.0 += percent;
            sum.1 = time;
        }
    }
    for (pid, (sum, last_won)) in sums {
        if !exited.contains(&pid) {
            read.rows.push(RingRow {
                pid: HostPid(pid),
                last_won,
                sm_percent: sum.div_ceil(samples.len() as u32),
            });
        }
    }
    read
}

fn seconds(drain: &Drain, pid: u32) -> Option<f64> {
    drain
        .rows
        .iter()
        .find(|row| row.pid == HostPid(pid))
        .map(|row| row.time.0)
}

fn close_to(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-3
}

#[test]
fn the_captured_drain_of_three_tenants_is_recovered_to_the_sample() {
    // H200, 2026-11-21: rows 14, 20 and 66 over 15 samples of 98 %: 2, 3 and 10 samples won.
    let mut read = answer(&[], &[]);
    for i in 0..15 {
        read.samples.push(RingSample {
            at: at(0.2 * f64::from(i + 1)).unix,
            percent: 98,
        });
    }
    for (pid, sm_percent) in [(472, 14), (473, 20), (471, 66)] {
        read.rows.push(RingRow {
            pid: HostPid(pid),
            last_won: at(2.2).unix,
            sm_percent,
        });
    }
    let drain = ring(&[471, 472, 473]).drain(&read, at(3.05));
    assert_eq!(drain.samples, 15);
    assert_eq!(drain.busy_samples, 15);
    let won: Vec<u32> = drain.rows.iter().map(|row| row.samples).collect();
    assert_eq!(won, [10, 2, 3]);
    assert!(close_to(seconds(&drain, 471).unwrap(), 10.0 * 0.98 * 0.2));
    assert!(drain.refused.is_empty());
}

#[test]
fn a_row_of_a_new_context_is_a_mean_over_its_own_samples() {
    // H200, 2026-11-21: 11 idle samples, then 1 (another's), 25, 95 and 95 %: the new process's row
    // says 54, which over 15 samples would be 1.6 s of a card that was busy for 0.43 s.
    let mut read = answer(&[(0, 0); 11], &[]);
    for (i, percent) in [1, 25, 95, 95].into_iter().enumerate() {
        let time = at(0.2 * (12 + i) as f64).unix;
        read.samples.push(RingSample { at: time, percent });
    }
    let row = |pid, last_won, sm_percent| RingRow {
        pid: HostPid(pid),
        last_won,
        sm_percent,
    };
    read.rows = vec![row(420, at(3.0).unix, 54), row(414, at(2.4).unix, 1)];
    let mut ring = ring(&[414]);
    ring.note(HostPid(414), &UNKNOWN, at(2.45));
    ring.note(HostPid(420), &UNKNOWN, at(2.45));
    let drain = ring.drain(&read, at(3.05));
    let said = seconds(&drain, 420).unwrap();
    assert!((said - 2.15 * 0.2).abs() < 0.03, "{said}: {drain:?}");
    let sum: f64 = drain.rows.iter().map(|row| row.time.0).sum();
    assert!((sum - drain.busy.0).abs() < 0.03, "{drain:?}");
}

#[test]
fn one_half_idle_tenant_gets_all_of_the_cards_time_to_the_digit() {
    let drain = ring(&[7]).drain(
        &answer(&[(7, 37), (7, 37), (7, 38), (7, 38), (7, 37)], &[]),
        at(1.05),
    );
    assert!(
        close_to(seconds(&drain, 7).unwrap(), 1.87 * 0.2),
        "{drain:?}"
    );
    assert_eq!(drain.rows[0].samples, 5);
}

#[test]
fn an_idle_card_gives_no_rows_and_covers_the_time() {
    let drain = ring(&[7]).drain(&answer(&[(0, 0); 15], &[]), at(3.0));
    assert!(drain.rows.is_empty());
    assert_eq!(drain.covered, Duration::from_secs(3));
    assert_eq!(drain.busy, GpuSeconds(0.0));
}

#[test]
fn nothing_is_counted_twice_over_two_drains() {
    let mut ring = ring(&[7]);
    let read = answer(&[(7, 98); 10], &[]);
    let first = ring.drain(&read, at(2.05));
    let second = ring.drain(&read, at(2.1));
    assert!(first.busy.0 > 1.9);
    assert_eq!(second.busy, GpuSeconds(0.0));
    assert!(second.rows.is_empty());
    assert_eq!(second.refused.get(&Refusal::OutOfTime), Some(&1));
}

#[test]
fn the_time_of_the_only_process_that_ended_is_what_no_row_claims() {
    let mut ring = ring(&[7, 8]);
    ring.note(HostPid(8), &UNKNOWN, at(3.0));
    assert!(ring.close_list(at(3.0)));
    let read = answer(
        &[(7, 98), (8, 98), (7, 98), (8, 98), (7, 98), (8, 98)],
        &[7],
    );
    let drain = ring.drain(&read, at(3.0));
    assert!(
        close_to(seconds(&drain, 7).unwrap(), 3.0 * 0.98 * 0.2),
        "{drain:?}"
    );
    assert!(
        drain
            .rows
            .iter()
            .any(|row| row.inferred && row.pid == HostPid(7))
    );
}

#[test]
fn what_nobody_claimed_waits_one_drain_for_an_end_that_the_list_did_not_show_yet() {
    let mut ring = ring(&[7, 8]);
    // 7 has exited, and with it its row; the list of the same instant still has it.
    let samples = [(7, 98), (8, 98), (7, 98), (8, 98), (7, 98)];
    let first = ring.drain(&answer(&samples, &[7]), at(1.05));
    assert_eq!(first.rows.len(), 1);
    ring.note(HostPid(8), &UNKNOWN, at(2.0));
    ring.close_list(at(2.0));
    let mut all = samples.to_vec();
    all.extend([(8, 98); 5]);
    let mut read = answer(&all, &[7]);
    read.samples.drain(..5);
    read.rows[0].sm_percent = 98;
    let second = ring.drain(&read, at(2.05));
    assert!(
        close_to(seconds(&second, 7).unwrap(), 3.0 * 0.98 * 0.2),
        "{second:?}"
    );
    assert!(
        close_to(seconds(&second, 8).unwrap(), 5.0 * 0.98 * 0.2),
        "{second:?}"
    );
}

#[test]
fn processes_of_one_container_that_ended_together_get_what_no_row_claims() {
    let of = |pid: u32, container: &str| {
        Reading::Value(Arc::new(ProcessFacts {
            key: crate::model::ProcessKey {
                pid: HostPid(pid),
                started: crate::model::StartTime(1),
            },
            name: "rank".into(),
            cgroup: crate::model::CgroupIdentity {
                pod_uid: None,
                container_id: Some(crate::model::ContainerId::new(container)),
            },
        }))
    };
    for (other, charged) in [("a", true), ("b", false)] {
        let mut ring = ring(&[9]);
        ring.note(HostPid(7), &of(7, "a"), at(0.0));
        ring.note(HostPid(8), &of(8, other), at(0.0));
        ring.note(HostPid(9), &UNKNOWN, at(1.0));
        ring.close_list(at(1.0));
        let drain = ring.drain(&answer(&[(7, 98), (8, 98), (9, 98)], &[7, 8]), at(1.05));
        let inferred: f64 = drain
            .rows
            .iter()
            .filter(|row| row.inferred)
            .map(|row| row.time.0)
            .sum();
        let expected = if charged { 2.0 * 0.98 * 0.2 } else { 0.0 };
        assert!(close_to(inferred, expected), "{other}: {drain:?}");
    }
}

#[test]
fn with_two_ended_processes_nobody_is_charged_for_what_is_left() {
    let mut ring = ring(&[7, 8, 9]);
    ring.note(HostPid(9), &UNKNOWN, at(3.0));
    ring.close_list(at(3.0));
    let read = answer(&[(7, 98), (8, 98), (9, 98)], &[7, 8]);
    let drain = ring.drain(&read, at(3.0));
    assert_eq!(drain.rows.len(), 1);
    assert!(close_to(drain.busy.0, 3.0 * 0.98 * 0.2));
}

#[test]
fn garbage_rows_are_refused_by_reason() {
    let mut read = answer(&[(7, 98); 5], &[]);
    let last_won = at(0.4).unix;
    read.rows.push(RingRow {
        pid: HostPid(7),
        last_won,
        sm_percent: 101,
    });
    read.rows.push(RingRow {
        pid: HostPid(7),
        last_won: at(0.0).unix,
        sm_percent: 5,
    });
    read.rows.push(RingRow {
        pid: HostPid(7),
        last_won: at(60.0).unix,
        sm_percent: 5,
    });
    read.rows.push(RingRow {
        pid: HostPid(99),
        last_won,
        sm_percent: 5,
    });
    let drain = ring(&[7]).drain(&read, at(1.05));
    assert_eq!(drain.refused.get(&Refusal::OutOfRange), Some(&1));
    assert_eq!(drain.refused.get(&Refusal::OutOfTime), Some(&2));
    assert_eq!(drain.refused.get(&Refusal::UnknownPid), Some(&1));
    assert_eq!(drain.rows.len(), 1);
}

#[test]
fn a_card_without_samples_of_its_own_falls_back_on_elapsed_time() {
    let mut read = answer(&[(7, 98); 15], &[]);
    read.samples.clear();
    let drain = ring(&[7]).drain(&read, at(3.0));
    assert!((seconds(&drain, 7).unwrap() - 3.0).abs() < 0.1, "{drain:?}");
}

proptest! {
    /// Whatever the winners and values, a process's time is within one rounding step of the
    /// truth, and the rows add up to the card's own figure.
    #[test]
    fn time_is_right_within_rounding_and_adds_up(
        samples in proptest::collection::vec((1u32..6, 0u32..=100), 1..60),
    ) {
        let drain = ring(&[1, 2, 3, 4, 5]).drain(&answer(&samples, &[]), at(0.2 * samples.len() as f64 + 0.05));
        let n = samples.len() as f64;
        for pid in 1..6 {
            let truth: u32 = samples.iter().filter(|(winner, _)| *winner == pid).map(|(_, value)| value).sum();
            let said = seconds(&drain, pid).unwrap_or(0.0);
            prop_assert!((said - f64::from(truth) / 100.0 * 0.2).abs() <= n / 100.0 * 0.2 + 1e-6);
        }
        let rows: f64 = drain.rows.iter().map(|row| row.time.0).sum();
        prop_assert!((rows - drain.busy.0).abs() < 1e-6, "rows {rows} card {}", drain.busy.0);
    }

    /// No order or repetition of reads invents time: what is counted never exceeds the card's.
    #[test]
    fn never_more_than_the_card(
        samples in proptest::collection::vec((1u32..6, 0u32..=100), 1..60),
        exited in proptest::collection::vec(1u32..6, 0..3),
    ) {
        let mut ring = ring(&[1, 2, 3, 4, 5]);
        for pid in 1..6 {
            if !exited.contains(&pid) {
                ring.note(HostPid(pid), &UNKNOWN, at(2.95));
            }
        }
        ring.close_list(at(2.95));
        let drain = ring.drain(&answer(&samples, &exited), at(12.05));
        let rows: f64 = drain.rows.iter().map(|row| row.time.0).sum();
        // Rounding up may lift each of five rows by one step where an ended one leaves it open.
        let slack = 5.0 * samples.len() as f64 / 100.0 * 0.2;
        prop_assert!(rows <= drain.busy.0 + slack + 1e-6);
    }
}

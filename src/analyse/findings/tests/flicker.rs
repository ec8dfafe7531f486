//! What holds for every rule: patience, bounds, and subjects that go.

use proptest::prelude::*;

use super::held::{Seen, Subject, Verdict, Words};
use super::*;
use crate::model::PodName;

const TEST: Code = Code {
    name: "test",
    severity: Severity::Warning,
    raise_after: Duration::from_secs(10),
    clear_after: Duration::from_secs(20),
    blind_after: BLIND,
};

/// What a rule sees, by a letter: holds, nearly, not, unknown.
fn verdict(letter: char) -> Option<Verdict> {
    let words = Words::new(letter, "mend");
    match letter {
        'h' => Some(Verdict::Holds(words)),
        'n' => Some(Verdict::Nearly(words)),
        'u' => Some(Verdict::Unknown),
        _ => None,
    }
}

/// Whether there is a finding after each second.
fn course(letters: &str) -> Vec<bool> {
    let mut holding = Holding::default();
    let mut snapshot = snapshot(Vec::new());
    let seen = |verdict| Seen {
        code: &TEST,
        subject: Subject::Node,
        verdict,
    };
    letters
        .chars()
        .map(|letter| {
            snapshot.at = snapshot.at.later(Duration::from_secs(1));
            let seen = verdict(letter).map(seen).into_iter().collect();
            !holding.weigh(seen, &snapshot).is_empty()
        })
        .collect()
}

#[test]
fn courses() {
    let many = |letter: &str, times| letter.repeat(times);
    for (letters, found) in [
        (many("h", 10), false),
        (many("h", 11), true),
        (many("h", 9) + "-" + &many("h", 9), false),
        (many("h", 9) + "n" + &many("h", 9), false),
        (many("h", 5) + &many("u", 5) + "h", true),
        (many("h", 5) + &many("u", 31) + &many("h", 5), false),
        (many("u", 99), false),
        (many("n", 99), false),
        (many("h", 11) + &many("-", 20), true),
        (many("h", 11) + &many("-", 21), false),
        (many("h", 11) + &many("n", 99), true),
        (many("h", 11) + &many("-", 19) + "n" + &many("-", 19), true),
        (many("h", 11) + &many("u", 30), true),
        (many("h", 11) + &many("u", 31), false),
    ] {
        assert_eq!(course(&letters).last(), Some(&found), "{letters}");
    }
}

proptest! {
    /// Whatever a rule sees, a finding stays for as long as it takes to take it back, or to be
    /// blind, and comes no sooner again than it takes to raise it.
    #[test]
    fn nothing_flickers(letters in "[hnu-]{0,300}") {
        let course = course(&letters);
        let mut last = None;
        for (second, pair) in course.windows(2).enumerate() {
            if pair[0] != pair[1] {
                let least = if pair[1] { 10 } else { 20 };
                if let Some(last) = last {
                    prop_assert!(second - last >= least, "{second} after {last}");
                }
                last = Some(second);
            }
        }
    }

    /// A finding comes only where it was seen to hold within the last half minute.
    #[test]
    fn unknown_is_never_a_finding(letters in "[nu-]{0,300}") {
        prop_assert!(!course(&letters).contains(&true));
    }
}

#[test]
fn findings_of_a_code_are_bounded_and_the_rest_is_counted() {
    let pods = (0..30).map(|p| format!("a/pod-{p:02}"));
    let rows = pods.map(|pod| ContainerView {
        memory: Reading::Value(Bytes::gib(60)),
        ..row(&pod)
    });
    let mut watch = Watch::of([GpuView {
        replicas: Reading::Value(64),
        ..shared(rows)
    }]);
    // The last one came first.
    let last = watch.snapshot.gpus[0].containers.pop().unwrap();
    let others = std::mem::replace(&mut watch.snapshot.gpus[0].containers, vec![last]);
    watch.after(100);
    watch.snapshot.gpus[0].containers.splice(0..0, others);
    watch.after(100);
    let subjects = |watch: &Watch| -> Vec<String> {
        let told = watch.found.iter();
        let told = told.filter(|finding| &*finding.code == "tenant_over_fair_share");
        told.map(|finding| finding.subject.to_string()).collect()
    };
    let told = subjects(&watch);
    assert_eq!(told.len(), MOST_OF_A_CODE);
    assert!(told.contains(&"a/pod-29".to_owned()), "{told:?}");
    watch.assert_words("too_many_findings", "tenant_over_fair_share", &["10 more"]);
    watch.after(1);
    assert_eq!(subjects(&watch), told, "the same ones");
}

#[test]
fn a_subject_that_is_gone_has_no_finding() {
    let two = || shared([row("a/one"), row("b/two")]);
    let mut watch = Watch::of([two()]);
    assert_eq!(watch.after(100), ["fault_domain_shared"]);
    watch.snapshot.gpus.clear();
    assert!(watch.after(1).is_empty());
    let name = PodName {
        namespace: "a".into(),
        pod: "one".into(),
    };
    let mut holding = Holding::default();
    let seen = || Seen {
        code: &TEST,
        subject: Subject::Pod(name.clone()),
        verdict: Verdict::Holds(Words::new("", "")),
    };
    let mut snapshot = snapshot(vec![two()]);
    for _ in 0..20 {
        snapshot.at = snapshot.at.later(Duration::from_secs(1));
        holding.weigh(vec![seen(), seen()], &snapshot);
    }
    assert_eq!(holding.weigh(vec![seen()], &snapshot).len(), 1);
    snapshot.gpus[0].containers[0].present = false;
    assert!(holding.weigh(vec![seen()], &snapshot).is_empty());
}

//! Findings of the whole agent on simulated nodes: which scenario shows which, and that none of
//! them comes and goes. And that documents have every code.
#![expect(
    clippy::expect_used,
    reason = "helpers of tests, which clippy does not take for tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use slicewatch::analyse::findings::codes;
use slicewatch::model::{Finding, Severity, Sharing, Snapshot};

use crate::truth::{agent, start};

/// What became of findings in a run.
struct Course {
    /// By code and subject, with the second of its coming; as it was told last.
    came: BTreeMap<(Arc<str>, Arc<str>), (u64, Finding)>,
    /// How often one went.
    went: usize,
    last: Snapshot,
}

impl Course {
    fn codes(&self) -> BTreeSet<&str> {
        self.came.keys().map(|(code, _)| &**code).collect()
    }

    /// The one finding of a code, and when it came.
    fn one(&self, code: &str) -> &(u64, Finding) {
        let mut all = self.came.iter().filter(|((c, _), _)| &**c == code);
        let (_, one) = all.next().expect(code);
        assert!(all.next().is_none(), "more than one {code}");
        one
    }
}

/// Runs a scenario for so many minutes.
fn course(scenario: &str, seed: u64, minutes: u64) -> Course {
    let mut agent = agent(scenario, seed);
    let mut came: BTreeMap<_, (u64, Finding)> = BTreeMap::new();
    let mut there: BTreeSet<(Arc<str>, Arc<str>)> = BTreeSet::new();
    let mut went = 0;
    let mut last = None;
    let end = start().monotonic + Duration::from_secs(60 * minutes);
    agent.run(end, |_, snapshot| {
        let at = snapshot.at.since(start()).as_secs();
        let mut now = BTreeSet::new();
        for finding in &snapshot.findings {
            let key = (Arc::clone(&finding.code), Arc::clone(&finding.subject));
            let told = came.entry(key.clone());
            told.or_insert_with(|| (at, finding.clone())).1 = finding.clone();
            assert!(now.insert(key), "one series each: {finding:?}");
        }
        went += there.difference(&now).count();
        there = now;
        last = Some(snapshot);
    });
    let last = last.expect("a step");
    Course {
        came,
        went,
        last: Snapshot::clone(&last),
    }
}

#[test]
fn a_quiet_node_has_nothing_to_mend() {
    for seed in 0..3 {
        let quiet = course("quiet", seed, 10);
        // Its two pods are of two namespaces, which is worth knowing and no fault.
        assert_eq!(quiet.codes(), BTreeSet::from(["fault_domain_shared"]));
        let (_, shared) = quiet.one("fault_domain_shared");
        assert_eq!(shared.severity, Severity::Info);
        assert!(shared.evidence.contains("research, search"), "{shared:?}");
    }
}

#[test]
fn the_trainer_is_the_noisy_neighbour() {
    for seed in 0..3 {
        let noisy = course("noisy-neighbour", seed, 8);
        let (came, finding) = noisy.one("noisy_neighbour");
        assert!((120..240).contains(came), "after {came} s");
        assert_eq!(&*finding.subject, "ml-training/finetune-0");
        for word in ["a short request of ", " ms for others", "% of what others"] {
            assert!(finding.evidence.contains(word), "{finding:?}");
        }
        assert!(!noisy.codes().contains("replicas_treated_as_isolated"));
        assert_eq!(noisy.went, 0, "{:?}", noisy.codes());
    }
}

#[test]
fn the_hog_shows_that_replicas_are_not_isolated() {
    for seed in 0..3 {
        let full = course("memory-hog", seed, 10);
        let (_, finding) = full.one("replicas_treated_as_isolated");
        assert_eq!(*finding.subject, *full.last.gpus[0].identity.uuid.as_str());
        let hog = "research/dataset-explorer-0 held up to";
        assert!(finding.evidence.contains(hog), "{finding:?}");
        assert!(finding.evidence.contains(" of prod/"), "{finding:?}");
        let (_, over) = full.one("tenant_over_fair_share");
        assert_eq!(&*over.subject, "research/dataset-explorer-0");
        assert_eq!(full.went, 0, "{:?}", full.codes());
    }
}

#[test]
fn who_sits_where_nobody_put_it_is_found() {
    let faults = course("faults", 7, 10);
    let strays: Vec<&(u64, Finding)> = faults
        .came
        .iter()
        .filter(|((code, _), _)| &**code == "process_without_allocation")
        .map(|(_, told)| told)
        .collect();
    let of = |subject: &str| {
        let mut found = strays.iter().map(|(_, finding)| finding);
        let found = found.find(|finding| finding.subject.starts_with(subject));
        &found.expect(subject).evidence
    };
    assert_eq!(strays.len(), 2, "{strays:?}");
    assert!(of("research/stray-").contains("it was granted GPU-"));
    // A display server and a bare program; the row without a PID is nobody's.
    assert!(of("GPU-").contains("Xorg") && of("GPU-").contains("python3"));
    assert!(!of("GPU-").contains("PID 0"));
    // A lost card, an unloaded driver and a silent kubelet may end findings, and raise none.
    assert!(faults.went <= 8, "{}", faults.went);
}

#[test]
fn mps_and_mig_are_no_time_slicing() {
    let mps = course("mps", 7, 5);
    assert_eq!(mps.last.gpus[0].sharing, Sharing::Mps);
    assert!(mps.codes().is_empty(), "{:?}", mps.codes());
    // Without labels nothing is said of MIG's strategy.
    let mig = course("mig", 7, 5);
    assert!(!mig.codes().contains("mig_with_strategy_none"));
}

#[test]
fn pods_that_come_and_go_do_not_make_findings_flicker() {
    for scenario in ["churn", "now-and-then"] {
        let course = course(scenario, 7, 15);
        assert_eq!(course.went, 0, "{scenario}: {:?}", course.codes());
    }
}

#[test]
fn every_code_stands_in_the_documents_with_its_severity() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a document");
    let table = read("deploy/time-slicing/failure-modes.md");
    let readme = read("README.md");
    for code in codes() {
        let name = format!("| `{}` |", code.name);
        let row = table.lines().find(|line| line.starts_with(&name));
        let row = row.unwrap_or_else(|| panic!("{} is not in the table", code.name));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(cells[2].contains(code.severity.label()), "{row}");
        assert!(cells[3].contains("node"), "{row}");
        let told = format!("`{}`", code.name);
        assert!(readme.contains(&told), "{told} is not in the README");
    }
    // And what the table says of the node, the agent finds.
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        let of_node = cells[3].split(", ").any(|place| place == "node");
        let known = codes().iter().any(|code| code.name == name);
        assert_eq!(of_node, known, "{row}");
    }
}

#[test]
fn the_log_has_a_line_when_a_finding_comes_and_none_each_second() {
    let run = Command::new(env!("CARGO_BIN_EXE_slicewatch"))
        .args(["snapshot", "--scenario", "noisy-neighbour", "--seed", "7"])
        .args(["--duration", "10m", "--format", "json"])
        .output()
        .expect("the binary of this build");
    let log = String::from_utf8_lossy(&run.stderr);
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("a finding"))
        .collect();
    let of = |code: &str| lines.iter().filter(|line| line.contains(code)).count();
    assert_eq!(of("noisy_neighbour"), 1, "{log}");
    assert_eq!(of("fault_domain_shared"), 1, "{log}");
    for word in ["WARN", "a finding came", "ml-training/finetune-0", "mend="] {
        assert!(
            lines.iter().any(|line| line.contains(word)),
            "{word}: {log}"
        );
    }
    let snapshot: Snapshot = serde_json::from_slice(&run.stdout).expect("a snapshot");
    let told = snapshot.findings.iter().map(|finding| &*finding.code);
    assert_eq!(told.count(), lines.len(), "{log}");
}

//! The rules of the set-up from outside: the order of pages, codes against their page, and size.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking too")]

mod cluster;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use slicewatch::analyse::setup::{Check, MAX_OF_A_CODE, SETTLING};
use slicewatch::model::setup::{Asked, NodeRead, PodRead, Setup, SetupReport};

use cluster::{NOW, Troubles, cluster, pod};

fn report(setup: Setup, nodes: &[NodeRead], pods: &[PodRead]) -> SetupReport {
    let mut check = Check::new(setup, Duration::from_secs(NOW), SETTLING);
    for node in nodes {
        check.node(node);
    }
    let mut check = check.pods(&Asked::Read(()));
    for pod in pods {
        check.pod(pod);
    }
    check.finish(&Asked::Read(()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In whatever order nodes, pods, DaemonSets and pods of the plugin come, the report is the same.
    #[test]
    fn the_order_of_pages_does_not_matter(
        troubles in proptest::collection::vec(any::<Troubles>(), 1..12),
        pods in proptest::collection::vec((0usize..14, 0u8..8, 0u8..3), 0..40),
        keys in proptest::collection::vec(any::<u64>(), 64),
    ) {
        let (setup, nodes) = cluster(&troubles);
        let pods: Vec<PodRead> = pods
            .iter()
            .enumerate()
            .map(|(number, (node, kind, owner))| pod(number, *node, *kind, *owner))
            .collect();
        let expected = report(setup.clone(), &nodes, &pods);

        let mut mixed = setup;
        let (mut other_nodes, mut other_pods) = (nodes, pods);
        shuffle(&mut other_nodes, &keys);
        shuffle(&mut other_pods, &keys);
        if let Asked::Read(list) = &mut mixed.plugin_pods { shuffle(list, &keys) }
        if let Asked::Read(list) = &mut mixed.daemon_sets { shuffle(list, &keys) }
        prop_assert_eq!(report(mixed, &other_nodes, &other_pods), expected);
    }
}

/// Sorts by keys that have nothing to do with the values.
fn shuffle<T>(list: &mut Vec<T>, keys: &[u64]) {
    let mut keyed: Vec<_> = list
        .drain(..)
        .enumerate()
        .map(|(place, item)| (keys[place % keys.len()].rotate_left(place as u32), item))
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    list.extend(keyed.into_iter().map(|(_, item)| item));
}

#[test]
fn thousands_of_nodes_are_looked_at_in_time_and_told_within_bounds() {
    let troubles: Vec<Troubles> = (0..5_000u32).map(Troubles::some).collect();
    let (setup, nodes) = cluster(&troubles);
    let pods: Vec<PodRead> = (0..50_000)
        .map(|number| {
            pod(
                number,
                number % 5_000,
                (number % 8) as u8,
                (number % 3) as u8,
            )
        })
        .collect();
    let began = Instant::now();
    let report = report(setup, &nodes, &pods);
    let took = began.elapsed();
    // A debug build on a busy machine: this is about squares, not about speed.
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!((report.nodes_read, report.pods_read), (5_000, 50_000));
    assert_eq!(report.nodes.len(), 5_000);
    let codes: BTreeSet<_> = report.findings.iter().map(|it| it.code).collect();
    assert!(codes.len() > 5, "{codes:?}");
    for code in codes {
        let listed = report.findings.iter().filter(|it| it.code == code).count();
        assert!(listed <= MAX_OF_A_CODE, "{code}: {listed}");
        let left_out = report.left_out.get(code).copied().unwrap_or(0);
        assert!(listed == MAX_OF_A_CODE || left_out == 0, "{code}");
    }
}

#[test]
fn a_report_is_json_with_both_values() {
    let (setup, nodes) = cluster(&[Troubles {
        wrong_label: true,
        ..Troubles::default()
    }]);
    let report = serde_json::to_value(report(setup, &nodes, &[])).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(finding["code"], "node_label_names_missing_key");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["object"]["kind"], "Node");
    assert_eq!(finding["expected"], "one of any, whole");
    assert_eq!(finding["found"], "gone");
    assert_eq!(report["nodes"][0]["from"], "label");
}

/// Rows of the table of codes: code, and where it is found.
fn table() -> Vec<(String, Vec<String>)> {
    let page = read("deploy/time-slicing/failure-modes.md");
    page.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let code = cells.next()?.strip_suffix('`')?.to_owned();
            let places = cells.nth(1)?.split(", ").map(str::to_owned).collect();
            Some((code, places))
        })
        .collect()
}

/// The codes that a module's documentation lists below its heading `# Codes`.
fn documented(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let (_, rest) = text.split_once("//! # Codes\n").expect("a list of codes");
    let lines = rest.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with(" # ")).collect();
    let text = lines.join(" ");
    let quoted = text.split('`').skip(1).step_by(2);
    let codes = quoted.filter(|word| word.contains('_') && *word != "plugin_config");
    codes.map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("a file of the repository")
}

#[test]
fn the_page_of_failure_modes_has_the_codes_that_are_found() {
    let table = table();
    let names: BTreeSet<_> = table.iter().map(|(code, _)| code).collect();
    assert_eq!(names.len(), table.len(), "a code stands twice");
    let found_in = |place: &str| -> BTreeSet<String> {
        let rows = table
            .iter()
            .filter(|(_, places)| places.iter().any(|it| it == place));
        rows.map(|(code, _)| code.clone()).collect()
    };
    assert_eq!(found_in("cluster"), documented("src/analyse/setup.rs"));
    assert_eq!(found_in("file"), documented("src/analyse/plugin_config.rs"));
}

#[test]
fn every_code_of_the_rules_is_documented() {
    let documented = documented("src/analyse/setup.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/analyse/setup");
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            written.extend(
                code.split('"')
                    .skip(1)
                    .filter(|word| documented.contains(*word))
                    .map(str::to_owned),
            );
        }
    }
    assert_eq!(written, documented);
}

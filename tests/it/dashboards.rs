//! The dashboards: every name in a query is a metric's, a label's or a rule's, Grafana's linter
//! would be content, nothing overlaps, and what ships is what is here.
//!
//! Each check is a function over JSON, tried on a bad sample first and then on the real thing.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod labels;
mod lint;
mod panels;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use labels::Known;

const NAMES: [&str; 5] = ["agent", "capacity", "fleet", "gpu", "pod"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Files of a folder with an extension, by name.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// The dashboards by name.
fn dashboards() -> BTreeMap<&'static str, Value> {
    NAMES
        .map(|name| {
            let text = read(format!("dashboards/{name}.json"));
            (name, serde_json::from_str(&text).unwrap())
        })
        .into()
}

/// A check over all dashboards.
fn all(check: impl Fn(&Value) -> Vec<String>) {
    let problems: Vec<_> = dashboards()
        .iter()
        .flat_map(|(name, dashboard)| {
            check(dashboard)
                .into_iter()
                .map(move |problem| format!("{name}: {problem}"))
        })
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The metric table and the recording rules.
fn known() -> Known {
    let mut known = Known::of_table();
    for file in files("dashboards/rules", "yaml") {
        let problems = known.add_rules(&fs::read_to_string(file).unwrap());
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
    known
}

#[test]
fn there_is_a_dashboard_in_every_file_and_each_has_its_own_uid() {
    let found: Vec<_> = files("dashboards", "json")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, NAMES);
    for (name, dashboard) in dashboards() {
        assert_eq!(dashboard["uid"], format!("slicewatch-{name}"));
        assert_eq!(dashboard["schemaVersion"], 39, "{name}");
        assert_eq!(dashboard["id"], Value::Null, "{name}");
        assert_eq!(dashboard["tags"], json!(["slicewatch"]), "{name}");
        assert!(dashboard.get("__inputs").is_none(), "{name}");
        assert_eq!(
            dashboard["links"][0]["tags"],
            json!(["slicewatch"]),
            "{name}"
        );
    }
}

#[test]
fn every_name_in_a_query_is_in_the_table_or_a_rule() {
    let known = known();
    all(|dashboard| panels::problems(dashboard, &known));
}

#[test]
fn wrong_names_are_refused() {
    let known = known();
    let refused = |panel: Value, words: &str| {
        let mut dashboard = dashboards().remove("fleet").unwrap();
        dashboard["panels"] = json!([panel]);
        let problems = panels::problems(&dashboard, &known);
        assert!(
            problems.iter().any(|problem| problem.contains(words)),
            "{words}: {problems:?}"
        );
    };
    let query = |text: &str, legend: &str| {
        json!({"title": "P", "type": "timeseries", "targets": [
            {"refId": "A", "expr": text, "legendFormat": legend},
        ]})
    };
    refused(
        query("slicewatch_gpu_upp{}", ""),
        "no metric slicewatch_gpu_upp",
    );
    refused(
        query("gpu_uuid:slicewatch_none:sum", ""),
        "no metric gpu_uuid:",
    );
    refused(
        query("slicewatch_gpu_up{uuid=\"x\"}", ""),
        "has no label uuid",
    );
    refused(
        query("sum by (pod) (slicewatch_gpu_up)", ""),
        "nothing has the label pod",
    );
    refused(
        query("sum by (gpu_uuid) (slicewatch_gpu_up)", "{{gpu}}"),
        "legend has gpu",
    );
    refused(
        query(
            "slicewatch_gpu_up * on (gpu_uuid) group_left (modl) slicewatch_gpu_info",
            "",
        ),
        "nothing has the label modl",
    );
    refused(
        query("slicewatch_gpu_up and on (pod) slicewatch_gpu_info", ""),
        "nothing has the label pod",
    );
    refused(
        query("label_join(slicewatch_gpu_up, \"a\", \"/\", \"gpu\")", ""),
        "nothing has the label gpu",
    );
    refused(
        query("slicewatch_gpu_up{gpu_uuid=\"$gpu\"}", ""),
        "no variable gpu",
    );
    refused(
        query("sum(rate(slicewatch_gpu_up[5m])", ""),
        "does not parse",
    );
    refused(
        json!({"title": "P", "type": "table", "targets": [
            {"refId": "A", "expr": "max by (gpu_uuid) (slicewatch_gpu_up)", "format": "table"},
            {"refId": "B", "expr": "slicewatch_source_up", "format": "table"},
        ], "transformations": [
            {"id": "joinByField", "options": {"byField": "gpu_uuid"}},
            {"id": "filterFieldsByName", "options": {"include": {"pattern": "^(gpu|Value #C)$"}}},
            {"id": "organize", "options": {"indexByName": {"gpu": 0, "Value #C": 1}, "renameByName": {}}},
        ]}),
        "column gpu",
    );
}

#[test]
fn the_linter_has_nothing_to_say() {
    let mut exclusions = lint::Exclusions::read(&read("dashboards/.lint"));
    let mut problems = Vec::new();
    for dashboard in dashboards().values() {
        problems.extend(lint::problems(dashboard, &mut exclusions));
    }
    problems.extend(exclusions.unused());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_linter_finds_what_is_wrong() {
    let broken = |change: &dyn Fn(&mut Value), rule: &str| {
        let mut dashboard = dashboards().remove("gpu").unwrap();
        change(&mut dashboard);
        let mut exclusions = lint::Exclusions::read(&read("dashboards/.lint"));
        let problems = lint::problems(&dashboard, &mut exclusions);
        assert!(
            problems.iter().any(|problem| problem.contains(rule)),
            "{rule}: {problems:?}"
        );
    };
    let expr = |text: &'static str| {
        move |dashboard: &mut Value| dashboard["panels"][0]["targets"][0]["expr"] = text.into()
    };
    broken(&|d| d["editable"] = true.into(), "uneditable-dashboard");
    broken(
        &|d| d["panels"][0]["title"] = "".into(),
        "panel-title-description",
    );
    broken(
        &|d| d["panels"][0]["description"] = "".into(),
        "panel-title-description",
    );
    broken(
        &|d| d["panels"][2]["fieldConfig"]["defaults"]["unit"] = "%".into(),
        "panel-units",
    );
    broken(
        &|d| d["panels"][0]["targets"] = json!([]),
        "panel-no-targets",
    );
    broken(
        &|d| d["panels"][0]["datasource"]["uid"] = "x".into(),
        "panel-datasource",
    );
    broken(
        &|d| d["templating"]["list"][0]["name"] = "x".into(),
        "template-datasource",
    );
    broken(
        &|d| d["templating"]["list"][2]["allValue"] = ".*".into(),
        "template-job",
    );
    broken(
        &|d| d["templating"]["list"][3]["multi"] = false.into(),
        "template-instance",
    );
    broken(
        &|d| d["templating"]["list"][3]["refresh"] = 1.into(),
        "template-on-time-change",
    );
    broken(
        &|d| d["templating"]["list"][3]["query"] = "label_values(a{, b)".into(),
        "template-label",
    );
    broken(&expr("slicewatch_gpu_up{job=~\"$job\"}"), "target-instance");
    broken(
        &expr("slicewatch_gpu_up{instance=~\"$instance\"}"),
        "target-job",
    );
    broken(&expr("slicewatch_gpu_up{"), "target-promql");
    broken(
        &expr("rate(slicewatch_gpu_busy_seconds_total[5m])"),
        "target-rate-interval",
    );
    broken(
        &expr("slicewatch_gpu_busy_seconds_total"),
        "target-counter-agg",
    );
    broken(
        &expr("slicewatch_gpu_up{job=~\"$job\", instance=~\"$instance\"}"),
        "target-cluster",
    );
}

#[test]
fn panels_do_not_overlap() {
    all(lint::layout);
    let panel = |id: u64, x: u64, y: u64| json!({"id": id, "title": "P", "gridPos": {"x": x, "y": y, "w": 12, "h": 4}});
    let found = |panels: Value| lint::layout(&json!({"panels": panels})).len();
    assert_eq!(
        found(json!([panel(1, 0, 0), panel(2, 12, 0), panel(3, 0, 4)])),
        0
    );
    assert_eq!(found(json!([panel(1, 0, 0), panel(2, 11, 3)])), 1);
    assert_eq!(found(json!([panel(1, 13, 0)])), 1);
    assert_eq!(found(json!([panel(1, 0, 0), panel(1, 12, 0)])), 1);
}

#[test]
fn what_is_here_is_what_the_generator_makes_and_what_the_chart_ships() {
    let made = Command::new("python3")
        .args(["-B", "dashboards/make", "--check"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let shipped: Vec<_> = files("deploy/chart/dashboards", "json");
    assert_eq!(shipped.len(), NAMES.len());
    let template = read("deploy/chart/templates/dashboards.yaml");
    let kustomization = read("dashboards/kustomization.yaml");
    for name in NAMES {
        let here = read(format!("dashboards/{name}.json"));
        assert_eq!(
            here,
            read(format!("deploy/chart/dashboards/{name}.json")),
            "{name}"
        );
        assert!(template.contains(&format!("{name:?}")), "{name}");
        assert!(
            kustomization.contains(&format!("files: [{name}.json]")),
            "{name}"
        );
        // kubectl apply keeps a copy in an annotation, which may have 256 KiB.
        assert!(here.len() < 200_000, "{name} has {} bytes", here.len());
    }
}

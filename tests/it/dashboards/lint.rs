//! The rules of Grafana's dashboard linter, by its names, and two of ours: `target-cluster-rule`
//! (every query can be held to one cluster) and the layout.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, VectorSelector};
use serde::Deserialize;
use serde_json::Value;

use super::panels::{asked_by_variable, list, parse, text};

const WITH_TITLE: [&str; 7] = [
    "stat",
    "table",
    "timeseries",
    "gauge",
    "bargauge",
    "heatmap",
    "state-timeline",
];
const WITH_UNIT: [&str; 5] = ["stat", "table", "timeseries", "gauge", "bargauge"];
/// Of Grafana's units, those that our values can have.
const UNITS: [&str; 5] = ["none", "short", "bytes", "s", "percentunit"];
const RATES: [&str; 3] = ["rate", "irate", "increase"];

/// What the linter is told to leave out, with a reason each: Grafana's `.lint`.
#[derive(Deserialize)]
pub(super) struct Exclusions {
    exclusions: BTreeMap<String, Rule>,
    #[serde(skip)]
    used: BTreeSet<(String, usize)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    reason: String,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dashboard: String,
    panel: String,
}

impl Exclusions {
    pub(super) fn read(text: &str) -> Self {
        let read: Self = serde_saphyr::from_str(text).unwrap();
        for (rule, excluded) in &read.exclusions {
            assert!(
                excluded.reason.len() > 20,
                "{rule} is left out without a reason"
            );
        }
        read
    }

    fn covers(&mut self, rule: &str, dashboard: &str, panel: &str) -> bool {
        let Some(excluded) = self.exclusions.get(rule) else {
            return false;
        };
        let found = excluded
            .entries
            .iter()
            .position(|entry| entry.dashboard == dashboard && entry.panel == panel);
        self.used.extend(found.map(|at| (rule.to_owned(), at)));
        found.is_some()
    }

    /// Exclusions that exclude nothing.
    pub(super) fn unused(&self) -> Vec<String> {
        self.exclusions
            .iter()
            .flat_map(|(rule, excluded)| {
                (0..excluded.entries.len()).map(move |at| (rule.clone(), at))
            })
            .filter(|one| !self.used.contains(one))
            .map(|(rule, at)| format!(".lint: entry {at} of {rule} excludes nothing"))
            .collect()
    }
}

/// What the linter says of one dashboard.
pub(super) fn problems(dashboard: &Value, exclusions: &mut Exclusions) -> Vec<String> {
    let title = text(dashboard, "title");
    let mut found: Vec<(&str, String, String)> = Vec::new();
    if dashboard["editable"] != false {
        found.push((
            "uneditable-dashboard",
            String::new(),
            "can be edited".into(),
        ));
    }
    for (rule, problem) in templates(dashboard) {
        found.push((rule, String::new(), problem));
    }
    for panel in list(dashboard, "panels") {
        for (rule, problem) in panel_problems(panel) {
            found.push((rule, text(panel, "title").to_owned(), problem));
        }
    }
    found
        .into_iter()
        .map(|(rule, panel, problem)| (format!("{rule}-rule"), panel, problem))
        .filter(|(rule, panel, _)| !exclusions.covers(rule, title, panel))
        .map(|(rule, panel, problem)| format!("{title}, {panel}: {rule}: {problem}"))
        .collect()
}

fn templates(dashboard: &Value) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let variables = list(&dashboard["templating"], "list");
    let sources: Vec<_> = variables
        .iter()
        .filter(|one| text(one, "type") == "datasource")
        .collect();
    let right =
        |one: &&Value| text(one, "name") == "datasource" && text(one, "label") == "Data source";
    if sources.len() != 1 || !sources.iter().all(right) {
        found.push((
            "template-datasource",
            "not exactly one, named datasource".to_owned(),
        ));
    }
    for (rule, name, label) in [
        ("template-job", "job", "Job"),
        ("template-instance", "instance", "Instance"),
    ] {
        let wanted = |one: &&Value| {
            text(one, "name") == name
                && text(one, "label") == label
                && text(one, "type") == "query"
                && one["datasource"]["uid"] == "${datasource}"
                && one["multi"] == true
                && one["allValue"] == ".+"
        };
        if variables.iter().filter(wanted).count() != 1 {
            found.push((rule, format!("no variable {name} as the linter wants it")));
        }
    }
    for one in variables.iter().filter(|one| text(one, "type") == "query") {
        if one["refresh"] != 2 {
            found.push((
                "template-on-time-change-reload",
                text(one, "name").to_owned(),
            ));
        }
        let query = asked_by_variable(text(one, "query"));
        if let Some(error) = match query {
            Some((query, _)) => parse(query).err(),
            None => Some("neither label_values nor query_result".to_owned()),
        } {
            found.push(("template-label-promql", error));
        }
    }
    found
}

fn panel_problems(panel: &Value) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let kind = text(panel, "type");
    if kind == "row" {
        return found;
    }
    if WITH_TITLE.contains(&kind)
        && (text(panel, "title").is_empty() || text(panel, "description").is_empty())
    {
        found.push(("panel-title-description", "has not both".to_owned()));
    }
    let defaults = &panel["fieldConfig"]["defaults"];
    let mapped = list(defaults, "mappings").is_empty();
    if WITH_UNIT.contains(&kind) && mapped && !UNITS.contains(&text(defaults, "unit")) {
        found.push(("panel-units", format!("{} is no unit", defaults["unit"])));
    }
    if list(panel, "targets").is_empty() {
        found.push(("panel-no-targets", "has none".to_owned()));
    }
    let sources = list(panel, "targets").iter().chain([panel]);
    if sources
        .into_iter()
        .any(|one| one["datasource"]["uid"] != "${datasource}")
    {
        found.push(("panel-datasource", "is not ${datasource}".to_owned()));
    }
    for target in list(panel, "targets") {
        let query = text(target, "expr");
        match parse(query) {
            Ok(expr) => {
                let before = found.len();
                walk(&expr, None, &mut found);
                for (_, problem) in &mut found[before..] {
                    problem.push_str(&format!(" in {}", text(target, "refId")));
                }
                for rate in RATES {
                    for call in query.split(&format!("{rate}(")).skip(1) {
                        let range = call.split_once('[').map(|(_, rest)| rest);
                        if !range.is_some_and(|rest| rest.starts_with("$__rate_interval]")) {
                            found.push(("target-rate-interval", query.to_owned()));
                        }
                    }
                }
            }
            Err(error) => found.push(("target-promql", error)),
        }
    }
    found
}

/// Every selector below an expression, with the function that it stands in directly.
fn walk(expr: &Expr, within: Option<&str>, found: &mut Vec<(&'static str, String)>) {
    match expr {
        Expr::VectorSelector(one) => selector(one, within, found),
        Expr::MatrixSelector(one) => selector(&one.vs, within, found),
        Expr::Paren(one) => walk(&one.expr, within, found),
        Expr::Unary(one) => walk(&one.expr, None, found),
        Expr::Subquery(one) => walk(&one.expr, None, found),
        Expr::Aggregate(one) => walk(&one.expr, None, found),
        Expr::Binary(one) => {
            walk(&one.lhs, None, found);
            walk(&one.rhs, None, found);
        }
        Expr::Call(one) => {
            for argument in &one.args.args {
                walk(argument, Some(one.func.name), found);
            }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn selector(one: &VectorSelector, within: Option<&str>, found: &mut Vec<(&'static str, String)>) {
    let name = one.name.as_deref().unwrap_or_default();
    for (rule, label) in [
        ("target-job", "job"),
        ("target-instance", "instance"),
        ("target-cluster", "cluster"),
    ] {
        let held = one.matchers.matchers.iter().any(|matcher| {
            // The variable stands as `x` in what is parsed.
            matcher.name == label && matches!(matcher.op, MatchOp::Re(_)) && matcher.value == "x"
        });
        if !held {
            found.push((rule, format!("{name} is not held to {label}=~\"${label}\"")));
        }
    }
    if name.ends_with("_total") && !within.is_some_and(|function| RATES.contains(&function)) {
        found.push((
            "target-counter-agg",
            format!("{name} is not in rate or increase"),
        ));
    }
}

/// Panels that overlap, stand outside the grid, or share an id.
pub(super) fn layout(dashboard: &Value) -> Vec<String> {
    let panels = list(dashboard, "panels");
    let mut problems = Vec::new();
    let mut ids = BTreeSet::new();
    let place = |panel: &Value| {
        ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX / 4))
    };
    for (at, panel) in panels.iter().enumerate() {
        let title = text(panel, "title");
        if !ids.insert(panel["id"].as_u64()) {
            problems.push(format!("{title}: its id is another panel's"));
        }
        let [x, y, w, h] = place(panel);
        if w == 0 || h == 0 || x + w > 24 {
            problems.push(format!("{title}: outside of 24 columns"));
        }
        for other in &panels[..at] {
            let [left, top, width, height] = place(other);
            if x < left + width && left < x + w && y < top + height && top < y + h {
                problems.push(format!("{title} lies over {}", text(other, "title")));
            }
        }
    }
    problems
}

//! What was found in a cluster.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use comfy_table::Table;
use serde::Serialize;

use super::{NotChecked, SCHEMA, Tally, Verdict, closing};
use crate::model::setup::{KeyFrom, NodeInForce, SetupFinding, SetupReport};
use crate::publish::terminal::cells::{RULED, printable, push_table};

/// Names that are listed of what is alike.
const NAMES: usize = 3;

/// One look at a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    schema: u32,
    verdict: Verdict,
    /// Of the findings that are listed.
    #[serde(flatten)]
    tally: Tally,
    server: String,
    #[serde(flatten)]
    report: SetupReport,
    not_checked: Vec<NotChecked>,
}

impl Cluster {
    /// `complete` is whether all that matters could be looked at.
    pub fn new(
        server: String,
        report: SetupReport,
        not_checked: Vec<NotChecked>,
        complete: bool,
    ) -> Self {
        let tally = report.findings.iter().map(|it| it.severity).collect();
        Self {
            schema: SCHEMA,
            verdict: Verdict::of(tally, complete),
            tally,
            server,
            report,
            not_checked,
        }
    }

    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What could not be looked at.
    pub fn not_checked(&self) -> &[NotChecked] {
        &self.not_checked
    }

    /// What was found.
    pub const fn report(&self) -> &SetupReport {
        &self.report
    }

    /// For a person: what is in force, node by node, then what is wrong and what mends it.
    pub fn table(&self) -> String {
        let SetupReport {
            findings,
            left_out,
            nodes,
            nodes_read,
            pods_read,
        } = &self.report;
        let mut out = format!(
            "{}: {nodes_read} nodes, {} of them with GPUs; {pods_read} pods that concern GPUs\n",
            printable(&self.server),
            nodes.len(),
        );
        if !nodes.is_empty() {
            push_table(&mut out, &in_force(nodes));
        }
        for alike in alike(findings) {
            out.push('\n');
            push_findings(&mut out, &alike);
        }
        for (code, more) in left_out {
            let _ = writeln!(out, "\n{more} more of {code}");
        }
        out.push('\n');
        closing(&mut out, &self.not_checked, self.tally);
        out
    }
}

/// Findings that differ in their object alone, together: what mends one mends the others.
fn alike(findings: &[SetupFinding]) -> Vec<Vec<&SetupFinding>> {
    let mut places = HashMap::new();
    let mut groups: Vec<Vec<&SetupFinding>> = Vec::new();
    for finding in findings {
        let SetupFinding {
            code,
            severity,
            object,
            node: _,
            field,
            expected,
            found,
            words: _,
            mend,
        } = finding;
        let key = (code, severity, &object.kind, field, expected, found, mend);
        let place = *places.entry(key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

fn push_findings(out: &mut String, alike: &[&SetupFinding]) {
    let Some((finding, same)) = alike.split_first() else {
        return;
    };
    let SetupFinding {
        code,
        severity,
        object: _,
        node: _,
        field,
        expected,
        found,
        words,
        mend,
    } = finding;
    let _ = writeln!(
        out,
        "{} {code}: {}\n    {}",
        severity.label(),
        subject(finding),
        printable(words)
    );
    let values: Vec<String> = [("expected", expected), ("found", found)]
        .iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", printable(value.as_ref()?))))
        .collect();
    let parts = [
        field.as_deref().map(|field| printable(field).into_owned()),
        Some(values.join(", ")).filter(|values| !values.is_empty()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        let _ = writeln!(out, "    {}", parts.join(": "));
    }
    if !same.is_empty() {
        let shown: Vec<_> = same.iter().take(NAMES).map(|it| subject(it)).collect();
        let more = more(same.len() - shown.len());
        let _ = writeln!(out, "    the same: {}{more}", shown.join("; "));
    }
    for command in mend {
        let _ = writeln!(out, "    $ {}", printable(command));
    }
}

/// The object that a finding is of, and where it is so.
fn subject(finding: &SetupFinding) -> String {
    let SetupFinding { object, node, .. } = finding;
    let name = match (&object.namespace, object.name.as_str()) {
        (Some(namespace), "") => format!(" in {namespace}"),
        (Some(namespace), name) => format!(" {namespace}/{name}"),
        (None, "") => String::new(),
        (None, name) => format!(" {name}"),
    };
    let on = match node {
        Some(node) if object.kind != "Node" => format!(", on node {node}"),
        _ => String::new(),
    };
    printable(&format!("{}{name}{on}", object.kind)).into_owned()
}

/// What is not listed.
fn more(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" and {count} more"),
    }
}

/// Nodes that are alike share a row.
fn in_force(nodes: &[NodeInForce]) -> Table {
    let mut rows: BTreeMap<[String; 7], Vec<&str>> = BTreeMap::new();
    for node in nodes {
        rows.entry(cells(node)).or_default().push(&node.node);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| a.cmp(b));
    let mut table = Table::new();
    table.load_preset(RULED);
    table.set_header([
        "node",
        "sharing",
        "profile",
        "by",
        "resource",
        "GPUs x replicas",
        "expected",
        "allocatable",
    ]);
    for (cells, names) in rows {
        let shown: Vec<_> = names
            .iter()
            .take(NAMES)
            .map(|name| printable(name))
            .collect();
        let more = more(names.len() - shown.len());
        let names = format!("{}{more}", shown.join(", "));
        table.add_row(std::iter::once(&names).chain(&cells));
    }
    table
}

fn cells(node: &NodeInForce) -> [String; 7] {
    let NodeInForce {
        node: _,
        config_map,
        key,
        from,
        sharing,
        takes_pods: _,
        resource,
        gpus,
        replicas,
        expected,
        allocatable,
    } = node;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let number = |value: &Option<u64>| or_unknown(value.map(|value| value.to_string()));
    let profile = match (config_map, key) {
        (Some(map), Some(key)) => format!("{} of {}", printable(key), printable(map)),
        (Some(map), None) => format!("none of {}", printable(map)),
        (None, _) => "-".to_owned(),
    };
    [
        or_unknown(sharing.map(str::to_owned)),
        profile,
        from.map_or("?", by).to_owned(),
        or_unknown(resource.as_deref().map(|it| printable(it).into_owned())),
        format!("{} x {}", number(gpus), number(replicas)),
        number(expected),
        number(allocatable),
    ]
}

const fn by(from: KeyFrom) -> &'static str {
    match from {
        KeyFrom::Label => "node label",
        KeyFrom::Default => "default",
        KeyFrom::Named => "fallback named",
        KeyFrom::Single => "fallback single",
        KeyFrom::Empty => "fallback empty",
        KeyFrom::Unwired => "not wired",
    }
}

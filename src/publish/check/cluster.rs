//! What was found in a cluster.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::Table;
use serde::Serialize;

use super::{NotChecked, SCHEMA, Tally, Verdict, closing};
use crate::model::setup::{KeyFrom, NodeInForce, SetupFinding, SetupReport};
use crate::publish::terminal::cells::{RULED, printable, push_table};

/// Names of nodes that a row of the table has.
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
        for finding in findings {
            out.push('\n');
            push_finding(&mut out, finding);
        }
        for (code, more) in left_out {
            let _ = writeln!(out, "\n{more} more of {code}");
        }
        out.push('\n');
        closing(&mut out, &self.not_checked, self.tally);
        out
    }
}

fn push_finding(out: &mut String, finding: &SetupFinding) {
    let SetupFinding {
        code,
        severity,
        object,
        node,
        field,
        expected,
        found,
        words,
        mend,
    } = finding;
    let name = match (&object.namespace, object.name.as_str()) {
        (Some(namespace), "") => format!(" in {namespace}"),
        (Some(namespace), name) => format!(" {namespace}/{name}"),
        (None, "") => String::new(),
        (None, name) => format!(" {name}"),
    };
    let on = match node {
        Some(node) if object.kind != "Node" => format!(", on node {}", printable(node)),
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "{} {code}: {}{}{on}\n    {}",
        severity.label(),
        printable(&object.kind),
        printable(&name),
        printable(words)
    );
    let values: Vec<String> = [("expected", expected), ("found", found)]
        .iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", printable(value.as_ref()?))))
        .collect();
    if let Some(field) = field {
        let colon = if values.is_empty() { "" } else { ": " };
        let _ = writeln!(out, "    {}{colon}{}", printable(field), values.join(", "));
    } else if !values.is_empty() {
        let _ = writeln!(out, "    {}", values.join(", "));
    }
    for command in mend {
        let _ = writeln!(out, "    $ {}", printable(command));
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
        let more = match names.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
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

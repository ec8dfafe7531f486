//! `flags`: what the plugin and GPU feature discovery would read, and what they would refuse.

use super::MigStrategy;
use super::keys::{self, Section, value_at, wrong_type};
use super::report::{Report, below, shown};
use super::scalar::Scalar;
use super::yaml::{Entry, Node, Value};

/// How Go reads a field.
enum Kind {
    Bool,
    Text,
    /// A text, or several.
    Texts(&'static [&'static str]),
    /// One of a few texts.
    OneOf(&'static [&'static str]),
    /// A text such as `60s`, or nanoseconds.
    Duration,
}

const MIG_STRATEGIES: &[&str] = &["none", "single", "mixed"];

/// The fields that are not plain texts. Values are checked by `validateFlags`, and `migStrategy` by
/// GPU feature discovery.
const KINDS: [(&str, Kind); 14] = [
    ("failOnInitError", Kind::Bool),
    ("gdrcopyEnabled", Kind::Bool),
    ("gdsEnabled", Kind::Bool),
    ("mofedEnabled", Kind::Bool),
    ("useNodeFeatureAPI", Kind::Bool),
    ("passDeviceSpecs", Kind::Bool),
    ("oneshot", Kind::Bool),
    ("noTimestamp", Kind::Bool),
    ("noCleanupOnExit", Kind::Bool),
    ("sleepInterval", Kind::Duration),
    ("migStrategy", Kind::OneOf(MIG_STRATEGIES)),
    ("deviceIDStrategy", Kind::OneOf(&["uuid", "index"])),
    (
        "deviceDiscoveryStrategy",
        Kind::OneOf(&["auto", "nvml", "tegra"]),
    ),
    (
        "deviceListStrategy",
        Kind::Texts(&["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]),
    ),
];

/// Reads `flags`, of which the MIG strategy is kept. Checks the rest.
pub(super) fn read(report: &mut Report<'_>, node: &Node, path: &str) -> Option<MigStrategy> {
    let fields = section(report, &keys::FLAGS, node, path)?;
    for (name, inner) in [("plugin", &keys::PLUGIN), ("gfd", &keys::GFD)] {
        if let Some(entry) = fields.get(name) {
            section(report, inner, &entry.node, &below(path, name));
        }
    }
    match text(&fields.get("migStrategy")?.node)?.as_str() {
        "none" => Some(MigStrategy::None),
        "single" => Some(MigStrategy::Single),
        "mixed" => Some(MigStrategy::Mixed),
        _ => None,
    }
}

fn section<'n>(
    report: &mut Report<'_>,
    section: &Section,
    node: &'n Node,
    path: &str,
) -> Option<keys::Fields<'n>> {
    let fields = keys::read(report, section, node, path)?;
    for (key, entry) in fields.iter() {
        if matches!(key, "plugin" | "gfd") || entry.node.is_null() {
            continue;
        }
        let kind = KINDS.iter().find(|(name, _)| *name == key);
        let kind = kind.map_or(&Kind::Text, |(_, kind)| kind);
        check(report, key, kind, entry, &below(path, key));
    }
    Some(fields)
}

fn check(report: &mut Report<'_>, key: &str, kind: &Kind, entry: &Entry, path: &str) {
    let node = &*entry.node;
    match kind {
        Kind::Bool => {
            boolean(report, entry, path);
        }
        Kind::Text => {
            if text(node).is_none() {
                wrong_type(report, node.at, path, node, "a text");
            }
        }
        Kind::OneOf(values) => match text(node) {
            Some(value) => one_of(report, key, &value, values, node.at, path),
            None => wrong_type(report, node.at, path, node, "a text"),
        },
        Kind::Texts(values) => {
            let items = match &node.value {
                Value::List(items) => items.iter().map(AsRef::as_ref).collect(),
                _ => vec![node],
            };
            if items.is_empty() {
                report.error(
                    "unknown_value",
                    node.at,
                    path,
                    format_args!("{key} is an empty list, and the plugin stops (no device list strategy specified)"),
                    format_args!("write {}", values.join(" or ")),
                );
            }
            for item in items {
                match item.text() {
                    Some(value) => one_of(report, key, value, values, item.at, path),
                    None => wrong_type(report, item.at, path, item, "a text or a list of texts"),
                }
            }
        }
        Kind::Duration => duration(report, entry, path),
    }
}

fn one_of(report: &mut Report<'_>, key: &str, value: &str, values: &[&str], at: usize, path: &str) {
    if values.contains(&value) {
        return;
    }
    let who = if key == "migStrategy" {
        "GPU feature discovery stops at it (unknown strategy) where the node has GPUs, so its labels go stale"
    } else {
        "the plugin stops at it (invalid option)"
    };
    report.error(
        "unknown_value",
        at,
        path,
        format_args!("{key} cannot be {}: {who}", shown(value)),
        format_args!("write {}", values.join(" or ")),
    );
}

fn duration(report: &mut Report<'_>, entry: &Entry, path: &str) {
    let node = &*entry.node;
    match &node.value {
        Value::Scalar(number @ (Scalar::Int(_) | Scalar::Float(_))) => {
            if *number != Scalar::Int(0) {
                report.warning(
                    "duration_without_unit",
                    node.at,
                    path,
                    format_args!("{number} without a unit is {number} nanoseconds"),
                    format_args!("write {number}s if seconds are meant"),
                );
            }
        }
        _ => match node.text() {
            Some(text) if is_duration(text) => {}
            Some(text) => report.error(
                "unknown_value",
                node.at,
                path,
                format_args!(
                    "{} is no length of time, and the plugin stops at it",
                    shown(text)
                ),
                "write one such as 60s or 1m30s",
            ),
            None => wrong_type(report, node.at, path, node, "a length of time"),
        },
    }
}

/// Go's `time.ParseDuration`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - after.len()];
        let digits = number.bytes().any(|byte| byte.is_ascii_digit());
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"]
            .into_iter()
            .find_map(|unit| after.strip_prefix(unit));
        match unit {
            Some(next) if digits && number.matches('.').count() < 2 => rest = next,
            _ => return false,
        }
    }
    true
}

/// A field that Go reads as a string: sigs.k8s.io/yaml turns numbers and booleans into text there.
pub(super) fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(Scalar::Null) => None,
        Value::Scalar(scalar) => Some(scalar.to_string()),
        Value::Block(text, _) => Some(text.clone()),
        _ => None,
    }
}

/// A field that Go reads as a bool; nothing leaves it as it is.
pub(super) fn boolean(report: &mut Report<'_>, entry: &Entry, path: &str) -> Option<bool> {
    match &entry.node.value {
        Value::Scalar(Scalar::Bool(value)) => Some(*value),
        Value::Scalar(Scalar::Null) => None,
        _ => {
            wrong_type(report, value_at(entry), path, &entry.node, "true or false");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_gos() {
        for taken in ["0", "60s", "1m30s", "-1.5h", ".5s", "10µs", "1s1s"] {
            assert!(is_duration(taken), "{taken}");
        }
        for refused in ["", "60", "s", "1 s", "1.s.", ".s", "1d", "1.2.3s", "é"] {
            assert!(!is_duration(refused), "{refused}");
        }
    }
}

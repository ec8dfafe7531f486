//! From a tree to a [`PluginConfig`], by the plugin's own rules and with its own words.

use std::collections::HashSet;

use super::flags::{self, boolean, text};
use super::keys::{self, Fields, read, value_at, wrong_type};
use super::report::{Report, below, shown};
use super::scalar::Scalar;
use super::shared::{int, name, shared};
use super::yaml::{Entry, Node, Value};
use super::{MigStrategy, PluginConfig, Replicated};

/// Reads a configuration. It is absent where the plugin would refuse it.
pub(super) fn configuration(
    report: &mut Report<'_>,
    root: &Node,
    path: &str,
) -> Option<PluginConfig> {
    if root.is_null() {
        empty(report, root.at, path);
    }
    let fields = read(report, &keys::TOP, root, path)?;
    version(report, &fields, path);
    resources(report, &fields, path);
    imex(report, &fields, path);
    let flags = fields.get("flags");
    let mig_strategy =
        flags.and_then(|entry| flags::read(report, &entry.node, &below(path, "flags")));
    let mut config = PluginConfig {
        mig_strategy,
        ..PluginConfig::default()
    };
    if let Some(entry) = fields.get("sharing") {
        sharing(report, &mut config, &entry.node, &below(path, "sharing"));
    }
    (!report.refused).then_some(config)
}

/// A text without any value.
pub(super) fn empty(report: &mut Report<'_>, at: usize, path: &str) {
    report.warning(
        "empty_configuration",
        at,
        path,
        "this configuration is empty; the plugin takes it and shares nothing",
        "write one, or delete the key that holds it",
    );
}

fn version(report: &mut Report<'_>, fields: &Fields<'_>, path: &str) {
    let Some(entry) = fields.get("version") else {
        return;
    };
    let (at, path) = (value_at(entry), below(path, "version"));
    match text(&entry.node) {
        Some(version) if !matches!(version.as_str(), "" | "v1") => report.error(
            "unknown_version",
            at,
            &path,
            format_args!(
                "the plugin stops at this version (unknown version: {})",
                shown(&version)
            ),
            "write v1",
        ),
        None if !entry.node.is_null() => wrong_type(report, at, &path, &entry.node, "a text"),
        _ => {}
    }
}

/// `resources`, which the plugin reads, refuses where it has no shape, and then ignores.
fn resources(report: &mut Report<'_>, fields: &Fields<'_>, path: &str) {
    let Some(entry) = fields.get("resources") else {
        return;
    };
    let path = below(path, "resources");
    let Some(lists) = read(report, &keys::RESOURCES, &entry.node, &path) else {
        return;
    };
    let mut any = false;
    for key in ["gpus", "mig"] {
        let Some(list) = lists.get(key).filter(|list| !list.node.is_null()) else {
            continue;
        };
        let path = below(&path, key);
        let Value::List(items) = &list.node.value else {
            wrong_type(report, list.node.at, &path, &list.node, "a list");
            continue;
        };
        any |= !items.is_empty();
        for (i, item) in items.iter().enumerate() {
            pattern(report, item, &format!("{path}[{i}]"));
        }
    }
    if any {
        report.warning(
            "resources_ignored",
            entry.at,
            &path,
            "the plugin cannot name resources by patterns yet: it logs a warning and ignores resources",
            "delete it; what is shared stands in sharing.timeSlicing.resources",
        );
    }
}

fn pattern(report: &mut Report<'_>, item: &Node, path: &str) {
    let Some(fields) = read(report, &keys::PATTERN, item, path) else {
        return;
    };
    for key in ["pattern", "name"] {
        let path = below(path, key);
        match fields.get(key) {
            None => report.error(
                "incomplete_pattern",
                item.at,
                &path,
                format_args!("the plugin stops here (resources must have a '{key}' field set)"),
                "delete resources, which the plugin ignores anyway",
            ),
            Some(entry) if key == "name" => {
                name(report, entry, &path);
            }
            Some(entry) if entry.node.text().is_none() && !entry.node.is_null() => {
                wrong_type(report, entry.node.at, &path, &entry.node, "a text");
            }
            Some(_) => {}
        }
    }
}

/// `imex`: `AssertChannelIDsValid` of `imex.go`.
fn imex(report: &mut Report<'_>, fields: &Fields<'_>, path: &str) {
    let Some(entry) = fields.get("imex") else {
        return;
    };
    let path = below(path, "imex");
    let Some(fields) = read(report, &keys::IMEX, &entry.node, &path) else {
        return;
    };
    if let Some(entry) = fields.get("required") {
        boolean(report, entry, &below(&path, "required"));
    }
    let Some(ids) = fields.get("channelIDs").filter(|ids| !ids.node.is_null()) else {
        return;
    };
    let path = below(&path, "channelIDs");
    let Value::List(items) = &ids.node.value else {
        return wrong_type(report, ids.node.at, &path, &ids.node, "a list of numbers");
    };
    if items.len() > 1 || items.iter().any(|id| !id.is_null() && int(id) != Some(0)) {
        report.error(
            "unknown_value",
            ids.node.at,
            &path,
            "the plugin stops at these (channelIDs must be [] or [0])",
            "write [0], or delete it",
        );
    }
}

fn sharing(report: &mut Report<'_>, config: &mut PluginConfig, node: &Node, path: &str) {
    let Some(fields) = read(report, &keys::SHARING, node, path) else {
        return;
    };
    let mig = config.mig_strategy;
    let slicing = fields.get("timeSlicing");
    // A pointer in Go: nothing is no MPS, while nothing under timeSlicing is refused.
    let mps = fields.get("mps").filter(|entry| !entry.node.is_null());
    if let (Some(entry), Some(_)) = (slicing, mps) {
        report.warning(
            "mps_wins",
            entry.at,
            &below(path, "timeSlicing"),
            "mps stands beside timeSlicing and wins: nothing of timeSlicing has an effect",
            "delete the one that is not meant",
        );
    }
    if let Some(entry) = slicing {
        let path = below(path, "timeSlicing");
        config.time_slicing = replicated(report, entry, mig, &path);
        if mps.is_none() && config.time_slicing.is_some() {
            open_to_several(report, entry, &path);
        }
    }
    if let Some(entry) = mps {
        config.mps = replicated(report, entry, mig, &below(path, "mps"));
    }
}

/// `failRequestsGreaterThanOne` off, which is the default.
fn open_to_several(report: &mut Report<'_>, slicing: &Entry, path: &str) {
    let key = "failRequestsGreaterThanOne";
    let switch = slicing.node.get(key);
    let off = |entry: &Entry| {
        matches!(
            entry.node.value,
            Value::Scalar(Scalar::Bool(false) | Scalar::Null)
        )
    };
    if switch.is_none_or(off) {
        report.info(
            "requests_greater_than_one_allowed",
            switch.map_or(slicing.at, value_at),
            &below(path, key),
            "a container may ask for several replicas and gets no more time or memory for them; they may even be of one GPU",
            "write failRequestsGreaterThanOne: true, as NVIDIA recommends",
        );
    }
}

/// `ReplicatedResources.UnmarshalJSON`.
fn replicated(
    report: &mut Report<'_>,
    entry: &Entry,
    mig: Option<MigStrategy>,
    path: &str,
) -> Option<Replicated> {
    let fields = read(report, &keys::REPLICATED, &entry.node, path)?;
    let mut switch = |key: &str| {
        let entry = fields.get(key)?;
        boolean(report, entry, &below(path, key))
    };
    let rename_by_default = switch("renameByDefault").unwrap_or(false);
    let fail_requests_greater_than_one = switch("failRequestsGreaterThanOne");
    let path = below(path, "resources");
    let list = fields.get("resources");
    let items = match list.map(|list| &list.node.value) {
        Some(Value::List(items)) => items.as_slice(),
        Some(Value::Scalar(Scalar::Null)) | None => &[],
        Some(_) => {
            let list = list?;
            wrong_type(report, list.node.at, &path, &list.node, "a list");
            return None;
        }
    };
    if items.is_empty() {
        report.error(
            "no_resources",
            list.map_or(entry.at, value_at),
            &path,
            "nothing is named to share, and the plugin stops (no resources specified)",
            "name one: resources, below it - name: nvidia.com/gpu, and replicas: 2 or more; or delete this block",
        );
        return None;
    }
    let mut names = HashSet::new();
    let mut resources = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if let Some(resource) = shared(report, item, rename_by_default, mig, &path) {
            if !names.insert(resource.name.clone()) {
                report.warning(
                    "duplicate_resource",
                    item.at,
                    &path,
                    format_args!("{} is shared a second time; both make the same ids, so the larger number of replicas counts", resource.name),
                    "keep one of them",
                );
            }
            resources.push(resource);
        }
    }
    Some(Replicated {
        rename_by_default,
        fail_requests_greater_than_one,
        resources,
    })
}

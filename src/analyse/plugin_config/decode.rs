//! From a tree to a [`PluginConfig`], by the plugin's own rules and with its own words.

use std::collections::HashSet;

use super::flags::{self, boolean, text};
use super::keys::{self, Fields, read, value_at, wrong_type};
use super::report::{Report, below, shown};
use super::resource::{self, Matches};
use super::scalar::Scalar;
use super::yaml::{Entry, Node, Value};
use super::{Devices, MigStrategy, PluginConfig, Replicated, SharedResource};

/// As many replicas of one GPU that memory rather than tenants may be meant.
const LIKE_MEGABYTES: u32 = 256;

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
    if items.len() > 1 || items.iter().any(|id| int(id).is_none_or(|id| id != 0)) {
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

/// `ReplicatedResource.UnmarshalJSON`, and what the plugin ignores of it later.
fn shared(
    report: &mut Report<'_>,
    item: &Node,
    rename_by_default: bool,
    mig: Option<MigStrategy>,
    path: &str,
) -> Option<SharedResource> {
    let fields = read(report, &keys::RESOURCE, item, path)?;
    let name_path = below(path, "name");
    let full = if let Some(entry) = fields.get("name") {
        let full = name(report, entry, &name_path);
        if let Some(full) = &full {
            matching(report, value_at(entry), full, mig, &name_path);
        }
        full
    } else {
        report.error(
            "no_resource_name",
            item.at,
            &name_path,
            "the plugin stops here (no resource name specified)",
            "write name: nvidia.com/gpu",
        );
        None
    };
    let devices = fields
        .get("devices")
        .map(|entry| devices(report, entry, &below(path, "devices")));
    let replicas = replicas(report, &fields, item, &below(path, "replicas"));
    let rename_path = below(path, "rename");
    let rename = fields
        .get("rename")
        .map(|entry| (entry, name(report, entry, &rename_path)));
    let default = full
        .as_ref()
        .filter(|_| rename_by_default)
        .map(|full| format!("{full}{}", resource::SHARED_SUFFIX));
    if let Some((entry, Some(rename))) = &rename
        && default.as_ref() != Some(rename)
    {
        report.warning(
            "rename_ignored",
            entry.at,
            &rename_path,
            "the plugin cannot rename single resources yet: it logs a warning and ignores this",
            "delete it; renameByDefault: true advertises nvidia.com/gpu.shared",
        );
    }
    Some(SharedResource {
        name: full?,
        replicas: replicas?,
        rename: rename.and_then(|(_, rename)| rename),
        devices: devices.unwrap_or_default(),
    })
}

/// A resource's name with its prefix.
fn name(report: &mut Report<'_>, entry: &Entry, path: &str) -> Option<String> {
    let at = value_at(entry);
    let name = match entry.node.text() {
        Some(name) => name,
        None if entry.node.is_null() => "",
        None => {
            wrong_type(report, at, path, &entry.node, "a text");
            return None;
        }
    };
    match resource::qualified(name) {
        Ok(full) => Some(full),
        Err(words) => {
            report.error(
                "bad_resource_name",
                at,
                path,
                format_args!(
                    "{} is no resource of NVIDIA's, and the plugin stops ({words})",
                    shown(name)
                ),
                "write nvidia.com/gpu, or nvidia.com/mig-<profile> such as nvidia.com/mig-1g.10gb",
            );
            None
        }
    }
}

/// What a name matches, by the MIG strategy.
fn matching(report: &mut Report<'_>, at: usize, full: &str, mig: Option<MigStrategy>, path: &str) {
    match resource::matches(full) {
        Matches::MigDevices if mig != Some(MigStrategy::Mixed) => report.warning(
            "mig_without_mixed",
            at,
            path,
            format_args!("{full} exists under migStrategy mixed only, which flags does not set: as it stands nothing is shared by this name"),
            "write flags.migStrategy: mixed, and mind that --mig-strategy and MIG_STRATEGY win over the file",
        ),
        Matches::Nothing => report.warning(
            "resource_matches_nothing",
            at,
            path,
            format_args!("no device has the name {}: nothing is shared by it", shown(full)),
            "write nvidia.com/gpu, or nvidia.com/mig-<profile> such as nvidia.com/mig-1g.10gb",
        ),
        Matches::Gpus | Matches::MigDevices => {}
    }
}

fn replicas(report: &mut Report<'_>, fields: &Fields<'_>, item: &Node, path: &str) -> Option<u32> {
    let Some(entry) = fields.get("replicas") else {
        report.error(
            "no_replicas",
            item.at,
            path,
            "the plugin stops here (no replicas specified)",
            "write replicas: and how many shall share one GPU, two or more",
        );
        return None;
    };
    let at = value_at(entry);
    let count = match &entry.node.value {
        Value::Scalar(Scalar::Null) => 0,
        _ => {
            let Some(count) = int(&entry.node) else {
                wrong_type(report, at, path, &entry.node, "a whole number");
                return None;
            };
            count
        }
    };
    if count < 2 {
        report.error(
            "too_few_replicas",
            at,
            path,
            format_args!(
                "replicas is {count}, and the plugin stops (number of replicas must be >= 2)"
            ),
            "write 2 or more; a resource that is not to be shared does not stand here",
        );
        return None;
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if count >= LIKE_MEGABYTES {
        report.warning(
            "replicas_look_like_megabytes",
            at,
            path,
            format_args!("each GPU is advertised {count} times: a node of 8 GPUs has {} to give; replicas is no amount of memory, and sets no limit to it", u64::from(count) * 8),
            "write how many containers shall share one GPU, such as 4",
        );
    }
    Some(count)
}

/// `ReplicatedDevices.UnmarshalJSON`; anything but `all` is then ignored.
fn devices(report: &mut Report<'_>, entry: &Entry, path: &str) -> Devices {
    let at = value_at(entry);
    let node = &*entry.node;
    let taken = match &node.value {
        Value::List(items) => items
            .iter()
            .map(|item| match item.text() {
                Some(text) if resource::is_device(text) => Some(text.to_owned()),
                Some(_) => None,
                None => u64::try_from(int(item)?)
                    .ok()
                    .map(|index| index.to_string()),
            })
            .collect::<Option<Vec<String>>>()
            .map(Devices::List),
        _ if node.text() == Some("all") => return Devices::All,
        _ => int(node)
            .and_then(|count| u64::try_from(count).ok())
            .filter(|count| *count > 0)
            .map(Devices::Count),
    };
    let Some(devices) = taken else {
        report.error(
            "bad_devices",
            at,
            path,
            "devices is neither all, nor a count above 0, nor a list of indices and UUIDs, and the plugin stops",
            "write all, or delete it",
        );
        return Devices::All;
    };
    report.warning(
        "devices_ignored",
        entry.at,
        path,
        "the plugin cannot pick devices yet: it logs a warning and shares all of them",
        "delete it; nodes that differ take different keys of the ConfigMap, by the label nvidia.com/device-plugin.config",
    );
    devices
}

/// A number that Go's JSON reads into an int.
fn int(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Scalar(scalar) => scalar.as_int(),
        _ => None,
    }
}

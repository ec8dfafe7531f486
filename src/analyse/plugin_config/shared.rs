//! One entry of `sharing.timeSlicing.resources` or `sharing.mps.resources`.

use super::keys::{self, Fields, read, value_at, wrong_type};
use super::report::{Report, below, shown};
use super::resource::{self, Matches};
use super::scalar::Scalar;
use super::yaml::{Entry, Node, Value};
use super::{Devices, MigStrategy, SharedResource};

/// As many replicas of one GPU that memory rather than tenants may be meant.
const LIKE_MEGABYTES: u32 = 256;

/// `ReplicatedResource.UnmarshalJSON`, and what the plugin ignores of it later.
pub(super) fn shared(
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
pub(super) fn name(report: &mut Report<'_>, entry: &Entry, path: &str) -> Option<String> {
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
                // Go leaves the index it reads at 0.
                None if item.is_null() => Some("0".to_owned()),
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
pub(super) fn int(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Scalar(scalar) => scalar.as_int(),
        _ => None,
    }
}

//! Whether the ConfigMaps are there, are named, and hold what the plugin can read.

use serde_json::json;

use super::cluster::Cluster;
use super::found::{Found, finding, object, some_of};
use super::mend::{self, quoted};
use super::profiles::{ConfigMap, Sought};
use super::told::{named, set_default};
use crate::model::Severity;
use crate::model::setup::{ObjectRef, PluginDaemonSet, SetupFinding};

/// Volumes that the operator's DaemonSets of the plugin and of feature discovery have already:
/// `assets/state-device-plugin` and `assets/gpu-feature-discovery` of NVIDIA/gpu-operator, and
/// `config`, which `handleDevicePluginConfig` adds.
const VOLUMES: [&str; 11] = [
    "nvidia-device-plugin-entrypoint",
    "device-plugin",
    "run-nvidia-validations",
    "driver-install-dir",
    "host-root",
    "cdi-root",
    "mps-root",
    "mps-shm",
    "config",
    "output-dir",
    "run-nvidia",
];
/// The most characters of a volume's name.
const MAX_VOLUME: usize = 63;

/// The usual profile, for a ConfigMap that lacks one.
pub(super) const FOUR: &str = "{version: v1, sharing: {timeSlicing: {failRequestsGreaterThanOne: true, \
                               resources: [{name: nvidia.com/gpu, replicas: 4}]}}}";

/// One place that names a ConfigMap and a default.
struct Wire<'c> {
    object: ObjectRef,
    namespace: &'c str,
    map: &'c str,
    map_field: &'static str,
    default: Option<&'c str>,
    default_field: &'static str,
    of_operator: bool,
}

pub(super) fn rules(cluster: &Cluster, found: &mut Found) {
    let wires = wires(cluster);
    for wire in &wires {
        if wire.of_operator {
            name_unusable(wire, found);
        }
        match cluster.profiles.sought(wire.namespace, wire.map) {
            Sought::Missing => map_missing(cluster, wire, found),
            Sought::There(map) => default_missing(cluster, wire, map, found),
            Sought::Unknown => {}
        }
    }
    let wired = cluster.wired();
    let installed = cluster.policy().is_some() || cluster.plugins().next().is_some();
    for (namespace, name, map) in cluster.profiles.all() {
        let names = wired.get(namespace);
        if names.is_some_and(|names| names.contains(name)) {
            content(cluster, namespace, name, map, found);
        } else if installed && map.shares() {
            let others: Vec<_> = names.into_iter().flatten().copied().collect();
            not_wired(cluster, namespace, name, map, &others, found);
        }
    }
}

/// The policy, and DaemonSets that no policy rules.
fn wires(cluster: &Cluster) -> Vec<Wire<'_>> {
    let policy = cluster
        .policy()
        .filter(|policy| policy.plugin_enabled != Some(false));
    let mut wires = Vec::new();
    if let Some(policy) = policy
        && let Some(map) = named(policy.config_name.as_deref())
    {
        wires.push(Wire {
            object: object("ClusterPolicy", None, &policy.name),
            namespace: cluster.operator_namespace(),
            map,
            map_field: "spec.devicePlugin.config.name",
            default: named(policy.config_default.as_deref()),
            default_field: "spec.devicePlugin.config.default",
            of_operator: true,
        });
    }
    let alone = |set: &&PluginDaemonSet| !set.of_operator || policy.is_none();
    for set in cluster.plugins().filter(alone) {
        if let Some(map) = named(set.wiring.config_map.as_deref()) {
            wires.push(Wire {
                object: set.object(),
                namespace: &set.namespace,
                map,
                map_field: "spec.template.spec.volumes",
                default: named(set.wiring.default_config.as_deref()),
                default_field: "DEFAULT_CONFIG",
                of_operator: set.of_operator,
            });
        }
    }
    wires
}

fn name_unusable(wire: &Wire<'_>, found: &mut Found) {
    let name = wire.map;
    let why = if VOLUMES.contains(&name) {
        "the plugin's pods have a volume of this name already"
    } else if name.contains('.') {
        "a volume's name has no full stop"
    } else if name.len() > MAX_VOLUME {
        "a volume's name has 63 characters at most"
    } else {
        return;
    };
    let mut usable: String = name
        .replace('.', "-")
        .chars()
        .take(MAX_VOLUME - 5)
        .collect();
    usable.push_str("-conf");
    let (namespace, policy) = (quoted(wire.namespace), &wire.object.name);
    let rename = format!("s/^  name: {}$/  name: {usable}/", name.replace('.', r"\."));
    let copy = format!(
        "kubectl -n {namespace} get configmap {} -o yaml | sed -e '/^  \\(uid\\|resourceVersion\\|creationTimestamp\\):/d' -e {} | kubectl -n {namespace} apply -f -",
        quoted(name),
        quoted(&rename),
    );
    found.add(
        finding(
            "config_map_name_unusable",
            Severity::Error,
            wire.object.clone(),
            format!(
                "The operator makes the ConfigMap's name that of a volume, and {why}: its DaemonSet is \
                 refused and the plugin keeps what it had. Copy the ConfigMap and name the copy."
            ),
        )
        .field(wire.map_field)
        .expected(&usable)
        .found(name)
        .mend([copy, mend::patch_plugin_config(policy, &json!({"name": usable}))]),
    );
}

fn map_missing(cluster: &Cluster, wire: &Wire<'_>, found: &mut Found) {
    let others = cluster
        .profiles
        .all()
        .filter(|(namespace, _, map)| *namespace == wire.namespace && map.shares());
    let others: Vec<_> = others.collect();
    let (mend, way) = match (&others[..], wire.of_operator) {
        ([(_, name, map)], true) => (
            vec![mend::patch_plugin_config(
                &wire.object.name,
                &wired_config(name, map),
            )],
            "Of those that are there, one could be meant.",
        ),
        ([(_, name, _)], false) if cluster.release_in(wire.namespace).is_some() => (
            name_by_helm(cluster, wire.namespace, name),
            "Of those that are there, one could be meant.",
        ),
        _ => (
            vec![create_command(wire)],
            "The command makes one with four replicas of each GPU: edit the number.",
        ),
    };
    found.add(
        finding(
            "config_map_missing",
            Severity::Error,
            wire.object.clone(),
            format!(
                "The ConfigMap {}/{} is not there, and new pods of the plugin wait for it. {way}",
                wire.namespace, wire.map
            ),
        )
        .field(wire.map_field)
        .expected(format!(
            "a ConfigMap {} in namespace {}",
            wire.map, wire.namespace
        ))
        .found(match others.is_empty() {
            true => "none with sharing".to_owned(),
            false => some_of(others.iter().map(|(_, name, _)| *name)),
        })
        .mend(mend),
    );
}

fn create_command(wire: &Wire<'_>) -> String {
    let key = wire.default.unwrap_or("any");
    format!(
        "kubectl -n {} create configmap {} --from-literal={}",
        quoted(wire.namespace),
        quoted(wire.map),
        quoted(&format!("{key}={FOUR}"))
    )
}

fn default_missing(cluster: &Cluster, wire: &Wire<'_>, map: &ConfigMap, found: &mut Found) {
    if map.profiles.is_empty() {
        let target = format!("{}/{}", wire.namespace, wire.map);
        let it = finding(
            "config_map_empty",
            Severity::Error,
            object("ConfigMap", Some(wire.namespace), wire.map),
            format!(
                "The ConfigMap {target} has no key, and config-manager ends with \
                 `no configuration files available`: new pods of the plugin do not start. The \
                 command fills in four replicas of each GPU: edit the number."
            ),
        );
        let key = wire.default.unwrap_or("any");
        let patch = json!({"data": {key: FOUR}}).to_string();
        let fill = format!(
            "kubectl -n {} patch configmap {} --type merge -p {}",
            quoted(wire.namespace),
            quoted(wire.map),
            quoted(&patch)
        );
        let it = it
            .field("data")
            .expected("one key for each profile")
            .found("none");
        found.add(it.mend([fill]));
        return;
    }
    let Some(default) = wire.default.filter(|key| !map.profiles.contains_key(*key)) else {
        return;
    };
    let mend = map
        .likely_key()
        .map(|key| set_default(cluster, wire.namespace, wire.of_operator, key));
    found.add(
        finding(
            "default_names_missing_key",
            Severity::Error,
            wire.object.clone(),
            format!(
                "The default {default:?} is no key of ConfigMap {}/{}. On a node without the label, a \
                 new pod of the plugin fails and the node offers no GPU; one that runs keeps its old \
                 profile.",
                wire.namespace, wire.map
            ),
        )
        .field(wire.default_field)
        .expected(format!("one of {}", some_of(map.keys())))
        .found(default)
        .mend(mend.into_iter().flatten()),
    );
}

/// What the linter says of the profiles that somebody may choose.
fn content(cluster: &Cluster, namespace: &str, name: &str, map: &ConfigMap, found: &mut Found) {
    // The profile need not set what the operator or the DaemonSet does.
    let by_policy = cluster
        .policy()
        .and_then(|policy| policy.mig_strategy.as_deref());
    let by_sets = cluster
        .plugins()
        .map(|set| set.wiring.mig_strategy.as_deref());
    let mixed = by_sets
        .chain([by_policy])
        .any(|strategy| strategy == Some("mixed"));
    for profile in map.profiles.values() {
        for lint in &profile.lint {
            if lint.code == "mig_without_mixed" && mixed {
                continue;
            }
            let mut mend = Vec::new();
            let mut way = "";
            if map.immutable {
                way = " The ConfigMap is immutable: make another with a new name, and wire that.";
            } else {
                mend.push(format!(
                    "kubectl -n {} edit configmap {}",
                    quoted(namespace),
                    quoted(name)
                ));
                mend.extend(cluster.reload(namespace, name, None));
            }
            let it: SetupFinding = finding(
                lint.code,
                lint.severity,
                object("ConfigMap", Some(namespace), name),
                format!(
                    "Line {}, column {} of this key: {}. To mend it, {}.{way}",
                    lint.line, lint.column, lint.message, lint.mend
                ),
            );
            found.add(it.field(&lint.path).mend(mend));
        }
    }
}

fn not_wired(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    map: &ConfigMap,
    wired: &[&str],
    found: &mut Found,
) {
    // What an earlier content was called: kustomize keeps them until they are pruned.
    let earlier = |other: &&&str| hashless(other) == hashless(name);
    if map.immutable || wired.iter().any(|other| earlier(&other)) {
        return;
    }
    let by_operator = cluster.policy().is_some() && namespace == cluster.operator_namespace();
    let mend = match cluster.policy().filter(|_| by_operator) {
        // Another one is in force, and may be meant.
        _ if !wired.is_empty() => Vec::new(),
        Some(policy) => vec![mend::patch_plugin_config(
            &policy.name,
            &wired_config(name, map),
        )],
        None => name_by_helm(cluster, namespace, name),
    };
    let (severity, found_there) = match wired.is_empty() {
        true => (Severity::Warning, "none".to_owned()),
        false => (Severity::Info, some_of(wired.iter().copied())),
    };
    found.add(
        finding(
            "config_not_wired",
            severity,
            object("ConfigMap", Some(namespace), name),
            "It has a profile with sharing, and neither ClusterPolicy nor plugin names it: it has no \
             effect.",
        )
        .field("the ConfigMap that the plugin is given")
        .expected(name)
        .found(found_there)
        .mend(mend),
    );
}

/// `spec.devicePlugin.config` that wires a ConfigMap. A merge patch keeps what it does not name, so
/// that an old default must be taken back by name.
fn wired_config(name: &str, map: &ConfigMap) -> serde_json::Value {
    let only = map.profiles.len() == 1 || map.profiles.contains_key("any");
    let default = map.likely_key().filter(|_| only).unwrap_or("");
    json!({"name": name, "default": default})
}

fn name_by_helm(cluster: &Cluster, namespace: &str, name: &str) -> Vec<String> {
    let value = format!("config.name={name}");
    let release = cluster.release_in(namespace);
    // The chart refuses a name beside profiles of its own.
    let options = ["--set", &value, "--set", "config.map=null"];
    let upgrade = |release| mend::helm(release, namespace, &options);
    release.map(upgrade).into_iter().collect()
}

/// A name without the hash that kustomize puts at its end.
fn hashless(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((stem, hash))
            if hash.len() == 10
                && hash
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
                && hash.bytes().any(|byte| byte.is_ascii_digit()) =>
        {
            stem
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_kustomize_are_taken_off() {
        for (name, stem) in [
            ("time-slicing-config-8c5tk2mgf4", "time-slicing-config"),
            ("time-slicing-config", "time-slicing-config"),
            ("time-slicing-experiments", "time-slicing-experiments"),
            ("any", "any"),
            ("", ""),
        ] {
            assert_eq!(hashless(name), stem);
        }
    }
}

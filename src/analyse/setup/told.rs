//! Which profile a pod of the plugin is told to take: `updateConfigName` of the plugin's
//! `cmd/config-manager/main.go` (v0.20), and what to type so that it takes another.

use std::borrow::Cow;

use serde_json::json;

use super::cluster::Cluster;
use super::mend;
use super::profiles::{ConfigMap, Sought};
use crate::analyse::plugin_config::PluginConfig;
use crate::model::setup::{KeyFrom, PluginWiring};

/// The node label by which config-manager chooses.
pub(super) const CONFIG_LABEL: &str = "nvidia.com/device-plugin.config";

/// What a pod of the plugin is told.
#[derive(Debug, Clone)]
pub(super) struct Told<'c> {
    pub(super) from: Option<KeyFrom>,
    pub(super) key: Option<&'c str>,
    pub(super) outcome: Outcome<'c>,
}

/// What becomes of it.
#[derive(Debug, Clone)]
pub(super) enum Outcome<'c> {
    /// No ConfigMap is wired.
    Unwired,
    /// The operator's fallback: no sharing.
    Empty(&'c ConfigMap),
    /// This profile.
    Profile(&'c PluginConfig),
    /// A profile that the plugin refuses: its container ends at start.
    Refused,
    /// The ConfigMap has no such key: config-manager ends with an error.
    NoKey(&'c ConfigMap),
    /// No key is named and no fallback fits: config-manager ends with an error.
    NoFallback(&'c ConfigMap),
    /// The ConfigMap has no key at all: config-manager ends with an error.
    NoKeys,
    /// The ConfigMap is not there: the kubelet waits for it.
    NoMap,
    /// Rights are missing, or the API server did not answer.
    Unknown,
}

/// What a pod with this wiring is told on a node with this label.
pub(super) fn told<'c>(
    cluster: &'c Cluster,
    namespace: &str,
    wiring: &'c PluginWiring,
    of_operator: bool,
    label: Option<&'c str>,
) -> Told<'c> {
    let with = |from, key, outcome| Told { from, key, outcome };
    let Some(name) = named(wiring.config_map.as_deref()) else {
        return with(Some(KeyFrom::Unwired), None, Outcome::Unwired);
    };
    let label = label.filter(|label| !label.is_empty() && wiring.config_manager);
    let default = named(wiring.default_config.as_deref());
    let chosen = match (label, default) {
        (Some(key), _) => Some((KeyFrom::Label, key)),
        (None, Some(key)) => Some((KeyFrom::Default, key)),
        (None, None) => None,
    };
    let map = match cluster.profiles.sought(namespace, name) {
        Sought::There(map) => map,
        Sought::Missing => {
            return with(chosen.map(|it| it.0), chosen.map(|it| it.1), Outcome::NoMap);
        }
        Sought::Unknown => {
            return with(
                chosen.map(|it| it.0),
                chosen.map(|it| it.1),
                Outcome::Unknown,
            );
        }
    };
    let take = |from, key: &'c str| match map.profiles.get(key) {
        Some(profile) => {
            let outcome = profile.config.as_ref();
            with(
                Some(from),
                Some(key),
                outcome.map_or(Outcome::Refused, Outcome::Profile),
            )
        }
        None => with(Some(from), Some(key), Outcome::NoKey(map)),
    };
    if map.profiles.is_empty() {
        return with(None, None, Outcome::NoKeys);
    }
    if let Some((from, key)) = chosen {
        return take(from, key);
    }
    let only = match map.profiles.len() {
        1 => map.keys().next(),
        _ => None,
    };
    if !wiring.config_manager {
        // A file that is mounted as it is.
        return match only {
            Some(key) => take(KeyFrom::Single, key),
            None => with(None, None, Outcome::Unknown),
        };
    }
    // The operator sets `empty`, the chart of the plugin alone `named,single`.
    let usual = if of_operator { "empty" } else { "named,single" };
    for fallback in wiring.fallbacks.as_deref().unwrap_or(usual).split(',') {
        match fallback.trim() {
            "named" if map.profiles.contains_key("default") => {
                return take(KeyFrom::Named, "default");
            }
            "single" => {
                if let Some(key) = only {
                    return take(KeyFrom::Single, key);
                }
            }
            "empty" => return with(Some(KeyFrom::Empty), None, Outcome::Empty(map)),
            _ => {}
        }
    }
    with(None, None, Outcome::NoFallback(map))
}

/// A name that is there.
pub(super) fn named(name: Option<&str>) -> Option<&str> {
    name.filter(|name| !name.is_empty())
}

impl<'c> Outcome<'c> {
    /// What the plugin would read; none where that cannot be told, or is nothing.
    pub(super) fn config(&self) -> Option<Cow<'c, PluginConfig>> {
        match self {
            Self::Unwired | Self::Empty(_) => Some(Cow::Owned(PluginConfig::default())),
            Self::Profile(config) => Some(Cow::Borrowed(config)),
            _ => None,
        }
    }
}

/// Commands that make this key the one of nodes without a label.
pub(super) fn set_default(
    cluster: &Cluster,
    namespace: &str,
    of_operator: bool,
    key: &str,
) -> Vec<String> {
    if of_operator && let Some(policy) = cluster.policy() {
        return vec![mend::patch_plugin_config(
            &policy.name,
            &json!({"default": key}),
        )];
    }
    cluster
        .release_in(namespace)
        .map(|release| {
            let value = format!("config.default={key}");
            mend::helm(release, namespace, &["--set", &value])
        })
        .into_iter()
        .collect()
}

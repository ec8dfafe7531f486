//! ConfigMaps beside the plugin: those that are named, and those that look as if they should be.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::shape::{Shape, Strings, instant};
use crate::model::setup::{ClusterPolicy, ConfigMapRead, PluginDaemonSet, PluginPod};

/// Words that a configuration with sharing has, as keys.
const SHARING: [&str; 2] = ["timeSlicing", "mps"];
/// ConfigMaps that are kept although nothing names them, and bytes of them all.
const MAX_UNNAMED: usize = 64;
const MAX_UNNAMED_BYTES: usize = 4 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigMapObject {
    metadata: MapMetadata,
    data: Strings,
    immutable: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MapMetadata {
    name: String,
    namespace: String,
    managed_fields: Option<Vec<ManagedFields>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ManagedFields {
    manager: Option<String>,
    time: Option<String>,
    fields_v1: Option<Fields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:data")]
    data: Option<IgnoredAny>,
}

impl Shape for ConfigMapObject {
    fn key(&self) -> (Option<&str>, &str) {
        (Some(&self.metadata.namespace), &self.metadata.name)
    }
}

/// Which ConfigMaps of a namespace are kept.
pub(super) struct Wanted {
    named: BTreeSet<String>,
    unnamed: usize,
    unnamed_bytes: usize,
}

impl Wanted {
    /// Those that policies name, where this is the operator's namespace, and that the DaemonSets of
    /// this namespace or their pods name, which may be of an older template.
    pub(super) fn new(
        namespace: &str,
        operator: Option<&str>,
        policies: &[ClusterPolicy],
        sets: &[PluginDaemonSet],
        pods: &[PluginPod],
    ) -> Self {
        let of_policies = policies
            .iter()
            .filter(|_| operator == Some(namespace))
            .filter_map(|policy| policy.config_name.as_ref());
        let of_sets = sets
            .iter()
            .filter(|set| set.namespace == namespace)
            .filter_map(|set| set.wiring.config_map.as_ref());
        let of_pods = pods
            .iter()
            .filter(|pod| pod.namespace == namespace)
            .filter_map(|pod| pod.wiring.config_map.as_ref());
        Self {
            named: of_policies.chain(of_sets).chain(of_pods).cloned().collect(),
            unnamed: 0,
            unnamed_bytes: 0,
        }
    }

    pub(super) fn take(&mut self, object: ConfigMapObject) -> Option<ConfigMapRead> {
        let ConfigMapObject {
            metadata,
            data,
            immutable,
        } = object;
        let data = data.unwrap_or_default();
        if !self.named.contains(&metadata.name) {
            let bytes: usize = data.values().map(String::len).sum();
            let is_sharing = data.values().any(|text| mentions_sharing(text));
            let fits =
                self.unnamed < MAX_UNNAMED && self.unnamed_bytes + bytes <= MAX_UNNAMED_BYTES;
            if !is_sharing || !fits {
                return None;
            }
            self.unnamed += 1;
            self.unnamed_bytes += bytes;
        }
        let changes = metadata.managed_fields.into_iter().flatten();
        let changed = changes
            .filter(|it| it.fields_v1.as_ref().is_some_and(|it| it.data.is_some()))
            .filter_map(|it| Some((instant(it.time.as_ref())?, it.manager)))
            .max();
        let (data_changed, changed_by) = changed.unzip();
        Some(ConfigMapRead {
            namespace: metadata.namespace,
            name: metadata.name,
            data,
            data_changed,
            changed_by: changed_by.flatten(),
            immutable: immutable.unwrap_or_default(),
        })
    }
}

/// Whether a text has one of the words as a key, in YAML or JSON.
fn mentions_sharing(text: &str) -> bool {
    SHARING.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].trim_end_matches('"').chars().next_back();
            let after = text[at + word.len()..].trim_start_matches('"');
            before.is_none_or(|c| !c.is_alphanumeric() && !"-_.".contains(c))
                && after.trim_start_matches(' ').starts_with(':')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_sharing_are_keys_and_no_parts_of_others() {
        for (text, is) in [
            ("sharing:\n  timeSlicing:\n", true),
            ("{\"sharing\": {\"timeSlicing\": {}}}", true),
            ("mps:", true),
            ("  mps : {}", true),
            ("timestamps: 1", false),
            ("x.mps: 1", false),
            ("use mps", false),
            ("", false),
        ] {
            assert_eq!(mentions_sharing(text), is, "{text:?}");
        }
    }

    #[test]
    fn the_last_change_of_the_data_counts_and_not_that_of_labels() {
        let object = serde_json::json!({
            "metadata": {"name": "a", "namespace": "n", "resourceVersion": "7", "managedFields": [
                {"manager": "kubectl-create", "time": "2026-11-21T10:00:00Z", "fieldsV1": {"f:data": {}}},
                {"manager": "kubectl-edit", "time": "2026-11-21T11:00:00Z", "fieldsV1": {"f:data": {"f:any": {}}}},
                {"manager": "helm", "time": "2026-11-21T12:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
                {"manager": "odd", "fieldsV1": {"f:data": {}}},
            ]},
            "data": {"any": "mps: {}"}, "immutable": true,
        });
        let object: ConfigMapObject = serde_json::from_value(object).unwrap();
        let mut wanted = Wanted::new("n", None, &[], &[], &[]);
        let read = wanted.take(object).unwrap();
        assert_eq!(read.changed_by.as_deref(), Some("kubectl-edit"));
        let at = humantime::parse_rfc3339("2026-11-21T11:00:00Z").unwrap();
        assert_eq!(
            read.data_changed,
            at.duration_since(std::time::UNIX_EPOCH).ok()
        );
        assert!(read.immutable);
    }
}

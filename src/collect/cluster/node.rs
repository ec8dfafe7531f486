//! The node as the API server writes it, cut down to what concerns GPUs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::collect::kubelet::{NVIDIA_PREFIX, ResourceFilter};
use crate::model::NodeFacts;

/// Labels that are kept beside those of GPUs.
const MORE_LABELS: [&str; 1] = ["node.kubernetes.io/instance-type"];
/// Labels, and resources, that are kept at the most.
const MOST: usize = 128;

/// A `Node` object: everything that is not named here is dropped while it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeObject {
    metadata: Metadata,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    capacity: Option<BTreeMap<String, String>>,
    allocatable: Option<BTreeMap<String, String>>,
}

impl NodeObject {
    pub(super) fn facts(&self, resources: &ResourceFilter) -> NodeFacts {
        let count = |list: &Option<BTreeMap<String, String>>| {
            list.iter()
                .flatten()
                .filter(|(name, _)| resources.may_be_gpu(name))
                .filter_map(|(name, quantity)| Some((name.as_str().into(), whole(quantity)?)))
                .take(MOST)
                .collect()
        };
        NodeFacts {
            labels: self
                .metadata
                .labels
                .iter()
                .flatten()
                .filter(|(name, _)| {
                    name.starts_with(NVIDIA_PREFIX) || MORE_LABELS.contains(&name.as_str())
                })
                .map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())))
                .take(MOST)
                .collect(),
            capacity: count(&self.status.capacity),
            allocatable: count(&self.status.allocatable),
        }
    }
}

/// A quantity of whole things: the API server writes 4000 as `4k`.
pub(in crate::collect) fn whole(quantity: &str) -> Option<u64> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &quantity[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_whole_things() {
        for (text, value) in [
            ("0", Some(0)),
            ("8", Some(8)),
            ("16k", Some(16_000)),
            ("2M", Some(2_000_000)),
            ("1Ki", Some(1024)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551615k", None),
            ("100m", None),
            ("1.5", None),
            ("-1", None),
            ("", None),
            ("k", None),
            ("1 k", None),
        ] {
            assert_eq!(whole(text), value, "{text:?}");
        }
    }

    #[test]
    fn only_what_concerns_gpus_is_kept() {
        let node: NodeObject = serde_json::from_value(serde_json::json!({
            "kind": "Node",
            "metadata": {"name": "n", "labels": {
                "nvidia.com/gpu.sharing-strategy": "time-slicing",
                "node.kubernetes.io/instance-type": "p5.48xlarge",
                "kubernetes.io/hostname": "n",
            }},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {
                "capacity": {"cpu": "8", "memory": "1Ki", "nvidia.com/gpu": "4", "example.com/gpu": "2"},
                "allocatable": {"nvidia.com/gpu": "3", "nvidia.com/odd": "half"},
                "images": [{"names": ["a"]}],
            },
        }))
        .unwrap();
        let resources = ResourceFilter {
            names: ["example.com/gpu".to_owned()].into_iter().collect(),
            ..ResourceFilter::default()
        };
        let facts = node.facts(&resources);
        assert_eq!(facts.labels.len(), 2);
        assert_eq!(
            facts.capacity,
            BTreeMap::from([("example.com/gpu".into(), 2), ("nvidia.com/gpu".into(), 4)])
        );
        assert_eq!(
            facts.allocatable,
            BTreeMap::from([("nvidia.com/gpu".into(), 3)])
        );
        let empty: NodeObject = serde_json::from_str(r#"{"metadata":{"labels":null}}"#).unwrap();
        assert_eq!(
            empty.facts(&ResourceFilter::default()),
            NodeFacts::default()
        );
    }
}

//! Labels of feature discovery against what the node offers.

use super::found::{Found, finding, object};
use super::mend;
use super::nodes::Node;
use super::on_node::{OnNode, settled};
use super::profiles::GPU;
use crate::analyse::plugin_config::{PluginConfig, Sharing};
use crate::model::Severity;
use crate::model::setup::PluginRole;

const REPLICAS: &str = "nvidia.com/gpu.replicas";
const PRODUCT: &str = "nvidia.com/gpu.product";
const STRATEGY: &str = "nvidia.com/gpu.sharing-strategy";
const SUFFIX: &str = "-SHARED";

/// What the labels should say.
struct Should {
    replicas: u64,
    renamed: bool,
    /// None where it is not known.
    strategy: Option<Sharing>,
}

/// A label, what it should be, and what it is.
type Wrong = (&'static str, String, String);

pub(super) fn rule(it: &OnNode<'_>, found: &mut Found) {
    let discovery = |role| role == PluginRole::FeatureDiscovery;
    let mut pods = it
        .cluster
        .pods_on(it.name)
        .filter(|pod| discovery(pod.role));
    let pod = pods.next();
    if it.node.mig() || pod.is_some_and(|pod| !pod.ready || !settled(it.cluster, pod)) {
        return;
    }
    let Some((replicas, renamed)) = it.node.factor() else {
        return;
    };
    let config = it.config.as_deref();
    let as_told = |config: &&PluginConfig| u64::from(config.replicas_of(GPU)) == replicas;
    let should = Should {
        replicas,
        renamed,
        strategy: config.filter(as_told).map(PluginConfig::sharing),
    };
    let wrong = wrong(it.node, &should);
    if wrong.is_empty() {
        return;
    }
    let mend = match pod {
        Some(pod) => vec![mend::delete(&pod.namespace, "pod", [pod.name.as_str()])],
        None => {
            let sets = it.cluster.daemon_sets().iter();
            let mut sets = sets.filter(|set| discovery(set.role));
            sets.next()
                .map(|set| mend::restart(&set.namespace, [set.name.as_str()]))
                .into_iter()
                .collect()
        }
    };
    let list = |side: fn(&Wrong) -> &str| {
        let all = wrong.iter().map(|it| format!("{}={}", it.0, side(it)));
        all.collect::<Vec<_>>().join(", ")
    };
    found.add(
        finding(
            "labels_out_of_date",
            Severity::Warning,
            object("Node", None, it.name),
            format!(
                "Labels of GPU feature discovery do not say what the node offers: each GPU {replicas} \
                 times. It reads its own copy of the profile, and was not restarted with the plugin; \
                 who selects nodes by these labels is misled."
            ),
        )
        .on(it.name)
        .field("metadata.labels")
        .expected(list(|it| &it.1))
        .found(list(|it| &it.2))
        .mend(mend),
    );
}

/// Whether the labels say what this profile makes of GPUs.
pub(super) fn agree(node: &Node, config: &PluginConfig) -> bool {
    let should = Should {
        replicas: u64::from(config.replicas_of(GPU)),
        renamed: config.advertised_name(GPU) != GPU,
        strategy: Some(config.sharing()),
    };
    node.label(REPLICAS).is_some() && wrong(node, &should).is_empty()
}

/// Labels that are there and say otherwise.
fn wrong(node: &Node, should: &Should) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let shared = should.replicas > 1;
    if let Some(label) = node.label(REPLICAS) {
        // 0 is said where sharing is off for this resource (internal/lm/resource.go).
        let same = label.parse() == Ok(should.replicas) || (!shared && label == "0");
        if !same {
            wrong.push((REPLICAS, should.replicas.to_string(), label.to_owned()));
        }
    }
    if let Some(label) = node.label(PRODUCT) {
        let suffix = shared && !should.renamed;
        let bare = label.strip_suffix(SUFFIX);
        match (suffix, bare) {
            (true, None) => wrong.push((PRODUCT, format!("{label}{SUFFIX}"), label.to_owned())),
            (false, Some(bare)) => wrong.push((PRODUCT, bare.to_owned(), label.to_owned())),
            _ => {}
        }
    }
    if let Some(label) = node.label(STRATEGY) {
        let expected = match should.strategy {
            Some(strategy) => (strategy.label() != label).then_some(strategy.label()),
            // Time-slicing, or MPS: both fit.
            None => (shared && label == "none").then_some("time-slicing"),
        };
        if let Some(expected) = expected {
            wrong.push((STRATEGY, expected.to_owned(), label.to_owned()));
        }
    }
    wrong
}

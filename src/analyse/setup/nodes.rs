//! What is kept of a node, and what it offers against what its profile says.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::profiles::GPU;
use crate::analyse::plugin_config::{MigStrategy, PluginConfig};
use crate::model::setup::NodeRead;

pub(super) const SHARED_GPU: &str = "nvidia.com/gpu.shared";
pub(super) const MIG_PREFIX: &str = "nvidia.com/mig-";

/// A node. Thousands are alike in all but their name, so what they have is shared between them.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) labels: Arc<BTreeMap<String, String>>,
    pub(super) capacity: Arc<BTreeMap<String, u64>>,
    pub(super) allocatable: Arc<BTreeMap<String, u64>>,
    pub(super) taints: Arc<Vec<String>>,
    pub(super) ready: Option<bool>,
    pub(super) unschedulable: bool,
}

/// One of each value that is equal.
#[derive(Debug)]
pub(super) struct Same<T>(HashSet<Arc<T>>);

impl<T> Default for Same<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Clone + Eq + Hash> Same<T> {
    fn of(&mut self, value: &T) -> Arc<T> {
        match self.0.get(value) {
            Some(same) => Arc::clone(same),
            None => {
                let same = Arc::new(value.clone());
                self.0.insert(Arc::clone(&same));
                same
            }
        }
    }
}

/// What nodes have in common.
#[derive(Debug, Default)]
pub(super) struct Alike {
    labels: Same<BTreeMap<String, String>>,
    amounts: Same<BTreeMap<String, u64>>,
    taints: Same<Vec<String>>,
}

impl Alike {
    pub(super) fn keep(&mut self, node: &NodeRead) -> Node {
        Node {
            labels: self.labels.of(&node.labels),
            capacity: self.amounts.of(&node.capacity),
            allocatable: self.amounts.of(&node.allocatable),
            taints: self.taints.of(&node.taints),
            ready: node.ready,
            unschedulable: node.unschedulable,
        }
    }
}

/// What a node offers, against a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offer {
    Agrees,
    Differs {
        /// As the profile has it advertised.
        resource: String,
        expected: String,
        found: u64,
        /// The same GPUs under the other name.
        other: (String, u64),
    },
    /// The node does not say how many GPUs it has.
    Unknown,
}

impl Node {
    /// Whether new pods may come here.
    pub(super) fn takes_pods(&self) -> bool {
        self.ready != Some(false) && !self.unschedulable
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn number(&self, label: &str) -> Option<u64> {
        self.label(label)?.parse().ok()
    }

    /// GPUs, by the label of feature discovery.
    pub(super) fn gpus(&self) -> Option<u64> {
        self.number("nvidia.com/gpu.count")
    }

    pub(super) fn allocatable(&self, resource: &str) -> u64 {
        self.allocatable.get(resource).copied().unwrap_or(0)
    }

    /// What the plugin registered. Devices that are ill count here and not in allocatable.
    pub(super) fn capacity(&self, resource: &str) -> u64 {
        let capacity = self.capacity.get(resource).copied().unwrap_or(0);
        capacity.max(self.allocatable(resource))
    }

    pub(super) fn has_gpus(&self) -> bool {
        let offers = |(name, count): (&String, &u64)| {
            *count > 0 && (name == GPU || name == SHARED_GPU || name.starts_with(MIG_PREFIX))
        };
        self.label("nvidia.com/gpu.present") == Some("true")
            || self.gpus().is_some_and(|count| count > 0)
            || self.capacity.iter().any(offers)
            || self.allocatable.iter().any(offers)
    }

    /// Whether it offers GPUs under any name.
    pub(super) fn offers_gpus(&self) -> bool {
        let mut all = self.allocatable.iter();
        all.any(|(name, count)| *count > 0 && name.starts_with("nvidia.com/"))
    }

    /// Whether MIG manager says that GPUs are in MIG mode: its configuration is in force and not the
    /// one that turns MIG off.
    pub(super) fn mig_by_manager(&self) -> Option<&str> {
        let config = self.label("nvidia.com/mig.config")?;
        let in_force = self.label("nvidia.com/mig.config.state") == Some("success");
        let capable = self.label("nvidia.com/mig.capable") != Some("false");
        let on = !config.is_empty() && config != "all-disabled";
        (in_force && capable && on).then_some(config)
    }

    /// Whether GPUs are known to be in MIG mode.
    pub(super) fn mig(&self) -> bool {
        let instances = |(name, count): (&String, &u64)| *count > 0 && name.starts_with(MIG_PREFIX);
        self.mig_by_manager().is_some() || self.capacity.iter().any(instances)
    }

    /// What the node offers, against what this profile would have it offer.
    pub(super) fn offer(&self, config: &PluginConfig, strategy: MigStrategy) -> Offer {
        let shared = config.in_force().into_iter().flat_map(|it| &it.resources);
        let mut resources: Vec<&str> = shared.map(|entry| entry.name.as_str()).collect();
        resources.push(GPU);
        resources.sort_unstable();
        resources.dedup();
        let mut known = false;
        for resource in resources {
            match self.offer_of(resource, config, strategy) {
                Offer::Agrees => known = true,
                Offer::Unknown => {}
                differs @ Offer::Differs { .. } => return differs,
            }
        }
        if known { Offer::Agrees } else { Offer::Unknown }
    }

    fn offer_of(&self, resource: &str, config: &PluginConfig, strategy: MigStrategy) -> Offer {
        let mig = resource.starts_with(MIG_PREFIX);
        let replicas = config.replicas_of(resource);
        let skipped = match strategy {
            // How many GPUs beside those in MIG mode are offered whole, no label says.
            MigStrategy::Mixed => !mig && self.mig(),
            // Without the strategy, GPUs in MIG mode are not offered as they should be.
            MigStrategy::None => mig || self.mig(),
            MigStrategy::Single => mig,
        };
        // Other names are made by `resources`, which the plugin does not follow.
        let known = mig || resource == GPU;
        if skipped || !known || replicas == u32::MAX {
            return Offer::Unknown;
        }
        let replicas = u64::from(replicas);
        let name = config.advertised_name(resource);
        let other = match name.as_ref() == resource {
            true => format!("{resource}.shared"),
            false => resource.to_owned(),
        };
        let found = self.capacity(&name);
        let elsewhere = self.allocatable(&other);
        let differs = |expected: String| Offer::Differs {
            resource: name.clone().into_owned(),
            expected,
            found,
            other: (other.clone(), elsewhere),
        };
        match self.number(&format!("{resource}.count")) {
            Some(gpus) => {
                let expected = gpus.saturating_mul(replicas);
                let agrees = match replicas {
                    // Fewer are the plugin's to choose: it leaves out what it cannot offer. None is
                    // what it offers where it cannot reach the driver.
                    1 => (found > 0 || gpus == 0) && found <= expected && elsewhere == 0,
                    _ => found == expected && elsewhere == 0,
                };
                match agrees {
                    true => Offer::Agrees,
                    false => differs(format!("{expected} ({gpus} x {replicas})")),
                }
            }
            None if elsewhere > 0 => differs(format!("a multiple of {replicas}")),
            None if replicas == 1 => Offer::Unknown,
            None if found == 0 || !found.is_multiple_of(replicas) => {
                differs(format!("a multiple of {replicas}"))
            }
            None => Offer::Agrees,
        }
    }

    /// The name under which GPUs are offered, as the numbers have it.
    pub(super) fn gpu_name(&self) -> Option<&'static str> {
        let mut names = [SHARED_GPU, GPU].into_iter();
        names.find(|name| self.capacity(name) > 0)
    }

    /// How often each GPU is offered, and whether under the other name; unknown where the numbers do
    /// not say.
    pub(super) fn factor(&self) -> Option<(u64, bool)> {
        let gpus = self.gpus().filter(|&gpus| gpus > 0)?;
        let renamed = self.allocatable(SHARED_GPU) > 0;
        let name = if renamed { SHARED_GPU } else { GPU };
        let offered = self.capacity(name);
        (offered > 0 && offered.is_multiple_of(gpus)).then_some((offered / gpus, renamed))
    }
}

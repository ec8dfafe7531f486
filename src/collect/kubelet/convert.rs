//! From the kubelet's messages to [`Allocations`].
//!
//! What comes out is never larger than what came in, and thousands of replicas of one device are
//! one row.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::device_id::{DeviceId, parse_device_id};
use super::proto::{
    AllocatableResourcesResponse, ContainerDevices, DynamicResource, ListPodResourcesResponse,
};
use crate::model::{Allocations, ContainerAllocation, DeviceRef, DraClaim, Grant};

/// The prefix of NVIDIA's resources.
pub const NVIDIA_PREFIX: &str = "nvidia.com/";

/// Which resources are GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceFilter {
    /// A resource whose name begins with one of these may be a GPU.
    pub prefixes: Vec<String>,
    /// Further names, taken whole, that are GPUs.
    pub names: BTreeSet<String>,
}

impl Default for ResourceFilter {
    fn default() -> Self {
        Self {
            prefixes: vec![NVIDIA_PREFIX.to_owned()],
            names: BTreeSet::new(),
        }
    }
}

/// What is taken of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    Nothing,
    /// Only ids of a known form: vendors sell other things than GPUs under the same prefix.
    KnownIds,
    All,
}

impl ResourceFilter {
    /// Whether a resource of this name may be a GPU.
    pub fn may_be_gpu(&self, resource: &str) -> bool {
        self.take(resource) != Take::Nothing
    }

    fn take(&self, resource: &str) -> Take {
        if self.names.contains(resource) {
            return Take::All;
        }
        let rest = self
            .prefixes
            .iter()
            .find_map(|prefix| resource.strip_prefix(prefix.as_str()));
        match rest {
            None => Take::Nothing,
            Some(rest) if rest.starts_with("gpu") || rest.starts_with("mig-") => Take::All,
            Some(_) => Take::KnownIds,
        }
    }
}

/// What `List` answered, with what is allocatable as it was last heard.
///
/// Rows of one container are merged, and so are pods that the kubelet names twice; an id that is
/// repeated counts once. Containers without devices are kept; rows without a pod or container
/// name are not. Everything is sorted.
pub fn allocations(
    list: &ListPodResourcesResponse,
    allocatable: BTreeMap<DeviceRef, Grant>,
    filter: &ResourceFilter,
) -> Allocations {
    #[derive(Default)]
    struct Parts<'list> {
        devices: Vec<&'list ContainerDevices>,
        claims: Vec<&'list DynamicResource>,
    }
    let mut containers: BTreeMap<(&str, &str, &str), Parts<'_>> = BTreeMap::new();
    for pod in &list.pod_resources {
        for container in &pod.containers {
            if pod.name.is_empty() || container.name.is_empty() {
                continue;
            }
            let parts = containers
                .entry((&pod.namespace, &pod.name, &container.name))
                .or_default();
            parts.devices.extend(&container.devices);
            parts.claims.extend(&container.dynamic_resources);
        }
    }
    let mut texts = Texts::default();
    let containers = containers
        .into_iter()
        .map(|((namespace, pod, container), parts)| ContainerAllocation {
            namespace: texts.shared(namespace),
            pod: texts.shared(pod),
            container: texts.shared(container),
            grants: grants(parts.devices, filter, &mut texts),
            claims: claims(&parts.claims),
        })
        .collect();
    Allocations {
        containers,
        allocatable,
    }
}

/// What `GetAllocatableResources` answered: replicas by device. A device that stands under two
/// resources (the plugin was set up anew) is taken from the one with more replicas.
pub fn allocatable(
    answer: &AllocatableResourcesResponse,
    filter: &ResourceFilter,
) -> BTreeMap<DeviceRef, Grant> {
    let mut devices: BTreeMap<DeviceRef, Grant> = BTreeMap::new();
    for grant in grants(&answer.devices, filter, &mut Texts::default()) {
        match devices.get(&grant.device) {
            Some(there) if there.replicas >= grant.replicas => {}
            _ => {
                devices.insert(grant.device.clone(), grant);
            }
        }
    }
    devices
}

fn grants<'list>(
    rows: impl IntoIterator<Item = &'list ContainerDevices>,
    filter: &ResourceFilter,
    texts: &mut Texts,
) -> Vec<Grant> {
    let mut ids: BTreeSet<(&str, &str)> = BTreeSet::new();
    for row in rows {
        if filter.take(&row.resource_name) != Take::Nothing {
            ids.extend(row.device_ids.iter().map(|id| (&*row.resource_name, &**id)));
        }
    }
    let mut devices: BTreeMap<(&str, DeviceRef), (u32, bool)> = BTreeMap::new();
    for (resource, id) in ids {
        let DeviceId { device, shared } = parse_device_id(id);
        let is_unknown = matches!(device, DeviceRef::Unknown(_));
        if is_unknown && filter.take(resource) == Take::KnownIds {
            continue;
        }
        let (replicas, any_shared) = devices.entry((resource, device)).or_default();
        *replicas = replicas.saturating_add(1);
        *any_shared |= shared;
    }
    devices
        .into_iter()
        .map(|((resource, device), (replicas, shared))| Grant {
            resource: texts.shared(resource),
            device,
            replicas,
            shared,
        })
        .collect()
}

fn claims(rows: &[&DynamicResource]) -> Vec<DraClaim> {
    type Devices<'list> = BTreeSet<(&'list str, &'list str, &'list str)>;
    let mut claims: BTreeMap<(&str, &str), Devices<'_>> = BTreeMap::new();
    for row in rows {
        let devices = row
            .claim_resources
            .iter()
            .map(|one| (&*one.driver_name, &*one.pool_name, &*one.device_name));
        claims
            .entry((&row.claim_namespace, &row.claim_name))
            .or_default()
            .extend(devices);
    }
    claims
        .into_iter()
        .map(|((namespace, name), devices)| DraClaim {
            namespace: namespace.into(),
            name: name.into(),
            devices: devices
                .into_iter()
                .map(|(driver, pool, device)| (driver.into(), pool.into(), device.into()))
                .collect(),
        })
        .collect()
}

/// Texts that repeat (namespaces, pods, resources), each held once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(there) = self.0.get(text) {
            return Arc::clone(there);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}

//! What the kubelet granted, indexed for attribution: one fact, beside residence.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{Allocations, DeviceRef, DraClaim, GpuIdentity, PodName};

/// Names of a container, which are its series' labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerLabels {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    /// Empty where the pod is proven and the container is not.
    pub container: Arc<str>,
}

impl ContainerLabels {
    /// The pod's part.
    pub fn pod_name(&self) -> PodName {
        PodName {
            namespace: Arc::clone(&self.namespace),
            pod: Arc::clone(&self.pod),
        }
    }
}

/// Replicas of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advertised {
    pub replicas: u32,
    /// True where the device plugin shares the device.
    pub shared: bool,
}

/// One whole answer of the kubelet, by device and by pod.
#[derive(Debug, Default)]
pub struct Grants {
    by_device: HashMap<DeviceRef, BTreeMap<ContainerLabels, u32>>,
    advertised: HashMap<DeviceRef, Advertised>,
    containers: HashMap<PodName, Vec<Arc<str>>>,
    claims: HashMap<ContainerLabels, Vec<DraClaim>>,
}

impl Grants {
    /// Indexes an answer.
    pub fn new(allocations: &Allocations) -> Self {
        let mut grants = Self::default();
        for container in &allocations.containers {
            let labels = ContainerLabels {
                namespace: Arc::clone(&container.namespace),
                pod: Arc::clone(&container.pod),
                container: Arc::clone(&container.container),
            };
            grants
                .containers
                .entry(labels.pod_name())
                .or_default()
                .push(Arc::clone(&container.container));
            if !container.claims.is_empty() {
                grants
                    .claims
                    .insert(labels.clone(), container.claims.clone());
            }
            for grant in &container.grants {
                let rows = grants.by_device.entry(grant.device.clone()).or_default();
                *rows.entry(labels.clone()).or_insert(0) += grant.replicas;
            }
        }
        for (device, grant) in &allocations.allocatable {
            grants.advertised.insert(
                device.clone(),
                Advertised {
                    replicas: grant.replicas,
                    shared: grant.shared,
                },
            );
        }
        grants
    }

    /// Containers that were granted replicas of this device, with how many.
    pub fn of_device(&self, identity: &GpuIdentity) -> BTreeMap<&ContainerLabels, u32> {
        let mut all = BTreeMap::new();
        for device in names_of(identity) {
            for (labels, replicas) in self.by_device.get(&device).into_iter().flatten() {
                *all.entry(labels).or_insert(0) += replicas;
            }
        }
        all
    }

    /// What the device plugin advertises of this device; `None` where it does not.
    pub fn advertised(&self, identity: &GpuIdentity) -> Option<Advertised> {
        names_of(identity)
            .into_iter()
            .find_map(|device| self.advertised.get(&device).copied())
    }

    /// The one container of a pod, where it has one.
    pub fn only_container(&self, pod: &PodName) -> Option<Arc<str>> {
        match self.containers.get(pod).map(Vec::as_slice) {
            Some([only]) => Some(Arc::clone(only)),
            _ => None,
        }
    }

    /// The DRA claims of a container.
    pub fn claims(&self, labels: &ContainerLabels) -> &[DraClaim] {
        self.claims.get(labels).map_or(&[], Vec::as_slice)
    }
}

/// The names a device id may use for this device.
fn names_of(identity: &GpuIdentity) -> Vec<DeviceRef> {
    let mut names = vec![DeviceRef::Uuid(identity.uuid.clone())];
    if let Some(minor) = identity.minor {
        let gpu_instance = identity.mig.as_ref().map(|mig| mig.gpu_instance);
        names.push(DeviceRef::Minor {
            minor,
            gpu_instance,
        });
    }
    names
}

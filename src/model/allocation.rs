//! What the kubelet granted: a fact of its own, beside what NVML sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::GpuUuid;

/// What a device id names, its replica suffix taken off.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceRef {
    /// `GPU-…` or `MIG-…`.
    Uuid(GpuUuid),
    /// GKE's `nvidia0` (device minor number) with, under MIG, its GPU instance id (`nvidia0/gi1`).
    Minor {
        minor: u32,
        gpu_instance: Option<u32>,
    },
    /// An id of no known form, kept as it came.
    Unknown(Arc<str>),
}

/// Replicas of one device granted to one container, or advertised by the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// `nvidia.com/gpu`, `nvidia.com/gpu.shared`, `nvidia.com/mig-1g.18gb` …
    pub resource: Arc<str>,
    pub device: DeviceRef,
    /// Device ids that name this device: its replicas.
    pub replicas: u32,
    /// True where the ids had a replica suffix: the plugin shares this device.
    pub shared: bool,
}

/// A DRA claim of a container, carried as it is: driver, pool and device name no UUID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraClaim {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// (driver, pool, device) of each device of the claim.
    pub devices: Vec<(Arc<str>, Arc<str>, Arc<str>)>,
}

/// What one container was granted. Containers without devices are kept too: they say which
/// containers a pod has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerAllocation {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    pub container: Arc<str>,
    /// One row a (resource, device), merged over the kubelet's rows, sorted.
    pub grants: Vec<Grant>,
    pub claims: Vec<DraClaim>,
}

/// One whole answer of the kubelet.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocations {
    pub containers: Vec<ContainerAllocation>,
    /// Advertised by the device plugin, healthy or not yet granted: replicas by device.
    pub allocatable: BTreeMap<DeviceRef, Grant>,
}

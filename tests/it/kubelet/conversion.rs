//! From messages to allocations, whatever the kubelet says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use slicewatch::collect::kubelet::proto::{
    AllocatableResourcesResponse, ClaimResource, ContainerDevices, ContainerResources,
    DynamicResource, ListPodResourcesResponse, PodResources,
};
use slicewatch::collect::kubelet::{ResourceFilter, allocatable, allocations};
use slicewatch::model::{Allocations, DeviceRef, GpuUuid};

use super::fake::{devices, pod};

const A: &str = "GPU-aaaaaaaa-06c0-7d70-1a51-e59b25b2c16c";
const B: &str = "GPU-bbbbbbbb-06c0-7d70-1a51-e59b25b2c16c";

fn convert(pods: Vec<PodResources>) -> Allocations {
    convert_with(pods, &ResourceFilter::default())
}

fn convert_with(pods: Vec<PodResources>, filter: &ResourceFilter) -> Allocations {
    let list = ListPodResourcesResponse {
        pod_resources: pods,
    };
    allocations(&list, BTreeMap::new(), filter)
}

fn uuid(text: &str) -> DeviceRef {
    DeviceRef::Uuid(GpuUuid::new(text))
}

/// (resource, device, replicas, shared) of the only container.
fn rows(allocations: &Allocations) -> Vec<(&str, DeviceRef, u32, bool)> {
    assert_eq!(allocations.containers.len(), 1);
    let grants = &allocations.containers[0].grants;
    grants
        .iter()
        .map(|g| (&*g.resource, g.device.clone(), g.replicas, g.shared))
        .collect()
}

#[test]
fn rows_of_one_container_are_merged_and_counted_by_device() {
    let row = |id: &str| devices("nvidia.com/gpu", [id]);
    let (a0, a1, b3) = (format!("{A}::0"), format!("{A}::1"), format!("{B}::3"));
    let got = convert(vec![pod(
        "ns",
        "p",
        "c",
        vec![row(&a0), row(&b3), row(&a1), row(&a1)],
    )]);
    assert_eq!(
        rows(&got),
        [
            ("nvidia.com/gpu", uuid(A), 2, true),
            ("nvidia.com/gpu", uuid(B), 1, true)
        ]
    );
}

#[test]
fn a_pod_that_is_listed_twice_is_one() {
    let first = pod("ns", "p", "c", vec![devices("nvidia.com/gpu", [A])]);
    let second = pod("ns", "p", "c", vec![devices("nvidia.com/gpu", [B])]);
    assert_eq!(rows(&convert(vec![first, second])).len(), 2);
}

#[test]
fn containers_without_devices_are_kept_and_nameless_ones_are_not() {
    let got = convert(vec![
        pod("ns", "p", "sidecar", vec![]),
        pod("ns", "", "c", vec![devices("nvidia.com/gpu", [A])]),
        pod("ns", "p", "", vec![devices("nvidia.com/gpu", [A])]),
    ]);
    assert_eq!(got.containers.len(), 1);
    assert_eq!(&*got.containers[0].container, "sidecar");
    assert!(got.containers[0].grants.is_empty());
}

#[test]
fn only_gpus_are_taken() {
    let got = convert(vec![pod(
        "ns",
        "p",
        "c",
        vec![
            devices("cpu", ["1"]),
            devices("amd.com/gpu", ["GPU-1"]),
            devices("nvidia.com/hostdev", ["0000:3b:00.2"]),
            devices("nvidia.com/custom", [A]),
            devices("nvidia.com/gpu", ["nobody-knows"]),
            devices("nvidia.com/mig-1g.18gb.shared", ["nvidia0/gi1/vgpu0"]),
        ],
    )]);
    let minor = DeviceRef::Minor {
        minor: 0,
        gpu_instance: Some(1),
    };
    assert_eq!(
        rows(&got),
        [
            ("nvidia.com/custom", uuid(A), 1, false),
            (
                "nvidia.com/gpu",
                DeviceRef::Unknown("nobody-knows".into()),
                1,
                false
            ),
            ("nvidia.com/mig-1g.18gb.shared", minor, 1, true),
        ]
    );
}

#[test]
fn a_resource_of_another_name_is_taken_where_told() {
    let filter = ResourceFilter {
        names: BTreeSet::from(["example.com/gpu".to_owned()]),
        ..ResourceFilter::default()
    };
    let row = || {
        vec![
            devices("example.com/gpu", [A]),
            devices("example.com/gpus", [B]),
        ]
    };
    let got = convert_with(vec![pod("ns", "p", "c", row())], &filter);
    assert_eq!(rows(&got), [("example.com/gpu", uuid(A), 1, false)]);
    assert!(rows(&convert(vec![pod("ns", "p", "c", row())])).is_empty());
}

#[test]
fn claims_are_carried_as_they_are() {
    let claim = |device: &str| DynamicResource {
        claim_name: "one-gpu".into(),
        claim_namespace: "ns".into(),
        claim_resources: vec![ClaimResource {
            driver_name: "gpu.nvidia.com".into(),
            pool_name: "node-1".into(),
            device_name: device.into(),
            ..ClaimResource::default()
        }],
    };
    let pod = PodResources {
        name: "p".into(),
        namespace: "ns".into(),
        containers: vec![ContainerResources {
            name: "c".into(),
            dynamic_resources: vec![claim("gpu-1"), claim("gpu-0"), claim("gpu-0")],
            ..ContainerResources::default()
        }],
    };
    let got = convert(vec![pod]);
    let claims = &got.containers[0].claims;
    assert_eq!(claims.len(), 1);
    assert_eq!((&*claims[0].namespace, &*claims[0].name), ("ns", "one-gpu"));
    let device = |name: &str| ("gpu.nvidia.com".into(), "node-1".into(), name.into());
    assert_eq!(claims[0].devices, [device("gpu-0"), device("gpu-1")]);
}

#[test]
fn hostile_names_come_through_unchanged() {
    for name in ["a\"b", "line\nline", "\u{1f600}", "\\", &"x".repeat(253)] {
        let got = convert(vec![pod(name, name, name, vec![])]);
        assert_eq!(&*got.containers[0].pod, name);
    }
}

#[test]
fn allocatable_counts_replicas_by_device() {
    let ids: Vec<String> = (0..16_384).map(|n| format!("{A}::{n}")).collect();
    let answer = AllocatableResourcesResponse {
        devices: vec![
            devices("nvidia.com/gpu.shared", ids.iter().map(String::as_str)),
            devices("nvidia.com/gpu", [A]),
            devices("nvidia.com/gpu", [B]),
            devices("memory", ["x"]),
        ],
        ..AllocatableResourcesResponse::default()
    };
    let got = allocatable(&answer, &ResourceFilter::default());
    assert_eq!(got.len(), 2);
    assert_eq!(got[&uuid(A)].replicas, 16_384);
    assert_eq!(&*got[&uuid(A)].resource, "nvidia.com/gpu.shared");
    assert_eq!(got[&uuid(B)].replicas, 1);
    assert!(!got[&uuid(B)].shared);
}

fn any_row() -> impl Strategy<Value = ContainerDevices> {
    let resource = prop_oneof![
        Just("nvidia.com/gpu".to_owned()),
        Just("nvidia.com/mig-1g.18gb".to_owned()),
        "(?s).{0,20}",
    ];
    let id = prop_oneof![
        (0_u32..4, 0_u32..4)
            .prop_map(|(gpu, n)| { format!("GPU-{gpu:08x}-06c0-7d70-1a51-e59b25b2c16c::{n}") }),
        "(?s).{0,20}",
    ];
    (resource, proptest::collection::vec(id, 0..8)).prop_map(|(resource_name, device_ids)| {
        ContainerDevices {
            resource_name,
            device_ids,
            topology: None,
        }
    })
}

proptest! {
    /// How the kubelet spreads a container's ids over rows changes nothing, nor does their order.
    #[test]
    fn rows_and_order_do_not_matter(rows in proptest::collection::vec(any_row(), 0..8)) {
        let whole = convert(vec![pod("ns", "p", "c", rows.clone())]);
        let split = rows
            .iter()
            .rev()
            .flat_map(|row| {
                let one = |id: &String| devices(&row.resource_name, [id.as_str()]);
                row.device_ids.iter().rev().map(one).collect::<Vec<_>>()
            })
            .collect();
        let split = convert(vec![pod("ns", "p", "c", split)]);
        prop_assert_eq!(whole, split);
    }

    /// No more replicas come out than distinct ids went in.
    #[test]
    fn no_replica_is_made_up(rows in proptest::collection::vec(any_row(), 0..8)) {
        let ids: BTreeSet<_> = rows
            .iter()
            .flat_map(|row| row.device_ids.iter().map(|id| (&row.resource_name, id)))
            .collect();
        let got = convert(vec![pod("ns", "p", "c", rows.clone())]);
        let replicas: usize = got.containers[0].grants.iter().map(|g| g.replicas as usize).sum();
        prop_assert!(replicas <= ids.len());
    }
}

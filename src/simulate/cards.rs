//! The cards of the simulated node: H200s, as measured.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

use super::device::Device;
use super::names;
use super::plan::{MIB, NodePlan, Overhead};
use super::ring::Ring;
use super::world::Card;
use crate::model::{Bytes, GpuError, GpuIdentity, GpuUuid, MigInstance, MigProfile};

/// Framebuffer of an H200 in bytes.
const TOTAL: u64 = 143_771 * MIB;
/// The driver's own part of it.
const RESERVED: u64 = 615 * MIB;
const DRIVER: &str = "580.159.04";

/// Name, usable memory in MiB, multiprocessors, compute slices, instances on an empty card:
/// read from an H200 with MIG off.
const PROFILES: [(&str, u64, u32, u32, u32); 7] = [
    ("1g.18gb", 16_384, 16, 1, 7),
    ("1g.18gb+me", 16_384, 16, 1, 1),
    ("1g.35gb", 33_280, 26, 1, 4),
    ("2g.35gb", 33_280, 32, 2, 3),
    ("3g.71gb", 71_424, 60, 3, 2),
    ("4g.71gb", 71_424, 64, 4, 1),
    ("7g.141gb", 143_360, 132, 7, 1),
];
/// Indexes into [`PROFILES`].
pub(super) const G1: usize = 0;
pub(super) const G2: usize = 3;
pub(super) const G3: usize = 4;

/// What the card offers under MIG.
pub(super) fn profiles() -> Vec<MigProfile> {
    PROFILES
        .iter()
        .map(
            |(profile, mib, multiprocessors, slices, instances)| MigProfile {
                profile: (*profile).into(),
                memory: Bytes::mib(*mib),
                multiprocessors: *multiprocessors,
                slices: *slices,
                instances: *instances,
            },
        )
        .collect()
}

fn identity(index: usize, mig: bool, rng: &mut SmallRng) -> GpuIdentity {
    GpuIdentity {
        uuid: GpuUuid::new(format!("GPU-{}", names::uuid(rng))),
        parent: None,
        index: index.to_string().into(),
        model: "NVIDIA H200".into(),
        minor: u32::try_from(index).ok(),
        pci_bus_id: format!("00000000:{:02X}:00.0", 0x19 + 0x11 * index).into(),
        driver_version: DRIVER.into(),
        mig_enabled: Some(mig),
        mig: None,
        exclusive_process: false,
    }
}

/// Cards and their devices, both numbered as the plan does: devices run on over the cards.
pub(super) fn build(plan: &NodePlan, rng: &mut SmallRng) -> (Vec<Card>, Vec<Device>) {
    let mut cards = Vec::new();
    let mut devices: Vec<Device> = Vec::new();
    for (index, card) in plan.cards.iter().enumerate() {
        let card_identity = identity(index, card.mig.is_some(), rng);
        let first = devices.len();
        match &card.mig {
            None => devices.push(Device::new(
                card_identity.clone(),
                index,
                TOTAL,
                RESERVED,
                plan.overhead,
            )),
            Some(instances) => {
                for (place, profile) in instances.iter().enumerate() {
                    let (name, mib, ..) = PROFILES[*profile];
                    let instance = GpuIdentity {
                        uuid: GpuUuid::new(format!("MIG-{}", names::uuid(rng))),
                        parent: Some(card_identity.uuid.clone()),
                        index: format!("{index}:{place}").into(),
                        mig: Some(MigInstance {
                            profile: name.into(),
                            gpu_instance: place as u32 + 1,
                            compute_instance: 0,
                        }),
                        ..card_identity.clone()
                    };
                    devices.push(Device::new(
                        instance,
                        index,
                        mib * MIB,
                        0,
                        Overhead::default(),
                    ));
                }
            }
        }
        cards.push(Card {
            identity: card_identity.into(),
            devices: (first..devices.len()).collect(),
            replicas: card.replicas,
            ring: card.mig.is_none().then(|| Ring::new(0, rng.random())),
            down: None,
            generation: 0,
            last_fault: GpuError::Lost,
            xids: Vec::new(),
            xid_totals: BTreeMap::new(),
        });
    }
    (cards, devices)
}

//! MIG instances and profiles.

use std::time::Duration;

use fake_nvml::script::{Gpu, Instance, Memory, Process, Profile, Script};
use slicewatch::model::{Bytes, GpuError, GpuSource, HostPid};

use super::{bench, bench_without};

fn instance(number: u32, gpu_instance: u32) -> Option<Instance> {
    Some(Instance {
        uuid: format!("MIG-00000000-0000-0000-0000-{number:012}"),
        name: "NVIDIA H200 MIG 1g.18gb".to_owned(),
        gpu_instance,
        compute_instance: 0,
        slices: 1,
        memory: Memory {
            total: 16_384 << 20,
            reserved: 0,
            used: u64::from(number) << 30,
        },
        compute: vec![Process::mib(500 + number, 1024)],
    })
}

fn mig_card() -> Gpu {
    let mut card = Gpu::h200(0);
    let mig = card.mig.as_mut().expect("an H200 has MIG");
    mig.enabled = true;
    // Slot 1 is empty.
    mig.instances = vec![instance(1, 9), None, instance(2, 11)];
    card
}

#[test]
fn mig_instances_stand_under_their_card() {
    let mut bench = bench(&Script::of(vec![mig_card()]));
    let devices = bench.gpu.devices().expect("it answers");
    let card = bench.gpu.card().clone();
    assert_eq!(card.mig_enabled, Some(true));
    assert_eq!(devices.len(), 2);
    let second = &devices[1];
    assert_eq!(
        second.uuid.as_str(),
        "MIG-00000000-0000-0000-0000-000000000002"
    );
    assert_eq!(second.parent, Some(card.uuid));
    assert_eq!(&*second.index, "0:2");
    let mig = second.mig.as_ref().expect("it is an instance");
    assert_eq!(&*mig.profile, "1g.18gb");
    assert_eq!((mig.gpu_instance, mig.compute_instance), (11, 0));
    let memory = bench.gpu.memory(1).expect("it answers");
    assert_eq!(memory.total, Bytes::gib(16));
    assert_eq!(memory.used, Bytes::gib(2));
    let mut rows = Vec::new();
    assert_eq!(bench.gpu.processes(1, &mut rows), Ok(true));
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].pid, HostPid(502));
    assert_eq!(bench.gpu.ring(Duration::ZERO), Err(GpuError::Unsupported));
    assert_eq!(bench.fake.calls("nvmlDeviceGetProcessUtilization"), 0);
}

#[test]
fn an_instance_without_a_profile_in_its_name_is_named_by_its_size() {
    let mut card = mig_card();
    let mig = card.mig.as_mut().expect("an H200 has MIG");
    for instance in mig.instances.iter_mut().flatten() {
        instance.name = "NVIDIA H200".to_owned();
    }
    let mut bench = bench(&Script::of(vec![card]));
    let devices = bench.gpu.devices().expect("it answers");
    let profiles = devices.iter().map(|device| {
        let mig = device.mig.as_ref().expect("it is an instance");
        mig.profile.to_string()
    });
    assert_eq!(profiles.collect::<Vec<_>>(), ["1g.18gb", "1g.18gb"]);
}

#[test]
fn an_instance_that_goes_away_is_an_error_until_devices_are_listed_anew() {
    let mut bench = bench(&Script::of(vec![mig_card()]));
    assert_eq!(bench.gpu.devices().expect("it answers").len(), 2);
    let mut card = mig_card();
    card.mig.as_mut().expect("an H200 has MIG").instances = vec![instance(1, 9)];
    bench.fake.set(&Script::of(vec![card]));
    assert_eq!(bench.gpu.memory(1), Err(GpuError::Code(2)));
    assert_eq!(bench.gpu.devices().expect("it answers").len(), 1);
    bench.fake.set(&Script::of(vec![Gpu::h200(0)]));
    let devices = bench.gpu.devices().expect("MIG was switched off");
    assert_eq!(devices, [bench.gpu.card().clone()]);
    assert_eq!(devices[0].mig_enabled, Some(false));
}

#[test]
fn mig_profiles_have_their_names_with_and_without_the_drivers_help() {
    let script = Script::of(vec![Gpu::h200(0)]);
    let new = bench(&script);
    let old = bench_without(&script, &["nvmlDeviceGetGpuInstanceProfileInfoV"]);
    for mut bench in [new, old] {
        let profiles = bench.gpu.mig_profiles().expect("it answers");
        let mut told: Vec<_> = profiles
            .iter()
            .map(|p| {
                (
                    &*p.profile,
                    p.memory,
                    p.multiprocessors,
                    p.slices,
                    p.instances,
                )
            })
            .collect();
        told.sort_by_key(|(name, ..)| *name);
        let mut expected: Vec<_> = Profile::h200()
            .into_iter()
            .map(|p| {
                let name = p.name.replace("MIG ", "");
                (
                    name,
                    Bytes::mib(p.memory_mib),
                    p.multiprocessors,
                    p.slices,
                    p.instances,
                )
            })
            .collect();
        expected.sort_by_key(|(name, ..)| name.clone());
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, memory, sms, slices, n)| (name.as_str(), *memory, *sms, *slices, *n))
            .collect();
        assert_eq!(told, expected);
    }
}

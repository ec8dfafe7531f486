//! What each scenario is there to show.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use slicewatch::model::{Bytes, Cause, ContextKind, DeviceRef, GpuError, HostPid, Reading};
use slicewatch::simulate::{TrueOwner, scenarios};

use super::{at, check_balance, list, node};

#[test]
fn four_pods_share_one_card_and_nothing_is_unexplained() {
    let node = node("noisy-neighbour", 1);
    node.advance(at(60.0));
    let truth = node.truth();
    assert_eq!(truth.devices.len(), 1);
    assert_eq!(truth.tenants.len(), 4);
    assert_eq!(truth.processes.len(), 4);
    assert!(
        truth
            .devices
            .values()
            .all(|device| device.unexplained == Bytes(0))
    );
    let Reading::Value(allocations) = node.allocations() else {
        panic!("the kubelet is up");
    };
    let uuid = truth.devices.keys().next().expect("one card");
    assert_eq!(allocations.containers.len(), 4);
    for container in &allocations.containers {
        let [grant] = &container.grants[..] else {
            panic!("one grant each");
        };
        assert_eq!(grant.device, DeviceRef::Uuid(uuid.clone()));
        assert_eq!((grant.replicas, grant.shared), (1, true));
    }
    assert_eq!(
        allocations.allocatable[&DeviceRef::Uuid(uuid.clone())].replicas,
        4
    );
}

/// Hours before the card is full its free framebuffer says when: it falls by 45 GiB an hour.
#[test]
fn a_slow_leak_fills_the_card_in_a_straight_line_and_ends() {
    let node = node("slow-leak", 1);
    let used = |seconds: f64| {
        node.advance(at(seconds));
        let truth = node.truth();
        let device = truth.devices.values().next().expect("one card");
        (device.used.0 as f64 / f64::from(1 << 30), device.ooms)
    };
    let (first, _) = used(600.0);
    let (half, _) = used(4_200.0);
    let (later, failed) = used(7_800.0);
    for hour in [half - first, later - half] {
        assert!((40.0..50.0).contains(&hour), "{hour} GiB in an hour");
    }
    assert_eq!(failed, 0);
    let (after, failed) = used(10_800.0);
    assert!(failed == 1 && after < later / 2.0, "{after} GiB, {failed}");
}

/// Host files name each process's pod, in all three forms of cgroup path.
#[test]
fn host_files_lead_from_each_pid_to_its_true_owner() {
    let mut cut = 0;
    for scenario in scenarios() {
        let node = node(scenario.name, 2);
        let files = node.host_files();
        let link = files.read_link("/proc/self/ns/pid").expect("there");
        assert_eq!(link, "pid:[4026531836]");
        for step in 1..=10 {
            node.advance(at(f64::from(step) * 7.3));
            let truth = node.truth();
            let folders = files.list("/var/log/pods").expect("there");
            let links = files.list("/var/log/containers").expect("there");
            for process in &truth.processes {
                let path = format!("/proc/{}", process.pid);
                if process.owner == TrueOwner::Nobody {
                    assert!(files.read(&format!("{path}/stat")).is_err());
                    continue;
                }
                let stat = files.read(&format!("{path}/stat")).expect("there");
                let stat = String::from_utf8(stat).expect("ASCII");
                let after = stat.rsplit(") ").next().expect("fields");
                let started = after.split(' ').nth(19).expect("field 22");
                assert_eq!(started.parse(), Ok(process.started.0));
                assert_eq!(after.split_whitespace().count(), 50);
                let comm = files.read(&format!("{path}/comm")).expect("there");
                assert!((2..=16).contains(&comm.len()));
                let cgroup = files.read(&format!("{path}/cgroup"));
                let TrueOwner::Container {
                    namespace,
                    pod,
                    container,
                    pod_uid,
                } = &process.owner
                else {
                    let cgroup = String::from_utf8(cgroup.expect("there")).expect("ASCII");
                    assert!(!cgroup.contains("kubepods"), "{cgroup}");
                    continue;
                };
                let folder = format!("{namespace}_{pod}_{pod_uid}");
                assert!(folder.len() <= 255 && folders.contains(&folder), "{folder}");
                let inside = files
                    .list(&format!("/var/log/pods/{folder}"))
                    .expect("there");
                assert!(inside.iter().any(|name| **name == **container));
                let Ok(cgroup) = cgroup else {
                    assert_eq!(&**namespace, "vault", "the only one that may not be read");
                    continue;
                };
                let cgroup = String::from_utf8(cgroup).expect("ASCII").replace('_', "-");
                assert!(cgroup.contains(&format!("pod{pod_uid}")), "{cgroup}");
                let id = cgroup
                    .split(|c: char| !c.is_ascii_hexdigit())
                    .find(|part| part.len() == 64)
                    .expect("a container id");
                let whole = format!("{pod}_{namespace}_{container}-{id}.log");
                if whole.len() <= 255 {
                    assert!(links.contains(&whole), "{whole}");
                    let to = files.read_link(&format!("/var/log/containers/{whole}"));
                    assert!(
                        to.expect("a link")
                            .starts_with(&format!("/var/log/pods/{folder}/"))
                    );
                } else {
                    cut += 1;
                    let starts = |link: &String| whole.starts_with(link.trim_end_matches(".log"));
                    assert!(links.iter().any(starts), "{whole}");
                }
            }
        }
    }
    assert_eq!(cut, 80, "a long name on each of 8 cards, ten times");
}

#[test]
fn churn_reuses_pids_and_names_for_other_processes_and_pods() {
    let node = node("churn", 9);
    let mut starts: HashMap<HostPid, BTreeSet<_>> = HashMap::new();
    for step in 1..=1_200 {
        node.advance(at(f64::from(step) * 0.25));
        for process in node.truth().processes {
            assert!((300..=420).contains(&process.pid.0));
            starts
                .entry(process.pid)
                .or_default()
                .insert(process.started);
        }
    }
    assert!(starts.values().filter(|starts| starts.len() > 1).count() > 10);
    let truth = node.truth();
    let same = truth
        .pods
        .iter()
        .filter(|pod| &*pod.pod == "elastic-worker-0");
    let uids: BTreeSet<_> = same.map(|pod| &pod.uid).collect();
    assert!(uids.len() > 3);
    let decoder: BTreeSet<_> = truth
        .tenants
        .iter()
        .filter(|(_, tenant)| &*tenant.namespace == "media")
        .map(|(key, tenant)| (&key.pod_uid, tenant.exits))
        .collect();
    let [(_, exits)] = decoder.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one pod through all its crashes");
    };
    assert!(exits > 5);
}

#[test]
fn the_hog_makes_others_fail_and_lists_are_torn() {
    let node = node("memory-hog", 1);
    let mut source = node.gpu_sources().remove(0);
    let mut torn = 0;
    for step in 1..=600 {
        node.advance(at(f64::from(step)));
        let before = source.memory(0).expect("answers");
        list(&mut *source, 0);
        let after = source.memory(0).expect("answers");
        torn += u32::from(before != after);
        check_balance("memory-hog", &node.truth(), f64::from(step));
    }
    assert!((10..120).contains(&torn), "{torn} of 600");
    let truth = node.truth();
    let device = truth.devices.values().next().expect("one card");
    assert!(device.ooms > 10 && device.pressure > Duration::from_secs(30));
    let victims = truth
        .tenants
        .values()
        .filter(|tenant| &*tenant.namespace == "prod");
    assert!(
        victims
            .map(|tenant| tenant.exits_under_pressure)
            .sum::<u64>()
            > 0
    );
}

#[test]
fn mig_has_no_ring_and_mps_gives_all_time_to_the_server() {
    let mig = node("mig", 1);
    mig.advance(at(10.0));
    let mut sources = mig.gpu_sources();
    assert_eq!(sources[0].ring(Duration::ZERO), Err(GpuError::Unsupported));
    assert!(
        !sources[1]
            .ring(Duration::ZERO)
            .expect("has one")
            .rows
            .is_empty()
    );
    let devices = sources[0].devices().expect("answers");
    let names: Vec<_> = devices
        .iter()
        .filter_map(|device| device.mig.as_ref())
        .collect();
    assert_eq!(
        names.iter().map(|mig| &*mig.profile).collect::<Vec<_>>(),
        ["3g.71gb", "2g.35gb", "1g.18gb"]
    );
    assert!(
        devices
            .iter()
            .all(|device| device.parent.as_ref() == Some(&sources[0].card().uuid))
    );
    assert_eq!(sources[0].mig_profiles().expect("known").len(), 7);
    assert_eq!(
        list(&mut *sources[0], 1).len(),
        2,
        "two pods on one instance"
    );
    assert_eq!(sources[0].memory(9), Err(GpuError::Code(2)));

    let mps = node("mps", 1);
    mps.advance(at(10.0));
    let mut source = mps.gpu_sources().remove(0);
    let rows = list(&mut *source, 0);
    let clients = rows
        .iter()
        .filter(|row| row.kind == ContextKind::Mps)
        .count();
    let [server] = rows
        .iter()
        .filter(|row| row.kind == ContextKind::Compute)
        .collect::<Vec<_>>()[..]
    else {
        panic!("one server");
    };
    assert_eq!(clients, 4);
    let ring = source.ring(Duration::ZERO).expect("has one");
    assert!(ring.rows.iter().all(|row| row.pid == server.pid) && ring.rows.len() == 1);
}

#[test]
fn faults_come_and_go_and_old_handles_stay_dead() {
    let node = node("faults", 1);
    let mut sources = node.gpu_sources();
    assert_eq!(sources.len(), 2);
    let mut xids = BTreeMap::new();
    for step in 0..149 {
        node.advance(at(f64::from(step)));
        for event in sources[0].xids().expect("has events") {
            *xids.entry(event.xid).or_insert(0_u64) += 1;
        }
        let down = (60..95).contains(&step);
        assert_eq!(node.allocations() == Reading::Failed(Cause::NotFound), down);
    }
    let truth = node.truth();
    let card = &truth.devices[&sources[0].card().uuid];
    assert_eq!(card.xids, xids);
    assert!(xids[&31] >= 1);
    assert!(
        list(&mut *sources[0], 0)
            .iter()
            .any(|row| row.pid == HostPid(0))
    );

    node.advance(at(149.8));
    assert_eq!(sources[1].xids().expect("still there")[0].xid, 79);
    node.advance(at(160.0));
    assert_eq!(sources[1].memory(0), Err(GpuError::Lost));
    assert!(sources[0].memory(0).is_ok());
    assert_eq!(node.gpu_sources().len(), 1);
    node.advance(at(240.0));
    assert_eq!(
        sources[1].memory(0),
        Err(GpuError::Lost),
        "opened before the loss"
    );
    let mut again = node.gpu_sources();
    assert_eq!(again.len(), 2);
    assert!(!list(&mut *again[1], 0).is_empty(), "its pods came back");
    node.advance(at(310.0));
    assert_eq!(again[0].memory(0), Err(GpuError::DriverNotLoaded));
    assert!(matches!(node.open(), Err(GpuError::DriverNotLoaded)));
    node.advance(at(360.0));
    assert_eq!(
        again[0].ring(Duration::ZERO),
        Err(GpuError::DriverNotLoaded)
    );
    let mut last = node.gpu_sources();
    assert!(
        last[0]
            .ring(Duration::ZERO)
            .expect("a new ring")
            .samples
            .len()
            > 60
    );
    assert!(list(&mut *last[0], 0).len() >= 7);
}

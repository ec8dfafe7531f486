//! The simulated node seen from outside: its seams against its own truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use slicewatch::model::{
    Bytes, Cause, ContextKind, DeviceRef, GpuError, GpuSource, HostPid, Moment, RawProcess, Reading,
};
use slicewatch::simulate::{SimNode, TenantTruth, TrueOwner, Truth, scenarios};

const START: Moment = Moment {
    monotonic: Duration::from_secs(1_000),
    unix: Duration::from_secs(1_795_000_000),
};

fn at(seconds: f64) -> Moment {
    START.later(Duration::from_secs_f64(seconds))
}

fn node(scenario: &str, seed: u64) -> SimNode {
    SimNode::new(scenario, seed, START).expect("a known scenario")
}

fn list(source: &mut dyn GpuSource, device: usize) -> Vec<RawProcess> {
    let mut rows = Vec::new();
    assert!(source.processes(device, &mut rows).expect("answers"));
    rows
}

/// Sums hold at any instant: memory by process and pod, time by process, pod and elapsed time.
fn check_balance(name: &str, truth: &Truth, elapsed: f64) {
    for (uuid, device) in &truth.devices {
        let rows: u64 = truth
            .processes
            .iter()
            .filter(|process| process.gpu_uuid == *uuid)
            .map(|process| process.memory.0)
            .sum();
        assert_eq!(device.used.0, rows + device.unexplained.0, "{name}: memory");
        let tenants = || {
            truth
                .tenants
                .iter()
                .filter(|(key, _)| key.gpu_uuid == *uuid)
        };
        let shares: f64 = tenants().map(|(_, tenant)| tenant.gpu_seconds.0).sum();
        let given = shares + device.outside_pods.0;
        assert!(
            (given - device.busy.0).abs() < 1e-6,
            "{name}: time is given once"
        );
        assert!(
            device.busy.0 <= elapsed,
            "{name}: no more time than there is"
        );
        for (key, tenant) in tenants() {
            assert!(
                tenant.gpu_seconds.0 <= tenant.active.as_secs_f64() + 1e-6,
                "{key:?}"
            );
            assert!(tenant.contended <= tenant.active, "{key:?}");
            assert!(tenant.exits_under_pressure <= tenant.exits, "{key:?}");
            assert!(tenant.present || tenant.processes.is_empty(), "{key:?}");
        }
    }
    let held: u64 = truth.tenants.values().map(|tenant| tenant.memory.0).sum();
    let in_pods: u64 = truth
        .processes
        .iter()
        .filter(|process| matches!(process.owner, TrueOwner::Container { .. }))
        .map(|process| process.memory.0)
        .sum();
    assert_eq!(held, in_pods, "{name}: memory by pod");
}

#[test]
fn every_scenario_runs_ten_minutes_and_its_sums_hold() {
    for scenario in scenarios() {
        let node = node(scenario.name, 7);
        let mut last: BTreeMap<_, TenantTruth> = BTreeMap::new();
        for step in 0..=120 {
            let elapsed = f64::from(step) * 5.0;
            node.advance(at(elapsed));
            let truth = node.truth();
            assert_eq!(truth.at, at(elapsed));
            check_balance(scenario.name, &truth, elapsed);
            for (key, before) in &last {
                let now = &truth.tenants[key];
                assert!(
                    now.gpu_seconds.0 >= before.gpu_seconds.0,
                    "{key:?} lost time"
                );
                assert!(now.exits >= before.exits && now.ooms >= before.ooms);
            }
            last = truth.tenants;
        }
        assert!(last.values().any(|tenant| tenant.gpu_seconds.0 > 0.0));
    }
}

#[test]
fn the_driver_seam_shows_the_truth_of_the_instant() {
    for scenario in scenarios() {
        let node = node(scenario.name, 11);
        node.set_torn_chance(0.0);
        for step in 1..60 {
            node.advance(at(f64::from(step) * 3.7));
            let truth = node.truth();
            for mut source in node.gpu_sources() {
                for (index, identity) in source.devices().expect("answers").iter().enumerate() {
                    let memory = source.memory(index).expect("answers");
                    let device = &truth.devices[&identity.uuid];
                    assert_eq!(memory.used, device.used);
                    let reserved = memory.reserved.copied().expect("known on this driver");
                    assert_eq!(memory.total, memory.used + memory.free + reserved);
                    let rows = list(&mut *source, index);
                    let true_rows: Vec<_> = truth
                        .processes
                        .iter()
                        .filter(|process| process.gpu_uuid == identity.uuid)
                        .collect();
                    assert_eq!(rows.len(), true_rows.len(), "{}", scenario.name);
                    for (row, process) in rows.iter().zip(true_rows) {
                        assert_eq!(row.pid, process.pid);
                        match row.used {
                            Reading::Value(used) => assert_eq!(used, process.memory),
                            other => assert_eq!(other, Reading::Failed(Cause::NotAvailable)),
                        }
                    }
                }
            }
        }
    }
}

/// Estimates of GPU seconds by PID from the ring alone, read before a second sample can come.
fn from_ring(node: &SimNode, seconds: f64) -> HashMap<HostPid, f64> {
    let mut source = node.gpu_sources().remove(0);
    let mut watermark = START.unix;
    let mut estimate: HashMap<HostPid, f64> = HashMap::new();
    for step in 1..=(seconds * 10.0) as u32 {
        node.advance(at(f64::from(step) / 10.0));
        let read = source.ring(watermark).expect("has a ring");
        assert!(read.samples.len() <= 1);
        let Some(sample) = read.samples.last() else {
            continue;
        };
        watermark = sample.at;
        assert!(read.rows.len() <= 1, "the winner takes all");
        for row in &read.rows {
            assert_eq!((row.last_won, row.sm_percent), (sample.at, sample.percent));
            *estimate.entry(row.pid).or_default() += f64::from(row.sm_percent) / 100.0 * 0.2;
        }
    }
    estimate
}

/// The mean of `errors` is within three of its standard errors of nothing.
fn assert_no_bias(what: &str, errors: &[f64]) {
    let n = errors.len() as f64;
    let mean = errors.iter().sum::<f64>() / n;
    let spread = errors
        .iter()
        .map(|error| (error - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    let standard_error = (spread / n).sqrt();
    assert!(
        mean.abs() <= 3.0 * standard_error,
        "{what}: off by {mean:.4} s, standard error {standard_error:.4} s"
    );
}

#[test]
fn the_ring_is_an_unbiased_estimate_of_true_gpu_time() {
    for scenario in ["noisy-neighbour", "quiet"] {
        let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for seed in 0..20 {
            let node = node(scenario, seed);
            let estimate = from_ring(&node, 120.0);
            let truth = node.truth();
            for tenant in truth.tenants.values() {
                let guess: f64 = tenant
                    .processes
                    .iter()
                    .filter_map(|pid| estimate.get(pid))
                    .sum();
                let error = guess - tenant.gpu_seconds.0;
                let workload = tenant.pod.rsplitn(3, '-').last().unwrap_or_default();
                errors
                    .entry(format!("{}/{workload}", tenant.namespace))
                    .or_default()
                    .push(error);
                // One run: three standard errors of so many draws, and a sample at the edge.
                let share = tenant.gpu_seconds.0 / 120.0;
                let bound = 3.0 * (share * (1.0 - share) / 600.0).sqrt() * 120.0 + 0.4;
                assert!(
                    error.abs() < bound.max(1.0),
                    "{}: {error} s, bound {bound}",
                    tenant.pod
                );
            }
        }
        for (pod, errors) in errors {
            assert_eq!(errors.len(), 20);
            assert_no_bias(&pod, &errors);
        }
    }
}

#[test]
fn rows_of_a_drain_are_rounded_up_and_a_saturated_card_shows_98_percent() {
    let node = node("noisy-neighbour", 3);
    node.advance(at(30.0));
    let mut source = node.gpu_sources().remove(0);
    let whole = source.ring(Duration::ZERO).expect("has a ring");
    assert!((70..=71).contains(&whole.samples.len()), "14 s deep");
    assert!(
        whole
            .samples
            .iter()
            .all(|sample| (97..=98).contains(&sample.percent))
    );
    let after = whole.samples[whole.samples.len() - 16].at;
    let drain = source.ring(after).expect("has a ring");
    assert_eq!(drain.samples.len(), 15);
    let rows: u32 = drain.rows.iter().map(|row| row.sm_percent).sum();
    assert!(
        (97..=98 + 4).contains(&rows),
        "four rows, each less than one point up"
    );
    let newest = drain.samples[14].at;
    assert!(drain.rows.iter().any(|row| row.last_won == newest));
    assert!(drain.rows.iter().any(|row| row.last_won < newest));
}

#[test]
fn the_same_seed_and_calls_give_the_same_world_and_another_seed_another() {
    for scenario in scenarios() {
        let run = |seed| {
            let node = node(scenario.name, seed);
            for step in 1..=90 {
                node.advance(at(f64::from(step) * 0.9));
                for mut source in node.gpu_sources() {
                    let devices = source.devices().expect("answers").len();
                    for index in 0..devices {
                        list(&mut *source, index);
                    }
                }
            }
            node.truth()
        };
        assert_eq!(run(5), run(5), "{}", scenario.name);
        assert_ne!(run(5), run(6), "{}", scenario.name);
    }
}

#[test]
fn how_finely_time_is_cut_does_not_matter() {
    let coarse = node("churn", 4);
    coarse.advance(at(120.0));
    let fine = node("churn", 4);
    for step in 1..=12_000 {
        fine.advance(at(f64::from(step) / 100.0));
    }
    let (coarse, fine) = (coarse.truth(), fine.truth());
    assert_eq!(coarse.pods, fine.pods);
    for (key, tenant) in &coarse.tenants {
        let other = &fine.tenants[key];
        assert_eq!(tenant.exits, other.exits);
        assert!((tenant.gpu_seconds.0 - other.gpu_seconds.0).abs() < 1e-4);
    }
}

#[test]
fn an_unknown_scenario_is_refused_with_the_names_there_are() {
    let error = SimNode::new("noisy", 1, START).expect_err("no such scenario");
    let text = error.to_string();
    assert!(text.contains("\"noisy\""), "{text}");
    for scenario in scenarios() {
        assert!(text.contains(scenario.name), "{text}");
    }
}

#[test]
fn every_scenario_has_a_page_and_a_line() {
    let names: BTreeSet<_> = scenarios().iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), 8);
    for scenario in scenarios() {
        assert!(scenario.page.starts_with(&format!("# {}\n", scenario.name)));
        assert!(scenario.page.contains("Look at:"));
        assert!(!scenario.summary.is_empty() && !scenario.summary.contains('\n'));
    }
}

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

/// Host files name each process's pod, in all three forms of cgroup path.
#[test]
fn host_files_lead_from_each_pid_to_its_true_owner() {
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
                    assert!(links.iter().any(|link| whole.starts_with(&link[..251])));
                }
            }
        }
    }
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

#[test]
fn the_wall_clock_steps_and_the_ring_with_it() {
    let node = node("quiet", 1);
    node.advance(at(20.0));
    node.step_wall_clock(3_600.0);
    assert_eq!(node.now().monotonic, at(20.0).monotonic);
    assert_eq!(node.now().unix, at(3_620.0).unix);
    node.advance(at(21.0));
    let mut source = node.gpu_sources().remove(0);
    let after = source.ring(at(3_000.0).unix).expect("has one");
    assert_eq!(after.samples.len(), 5, "one second on the new clock");
    node.step_wall_clock(-7_200.0);
    node.advance(at(22.0));
    let back = source.ring(Duration::ZERO).expect("has one");
    assert!(back.samples.windows(2).any(|pair| pair[1].at < pair[0].at));
}

#[test]
fn stretches_tell_a_canary_who_keeps_the_card_and_for_how_long() {
    let node = node("noisy-neighbour", 1);
    node.keep_stretches(Duration::from_secs(2));
    node.advance(at(10.0));
    let truth = node.truth();
    let uuid = truth.devices.keys().next().expect("one card");
    let stretches = node.stretches(uuid);
    let longest = Duration::from_millis(2);
    let (first, last) = (&stretches[0], &stretches[stretches.len() - 1]);
    assert_eq!(last.to, at(10.0).monotonic);
    assert!(last.to - first.to <= Duration::from_secs(2));
    for pair in stretches.windows(2) {
        assert_eq!(pair[0].to, pair[1].from, "the trainer always has work");
    }
    for turn in stretches.iter().flat_map(|stretch| &stretch.turns) {
        assert!(turn.turn <= longest && turn.turn <= turn.kernel);
        assert!(truth.process(turn.pid).is_some());
    }
    assert_eq!(node.queue(uuid).len(), last.turns.len().max(1));
}

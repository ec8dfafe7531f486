//! PIDs to processes: identity, cache, and what may happen in between.

use std::sync::Arc;

use slicewatch::collect::host::{INITIAL_PID_NAMESPACE, MAX_PROCESSES, ProcessTable, RealFiles};
use slicewatch::model::{
    Cause, CgroupIdentity, ContainerId, HostPid, PodUid, ProcessFacts, Reading, StartTime,
};

use super::{Entry, ID_A, ID_B, ScriptedFiles, UID_A, UID_B, captured};

const PID: HostPid = HostPid(42);

fn identity(uid: Option<&str>, id: Option<&str>) -> CgroupIdentity {
    CgroupIdentity {
        pod_uid: uid.map(PodUid::new),
        container_id: id.map(ContainerId::new),
    }
}

fn stat(comm: &str, state: char, started: u64) -> String {
    format!("42 ({comm}) {state} 1 1 1 0 -1 4 1 0 0 0 4 1 0 0 20 0 14 0 {started} 4 3 1 1\n")
}

fn in_pod(uid: &str, id: &str) -> String {
    format!("0::/kubepods/burstable/pod{uid}/{id}\n")
}

/// A table over files in which process 42 runs in pod A.
fn one_process() -> (Arc<ScriptedFiles>, ProcessTable) {
    let files = Arc::new(ScriptedFiles::default());
    files.text("/proc/42/stat", &stat("python3", 'S', 100));
    files.text("/proc/42/cgroup", &in_pod(UID_A, ID_A));
    let table = ProcessTable::with_namespace(files.clone(), "/proc/", Reading::Value(()));
    (files, table)
}

fn value(reading: Reading<Arc<ProcessFacts>>) -> Arc<ProcessFacts> {
    match reading {
        Reading::Value(facts) => facts,
        Reading::Unsupported | Reading::Failed(_) => panic!("{reading:?}"),
    }
}

#[test]
fn captured_trees_give_the_processes_that_were_there() {
    let in_a = identity(Some(UID_A), Some(ID_A));
    let in_b = identity(Some(UID_B), Some(ID_B));
    let host = identity(None, None);
    for (tree, pid, name, cgroup) in [
        // cgroup v1 beside v2, with one controller in which the kubelet made no groups
        ("v1-hybrid", 4101, "gpu) job (1", &in_a),
        ("v1-hybrid", 4102, "sleep", &in_b),
        ("v1-hybrid", 2, "kthreadd", &host),
        // it ended and its parent has not asked: v1 has moved it out, v2 has not
        ("v1-hybrid", 4105, "sleep", &in_a),
        // seen from a container's own cgroup namespace
        ("v1-private", 4101, "gpu) job (1", &in_a),
        ("v1-private", 2, "kthreadd", &host),
        ("v2-systemd", 4101, "python3", &in_a),
        ("v2-systemd", 4102, "python3", &in_b),
        // a docker inside a container of a pod
        ("v2-systemd", 4103, "python3", &in_a),
        // a docker of the bare machine
        ("v2-systemd", 4104, "python3", &identity(None, Some(ID_B))),
        ("v2-systemd", 2, "kthreadd", &host),
        ("v2-private", 4101, "python3", &in_a),
        ("v2-private", 4103, "python3", &in_a),
        ("v2-private", 2, "kthreadd", &host),
        // the agent's own container, as it sees itself
        ("v2-private", 4102, "python3", &host),
    ] {
        let files = Arc::new(RealFiles::new(captured(tree)));
        let mut table = ProcessTable::with_namespace(files, "/proc", Reading::Value(()));
        let facts = value(table.look_up(HostPid(pid)));
        assert_eq!(
            (&*facts.name, &facts.cgroup),
            (name, cgroup),
            "{tree} {pid}"
        );
        assert_eq!(facts.key.pid, HostPid(pid));
    }
}

#[test]
fn without_the_hosts_pids_nothing_is_read() {
    for proof in [
        Reading::Failed(Cause::PidNamespace),
        Reading::Failed(Cause::NotFound),
        Reading::Unsupported,
    ] {
        let files = Arc::new(ScriptedFiles::default());
        files.text("/proc/42/stat", &stat("python3", 'S', 100));
        let mut table = ProcessTable::with_namespace(files.clone(), "/proc", proof);
        assert_eq!(table.look_up(PID), Reading::Failed(Cause::PidNamespace));
        assert!(files.reads().is_empty());
    }
}

#[test]
fn a_table_proves_the_namespace_itself() {
    for (link, proven) in [(INITIAL_PID_NAMESPACE, true), ("pid:[4026532301]", false)] {
        let (files, _) = one_process();
        files.text("/proc/self/ns/pid", link);
        let mut table = ProcessTable::new(files, "/proc");
        assert_eq!(table.look_up(PID).value().is_some(), proven);
    }
}

#[test]
fn a_known_process_costs_one_read_and_no_new_facts() {
    let (files, mut table) = one_process();
    let first = value(table.look_up(PID));
    assert_eq!(
        files.reads(),
        ["/proc/42/stat", "/proc/42/cgroup", "/proc/42/stat"]
    );
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&first, &value(table.look_up(PID))));
        assert_eq!(files.reads(), ["/proc/42/stat"]);
    }
}

#[test]
fn a_reused_pid_is_another_process() {
    let (files, mut table) = one_process();
    let first = value(table.look_up(PID));
    files.text("/proc/42/stat", &stat("other", 'R', 101));
    files.text("/proc/42/cgroup", &in_pod(UID_B, ID_B));
    let second = value(table.look_up(PID));
    assert_ne!(first.key, second.key);
    assert_eq!(second.key.started, StartTime(101));
    assert_eq!(second.cgroup, identity(Some(UID_B), Some(ID_B)));
    assert_eq!(&*second.name, "other");
}

#[test]
fn a_pid_that_changes_hands_between_two_reads_is_nobody() {
    let (files, mut table) = one_process();
    let other = Entry::Text(stat("other", 'R', 101).into_bytes());
    // The cgroup that is read is the newcomer's.
    files.text("/proc/42/cgroup", &in_pod(UID_B, ID_B));
    files.afterwards("/proc/42/cgroup", "/proc/42/stat", other);
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::ProcessGone));
    let next = value(table.look_up(PID));
    assert_eq!(next.key.started, StartTime(101));
    assert_eq!(next.cgroup, identity(Some(UID_B), Some(ID_B)));
}

#[test]
fn a_process_that_ended_is_gone_and_forgotten() {
    let (files, mut table) = one_process();
    value(table.look_up(PID));
    files.remove("/proc/42/stat");
    files.remove("/proc/42/cgroup");
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::ProcessGone));
    // Between open and read the kernel says so in another word.
    files.put("/proc/42/stat", Entry::Refused(libc::ESRCH));
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::ProcessGone));
    // Between the two files.
    let (files, mut table) = one_process();
    files.put("/proc/42/cgroup", Entry::Refused(libc::ESRCH));
    files.afterwards(
        "/proc/42/cgroup",
        "/proc/42/stat",
        Entry::Refused(libc::ENOENT),
    );
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::ProcessGone));
}

#[test]
fn a_process_moved_out_of_its_cgroup_as_it_ends_is_not_the_hosts() {
    let (files, mut table) = one_process();
    files.text("/proc/42/stat", &stat("python3", 'Z', 100));
    files.text("/proc/42/cgroup", "4:memory:/\n0::/\n");
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::ProcessGone));
    // Known before, it stays what it was.
    let (files, mut table) = one_process();
    let first = value(table.look_up(PID));
    files.text("/proc/42/stat", &stat("python3", 'Z', 100));
    files.text("/proc/42/cgroup", "4:memory:/\n0::/\n");
    assert!(Arc::ptr_eq(&first, &value(table.look_up(PID))));
}

#[test]
fn files_that_may_not_be_read_are_told_from_missing_ones() {
    for number in [libc::EACCES, libc::EPERM] {
        for path in ["/proc/42/stat", "/proc/42/cgroup"] {
            let (files, mut table) = one_process();
            files.put(path, Entry::Refused(number));
            let denied = Reading::Failed(Cause::PermissionDenied);
            assert_eq!(table.look_up(PID), denied, "{path}");
            // Not kept: the next look-up reads anew.
            files.text("/proc/42/stat", &stat("python3", 'S', 100));
            files.text("/proc/42/cgroup", &in_pod(UID_A, ID_A));
            value(table.look_up(PID));
        }
    }
}

#[test]
fn a_kernel_without_cgroups_is_not_a_process_of_the_host() {
    let (files, mut table) = one_process();
    files.remove("/proc/42/cgroup");
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::NotFound));
}

#[test]
fn text_that_the_kernel_does_not_write_is_malformed() {
    let (files, mut table) = one_process();
    files.text("/proc/42/stat", "nonsense");
    assert_eq!(table.look_up(PID), Reading::Failed(Cause::Malformed));
}

#[test]
fn a_cgroup_that_is_not_text_proves_nothing() {
    let (files, mut table) = one_process();
    files.put("/proc/42/cgroup", Entry::Text(b"0::/\xff\xfe\x00".to_vec()));
    assert_eq!(value(table.look_up(PID)).cgroup, identity(None, None));
}

#[test]
fn a_process_in_no_pod_is_asked_again_at_every_tenth_look_up() {
    let (files, mut table) = one_process();
    files.text("/proc/42/cgroup", "0::/system.slice/containerd.service\n");
    for _ in 0..10 {
        assert_eq!(value(table.look_up(PID)).cgroup, identity(None, None));
    }
    let cgroups = |reads: Vec<String>| reads.iter().filter(|r| r.ends_with("cgroup")).count();
    assert_eq!(cgroups(files.reads()), 1);
    // The runtime moves it into its container.
    files.text("/proc/42/cgroup", &in_pod(UID_A, ID_A));
    let found = value(table.look_up(PID));
    assert_eq!(found.cgroup, identity(Some(UID_A), Some(ID_A)));
    // A process of the host stays one, at one more read in ten.
    files.text("/proc/42/stat", &stat("Xorg", 'S', 200));
    files.text("/proc/42/cgroup", "0::/user.slice\n");
    files.reads();
    for _ in 0..100 {
        value(table.look_up(PID));
    }
    assert_eq!(cgroups(files.reads()), 10);
}

#[test]
fn what_is_not_listed_is_forgotten() {
    let (files, mut table) = one_process();
    value(table.look_up(PID));
    table.retain(|pid| pid == PID);
    files.reads();
    value(table.look_up(PID));
    assert_eq!(files.reads().len(), 1);
    table.retain(|_| false);
    value(table.look_up(PID));
    assert_eq!(files.reads().len(), 3);
}

#[test]
fn the_table_is_bounded() {
    let files = Arc::new(ScriptedFiles::default());
    let mut table = ProcessTable::with_namespace(files.clone(), "/proc", Reading::Value(()));
    let last = MAX_PROCESSES as u32 + 1;
    for pid in 1..=last {
        files.text(&format!("/proc/{pid}/stat"), &stat("x", 'S', 1));
        files.text(&format!("/proc/{pid}/cgroup"), &in_pod(UID_A, ID_A));
        value(table.look_up(HostPid(pid)));
    }
    files.reads();
    // The cache was emptied to make room; every answer is still right.
    value(table.look_up(HostPid(last)));
    assert_eq!(files.reads().len(), 1);
    value(table.look_up(HostPid(1)));
    assert_eq!(files.reads().len(), 3);
}

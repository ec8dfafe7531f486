use proptest::prelude::*;

use super::*;
use crate::model::{
    Allocations, CgroupIdentity, ContainerAllocation, ContainerId, ContainerName, ContextKind,
    PodName, PodStatus, StartTime, Workload,
};

const NO_KUBELET: Reading<Grants> = Reading::Unsupported;

fn uid(text: &str) -> PodUid {
    PodUid::new(text)
}

fn pod(name: &str) -> PodName {
    PodName {
        namespace: "ml".into(),
        pod: name.into(),
    }
}

fn facts(
    pid: u32,
    started: u64,
    pod_uid: Option<&str>,
    container: Option<&str>,
) -> Reading<Arc<ProcessFacts>> {
    Reading::Value(Arc::new(ProcessFacts {
        key: ProcessKey {
            pid: HostPid(pid),
            started: StartTime(started),
        },
        name: "python3".into(),
        cgroup: CgroupIdentity {
            pod_uid: pod_uid.map(PodUid::new),
            container_id: container.map(ContainerId::new),
        },
    }))
}

fn names() -> PodNames {
    let mut names = PodNames::default();
    names.pods.insert(uid("uid-a"), pod("a-0"));
    names.pods.insert(uid("uid-b"), pod("b"));
    names.pods.insert(uid("uid-a2"), pod("a-0"));
    for (id, name, from_status) in [
        ("ca", "a-0", false),
        ("cb", "b", true),
        ("ca2", "a-0", false),
    ] {
        names.containers.insert(
            ContainerId::new(id),
            ContainerName {
                pod: pod(name),
                container: "main".into(),
                from_status,
            },
        );
    }
    names
}

fn status(uid: &str) -> Arc<PodStatus> {
    Arc::new(PodStatus {
        uid: PodUid::new(uid),
        qos: "Burstable".into(),
        workload: Workload::default(),
    })
}

#[test]
fn a_log_file_that_names_another_pod_than_the_uid_is_not_believed() {
    let names = names();
    let context = Context {
        names: &names,
        grants: &NO_KUBELET,
        workers: &[],
    };
    let owner = |pod, container| {
        owner_of(
            HostPid(1),
            &facts(1, 1, Some(pod), Some(container)),
            context,
        )
    };
    // `ca` is a container of a-0 by a log, `cb` one of b by a status.
    assert_eq!(
        owner("uid-a", "ca").unwrap().evidence,
        Evidence::ContainerLog
    );
    let disputed = owner("uid-b", "ca").unwrap();
    assert_eq!(
        (&*disputed.labels.pod, &*disputed.labels.container),
        ("b", "")
    );
    assert_eq!(disputed.evidence, Evidence::PodUid);
    assert_eq!(&*owner("uid-a", "cb").unwrap().labels.pod, "b");
    assert_eq!(&*owner("uid-unknown", "ca").unwrap().labels.pod, "a-0");
}

#[test]
fn a_process_that_outlived_its_pod_is_nobodys_once_the_name_is_anothers() {
    let mut names = names();
    names.statuses.insert(uid("uid-a"), status("uid-a"));
    let owner = |names: &PodNames| {
        let context = Context {
            names,
            grants: &NO_KUBELET,
            workers: &[],
        };
        owner_of(HostPid(1), &facts(1, 1, Some("uid-a"), Some("ca")), context)
    };
    // Deleted, and nobody has the name.
    assert_eq!(&*owner(&names).unwrap().labels.pod, "a-0");
    names.current.insert(pod("a-0"), uid("uid-a"));
    assert!(owner(&names).is_ok());
    names.current.insert(pod("a-0"), uid("uid-a2"));
    assert_eq!(owner(&names), Err(Remainder::UnknownPod));
    // An API server that is behind does not know the newer pod: it is the process's word that counts.
    names.statuses.clear();
    assert!(owner(&names).is_ok());
}

fn process(pid: u32, used: u64, facts: Reading<Arc<ProcessFacts>>) -> ListedProcess {
    ListedProcess {
        pid: HostPid(pid),
        kind: ContextKind::Compute,
        used: Reading::Value(Bytes(used)),
        facts,
    }
}

fn list(used: u64, processes: Vec<ListedProcess>) -> ProcessList {
    ProcessList {
        at: Moment::default(),
        memory: Memory {
            total: Bytes(1000),
            reserved: Reading::Value(Bytes(10)),
            used: Bytes(used),
            free: Bytes(990 - used),
        },
        torn: false,
        complete: true,
        processes,
    }
}

fn attributed(list: &ProcessList, grants: &Reading<Grants>) -> Attributed {
    attribute(
        list,
        Context {
            names: &names(),
            grants,
            workers: &[],
        },
    )
}

#[test]
fn a_container_id_in_a_pod_status_is_stronger_than_in_a_log_name() {
    let all = attributed(
        &list(
            30,
            vec![
                process(1, 10, facts(1, 1, Some("uid-a"), Some("ca"))),
                process(2, 20, facts(2, 1, Some("uid-b"), Some("cb"))),
            ],
        ),
        &NO_KUBELET,
    );
    let evidence: Vec<_> = all
        .holdings
        .values()
        .map(|holding| holding.evidence)
        .collect();
    assert_eq!(
        evidence,
        [Evidence::ContainerLog, Evidence::ContainerStatus]
    );
    assert_eq!(all.unexplained, Reading::Value(SignedBytes(0)));
}

#[test]
fn a_known_pod_with_one_container_names_it_and_with_two_does_not() {
    let kubelet = |containers: &[&str]| {
        Reading::Value(Grants::new(&Allocations {
            containers: containers
                .iter()
                .map(|name| ContainerAllocation {
                    namespace: "ml".into(),
                    pod: "b".into(),
                    container: (*name).into(),
                    grants: Vec::new(),
                    claims: Vec::new(),
                })
                .collect(),
            ..Allocations::default()
        }))
    };
    let unknown_container = facts(1, 1, Some("uid-b"), Some("not-in-any-log"));
    for (containers, expected) in [(&["main"][..], "main"), (&["main", "side"], ""), (&[], "")] {
        let all = attributed(
            &list(10, vec![process(1, 10, unknown_container.clone())]),
            &kubelet(containers),
        );
        let (labels, holding) = all.holdings.first_key_value().unwrap();
        assert_eq!((&*labels.pod, &*labels.container), ("b", expected));
        assert_eq!(holding.evidence, Evidence::PodUid);
    }
}

#[test]
fn every_unattributed_row_is_named_and_the_rest_stays_unexplained() {
    let on_a_node = Reading::Value(Grants::default());
    let all = attributed(
        &list(
            100,
            vec![
                process(1, 1, facts(1, 1, None, None)),
                process(2, 2, facts(2, 1, Some("uid-nobody"), None)),
                process(3, 4, Reading::Failed(Cause::ProcessGone)),
                process(4, 8, Reading::Failed(Cause::PermissionDenied)),
                process(5, 16, Reading::Failed(Cause::PidNamespace)),
                process(0, 32, Reading::Unsupported),
                process(6, 0, facts(6, 1, None, Some("bare-docker"))),
            ],
        ),
        &on_a_node,
    );
    let named: Vec<_> = all
        .remainders
        .iter()
        .map(|(name, bytes)| (name.label(), bytes.0))
        .collect();
    assert_eq!(
        named,
        [
            ("host_process", 1),
            ("unknown_pod", 2),
            ("process_gone", 4),
            ("unreadable", 8),
            ("pid_namespace", 16),
            ("no_pid", 32),
        ]
    );
    assert_eq!(all.unexplained, Reading::Value(SignedBytes(37)));
    assert!(all.holdings.is_empty());
}

#[test]
fn a_bare_container_without_a_kubelet_is_a_host_process() {
    let all = attributed(
        &list(5, vec![process(1, 5, facts(1, 1, None, Some("docker")))]),
        &NO_KUBELET,
    );
    assert_eq!(all.remainders.get(&Remainder::HostProcess), Some(&Bytes(5)));
}

#[test]
fn an_unknown_size_is_unknown_in_the_pod_and_in_the_balance() {
    let mut unknown = process(1, 0, facts(1, 1, Some("uid-a"), Some("ca")));
    unknown.used = Reading::Failed(Cause::NotAvailable);
    let all = attributed(
        &list(
            50,
            vec![
                unknown,
                process(2, 5, facts(2, 1, Some("uid-a"), Some("ca"))),
            ],
        ),
        &NO_KUBELET,
    );
    assert_eq!(
        all.holdings.values().next().unwrap().memory,
        Reading::Failed(Cause::NotAvailable)
    );
    assert_eq!(all.unexplained, Reading::Failed(Cause::NotAvailable));
}

#[test]
fn a_remainder_with_a_row_of_unknown_size_is_absent_not_zero() {
    let mut unknown = process(1, 0, facts(1, 1, None, None));
    unknown.used = Reading::Failed(Cause::NotAvailable);
    let gone = process(2, 7, Reading::Failed(Cause::ProcessGone));
    let known = process(3, 5, facts(3, 1, None, None));
    let all = attributed(&list(50, vec![unknown, gone, known]), &NO_KUBELET);
    assert_eq!(all.remainders, [(Remainder::ProcessGone, Bytes(7))].into());
}

#[test]
fn the_agents_own_canary_is_nobodys_tenant() {
    let worker = |pid, started| ProcessKey {
        pid: HostPid(pid),
        started: StartTime(started),
    };
    let list = list(
        15,
        vec![
            // A worker, in the cgroup of the agent's own pod.
            process(1, 1, facts(1, 5, Some("uid-a"), Some("ca"))),
            // Its PID, taken by another process since.
            process(2, 2, facts(2, 9, Some("uid-b"), Some("cb"))),
            // Not known by the host: its PID is all there is.
            process(3, 4, Reading::Failed(Cause::PermissionDenied)),
            process(4, 8, Reading::Failed(Cause::ProcessGone)),
        ],
    );
    let all = attribute(
        &list,
        Context {
            names: &names(),
            grants: &NO_KUBELET,
            workers: &[worker(1, 5), worker(2, 5), worker(3, 5)],
        },
    );
    let expected = [
        (Remainder::Canary, Bytes(5)),
        (Remainder::ProcessGone, Bytes(8)),
    ];
    assert_eq!(all.remainders, expected.into());
    assert_eq!(all.holdings.len(), 1);
    assert_eq!(all.processes[1].owner.as_ref().unwrap().pod.as_ref(), "b");
    assert_eq!(all.unexplained, Reading::Value(SignedBytes(0)));
}

#[test]
fn a_torn_or_cut_list_has_no_balance() {
    let mut torn = list(5, Vec::new());
    torn.torn = true;
    assert_eq!(
        attributed(&torn, &NO_KUBELET).unexplained,
        Reading::Failed(Cause::Torn)
    );
    let mut cut = list(5, Vec::new());
    cut.complete = false;
    assert_eq!(
        attributed(&cut, &NO_KUBELET).unexplained,
        Reading::Failed(Cause::NotAvailable)
    );
}

#[test]
fn of_two_pods_of_one_name_the_younger_process_is_the_pods() {
    let all = attributed(
        &list(
            30,
            vec![
                process(1, 10, facts(1, 100, Some("uid-a"), Some("ca"))),
                process(2, 20, facts(2, 200, Some("uid-a2"), Some("ca2"))),
            ],
        ),
        &NO_KUBELET,
    );
    let holding = all.holdings.values().next().unwrap();
    assert_eq!(
        (holding.memory, holding.pod_uid.clone()),
        (Reading::Value(Bytes(20)), Some(uid("uid-a2")))
    );
    assert_eq!(all.remainders.get(&Remainder::UnknownPod), Some(&Bytes(10)));
}

/// Any process the driver and the host can show.
fn any_process() -> impl Strategy<Value = ListedProcess> {
    let facts = prop_oneof![
        (1u32..9, 0u64..5, 0usize..4, 0usize..4).prop_map(|(pid, started, pod, container)| facts(
            pid,
            started,
            [None, Some("uid-a"), Some("uid-b"), Some("uid-a2")][pod],
            [None, Some("ca"), Some("cb"), Some("unknown")][container],
        )),
        Just(Reading::Failed(Cause::ProcessGone)),
        Just(Reading::Failed(Cause::PermissionDenied)),
        Just(Reading::Failed(Cause::PidNamespace)),
    ];
    (0u32..9, 0u64..100, facts).prop_map(|(pid, used, facts)| process(pid, used, facts))
}

proptest! {
    /// No byte is counted twice or spread: containers, named remainders and the unexplained rest
    /// are the device's used figure exactly, and each process is owned once.
    #[test]
    fn the_balance_closes(processes in proptest::collection::vec(any_process(), 0..12), used in 0u64..900) {
        let list = list(used, processes);
        let all = attributed(&list, &Reading::Value(Grants::default()));
        let held: u64 = all.holdings.values().filter_map(|holding| holding.memory.copied()).map(|b| b.0).sum();
        let named: u64 = all.remainders.values().map(|bytes| bytes.0).sum();
        let rest = all.unexplained.copied().unwrap().0;
        prop_assert_eq!(i128::from(held) + i128::from(named) + i128::from(rest), i128::from(used));
        prop_assert_eq!(all.processes.len(), list.processes.len());
        let keys: usize = all.holdings.values().map(|holding| holding.processes.len()).sum();
        prop_assert!(keys <= list.processes.len());
    }

    /// No pod is charged for another's process, in whatever order rows come: a holding's bytes
    /// are those of the processes whose cgroup names that pod.
    #[test]
    fn the_order_of_rows_changes_nothing(processes in proptest::collection::vec(any_process(), 0..12)) {
        let forward = attributed(&list(100, processes.clone()), &NO_KUBELET);
        let mut reversed = processes;
        reversed.reverse();
        let backward = attributed(&list(100, reversed), &NO_KUBELET);
        prop_assert_eq!(&forward.remainders, &backward.remainders);
        let sums = |all: &Attributed| all
            .holdings
            .iter()
            .map(|(labels, holding)| (labels.clone(), holding.memory, holding.pod_uid.clone()))
            .collect::<Vec<_>>();
        prop_assert_eq!(sums(&forward), sums(&backward));
    }
}

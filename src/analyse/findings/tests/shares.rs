//! Grants, and who is there without one.

use super::*;
use crate::model::{DraClaim, Remainder};

fn granted(pod: &str, replicas: u32) -> ContainerView {
    ContainerView {
        replicas: Reading::Value(replicas),
        ..row(pod)
    }
}

#[test]
fn more_granted_than_advertised() {
    const CODE: &str = "granted_over_advertised";
    let many = || shared((0..6).map(|p| granted(&format!("a/pod-{p}"), 1)));
    let mut watch = Watch::of([many()]);
    assert!(watch.after(180).is_empty());
    assert_eq!(watch.after(30), [CODE]);
    watch.assert_words(CODE, "GPU-0", &["granted 6 of 4", "a/pod-0", "and 2 more"]);
    watch.snapshot.gpus[0].replicas = Reading::Failed(UNKNOWN);
    assert_eq!(watch.after(90), [CODE]);
    assert!(watch.after(1).is_empty(), "unknown for long");

    // Not advertised at all, which is told only where another device is.
    let gone = || GpuView {
        replicas: Reading::Unsupported,
        ..many()
    };
    assert!(Watch::of([gone()]).after(WHILE).is_empty());
    let mut watch = Watch::of([gone(), gpu("GPU-1")]);
    assert_eq!(watch.after(WHILE), [CODE]);
    watch.assert_words(CODE, "GPU-0", &["granted 6 of 0", "Xid"]);
}

#[test]
fn two_replicas_of_one_container() {
    const CODE: &str = "request_greater_than_one";
    let mut watch = Watch::of([shared([granted("a/greedy", 2), row("a/other")])]);
    watch.snapshot.node_facts = facts(&[], &[("nvidia.com/gpu.shared", 4)]);
    assert!(watch.after(60).is_empty());
    assert_eq!(watch.after(1), [CODE]);
    let command = "kubectl -n a set resources deployment greedy -c main \
                   --requests=nvidia.com/gpu.shared=1 --limits=nvidia.com/gpu.shared=1";
    watch.assert_words(CODE, "a/greedy", &["granted 2 replicas, of GPU-0", command]);

    // Three of two GPUs, of a pod without a controller.
    let bare = |uuid: &str, replicas| {
        let mut row = granted("a/bare", replicas);
        row.workload.kind = "Pod".into();
        GpuView {
            identity: gpu(uuid).identity,
            ..shared([row, self::row("a/other")])
        }
    };
    let mut watch = Watch::of([bare("GPU-0", 2), bare("GPU-1", 1)]);
    let found = watch.after(100).join(" ");
    assert!(found.contains(CODE), "{found}");
    let greedy = watch.found.iter().find(|it| &*it.subject == "a/bare");
    let greedy = greedy.unwrap();
    assert!(greedy.evidence.contains("GPU-0, GPU-1"), "{greedy:?}");
    assert!(greedy.mend.contains("ask for 1"), "{greedy:?}");

    // One of each of two GPUs adds both of them.
    let mut watch = Watch::of([bare("GPU-0", 1), bare("GPU-1", 1)]);
    assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);

    // Whole GPUs are what was asked for.
    let mut whole = [bare("GPU-0", 1), bare("GPU-1", 1)];
    for gpu in &mut whole {
        (gpu.replicas, gpu.sharing) = (Reading::Value(1), Sharing::None);
        gpu.containers.truncate(1);
        gpu.replicas_allocated = Reading::Value(1);
    }
    assert!(Watch::of(whole).after(WHILE).is_empty());
}

#[test]
fn two_containers_of_a_pod_that_meet() {
    const CODE: &str = "containers_request_one_each";
    let named = |name: &str| ContainerView {
        container: name.into(),
        ..row("a/pair")
    };
    let mut watch = Watch::of([shared([named("one"), named("two"), row("a/x")])]);
    assert_eq!(watch.after(100), [CODE]);
    watch.assert_words(CODE, "a/pair", &["one, two", "GPU-0"]);

    let sidecar = ContainerView {
        replicas: Reading::Value(0),
        processes: 0,
        ..named("two")
    };
    let mut watch = Watch::of([shared([named("one"), sidecar, row("a/x")])]);
    assert!(watch.after(WHILE).is_empty());
}

#[test]
fn a_replica_alone_for_an_hour() {
    const CODE: &str = "replica_shares_nothing";
    let mut watch = Watch::of([shared([row("a/alone")])]);
    assert!(watch.after(3600).is_empty());
    assert_eq!(watch.after(1), [CODE]);
    watch.assert_words(CODE, "GPU-0", &["a/alone", "4 replicas", "1 granted"]);
    // Company, and the hour begins anew.
    let mut company = row("a/z");
    company.processes = 0;
    watch.snapshot.gpus[0].containers.push(company);
    assert_eq!(watch.after(90), [CODE]);
    assert!(watch.after(1).is_empty());
    watch.snapshot.gpus[0].containers.pop();
    assert!(watch.after(3600).is_empty());

    let alone = || shared([row("a/alone")]);
    let unknown = Owner::Unattributed(Remainder::UnknownPod);
    let others = [
        GpuView {
            processes: vec![process("python3", unknown)],
            ..alone()
        },
        GpuView {
            replicas: Reading::Value(1),
            sharing: Sharing::None,
            ..alone()
        },
        GpuView {
            tenants: Reading::Failed(UNKNOWN),
            ..alone()
        },
        gpu("GPU-0"),
    ];
    for other in others {
        assert!(Watch::of([other]).after(4000).is_empty());
    }
}

#[test]
fn processes_that_nobody_was_granted() {
    const CODE: &str = "process_without_allocation";
    let stray = || ContainerView {
        replicas: Reading::Value(0),
        fair_share: Reading::Unsupported,
        ..row("a/stray")
    };
    let elsewhere = GpuView {
        identity: gpu("GPU-1").identity,
        ..shared([
            ContainerView {
                processes: 0,
                ..row("a/stray")
            },
            row("a/x"),
        ])
    };
    let mut watch = Watch::of([shared([stray(), row("a/x")]), elsewhere]);
    watch.snapshot.gpus[1].containers.pop();
    assert!(watch.after(60).is_empty());
    assert_eq!(watch.after(1), [CODE]);
    watch.assert_words(
        CODE,
        "a/stray",
        &["1.0 GiB of GPU-0", "it was granted GPU-1"],
    );

    for innocent in [
        ContainerView {
            replicas: Reading::Failed(Cause::NotYet),
            ..stray()
        },
        ContainerView {
            processes: 0,
            ..stray()
        },
        ContainerView {
            container: "".into(),
            ..stray()
        },
        ContainerView {
            claims: vec![DraClaim {
                namespace: "a".into(),
                name: "claim".into(),
                devices: Vec::new(),
            }],
            ..stray()
        },
    ] {
        let mut watch = Watch::of([shared([innocent, row("a/x")])]);
        assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);
    }
}

#[test]
fn processes_of_the_host() {
    const CODE: &str = "process_without_allocation";
    let host = Owner::Unattributed(Remainder::HostProcess);
    let with = |name: &str, owner| GpuView {
        processes: vec![process(name, owner)],
        ..gpu("GPU-0")
    };
    let mut watch = Watch::of([with("python3", host)]);
    assert_eq!(watch.after(100), [CODE]);
    watch.assert_words(CODE, "GPU-0", &["python3 (PID 7, 2.0 GiB)"]);
    watch.snapshot.gpus[0].processes.clear();
    assert_eq!(watch.after(90), [CODE]);
    assert!(watch.after(1).is_empty(), "gone for long enough");

    let unoffered = GpuView {
        replicas: Reading::Unsupported,
        ..with("python3", host)
    };
    for innocent in [
        unoffered,
        with("nvidia-cuda-mps", host),
        with("slicewatch-cana", Owner::Unattributed(Remainder::Canary)),
        with("python3", Owner::Unattributed(Remainder::UnknownPod)),
    ] {
        assert!(Watch::of([innocent]).after(WHILE).is_empty());
    }
}

#[test]
fn namespaces_in_one_fault_domain() {
    const CODE: &str = "fault_domain_shared";
    let two = || shared([row("a/one"), row("b/two")]);
    let mut watch = Watch::of([two()]);
    assert!(watch.after(60).is_empty());
    assert_eq!(watch.after(1), [CODE]);
    watch.assert_words(CODE, "GPU-0", &["namespaces a, b"]);
    assert_eq!(watch.one(CODE).severity, Severity::Info);
    // A Job's pod ends and the next one comes.
    watch.snapshot.gpus[0].containers[1].present = false;
    assert_eq!(watch.after(299), [CODE]);
    assert!(watch.after(5).is_empty());

    for sharing in [Sharing::None, Sharing::Unknown] {
        let other = GpuView { sharing, ..two() };
        assert!(Watch::of([other]).after(WHILE).is_empty());
    }
}

#[test]
fn a_restart_of_kubelet_or_plugin_ends_nothing() {
    let host = Owner::Unattributed(Remainder::HostProcess);
    let second = || ContainerView {
        container: "second".into(),
        ..granted("a/greedy", 2)
    };
    let stray = ContainerView {
        replicas: Reading::Value(0),
        ..row("a/stray")
    };
    let full = GpuView {
        processes: vec![process("python3", host)],
        ..shared([granted("a/greedy", 3), second(), stray])
    };
    let alone = GpuView {
        identity: gpu("GPU-1").identity,
        ..shared([row("a/alone")])
    };
    let mut watch = Watch::of([full, alone]);
    let all: Vec<String> = watch.after(3601).into_iter().map(str::to_owned).collect();
    assert_eq!(
        all,
        [
            "containers_request_one_each",
            "granted_over_advertised",
            "process_without_allocation",
            "process_without_allocation",
            "replica_shares_nothing",
            "request_greater_than_one",
        ]
    );
    let before = watch.snapshot.clone();
    let kubelet_silent = |gpu: &mut GpuView| {
        gpu.replicas = Reading::Failed(UNKNOWN);
        gpu.replicas_allocated = Reading::Failed(UNKNOWN);
        gpu.sharing = Sharing::Unknown;
        for row in &mut gpu.containers {
            row.replicas = Reading::Failed(UNKNOWN);
            // Without a grant nothing says that a container without processes is there.
            row.present = &*row.container != "second";
        }
    };
    let no_plugin = |gpu: &mut GpuView| {
        gpu.replicas = Reading::Unsupported;
        gpu.sharing = Sharing::Unknown;
    };
    for restart in [&kubelet_silent as &dyn Fn(&mut GpuView), &no_plugin] {
        watch.snapshot.gpus.iter_mut().for_each(restart);
        for second in 0..60 {
            assert_eq!(watch.after(1), all, "{second}");
        }
        watch.snapshot.gpus.clone_from(&before.gpus);
        assert_eq!(watch.after(1), all);
    }
    // For long it is no restart.
    watch.snapshot.gpus.iter_mut().for_each(kubelet_silent);
    assert!(watch.after(91).is_empty(), "{:?}", watch.found);
}

#[test]
fn the_server_of_mps_may_live_in_a_pod() {
    const CODE: &str = "process_without_allocation";
    let with = |names: &[&str]| {
        let server = ContainerView {
            container: "mps-control-daemon-ctr".into(),
            replicas: Reading::Value(0),
            fair_share: Reading::Unsupported,
            ..row("gpu-operator/nvidia-device-plugin-mps-control-daemon-x")
        };
        let of_server = names.iter().map(|name| process(name, Owner::Container(1)));
        GpuView {
            sharing: Sharing::Mps,
            processes: of_server
                .chain([process("solver", Owner::Container(0))])
                .collect(),
            ..shared([row("a/one"), server])
        }
    };
    let mut watch = Watch::of([with(&["nvidia-cuda-mps"])]);
    assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);
    // While the list is not told, so are not the names in it.
    let unlisted = GpuView {
        tenants: Reading::Failed(UNKNOWN),
        ..with(&[])
    };
    watch.snapshot.gpus = vec![unlisted];
    assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);

    let mut watch = Watch::of([with(&["nvidia-cuda-mps", "python3"])]);
    assert_eq!(watch.after(WHILE), ["fault_domain_shared", CODE]);
}

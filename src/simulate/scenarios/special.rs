//! Scenarios of MIG, of MPS, and of all that breaks.

use rand::rngs::SmallRng;

use super::{SYSTEMD, flat, stateful_set, system_pods};
use crate::model::ContextKind;
use crate::simulate::cards::{G1, G2, G3};
use crate::simulate::names::Naming;
use crate::simulate::plan::{
    CardPlan, CgroupForm, Demand, Fault, HostPlan, Life, MIB, NodePlan, PodPlan, Workload,
};

pub(super) fn mig(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(2, 2, SYSTEMD);
    node.cards[0] = CardPlan {
        mig: Some(vec![G3, G2, G1]),
        replicas: 2,
    };
    let server = |demand, working| Workload::cuda("vllm", demand, flat(working));
    node.pods = system_pods();
    let plans = [
        ("llama-70b", 0, Demand::bursty(0.6), 51_200),
        ("mistral", 1, Demand::bursty(0.4), 12_288),
        ("reranker", 1, Demand::requests((4e-3, 12e-3), 0.1), 6_144),
        ("whisper", 2, Demand::requests((20e-3, 80e-3), 0.4), 4_096),
        ("diffusion", 3, Demand::HEAVY, 30_720),
        ("embedder", 3, Demand::requests((2e-3, 8e-3), 0.05), 2_048),
    ];
    for (base, device, demand, working) in plans {
        node.pods.push(PodPlan {
            container: "server",
            ..PodPlan::new(
                "inference",
                Naming::deployment(base, rng),
                device,
                server(demand, working),
            )
        });
    }
    node
}

pub(super) fn mps(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 4, CgroupForm::Systemd("crio"));
    node.hosts = vec![HostPlan {
        device: 0,
        cgroup: Some("/system.slice/nvidia-mps.service"),
        workload: Workload {
            context: 30 * MIB,
            ..Workload::cuda("nvidia-cuda-mps-server", Demand::Idle, flat(0))
        },
        mps_server: true,
    }];
    for (base, demand, working) in [
        ("simulate-cfd", Demand::bursty(0.5), 9_216),
        ("simulate-fem", Demand::MEDIUM, 4_096),
        ("simulate-md", Demand::bursty(0.3), 3_072),
        ("viz", Demand::requests((2e-3, 8e-3), 0.1), 1_024),
    ] {
        let workload = Workload {
            kind: ContextKind::Mps,
            context: 290 * MIB,
            ..Workload::cuda("solver", demand, flat(working))
        };
        node.pods.push(PodPlan {
            container: "solver",
            ..PodPlan::new("hpc", Naming::deployment(base, rng), 0, workload)
        });
    }
    node
}

pub(super) fn faults(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(2, 4, CgroupForm::Cgroupfs);
    node.garbage_every = 7;
    node.faults = vec![
        (60.0, Fault::KubeletDown),
        (95.0, Fault::KubeletUp),
        (149.5, Fault::Xid(1, 79)),
        (150.0, Fault::CardLost(1)),
        (200.0, Fault::CardBack(1)),
        (300.0, Fault::DriverUnloaded),
        (320.0, Fault::DriverLoaded),
        (400.0, Fault::KubeletDown),
        (430.0, Fault::KubeletUp),
        (450.0, Fault::Stall(0, 4.0)),
        (520.0, Fault::CanaryKilled(0)),
        (3_600.0, Fault::KubeletDown),
        (4_500.0, Fault::KubeletUp),
        (5_400.0, Fault::CardLost(1)),
        (6_600.0, Fault::CardBack(1)),
    ];
    let host = |cgroup, program, kind, context: u64| HostPlan {
        device: 0,
        cgroup,
        workload: Workload {
            kind,
            context: context * MIB,
            ..Workload::cuda(program, Demand::Idle, flat(0))
        },
        mps_server: false,
    };
    let mut bare = host(
        Some("/user.slice/user-1000.slice/session-3.scope"),
        "python3",
        ContextKind::Compute,
        520,
    );
    bare.workload.demand = Demand::bursty(0.2);
    bare.workload.memory = flat(2_048);
    node.hosts = vec![
        host(
            Some("/system.slice/display-manager.service"),
            "Xorg",
            ContextKind::Graphics,
            58,
        ),
        bare,
        host(None, "", ContextKind::Compute, 287),
    ];
    let cuda = |demand, working| Workload::cuda("python3", demand, flat(working));
    let service = |namespace: &str, base: &str, device, workload, rng: &mut SmallRng| {
        PodPlan::new(namespace, Naming::deployment(base, rng), device, workload)
    };
    node.pods = system_pods();
    node.pods.extend([
        PodPlan::new(
            "ml-training",
            stateful_set("finetune", 0),
            0,
            cuda(Demand::MEDIUM, 9_216),
        ),
        PodPlan {
            life: Life::Crash {
                after: (40.0, 80.0),
                xid: Some(31),
            },
            ..service(
                "research",
                "kernel-lab",
                0,
                cuda(Demand::bursty(0.5), 1_024),
                rng,
            )
        },
        PodPlan {
            memory_unknown: true,
            ..service(
                "media",
                "transcoder",
                0,
                cuda(Demand::requests((5e-3, 15e-3), 0.5), 1_536),
                rng,
            )
        },
        PodPlan {
            unreadable: true,
            ..service(
                "vault",
                "sealed-model",
                0,
                cuda(Demand::requests((5e-3, 15e-3), 0.3), 2_048),
                rng,
            )
        },
        PodPlan {
            runs: None,
            ..service(
                "research",
                "forgotten-notebook",
                1,
                cuda(Demand::Idle, 0),
                rng,
            )
        },
        PodPlan {
            grant: Some((1, 1)),
            runs: Some(0),
            ..service(
                "research",
                "stray",
                1,
                cuda(Demand::requests((5e-3, 15e-3), 1.0), 768),
                rng,
            )
        },
        service(
            "prod",
            "search-api",
            1,
            cuda(Demand::requests((3e-3, 10e-3), 0.05), 6_144),
            rng,
        ),
        PodPlan::new(
            "prod",
            stateful_set("rank", 1),
            1,
            cuda(Demand::bursty(0.5), 4_096),
        ),
    ]);
    node
}

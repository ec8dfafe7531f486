//! The scenarios by name, each with a page of what it shows.

use rand::Rng;
use rand::rngs::SmallRng;

use super::cards::{G1, G2, G3};
use super::names::Naming;
use super::plan::{
    CardPlan, CgroupForm, Demand, Fault, HostPlan, Life, MIB, MemoryPlan, NodePlan, Overhead,
    PodPlan, Qos, Workload,
};
use crate::model::ContextKind;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// As `--scenario` takes it.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// A page in Markdown: what it shows and what to look at.
    pub page: &'static str,
    pub(super) build: fn(&mut SmallRng) -> NodePlan,
}

macro_rules! scenario {
    ($name:literal, $build:ident, $summary:literal) => {
        Scenario {
            name: $name,
            summary: $summary,
            page: include_str!(concat!("scenarios/", $name, ".md")),
            build: $build,
        }
    };
}

/// All scenarios, the simplest first.
pub fn scenarios() -> &'static [Scenario] {
    const ALL: [Scenario; 8] = [
        scenario!(
            "quiet",
            quiet,
            "one card, four replicas, two pods that do little"
        ),
        scenario!(
            "noisy-neighbour",
            noisy_neighbour,
            "a trainer takes the time of two inference services and a batch scorer"
        ),
        scenario!(
            "memory-hog",
            memory_hog,
            "one pod grows until the allocations of the others fail"
        ),
        scenario!(
            "churn",
            churn,
            "short Jobs, crashing and recreated pods, PIDs that come again"
        ),
        scenario!("many-pods", many_pods, "8 cards with 64 pods each"),
        scenario!(
            "mig",
            mig,
            "one card cut into three MIG instances, one whole card"
        ),
        scenario!("mps", mps, "four clients of an MPS server on one card"),
        scenario!(
            "faults",
            faults,
            "lost card, unloaded driver, silent kubelet, XIDs, and rows without owner"
        ),
    ];
    &ALL
}

const SYSTEMD: CgroupForm = CgroupForm::Systemd("cri-containerd");

const fn flat(working: u64) -> MemoryPlan {
    MemoryPlan::Flat { working }
}

const fn sway(low: u64, high: u64, step: u64, every: f64) -> MemoryPlan {
    MemoryPlan::Sway {
        low,
        high,
        step,
        every,
    }
}

fn stateful_set(base: &str, ordinal: u32) -> Naming {
    Naming::StatefulSet {
        base: base.to_owned(),
        ordinal,
    }
}

fn job(base: &str, first: u32) -> Naming {
    Naming::Job {
        base: base.to_owned(),
        first,
    }
}

/// Pods of the cluster's own that hold no GPU.
fn system_pods() -> Vec<PodPlan> {
    ["kube-proxy", "nvidia-device-plugin-daemonset"]
        .into_iter()
        .zip(["kube-system", "gpu-operator"])
        .map(|(base, namespace)| {
            let naming = Naming::DaemonSet {
                base: base.to_owned(),
            };
            let workload = Workload::cuda("pause", Demand::Idle, flat(0));
            PodPlan {
                container: if base == "kube-proxy" {
                    "kube-proxy"
                } else {
                    "nvidia-device-plugin-ctr"
                },
                qos: Qos::BestEffort,
                grant: None,
                runs: None,
                ..PodPlan::new(namespace, naming, 0, workload)
            }
        })
        .collect()
}

fn quiet(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 4, CgroupForm::V1);
    let notebook = Workload::cuda(
        "python3",
        Demand::requests((0.05, 0.4), 45.0),
        sway(256, 1_536, 256, 60.0),
    );
    let embedder = Workload::cuda(
        "text-embedder",
        Demand::requests((2e-3, 8e-3), 1.5),
        flat(1_800),
    );
    node.pods = vec![
        PodPlan {
            container: "notebook",
            sidecar: Some("oauth-proxy"),
            ..PodPlan::new("research", stateful_set("jupyter-ana", 0), 0, notebook)
        },
        PodPlan {
            container: "server",
            ..PodPlan::new("search", Naming::deployment("embedder", rng), 0, embedder)
        },
    ];
    node
}

fn noisy_neighbour(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 4, SYSTEMD);
    node.overhead = Overhead::default();
    let trainer = Workload::cuda("python3", Demand::HEAVY, sway(30_720, 45_056, 1_024, 6.0));
    let scorer = Workload::cuda("batch-scorer", Demand::MEDIUM, flat(6_144));
    let search = Workload::cuda("vllm", Demand::requests((3e-3, 10e-3), 0.06), flat(12_288));
    let assistant = Workload::cuda("vllm", Demand::requests((4e-3, 16e-3), 0.12), flat(17_408));
    node.pods = vec![
        PodPlan {
            container: "trainer",
            qos: Qos::Guaranteed,
            ..PodPlan::new("ml-training", stateful_set("finetune", 0), 0, trainer)
        },
        PodPlan {
            container: "scorer",
            qos: Qos::BestEffort,
            ..PodPlan::new(
                "analytics",
                Naming::deployment("batch-scorer", rng),
                0,
                scorer,
            )
        },
        PodPlan {
            container: "server",
            ..PodPlan::new("shop", Naming::deployment("search-api", rng), 0, search)
        },
        PodPlan {
            container: "server",
            ..PodPlan::new(
                "shop",
                Naming::deployment("assistant-api", rng),
                0,
                assistant,
            )
        },
    ];
    node
}

fn memory_hog(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 4, SYSTEMD);
    node.torn_chance = 0.08;
    let hog = Workload {
        patient: true,
        ..Workload::cuda(
            "python3",
            Demand::bursty(0.4),
            MemoryPlan::Grow {
                step: 4_096,
                ceiling: 160_000,
                every: 3.0,
            },
        )
    };
    let chat = Workload::cuda(
        "vllm",
        Demand::requests((10e-3, 60e-3), 0.3),
        sway(6_144, 14_336, 1_024, 3.0),
    );
    let vision = Workload::cuda(
        "tritonserver",
        Demand::requests((2e-3, 9e-3), 0.1),
        sway(2_048, 8_192, 512, 2.0),
    );
    let cache = Workload {
        patient: true,
        ..Workload::cuda(
            "faiss-server",
            Demand::requests((1e-3, 4e-3), 0.5),
            sway(1_024, 4_096, 512, 4.0),
        )
    };
    node.pods = vec![
        PodPlan {
            container: "explore",
            life: Life::Crash {
                after: (130.0, 170.0),
                xid: None,
            },
            ..PodPlan::new("research", stateful_set("dataset-explorer", 0), 0, hog)
        },
        PodPlan {
            container: "server",
            ..PodPlan::new("prod", Naming::deployment("llama-chat", rng), 0, chat)
        },
        PodPlan {
            container: "triton",
            ..PodPlan::new("prod", Naming::deployment("vision", rng), 0, vision)
        },
        PodPlan {
            container: "index",
            qos: Qos::Guaranteed,
            ..PodPlan::new("prod", stateful_set("vector-index", 2), 0, cache)
        },
    ];
    node
}

fn churn(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 10, CgroupForm::Cgroupfs);
    node.pids = 300..=420;
    node.torn_chance = 0.05;
    node.resource = "nvidia.com/gpu.shared";
    let short = |demand, working| Workload::cuda("python3", demand, flat(working));
    let as_job = |base: &str, run, demand, working, begins| PodPlan {
        container: "job",
        qos: Qos::BestEffort,
        begins,
        life: Life::Job {
            run,
            gap: (0.2, 4.0),
        },
        ..PodPlan::new("batch", job(base, 28_912_340), 0, short(demand, working))
    };
    node.pods = system_pods();
    node.pods.extend([
        as_job("eval-smoke", (0.3, 2.0), Demand::MEDIUM, 512, 0.4),
        as_job("render-tile", (0.3, 6.0), Demand::HEAVY, 900, 0.7),
        as_job("render-thumb", (0.5, 6.0), Demand::bursty(0.5), 700, 1.1),
        as_job("nightly-eval", (4.0, 30.0), Demand::bursty(0.7), 3_000, 0.2),
        as_job("feature-build", (2.0, 12.0), Demand::MEDIUM, 2_200, 1.9),
        PodPlan {
            container: "decoder",
            life: Life::Crash {
                after: (3.0, 20.0),
                xid: None,
            },
            ..PodPlan::new(
                "media",
                Naming::deployment("decoder", rng),
                0,
                short(Demand::MEDIUM, 800),
            )
        },
        PodPlan {
            container: "worker",
            life: Life::Recreated { after: (8.0, 25.0) },
            ..PodPlan::new(
                "ml-training",
                stateful_set("elastic-worker", 0),
                0,
                Workload::cuda("python3", Demand::bursty(0.6), sway(1_024, 6_144, 512, 1.0)),
            )
        },
        PodPlan {
            container: "worker",
            processes: 2,
            life: Life::Recreated { after: (8.0, 25.0) },
            ..PodPlan::new(
                "ml-training",
                stateful_set("elastic-worker", 1),
                0,
                Workload::cuda("python3", Demand::MEDIUM, sway(1_024, 4_096, 512, 2.0)),
            )
        },
        PodPlan {
            container: "server",
            ..PodPlan::new(
                "prod",
                Naming::deployment("steady-api", rng),
                0,
                Workload::cuda("vllm", Demand::requests((3e-3, 12e-3), 0.08), flat(8_192)),
            )
        },
    ]);
    node
}

fn many_pods(rng: &mut SmallRng) -> NodePlan {
    const TEAMS: [&str; 8] = [
        "team-atlas",
        "team-borealis",
        "team-cygnus",
        "team-delta",
        "team-eridanus",
        "team-fornax",
        "team-grus",
        "team-hydra",
    ];
    let mut node = NodePlan::new(8, 64, SYSTEMD);
    node.pods = system_pods();
    for card in 0..8 {
        for place in 0..64_u32 {
            let demand = match place {
                0 => Demand::HEAVY,
                1 => Demand::bursty(0.3),
                _ => Demand::requests((5e-3, 25e-3), rng.random_range(3.0..8.0)),
            };
            let memory = match place {
                0 => sway(4_096, 8_192, 512, 10.0),
                1..8 => sway(256, 1_024, 128, 20.0),
                _ => flat(rng.random_range(300..1_400)),
            };
            let naming = match place {
                0 | 2 => stateful_set("train", card),
                // As long as a folder's name allows, dots and digits included.
                3 => Naming::Bare {
                    name: format!(
                        "0.{card}-v1.5.weights.{}.example",
                        "q4-k-m.".repeat(18).trim_end_matches('.')
                    ),
                },
                _ => Naming::deployment(["chat", "rank", "ocr", "asr"][place as usize % 4], rng),
            };
            node.pods.push(PodPlan {
                container: "app",
                sidecar: (place % 5 == 0).then_some("istio-proxy"),
                processes: if place == 2 { 4 } else { 1 },
                begins: f64::from(place / 16) * 0.3,
                ..PodPlan::new(
                    &if place == 2 {
                        format!("{}-hpo", TEAMS[card as usize])
                    } else {
                        TEAMS[(card + place) as usize % TEAMS.len()].to_owned()
                    },
                    naming,
                    card as usize,
                    Workload::cuda("python3", demand, memory),
                )
            });
        }
    }
    node
}

fn mig(rng: &mut SmallRng) -> NodePlan {
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

fn mps(rng: &mut SmallRng) -> NodePlan {
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

fn faults(rng: &mut SmallRng) -> NodePlan {
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

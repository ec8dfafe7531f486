//! Scenarios of cards that are simply shared.

use rand::Rng;
use rand::rngs::SmallRng;

use super::{SYSTEMD, flat, job, stateful_set, sway, system_pods};
use crate::simulate::names::Naming;
use crate::simulate::plan::{
    CgroupForm, Demand, Life, MemoryPlan, NodePlan, Overhead, PodPlan, Qos, Workload,
};

pub(super) fn quiet(rng: &mut SmallRng) -> NodePlan {
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

pub(super) fn now_and_then(_: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 4, SYSTEMD);
    let spell = |base: &str, demand, gap, begins| PodPlan {
        container: "job",
        begins,
        life: Life::Job {
            run: (20.0, 40.0),
            gap,
        },
        ..PodPlan::new(
            "research",
            job(base, 28_912_340),
            0,
            Workload::cuda("python3", demand, flat(2_048)),
        )
    };
    node.pods = vec![
        spell("hourly-retrain", Demand::HEAVY, (60.0, 90.0), 5.0),
        spell("hourly-score", Demand::MEDIUM, (120.0, 180.0), 20.0),
    ];
    node
}

pub(super) fn noisy_neighbour(rng: &mut SmallRng) -> NodePlan {
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

pub(super) fn memory_hog(rng: &mut SmallRng) -> NodePlan {
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

pub(super) fn slow_leak(rng: &mut SmallRng) -> NodePlan {
    let mut node = NodePlan::new(1, 4, SYSTEMD);
    // 45 GiB an hour: full after two hours and a half.
    let leak = Workload::cuda(
        "python3",
        Demand::requests((5e-3, 20e-3), 0.4),
        MemoryPlan::Grow {
            step: 192,
            ceiling: 160_000,
            every: 15.0,
        },
    );
    let ranker = Workload::cuda(
        "tritonserver",
        Demand::requests((2e-3, 9e-3), 0.3),
        flat(18_432),
    );
    node.pods = vec![
        PodPlan {
            container: "server",
            ..PodPlan::new("shop", Naming::deployment("recommender", rng), 0, leak)
        },
        PodPlan {
            container: "triton",
            ..PodPlan::new("shop", Naming::deployment("ranker", rng), 0, ranker)
        },
    ];
    node
}

pub(super) fn churn(rng: &mut SmallRng) -> NodePlan {
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

pub(super) fn many_pods(rng: &mut SmallRng) -> NodePlan {
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
                        "q4-k-m.".repeat(22).trim_end_matches('.')
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

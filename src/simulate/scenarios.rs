//! The scenarios by name, each with a page of what it shows.

mod shared;
mod special;

use rand::rngs::SmallRng;

use super::names::Naming;
use super::plan::{CgroupForm, Demand, MemoryPlan, NodePlan, PodPlan, Qos, Workload};
use shared::{churn, many_pods, memory_hog, noisy_neighbour, now_and_then, quiet, slow_leak};
use special::{faults, mig, mps};

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
    const ALL: [Scenario; 10] = [
        scenario!(
            "quiet",
            quiet,
            "one card, four replicas, two pods that do little"
        ),
        scenario!(
            "now-and-then",
            now_and_then,
            "one card that rests between short spells of work"
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
            "slow-leak",
            slow_leak,
            "a service leaks framebuffer for hours, until the card is full and it ends"
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

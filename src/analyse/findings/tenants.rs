//! Who is on a GPU: without a grant, or together with whom.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};

use super::code::{FAULT_DOMAIN_SHARED, PROCESS_WITHOUT_ALLOCATION};
use super::held::{Seen, Verdict, Words};
use super::words::{listed, of_gpu, of_pod, pods};
use crate::model::snapshot::Owner;
use crate::model::{
    Bytes, ContainerView, GpuUuid, GpuView, ProcessView, Reading, Remainder, Sharing, Snapshot,
};

/// The process that works for all clients of MPS, as far as the kernel keeps its name.
const MPS_SERVER: &str = "nvidia-cuda-mps";

pub(super) fn look(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    ungranted_pods(snapshot, seen);
    for gpu in &snapshot.gpus {
        host_processes(gpu, seen);
        fault_domain(gpu, seen);
    }
}

/// Pods that live here and were granted nothing here. One with DRA claims may own what no grant
/// names.
fn ungranted_pods(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    // Made where one is found, which is seldom.
    let elsewhere = LazyCell::new(|| granted(snapshot));
    let ungranted = |row: &&ContainerView| {
        row.present
            && row.processes > 0
            && row.replicas == Reading::Value(0)
            && !row.container.is_empty()
            && row.claims.is_empty()
    };
    let rows = snapshot.gpus.iter().flat_map(|gpu| {
        let rows = pods(gpu).filter_map(|rows| rows.iter().find(ungranted));
        rows.map(move |row| (gpu, row))
    });
    for (gpu, row) in rows {
        let granted = match elsewhere.get(&names(row)) {
            Some(gpus) => listed(gpus),
            None => "no GPU".to_owned(),
        };
        let words = Words::new(
            format_args!(
                "container {} holds {} of {} with processes: {}; it was granted {granted}",
                row.container,
                memory(row.memory),
                gpu.identity.uuid,
                row.processes,
            ),
            "let the pod ask for the GPU; take NVIDIA_VISIBLE_DEVICES out of its environment and \
             image, and privileged out of its security context",
        );
        seen.push(Seen {
            code: &PROCESS_WITHOUT_ALLOCATION,
            subject: of_pod(row),
            verdict: Verdict::Holds(words),
        });
    }
}

fn memory(memory: Reading<Bytes>) -> String {
    match memory {
        Reading::Value(memory) => memory.to_string(),
        Reading::Unsupported | Reading::Failed(_) => "an unknown amount".to_owned(),
    }
}

/// The GPUs that each container was granted replicas of.
type Granted<'a> = HashMap<(&'a str, &'a str, &'a str), Vec<&'a GpuUuid>>;

fn granted(snapshot: &Snapshot) -> Granted<'_> {
    let mut granted = Granted::new();
    for gpu in &snapshot.gpus {
        for row in &gpu.containers {
            if matches!(row.replicas, Reading::Value(1..)) {
                let gpus = granted.entry(names(row)).or_default();
                gpus.push(&gpu.identity.uuid);
            }
        }
    }
    granted
}

fn names(row: &ContainerView) -> (&str, &str, &str) {
    (&row.namespace, &row.pod, &row.container)
}

/// Processes of the host on a GPU that the plugin offers to pods.
fn host_processes(gpu: &GpuView, seen: &mut Vec<Seen>) {
    if !matches!(gpu.replicas, Reading::Value(1..)) {
        return;
    }
    let is_of_host = |process: &&ProcessView| {
        process.owner == Owner::Unattributed(Remainder::HostProcess) && &*process.name != MPS_SERVER
    };
    let mut processes = gpu.processes.iter().filter(is_of_host).peekable();
    if processes.peek().is_none() {
        return;
    }
    let told = processes.map(|process| {
        format!(
            "{} (PID {}, {})",
            process.name,
            process.pid,
            memory(process.memory)
        )
    });
    let words = Words::new(
        format_args!("processes of the host, in no pod: {}", listed(told)),
        "end them, or run them in a pod that asks for the GPU: the scheduler does not know of them",
    );
    seen.push(Seen {
        code: &PROCESS_WITHOUT_ALLOCATION,
        subject: of_gpu(gpu),
        verdict: Verdict::Holds(words),
    });
}

/// Namespaces whose pods a fault of one of them can reach.
fn fault_domain(gpu: &GpuView, seen: &mut Vec<Seen>) {
    if !matches!(gpu.sharing, Sharing::TimeSlicing | Sharing::Mps) {
        return;
    }
    let there = gpu.containers.iter().filter(|row| row.present);
    let namespaces: BTreeSet<&str> = there.map(|row| &*row.namespace).collect();
    if namespaces.len() < 2 {
        return;
    }
    let words = Words::new(
        format_args!("pods of namespaces {} share this GPU", listed(namespaces)),
        "a fault of one can end all of them, and nothing separates their memory's size or their \
         time: keep tenants that do not trust one another on GPUs of their own, or use MIG",
    );
    seen.push(Seen {
        code: &FAULT_DOMAIN_SHARED,
        subject: of_gpu(gpu),
        verdict: Verdict::Holds(words),
    });
}

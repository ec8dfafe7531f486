//! Who is on a GPU: without a grant, or together with whom.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::code::{FAULT_DOMAIN_SHARED, PROCESS_WITHOUT_ALLOCATION};
use super::held::{Seen, Verdict, Words};
use super::shares::{any_offered, is_untold};
use super::words::{listed, of_gpu, of_pod, pods};
use crate::model::snapshot::Owner;
use crate::model::{
    Bytes, ContainerView, GpuUuid, GpuView, ProcessView, Reading, Remainder, Sharing, Snapshot,
};

/// The process that works for all clients of MPS, as far as the kernel keeps its name.
const MPS_SERVER: &str = "nvidia-cuda-mps";

pub(super) fn look(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    ungranted_pods(snapshot, seen);
    let any_offered = any_offered(snapshot);
    for gpu in &snapshot.gpus {
        host_processes(gpu, any_offered, seen);
        fault_domain(gpu, seen);
    }
}

/// Pods that live here and were granted nothing here. One with DRA claims may own what no grant
/// names.
fn ungranted_pods(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    // Made where one is found, which is seldom.
    let elsewhere = LazyCell::new(|| granted(snapshot));
    let suspect = |row: &ContainerView| {
        row.present
            && row.processes > 0
            && !matches!(row.replicas, Reading::Value(1..))
            && !row.container.is_empty()
            && row.claims.is_empty()
    };
    let rows = snapshot.gpus.iter().flat_map(|gpu| {
        let servers = mps_servers(gpu);
        pods(gpu).filter_map(move |rows| {
            let mut rows = rows.iter().filter(|row| suspect(row));
            let row = rows.find(|row| !servers.contains(&names(row)))?;
            Some((gpu, row))
        })
    });
    for (gpu, row) in rows {
        // A grant that is not told, or names of processes that are not.
        if row.replicas != Reading::Value(0) || matches!(gpu.tenants, Reading::Failed(_)) {
            seen.push(Seen {
                code: &PROCESS_WITHOUT_ALLOCATION,
                subject: of_pod(row),
                verdict: Verdict::Unknown,
            });
            continue;
        }
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

/// Namespace, pod and container.
type Names<'a> = (&'a str, &'a str, &'a str);

/// Containers all of whose processes here are MPS's server, which works for others with their
/// grants: NVIDIA's plugin runs it in a pod without one.
fn mps_servers(gpu: &GpuView) -> HashSet<Names<'_>> {
    let of = |server: bool| {
        let processes = gpu.processes.iter();
        processes
            .filter(move |process| (&*process.name == MPS_SERVER) == server)
            .filter_map(|process| match process.owner {
                Owner::Container(index) => gpu.containers.get(index).map(names),
                Owner::Unattributed(_) => None,
            })
    };
    let mut servers: HashSet<_> = of(true).collect();
    if !servers.is_empty() {
        for other in of(false) {
            servers.remove(&other);
        }
    }
    servers
}

/// The GPUs that each container was granted replicas of.
type Granted<'a> = HashMap<Names<'a>, Vec<&'a GpuUuid>>;

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

fn names(row: &ContainerView) -> Names<'_> {
    (&row.namespace, &row.pod, &row.container)
}

/// Processes of the host on a GPU that the plugin offers to pods.
fn host_processes(gpu: &GpuView, any_offered: bool, seen: &mut Vec<Seen>) {
    if is_untold(gpu, any_offered) || matches!(gpu.tenants, Reading::Failed(_)) {
        seen.push(Seen {
            code: &PROCESS_WITHOUT_ALLOCATION,
            subject: of_gpu(gpu),
            verdict: Verdict::Unknown,
        });
        return;
    }
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
    // Without a list nobody can tell which of them is MPS's own.
    if gpu.sharing == Sharing::Mps && matches!(gpu.tenants, Reading::Failed(_)) {
        seen.push(Seen {
            code: &FAULT_DOMAIN_SHARED,
            subject: of_gpu(gpu),
            verdict: Verdict::Unknown,
        });
        return;
    }
    let servers = mps_servers(gpu);
    let there = gpu.containers.iter().filter(|row| row.present);
    let there = there.filter(|row| !servers.contains(&names(row)));
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

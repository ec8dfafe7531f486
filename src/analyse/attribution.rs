//! From a process list to containers, each with the evidence for it.
//!
//! A pure function. A process belongs to a container when its cgroup says so and the names are
//! known; never because of its PID, its name, or because a container happens to hold a grant.
//!
//! Names come from pod statuses and, where those do not tell, from log files. The order is: the
//! container's id in a status, its id in a log file's name, the pod's UID. A log file that says
//! another pod than the pod's UID is not believed. A process that outlived its pod keeps the pod's
//! name until another pod takes it: then it is nobody's, as its series would be the other's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::analyse::grants::{ContainerLabels, Grants};
use crate::model::{
    Bytes, Cause, Evidence, HostPid, ListedProcess, Memory, Moment, PodNames, PodUid, ProcessFacts,
    ProcessKey, ProcessList, Reading, Remainder, SignedBytes,
};

/// What attribution looks things up in.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub names: &'a PodNames,
    /// `Unsupported` on a machine without a kubelet.
    pub grants: &'a Reading<Grants>,
    /// The agent's own canaries, those that ended a moment ago included: tenants of nobody.
    pub workers: &'a [ProcessKey],
}

impl Context<'_> {
    /// Whether a process is one of the agent's canaries: by its key, or by its PID alone where the
    /// host does not tell who it is.
    fn is_worker(&self, pid: HostPid, facts: &Reading<Arc<ProcessFacts>>) -> bool {
        self.workers.iter().any(|worker| match facts {
            Reading::Value(facts) => facts.key == *worker,
            Reading::Unsupported | Reading::Failed(_) => worker.pid == pid,
        })
    }
}

/// A proven owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub labels: ContainerLabels,
    pub pod_uid: Option<PodUid>,
    pub evidence: Evidence,
}

/// What one container holds in one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    pub pod_uid: Option<PodUid>,
    /// The weakest of its processes' evidence.
    pub evidence: Evidence,
    /// `Failed` where the driver does not tell of one of its processes.
    pub memory: Reading<Bytes>,
    pub processes: Vec<ProcessKey>,
}

/// One process of a list with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedProcess {
    pub pid: HostPid,
    pub name: Arc<str>,
    pub memory: Reading<Bytes>,
    pub owner: Result<ContainerLabels, Remainder>,
}

/// A process list, every row with an owner or a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    pub at: Moment,
    pub memory: Memory,
    pub holdings: BTreeMap<ContainerLabels, Holding>,
    /// Without those that have a row of unknown size: their sum is not known.
    pub remainders: BTreeMap<Remainder, Bytes>,
    /// False where the driver had more rows than it gave: then no sum is known.
    pub complete: bool,
    /// Used minus every row. `Failed(Torn)` where the list and the figure are not of one instant,
    /// `Failed(NotAvailable)` where a row is missing or has no size, `Unsupported` where the
    /// driver's used figure contains its own reserve.
    pub unexplained: Reading<SignedBytes>,
    pub processes: Vec<OwnedProcess>,
}

/// Whose a process is.
///
/// # Errors
/// The name of the remainder it falls into.
pub fn owner_of(
    pid: HostPid,
    facts: &Reading<Arc<ProcessFacts>>,
    context: Context<'_>,
) -> Result<Owner, Remainder> {
    let owner = named_owner_of(pid, facts, context)?;
    let names = context.names;
    match &owner.pod_uid {
        Some(uid)
            if names.statuses.contains_key(uid)
                && names
                    .current
                    .get(&owner.labels.pod_name())
                    .is_some_and(|current| current != uid) =>
        {
            Err(Remainder::UnknownPod)
        }
        _ => Ok(owner),
    }
}

/// The same by names alone, which two pods may have had one after the other.
fn named_owner_of(
    pid: HostPid,
    facts: &Reading<Arc<ProcessFacts>>,
    context: Context<'_>,
) -> Result<Owner, Remainder> {
    if pid.0 == 0 {
        return Err(Remainder::NoPid);
    }
    if context.is_worker(pid, facts) {
        return Err(Remainder::Canary);
    }
    let facts = match facts {
        Reading::Value(facts) => facts,
        Reading::Failed(Cause::ProcessGone) => return Err(Remainder::ProcessGone),
        Reading::Failed(Cause::PidNamespace) => return Err(Remainder::PidNamespace),
        Reading::Failed(_) | Reading::Unsupported => return Err(Remainder::Unreadable),
    };
    let cgroup = &facts.cgroup;
    if let Some(name) = cgroup
        .container_id
        .as_ref()
        .and_then(|id| context.names.containers.get(id))
        .filter(|name| {
            let pod = cgroup.pod_uid.as_ref();
            let pod = pod.and_then(|uid| context.names.pods.get(uid));
            name.from_status || pod.is_none_or(|pod| *pod == name.pod)
        })
    {
        return Ok(Owner {
            labels: ContainerLabels {
                namespace: Arc::clone(&name.pod.namespace),
                pod: Arc::clone(&name.pod.pod),
                container: Arc::clone(&name.container),
            },
            pod_uid: cgroup.pod_uid.clone(),
            evidence: if name.from_status {
                Evidence::ContainerStatus
            } else {
                Evidence::ContainerLog
            },
        });
    }
    match &cgroup.pod_uid {
        Some(uid) => {
            let pod = context.names.pods.get(uid).ok_or(Remainder::UnknownPod)?;
            let container = context
                .grants
                .value()
                .and_then(|grants| grants.only_container(pod))
                .unwrap_or_else(|| "".into());
            Ok(Owner {
                labels: ContainerLabels {
                    namespace: Arc::clone(&pod.namespace),
                    pod: Arc::clone(&pod.pod),
                    container,
                },
                pod_uid: Some(uid.clone()),
                evidence: Evidence::PodUid,
            })
        }
        // A container of no pod: on a node its pod is unknown; elsewhere there are no pods.
        None if cgroup.container_id.is_some()
            && !matches!(context.grants, Reading::Unsupported) =>
        {
            Err(Remainder::UnknownPod)
        }
        None => Err(Remainder::HostProcess),
    }
}

/// Every row of a list with its owner, and the balance.
pub fn attribute(list: &ProcessList, context: Context<'_>) -> Attributed {
    let mut owners: Vec<Result<Owner, Remainder>> = list
        .processes
        .iter()
        .map(|process| owner_of(process.pid, &process.facts, context))
        .collect();
    let newest = newest_of_each_name(&list.processes, &owners);
    for (process, owner) in list.processes.iter().zip(&mut owners) {
        // Two pods of one name: the older one's process outlived its pod.
        if let Ok(found) = owner
            && newest
                .get(&found.labels)
                .is_some_and(|(_, uid)| found.pod_uid.as_ref().is_some_and(|found| found != uid))
        {
            let _ = process;
            *owner = Err(Remainder::UnknownPod);
        }
    }

    let mut holdings: BTreeMap<ContainerLabels, Holding> = BTreeMap::new();
    let mut remainders: BTreeMap<Remainder, Bytes> = BTreeMap::new();
    let mut processes = Vec::with_capacity(list.processes.len());
    let mut unknown_remainders = Vec::new();
    let mut rows = Bytes(0);
    let mut all_known = list.complete;
    for (process, owner) in list.processes.iter().zip(owners) {
        match process.used {
            Reading::Value(used) => rows += used,
            Reading::Unsupported | Reading::Failed(_) => all_known = false,
        }
        let facts = process.facts.value();
        match &owner {
            Ok(owner) => {
                let holding = holdings
                    .entry(owner.labels.clone())
                    .or_insert_with(|| Holding {
                        pod_uid: owner.pod_uid.clone(),
                        evidence: owner.evidence,
                        memory: Reading::Value(Bytes(0)),
                        processes: Vec::new(),
                    });
                holding.evidence = holding.evidence.max(owner.evidence);
                if holding.pod_uid.is_none() {
                    holding.pod_uid.clone_from(&owner.pod_uid);
                }
                holding.memory = sum(holding.memory, process.used);
                holding.processes.extend(facts.map(|facts| facts.key));
            }
            Err(remainder) => match process.used {
                Reading::Value(used) => *remainders.entry(*remainder).or_default() += used,
                Reading::Unsupported | Reading::Failed(_) => unknown_remainders.push(*remainder),
            },
        }
        processes.push(OwnedProcess {
            pid: process.pid,
            name: facts.map_or_else(|| "".into(), |facts| Arc::clone(&facts.name)),
            memory: process.used,
            owner: owner.map(|owner| owner.labels),
        });
    }
    remainders.retain(|remainder, _| !unknown_remainders.contains(remainder));
    let unexplained = match list.memory.reserved {
        _ if list.torn => Reading::Failed(Cause::Torn),
        _ if !all_known => Reading::Failed(Cause::NotAvailable),
        Reading::Value(_) => Reading::Value(list.memory.used.minus(rows)),
        Reading::Unsupported => Reading::Unsupported,
        Reading::Failed(cause) => Reading::Failed(cause),
    };
    Attributed {
        at: list.at,
        memory: list.memory,
        holdings,
        remainders,
        complete: list.complete,
        unexplained,
        processes,
    }
}

/// Of several pods with the same names, the one whose process started last.
fn newest_of_each_name(
    processes: &[ListedProcess],
    owners: &[Result<Owner, Remainder>],
) -> HashMap<ContainerLabels, (ProcessKey, PodUid)> {
    let mut newest: HashMap<ContainerLabels, (ProcessKey, PodUid)> = HashMap::new();
    for (process, owner) in processes.iter().zip(owners) {
        let (
            Ok(Owner {
                labels,
                pod_uid: Some(uid),
                ..
            }),
            Some(facts),
        ) = (owner, process.facts.value())
        else {
            continue;
        };
        let age = |key: &ProcessKey, uid: &PodUid| (key.started, key.pid, uid.clone());
        let later = newest
            .get(labels)
            .is_none_or(|(key, known)| age(&facts.key, uid) > age(key, known));
        if later {
            newest.insert(labels.clone(), (facts.key, uid.clone()));
        }
    }
    newest
}

fn sum(a: Reading<Bytes>, b: Reading<Bytes>) -> Reading<Bytes> {
    match (a, b) {
        (Reading::Value(a), Reading::Value(b)) => Reading::Value(a + b),
        (Reading::Value(_), unknown) => unknown,
        (unknown, _) => unknown,
    }
}

#[cfg(test)]
mod tests;

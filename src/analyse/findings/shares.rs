//! What was granted against what is offered, and requests that get nothing for what they ask.

use std::collections::HashMap;

use super::code::{
    CONTAINERS_REQUEST_ONE_EACH, GRANTED_OVER_ADVERTISED, REPLICA_SHARES_NOTHING,
    REQUEST_GREATER_THAN_ONE,
};
use super::held::{Seen, Verdict, Words};
use super::words::{ask_for_one, listed, of_gpu, of_pod, pod, pods, whole_gpus};
use crate::model::snapshot::Owner;
use crate::model::{ContainerView, GpuView, Reading, Remainder, Sharing, Snapshot};

pub(super) fn look(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    let any_offered = any_offered(snapshot);
    for gpu in &snapshot.gpus {
        if is_untold(gpu, any_offered) {
            untold(gpu, seen);
            continue;
        }
        granted_over_advertised(gpu, seen);
        replica_shares_nothing(gpu, seen);
        one_each(gpu, seen);
    }
    greater_than_one(snapshot, seen);
}

/// Whether the kubelet tells what is offered of any device.
pub(super) fn any_offered(snapshot: &Snapshot) -> bool {
    let offers = |gpu: &GpuView| matches!(gpu.replicas, Reading::Value(1..));
    snapshot.gpus.iter().any(offers)
}

/// Whether nobody can say what is offered of this device: the kubelet is silent, or it tells of no
/// device at all, as while the plugin restarts.
pub(super) fn is_untold(gpu: &GpuView, any_offered: bool) -> bool {
    match gpu.replicas {
        Reading::Value(_) => false,
        Reading::Unsupported => !any_offered,
        Reading::Failed(_) => true,
    }
}

/// Nothing can be said of grants here.
fn untold(gpu: &GpuView, seen: &mut Vec<Seen>) {
    let mut push = |code, subject| {
        seen.push(Seen {
            code,
            subject,
            verdict: Verdict::Unknown,
        });
    };
    push(&GRANTED_OVER_ADVERTISED, of_gpu(gpu));
    push(&REPLICA_SHARES_NOTHING, of_gpu(gpu));
    for rows in pods(gpu) {
        push(&REQUEST_GREATER_THAN_ONE, of_pod(&rows[0]));
        push(&CONTAINERS_REQUEST_ONE_EACH, of_pod(&rows[0]));
    }
}

/// Of a device that is not offered while others are, nothing is.
fn granted_over_advertised(gpu: &GpuView, seen: &mut Vec<Seen>) {
    let advertised = gpu.replicas.copied().unwrap_or(0);
    let Reading::Value(granted) = gpu.replicas_allocated else {
        return;
    };
    if granted <= advertised {
        return;
    }
    let holders = pods(gpu).filter(|rows| rows.iter().any(|row| granted_to(row) > 0));
    let words = Words::new(
        format_args!(
            "granted {granted} of {advertised} replicas that the plugin offers now, to {}",
            listed(holders.map(|rows| pod(&rows[0])))
        ),
        match advertised {
            0 => {
                "the plugin offers nothing of this GPU: look at its log for a fault of the GPU (Xid), \
                  and at the profile"
            }
            _ => {
                "the profile was cut while pods were there, which keep what they have: delete as \
                  many of them as are too many, or raise replicas again"
            }
        },
    );
    seen.push(Seen {
        code: &GRANTED_OVER_ADVERTISED,
        subject: of_gpu(gpu),
        verdict: Verdict::Holds(words),
    });
}

/// Replicas that were granted, 0 where that is not known.
fn granted_to(row: &ContainerView) -> u32 {
    match row.present {
        true => row.replicas.copied().unwrap_or(0),
        false => 0,
    }
}

fn is_time_sliced(gpu: &GpuView) -> bool {
    gpu.sharing == Sharing::TimeSlicing && matches!(gpu.replicas, Reading::Value(2..))
}

/// One pod alone on a GPU that is offered to many.
fn replica_shares_nothing(gpu: &GpuView, seen: &mut Vec<Seen>) {
    let (Reading::Value(offered), Reading::Value(granted)) = (gpu.replicas, gpu.replicas_allocated)
    else {
        return;
    };
    let mut there = pods(gpu).filter(|rows| rows.iter().any(|row| row.present));
    let (Some(alone), None) = (there.next(), there.next()) else {
        return;
    };
    // Somebody else's process, known or not.
    let other = |owner| matches!(owner, Owner::Unattributed(rest) if rest != Remainder::Canary);
    if !is_time_sliced(gpu) || gpu.processes.iter().any(|process| other(process.owner)) {
        return;
    }
    if matches!(gpu.tenants, Reading::Failed(_)) {
        seen.push(Seen {
            code: &REPLICA_SHARES_NOTHING,
            subject: of_gpu(gpu),
            verdict: Verdict::Unknown,
        });
        return;
    }
    let words = Words::new(
        format_args!(
            "{} is alone on the GPU; the plugin offers {offered} replicas of it, {granted} granted",
            pod(&alone[0])
        ),
        "give it a GPU of its own on a node that does not share: it costs no more; or use the \
         replicas that are left",
    );
    seen.push(Seen {
        code: &REPLICA_SHARES_NOTHING,
        subject: of_gpu(gpu),
        verdict: Verdict::Holds(words),
    });
}

/// Containers of one pod that each asked for a replica, and met.
fn one_each(gpu: &GpuView, seen: &mut Vec<Seen>) {
    if !is_time_sliced(gpu) {
        return;
    }
    for rows in pods(gpu) {
        let holders = || rows.iter().filter(|row| granted_to(row) > 0);
        if holders().count() < 2 {
            continue;
        }
        let words = Words::new(
            format_args!(
                "containers {} were granted a replica each, all of {}",
                listed(holders().map(|row| &row.container)),
                gpu.identity.uuid
            ),
            "ask for the GPU in one container alone, or put the others into pods of their own: \
             replicas of one GPU are no second GPU",
        );
        seen.push(Seen {
            code: &CONTAINERS_REQUEST_ONE_EACH,
            subject: of_pod(&rows[0]),
            verdict: Verdict::Holds(words),
        });
    }
}

/// Containers that were granted several replicas of one resource, and fewer GPUs.
fn greater_than_one(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    type Key<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);
    let mut granted: HashMap<Key<'_>, (u32, Vec<&GpuView>, &ContainerView)> = HashMap::new();
    for gpu in snapshot.gpus.iter().filter(|gpu| is_time_sliced(gpu)) {
        let profile = gpu.identity.mig.as_ref().map(|mig| &*mig.profile);
        for row in gpu.containers.iter().filter(|row| granted_to(row) > 0) {
            let key = (&*row.namespace, &*row.pod, &*row.container, profile);
            let (sum, gpus, _) = granted.entry(key).or_insert((0, Vec::new(), row));
            *sum += granted_to(row);
            gpus.push(gpu);
        }
    }
    for ((_, _, container, profile), (sum, gpus, row)) in granted {
        // One of each of several GPUs do add.
        if sum as usize <= gpus.len() {
            continue;
        }
        let resource = whole_gpus(snapshot.node_facts.value().map(AsRef::as_ref));
        let words = Words::new(
            format_args!(
                "container {container} was granted {sum} replicas, of {}: those of one GPU add neither \
                 time nor memory to one another",
                listed(gpus.iter().map(|gpu| &gpu.identity.uuid))
            ),
            ask_for_one(row, resource.filter(|_| profile.is_none())),
        );
        seen.push(Seen {
            code: &REQUEST_GREATER_THAN_ONE,
            subject: of_pod(row),
            verdict: Verdict::Holds(words),
        });
    }
}

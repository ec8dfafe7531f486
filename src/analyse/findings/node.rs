//! What the node's labels say against what the device plugin offers and what the driver shows.

use std::collections::BTreeMap;

use super::code::{Code, LABELS_OUT_OF_DATE, MIG_WITH_STRATEGY_NONE, SHARING_NOT_IN_FORCE};
use super::held::{Seen, Subject, Verdict, Words};
use super::words::{listed, restart, with_operator};
use crate::model::{GpuView, NodeFacts, Reading, Snapshot};

const GPU: &str = "nvidia.com/gpu";
const COUNT: &str = "nvidia.com/gpu.count";
const STRATEGY: &str = "nvidia.com/gpu.sharing-strategy";
const MIG_STRATEGY: &str = "nvidia.com/mig.strategy";
const MIG_STATE: &str = "nvidia.com/mig.config.state";

const MIG_MEND: &str = "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
     '{\"spec\":{\"mig\":{\"strategy\":\"mixed\"}}}'";

pub(super) fn look(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    let facts = match &snapshot.node_facts {
        Reading::Value(facts) => facts,
        Reading::Unsupported => return,
        Reading::Failed(_) => {
            for code in [&SHARING_NOT_IN_FORCE, &LABELS_OUT_OF_DATE] {
                push(seen, code, Subject::Node, Verdict::Unknown);
            }
            for card in &snapshot.mig_cards {
                let card = Subject::Gpu(card.identity.uuid.clone());
                push(seen, &MIG_WITH_STRATEGY_NONE, card, Verdict::Unknown);
            }
            return;
        }
    };
    // Without feature discovery there is nothing to compare with.
    if !facts.labels.contains_key(COUNT) {
        return;
    }
    labels(snapshot, facts, seen);
    mig(snapshot, facts, seen);
}

fn push(seen: &mut Vec<Seen>, code: &'static Code, subject: Subject, verdict: Verdict) {
    seen.push(Seen {
        code,
        subject,
        verdict,
    });
}

/// What the plugin makes of each of the devices of one resource.
struct Offer {
    replicas: u32,
    devices: u32,
}

fn labels(snapshot: &Snapshot, facts: &NodeFacts, seen: &mut Vec<Seen>) {
    let offers = offers(snapshot, facts);
    if offers.is_empty() && is_blind(snapshot) {
        for code in [&SHARING_NOT_IN_FORCE, &LABELS_OUT_OF_DATE] {
            push(seen, code, Subject::Node, Verdict::Unknown);
        }
    }
    let strategy = label(facts, STRATEGY);
    let mut not_in_force = Vec::new();
    let mut out_of_date = Vec::new();
    for (resource, offer) in &offers {
        let offered = format!(
            "the plugin offers {} of each of {} {resource}",
            offer.replicas, offer.devices
        );
        let replicas = format!("{resource}.replicas");
        match number(facts, &replicas) {
            Some(says @ 2..) if offer.replicas == 1 => {
                not_in_force.push(format!("label {replicas}={says}, and {offered}"));
            }
            Some(says @ 1..) if offer.replicas > 1 && says != offer.replicas => {
                out_of_date.push(format!("label {replicas}={says}, and {offered}"));
            }
            // 0: feature discovery was told not to say.
            _ => {}
        }
        let product = format!("{resource}.product");
        let renamed = facts.capacity.get(&*format!("{resource}.shared")) > Some(&0);
        if let Some(says) = label(facts, &product) {
            match (says.ends_with("-SHARED"), offer.replicas > 1) {
                (true, false) => {
                    not_in_force.push(format!("label {product}={says}, and {offered}"));
                }
                (false, true) if !renamed => {
                    out_of_date.push(format!("label {product}={says}, and {offered}"));
                }
                _ => {}
            }
        }
    }
    let shared = offers.values().any(|offer| offer.replicas > 1);
    match strategy {
        Some("none") if shared => {
            out_of_date.push(format!("label {STRATEGY}=none, and the plugin shares"));
        }
        Some(says @ ("time-slicing" | "mps")) if !shared && !offers.is_empty() => {
            not_in_force.push(format!(
                "label {STRATEGY}={says}, and the plugin shares none"
            ));
        }
        _ => {}
    }
    if let (Some(says), Some(cards)) = (number(facts, COUNT), cards(snapshot))
        && says != cards
    {
        out_of_date.push(format!(
            "label {COUNT}={says}, and the driver shows {cards}"
        ));
    }
    let allocatable = facts
        .allocatable
        .iter()
        .map(|(resource, count)| format!("{resource}={count}"));
    let allocatable = listed(allocatable);
    if !not_in_force.is_empty() {
        let words = Words::new(
            format_args!("{}; allocatable {allocatable}", not_in_force.join("; ")),
            format!(
                "{}; it says which profile is in force too, and why",
                restart(snapshot)
            ),
        );
        push(
            seen,
            &SHARING_NOT_IN_FORCE,
            Subject::Node,
            Verdict::Holds(words),
        );
    }
    if !out_of_date.is_empty() {
        let words = Words::new(
            format_args!("{}; allocatable {allocatable}", out_of_date.join("; ")),
            restart(snapshot),
        );
        push(
            seen,
            &LABELS_OUT_OF_DATE,
            Subject::Node,
            Verdict::Holds(words),
        );
    }
}

/// Whether what is offered may only not be told: a GPU does not answer, or the kubelet does not.
fn is_blind(snapshot: &Snapshot) -> bool {
    let mut devices = snapshot.gpus.iter().chain(&snapshot.mig_cards);
    let silent = |gpu: &GpuView| matches!(gpu.replicas, Reading::Failed(_));
    devices.any(|gpu| gpu.up != Reading::Value(())) || snapshot.gpus.iter().any(silent)
}

fn label<'a>(facts: &'a NodeFacts, name: &str) -> Option<&'a str> {
    facts.labels.get(name).map(AsRef::as_ref)
}

fn number(facts: &NodeFacts, name: &str) -> Option<u32> {
    label(facts, name)?.parse().ok()
}

/// What is offered by resource, as labels name it. Replicas of a device that is not healthy are not
/// offered: the most of any device counts.
fn offers(snapshot: &Snapshot, facts: &NodeFacts) -> BTreeMap<String, Offer> {
    let mut offers: BTreeMap<String, Offer> = BTreeMap::new();
    for gpu in &snapshot.gpus {
        if let (Reading::Value(replicas @ 1..), Some(resource)) =
            (gpu.replicas, resource(gpu, facts))
        {
            let offer = offers.entry(resource).or_insert(Offer {
                replicas,
                devices: 0,
            });
            offer.replicas = offer.replicas.max(replicas);
            offer.devices += 1;
        }
    }
    if offers.is_empty()
        && let Some(offer) = of_capacity(snapshot, facts)
    {
        offers.insert(GPU.to_owned(), offer);
    }
    offers
}

/// Where the kubelet does not tell it by device: the node's capacity, unhealthy devices included,
/// by the number of cards.
fn of_capacity(snapshot: &Snapshot, facts: &NodeFacts) -> Option<Offer> {
    let devices = cards(snapshot).filter(|cards| *cards > 0)?;
    let capacity = |name| facts.capacity.get(name).copied().unwrap_or(0);
    let total = match (capacity(GPU), capacity("nvidia.com/gpu.shared")) {
        (whole, 0) => whole,
        (0, shared) => shared,
        // A renamed resource leaves its old name behind for a while.
        _ => return None,
    };
    let replicas = u32::try_from(total / u64::from(devices)).ok()?;
    (replicas > 0 && total % u64::from(devices) == 0).then_some(Offer { replicas, devices })
}

/// What the labels of a device begin with.
fn resource(gpu: &GpuView, facts: &NodeFacts) -> Option<String> {
    let Some(mig) = &gpu.identity.mig else {
        return Some(GPU.to_owned());
    };
    match label(facts, MIG_STRATEGY)? {
        "single" => Some(GPU.to_owned()),
        "mixed" => Some(format!("nvidia.com/mig-{}", mig.profile.replace('+', "."))),
        _ => None,
    }
}

/// How many cards there are, where feature discovery counts the same: all of one model, none in MIG
/// mode, and all of them answer.
fn cards(snapshot: &Snapshot) -> Option<u32> {
    let first = snapshot.gpus.first()?;
    let counted = |gpu: &GpuView| {
        gpu.up == Reading::Value(())
            && gpu.identity.parent.is_none()
            && gpu.identity.mig_enabled != Some(true)
            && gpu.identity.model == first.identity.model
    };
    let all = snapshot.mig_cards.is_empty() && snapshot.gpus.iter().all(counted);
    all.then_some(snapshot.gpus.len() as u32)
}

/// Cards in MIG mode of which the plugin offers no instance, since it was told to know of none.
fn mig(snapshot: &Snapshot, facts: &NodeFacts, seen: &mut Vec<Seen>) {
    // With strategy none feature discovery sets no such label.
    let strategy = label(facts, MIG_STRATEGY);
    let changing = matches!(label(facts, MIG_STATE), Some("pending" | "rebooting"));
    // With strategy none it offers the cards as they stand. Where it offers nothing it may not be
    // there, and DRA serve the instances.
    let plugin = facts.capacity.iter().any(|(name, count)| {
        *count > 0 && (name.starts_with(GPU) || name.starts_with("nvidia.com/mig-"))
    });
    if changing || !plugin || !matches!(strategy, None | Some("none")) {
        return;
    }
    for card in &snapshot.mig_cards {
        let identity = &card.identity;
        let of_card = |gpu: &&GpuView| gpu.identity.parent.as_ref() == Some(&identity.uuid);
        let instances: Vec<&GpuView> = snapshot.gpus.iter().filter(of_card).collect();
        let offered = |gpu: &&GpuView| matches!(gpu.replicas, Reading::Value(1..));
        let answers = card.up == Reading::Value(()) && identity.mig_enabled == Some(true);
        let claimed = |gpu: &&GpuView| gpu.containers.iter().any(|row| !row.claims.is_empty());
        if !answers || instances.iter().any(offered) || instances.iter().any(claimed) {
            continue;
        }
        let untold = |gpu: &&GpuView| matches!(gpu.replicas, Reading::Failed(_));
        if strategy.is_none() && instances.iter().any(untold) {
            let card = Subject::Gpu(identity.uuid.clone());
            push(seen, &MIG_WITH_STRATEGY_NONE, card, Verdict::Unknown);
            continue;
        }
        let words = Words::new(
            format_args!(
                "MIG mode of {} is on, with {} instances; label {MIG_STRATEGY} is {}, and the plugin \
                 offers none of them",
                identity.uuid,
                instances.len(),
                strategy.unwrap_or("absent, as with strategy none"),
            ),
            with_operator(MIG_MEND, snapshot),
        );
        let card = Subject::Gpu(identity.uuid.clone());
        push(seen, &MIG_WITH_STRATEGY_NONE, card, Verdict::Holds(words));
    }
}

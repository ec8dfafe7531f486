//! `check --functional`: two pods on one GPU, tried.
//!
//! More pods than the node has GPUs ask for one replica each, so that two must meet. Each says from
//! inside which GPU it has; the node's agent is asked the same. The pods are deleted whatever
//! happens, and end by themselves where this program is killed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::pass::pass;
use crate::analyse::setup::SETTLING;
use crate::collect::setup::{AgentPod, Right, SetupSettings, Trial, TrialError};
use crate::commands::agent::terminated;
use crate::commands::options::Period;
use crate::model::setup::NodeInForce;
use crate::publish::check::{Functional, Outcome, TrialPod};
use crate::publish::terminal::progress::Progress;

/// How long the pods have to come up and to say where they are.
const WAIT: Duration = Duration::from_secs(120);
/// How long the agent has to show them: it asks the kubelet each 10 s.
const AGENT_WAIT: Duration = Duration::from_secs(30);
/// How long they have to be gone.
const GONE_WAIT: Duration = Duration::from_secs(60);
/// A pod that was asked for without an answer may come for so long.
const MAY_COME: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// A pod ends by itself so long after its start, beyond what it is waited for.
const SPARE: Duration = Duration::from_secs(120);
/// Pods at the most: a node has 16 GPUs.
const MOST_PODS: u64 = 64;
/// Of pods that are made by hand.
const NAMESPACE: &str = "default";

/// Flags of the trial.
#[derive(Debug, Args)]
pub struct FunctionalArgs {
    /// Try it: run more pods than a node has GPUs, and see that two of them share one
    #[arg(long, conflicts_with_all = ["config_file", "watch"])]
    pub functional: bool,
    /// Where the trial's pods are made [default: default]
    #[arg(long, value_name = "NAME", requires = "functional")]
    functional_namespace: Option<String>,
    /// The image of the trial's pods, which must be slicewatch's [default: that of the agent]
    #[arg(long, value_name = "IMAGE", requires = "functional")]
    image: Option<String>,
    /// RuntimeClass of the trial's pods, where NVIDIA's runtime is not the node's default one
    #[arg(long, value_name = "NAME", requires = "functional")]
    runtime_class: Option<String>,
    /// How long the trial's pods have to come up [default: 2m]
    #[arg(long, value_name = "TIME", requires = "functional")]
    wait: Option<Period>,
}

/// Tries it on the first node that shares GPUs and takes pods, of those that were asked about.
///
/// # Errors
/// The cluster cannot be asked at all. Whatever else fails is in what is given back.
pub async fn run(args: &FunctionalArgs, settings: &SetupSettings) -> anyhow::Result<Functional> {
    let namespace = args.functional_namespace.clone();
    let mut found = Functional::new(namespace.unwrap_or_else(|| NAMESPACE.to_owned()));
    let mut progress = Progress::new();
    let nodes = pass(settings, SETTLING, &mut progress).await?.report.nodes;
    progress.begin("looking for a node to try it on");
    let trial = Trial::open(settings, &found.namespace).await?;
    let wait = args.wait.map_or(WAIT, |Period(wait)| wait);
    let plan = match plan(args, &nodes, &trial, &mut found).await {
        Ok(plan) => plan,
        Err(words) => {
            found.words.push(words);
            return Ok(found);
        }
    };
    let missing = missing_rights(&trial).await;
    if !missing.is_empty() {
        found.prevented(format!(
            "rights in namespace {} are missing: {}; have them bound, or give another --functional-namespace",
            found.namespace,
            missing.join(", ")
        ));
        return Ok(found);
    }
    // A task, which takes signals from now on: they would end the process while pods are made.
    let mut ended = tokio::spawn(terminated());
    // Not cut off by a signal: a pod whose making was not waited for could come after its end.
    let mut made = Made::default();
    progress.begin(format_args!("making pods: {}", plan.pods.len()));
    let all = make(&trial, &plan, &mut made, &mut found).await;
    let tried = async {
        if all {
            look(&trial, &mut found, wait, &mut progress).await;
            if let Some(agent) = &plan.agent {
                ask(&trial, agent, &mut found, &mut progress).await;
            }
            found.judge();
        }
    };
    let whole = tokio::select! {
        biased;
        _ = &mut ended => false,
        () = tried => true,
    };
    if !whole {
        found.outcome = Outcome::NotTried;
        found.words.push("ended by a signal".to_owned());
    }
    found.left_behind = clean(&trial, &made, &mut progress).await;
    Ok(found)
}

/// Names of pods that were asked for.
#[derive(Debug, Default)]
struct Made {
    names: Vec<String>,
    /// Whether the last was asked for without an answer: it may come yet.
    unsure: bool,
}

async fn missing_rights(trial: &Trial) -> Vec<String> {
    let mut missing = Vec::new();
    for right in &Right::NEEDED {
        // A server that does not say will say so when it is asked to make a pod.
        if trial.may(right).await == Some(false) {
            missing.push(right.words());
        }
    }
    missing
}

/// What is to be made, and where.
struct Plan {
    /// For each its name and the object.
    pods: Vec<(String, Value)>,
    agent: Option<AgentPod>,
}

/// Chooses a node and the pods; in words why none.
async fn plan(
    args: &FunctionalArgs,
    nodes: &[NodeInForce],
    trial: &Trial,
    found: &mut Functional,
) -> Result<Plan, String> {
    let shares = |node: &&NodeInForce| {
        // By its numbers, or as its profile says where they are not known.
        let more = node
            .gpus
            .map_or(node.sharing == Some("time-slicing"), |gpus| {
                node.allocatable.unwrap_or(0) > gpus
            });
        more && node.sharing != Some("mps") && node.resource.is_some()
    };
    let Some(node) = nodes.iter().filter(|node| node.takes_pods).find(shares) else {
        return Err(match nodes.iter().any(|node| shares(&node)) {
            true => "all nodes that offer shared GPUs are cordoned or not ready".to_owned(),
            false => "no node that was asked about offers shared GPUs: `slicewatch check` says what is in \
                      force on each"
                .to_owned(),
        });
    };
    let resource = node.resource.clone().unwrap_or_default();
    found.node = Some(node.node.clone());
    found.resource = Some(resource.clone());
    found.gpus = node.gpus;
    let gpus = node.gpus.filter(|gpus| *gpus > 0).ok_or_else(|| {
        format!(
            "node {} does not say how many GPUs it has: its label nvidia.com/gpu.count is missing",
            node.node
        )
    })?;
    if gpus >= MOST_PODS {
        return Err(format!(
            "node {} says that it has {gpus} GPUs: see its label nvidia.com/gpu.count",
            node.node
        ));
    }
    let agent = match trial.agents(Some(&node.node)).await {
        Ok(agents) => {
            if agents.is_empty() {
                found.words.push(format!(
                    "the agent is not asked: none is found on node {}",
                    node.node
                ));
            }
            agents.into_iter().next()
        }
        Err(error) => {
            found.words.push(format!("the agent is not asked: {error}"));
            None
        }
    };
    let image = match (&args.image, &agent) {
        (Some(image), _) => image.clone(),
        (None, Some(agent)) => agent.image.clone(),
        (None, None) => {
            let any = trial.agents(None).await.unwrap_or_default();
            let any = any.into_iter().next().map(|agent| agent.image);
            any.ok_or("no agent is found in this cluster whose image could be taken: give --image")?
        }
    };
    let wait = args.wait.map_or(WAIT, |Period(wait)| wait);
    // Keyed anew in each process.
    let name = format!(
        "slicewatch-check-{:08x}",
        RandomState::new().hash_one(&node.node) as u32
    );
    let pods = (0..=gpus)
        .map(|number| {
            let name = format!("{name}-{number}");
            let class = args.runtime_class.as_deref();
            let pod = pod(&name, &node.node, &image, &resource, class, wait);
            (name, pod)
        })
        .collect();
    Ok(Plan { pods, agent })
}

/// A pod that a namespace of the policy `restricted` takes.
fn pod(
    name: &str,
    node: &str,
    image: &str,
    resource: &str,
    class: Option<&str>,
    wait: Duration,
) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "slicewatch-check-functional"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": (wait + AGENT_WAIT + SPARE).as_secs(),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            // By its name: the label kubernetes.io/hostname may be another.
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": [node]},
                ]}],
            }}},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "witness",
                "image": image,
                "args": ["witness"],
                "resources": {
                    "limits": {resource: "1", "memory": "128Mi"},
                    "requests": {resource: "1", "cpu": "10m", "memory": "32Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = class.into();
    }
    pod
}

/// Makes them all; whether it did.
async fn make(trial: &Trial, plan: &Plan, made: &mut Made, found: &mut Functional) -> bool {
    for (name, pod) in &plan.pods {
        match trial.create(pod).await {
            Ok(()) => {}
            Err(TrialError::Forbidden { words } | TrialError::Rejected { words }) => {
                found.prevented(format!(
                    "a quota, a policy or rights of namespace {} do not let the pod be: {words}",
                    found.namespace
                ));
                return false;
            }
            Err(error) => {
                made.names.push(name.clone());
                made.unsure = true;
                found.words.push(error.to_string());
                return false;
            }
        }
        made.names.push(name.clone());
        found.pods.push(TrialPod {
            name: name.clone(),
            ..TrialPod::default()
        });
    }
    true
}

/// Waits until each has said where it is, or one never will, or the time is over.
async fn look(trial: &Trial, found: &mut Functional, wait: Duration, progress: &mut Progress) {
    let until = Instant::now() + wait;
    loop {
        let told = found.pods.iter().filter(|pod| pod.told_by.is_some());
        progress.say(format_args!(
            "waiting up to {} s for pods that say which GPU they have: {} of {}",
            wait.as_secs(),
            told.count(),
            found.pods.len()
        ));
        let mut hopeless = false;
        for pod in found.pods.iter_mut().filter(|pod| pod.told_by.is_none()) {
            match trial.state(&pod.name).await {
                Ok(state) => {
                    pod.running = state.running;
                    hopeless |= state.is_hopeless();
                    pod.why = state.why;
                }
                Err(error) => {
                    pod.running = false;
                    hopeless |= matches!(error, TrialError::NotFound { .. });
                    pod.why = Some(error.to_string());
                }
            }
            if pod.running
                && let Ok(Some(witness)) = trial.witness(&pod.name).await
            {
                pod.gpus = witness.uuids().into_iter().map(str::to_owned).collect();
                pod.told_by = Some(match witness.gpus.is_empty() {
                    true => "NVIDIA_VISIBLE_DEVICES",
                    false => "driver",
                });
                pod.why = witness.driver_error.filter(|_| pod.gpus.is_empty());
            }
        }
        let all = found.pods.iter().all(|pod| pod.told_by.is_some());
        if all || hopeless || Instant::now() >= until {
            break;
        }
        sleep(LOOK).await;
    }
    // All at the same time: one that ended meanwhile, or is not known to run, shares nothing.
    for pod in found.pods.iter_mut().filter(|pod| pod.running) {
        match trial.state(&pod.name).await {
            Ok(state) => {
                pod.running = state.running;
                pod.why = state.why.or(pod.why.take());
            }
            Err(error) => {
                pod.running = false;
                pod.why = Some(error.to_string());
            }
        }
    }
}

/// Asks the agent until it shows all that run, or for long enough.
async fn ask(trial: &Trial, agent: &AgentPod, found: &mut Functional, progress: &mut Progress) {
    let until = Instant::now() + AGENT_WAIT;
    loop {
        progress.say(format_args!(
            "waiting up to {} s for the agent to show them",
            AGENT_WAIT.as_secs()
        ));
        let snapshot = match trial.snapshot(agent).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let words = match error {
                    TrialError::Forbidden { .. } => {
                        ", which takes the right to get pods/proxy in its namespace"
                    }
                    _ => "",
                };
                found
                    .words
                    .push(format!("the agent is not asked{words}: {error}"));
                return;
            }
        };
        let namespace = found.namespace.clone();
        for pod in &mut found.pods {
            let on = snapshot.gpus.iter().filter(|gpu| {
                let mut rows = gpu.containers.iter();
                rows.any(|row| *row.namespace == *namespace && *row.pod == *pod.name && row.present)
            });
            pod.agent = Some(on.map(|gpu| gpu.identity.uuid.to_string()).collect());
        }
        let shown = |pod: &TrialPod| pod.agent.as_ref().is_some_and(|gpus| !gpus.is_empty());
        if found.pods.iter().filter(|pod| pod.running).all(shown) || Instant::now() >= until {
            return;
        }
        sleep(LOOK).await;
    }
}

/// Deletes what was made and waits until it is gone; the names of what is not.
async fn clean(trial: &Trial, made: &Made, progress: &mut Progress) -> Vec<String> {
    let begun = Instant::now();
    let mut left = made.names.clone();
    while !left.is_empty() && begun.elapsed() < GONE_WAIT {
        progress.say(format_args!("deleting pods: {} left", left.len()));
        for name in left.clone() {
            // Again and again: the one before may not have been heard.
            if let Err(error) = trial.delete(&name).await {
                tracing::warn!(pod = name, %error, "not deleted");
            }
            let may_come =
                made.unsure && made.names.last() == Some(&name) && begun.elapsed() < MAY_COME;
            let gone = matches!(trial.state(&name).await, Err(TrialError::NotFound { .. }));
            if gone && !may_come {
                left.retain(|other| *other != name);
            }
        }
        if !left.is_empty() {
            sleep(LOOK).await;
        }
    }
    left
}

//! Commands that change what makes a pod, or the pod itself where nothing does.

use serde_json::{Map, Value, json};

use super::mend::{delete, quoted};
use crate::model::setup::{ObjectRef, PodContainer, PodRead};

/// What makes the pod, as far as the pod tells: a Deployment by the hash in its ReplicaSet's name.
pub(super) fn owner(pod: &PodRead) -> ObjectRef {
    let (kind, name) = match pod.controller.as_ref().filter(|it| !it.name.is_empty()) {
        Some(it) => match deployment(pod, &it.kind, &it.name) {
            Some(name) => ("Deployment", name),
            None => (it.kind.as_str(), it.name.as_str()),
        },
        None => ("Pod", pod.name.as_str()),
    };
    ObjectRef {
        kind: kind.to_owned(),
        namespace: Some(pod.namespace.clone()),
        name: name.to_owned(),
    }
}

fn deployment<'p>(pod: &PodRead, kind: &str, name: &'p str) -> Option<&'p str> {
    let hash = pod
        .template_hash
        .as_deref()
        .filter(|_| kind == "ReplicaSet")?;
    name.strip_suffix(hash)?.strip_suffix('-')
}

/// Has the pod ask for a resource under another name.
pub(super) fn rename(pod: &PodRead, from: &str, to: &str) -> Vec<String> {
    let change = |it: &PodContainer| {
        let count = it.limits.get(from).or_else(|| it.requests.get(from));
        let count = count.map_or(1, |count| *count).to_string();
        json!({from: null, to: count})
    };
    let asks = |it: &PodContainer| it.limits.contains_key(from) || it.requests.contains_key(from);
    let edit = format!("s#\"{}\":#\"{to}\":#", pattern(from));
    repair(pod, asks, change, &edit)
}

/// Has the pod ask for one of a resource.
pub(super) fn ask_for_one(pod: &PodRead, resource: &str) -> Vec<String> {
    let change = |_: &PodContainer| json!({resource: "1"});
    let many = |it: &PodContainer| it.limits.get(resource).is_some_and(|&count| count > 1);
    let edit = format!(
        "s#\"{0}\": \"[0-9]*\"#\"{resource}\": \"1\"#",
        pattern(resource)
    );
    repair(pod, many, change, &edit)
}

/// Has all containers but the first ask for none of a resource.
pub(super) fn ask_once(pod: &PodRead, resource: &str) -> Vec<String> {
    let asking = |it: &&PodContainer| !it.init && it.limits.contains_key(resource);
    let first = pod
        .containers
        .iter()
        .filter(asking)
        .map(|it| it.index)
        .min();
    let change = |_: &PodContainer| json!({resource: null});
    let others = |it: &PodContainer| asking(&it) && Some(it.index) != first;
    match template(&owner(pod).kind) {
        Template::Patched { .. } => repair(pod, others, change, ""),
        // Which of them a person means, no command can choose by itself.
        Template::Fixed | Template::None => Vec::new(),
    }
}

/// How a controller's template is changed.
enum Template {
    /// By a patch. `replaces`: whether it then replaces a pod that waits or failed.
    Patched { replaces: bool },
    /// Not at all: the object must be made anew from its manifest.
    Fixed,
    /// There is none: the pod is its own.
    None,
}

fn template(kind: &str) -> Template {
    match kind {
        "Deployment" | "DaemonSet" => Template::Patched { replaces: true },
        "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
            Template::Patched { replaces: false }
        }
        "Pod" => Template::None,
        _ => Template::Fixed,
    }
}

/// Limits and requests alike, which must be equal where a template has both. Containers are found by
/// name: what injects one of its own may have moved them.
fn repair(
    pod: &PodRead,
    which: impl Fn(&PodContainer) -> bool,
    change: impl Fn(&PodContainer) -> Value,
    edit: &str,
) -> Vec<String> {
    let owner = owner(pod);
    let namespace = quoted(&pod.namespace);
    let failed = pod.phase == "Failed";
    match template(&owner.kind) {
        Template::Patched { replaces } => {
            let mut spec = Map::new();
            for it in pod.containers.iter().filter(|it| which(it)) {
                let list = if it.init {
                    "initContainers"
                } else {
                    "containers"
                };
                let change = change(it);
                let changed =
                    json!({"name": it.name, "resources": {"limits": change, "requests": change}});
                let list = spec.entry(list).or_insert_with(|| json!([]));
                list.as_array_mut()
                    .into_iter()
                    .for_each(|list| list.push(changed.clone()));
            }
            if spec.is_empty() {
                return Vec::new();
            }
            let patch = json!({"spec": {"template": {"spec": spec}}});
            let mut commands = vec![format!(
                "kubectl -n {namespace} patch {} {} -p {}",
                owner.kind.to_lowercase(),
                quoted(&owner.name),
                quoted(&patch.to_string())
            )];
            if failed {
                commands.push(delete_failed(pod));
            } else if !replaces {
                commands.push(delete(&pod.namespace, "pod", [pod.name.as_str()]));
            }
            commands
        }
        Template::None => vec![format!(
            "kubectl -n {namespace} get pod {} -o json | sed -e '/\"nodeName\":/d' -e {} | \
             kubectl replace --force -f -",
            quoted(&pod.name),
            quoted(edit)
        )],
        Template::Fixed if failed => vec![delete_failed(pod)],
        Template::Fixed => Vec::new(),
    }
}

/// The failed pods of what made this one. They stay until somebody deletes them.
fn delete_failed(pod: &PodRead) -> String {
    match pod.template_hash.as_deref() {
        Some(hash) => format!(
            "kubectl -n {} delete pods --field-selector status.phase=Failed -l {}",
            quoted(&pod.namespace),
            quoted(&format!("pod-template-hash={hash}"))
        ),
        None => delete(&pod.namespace, "pod", [pod.name.as_str()]),
    }
}

/// A resource's name in a basic regular expression.
fn pattern(resource: &str) -> String {
    resource.replace('.', r"\.")
}

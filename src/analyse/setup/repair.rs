//! Commands that change what makes a pod, or the pod itself where nothing does.

use serde_json::json;

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
    let operation = |path: &str| {
        let from = format!("{path}/{}", escaped(from));
        let path = format!("{path}/{}", escaped(to));
        json!({"op": "move", "from": from, "path": path})
    };
    let asks = |it: &PodContainer| it.limits.contains_key(from) || it.requests.contains_key(from);
    let edit = format!("s#\"{}\":#\"{to}\":#", pattern(from));
    repair(pod, asks, operation, &edit)
}

/// Has the pod ask for one of a resource.
pub(super) fn ask_for_one(pod: &PodRead, resource: &str) -> Vec<String> {
    let operation = |path: &str| {
        let path = format!("{path}/{}", escaped(resource));
        json!({"op": "replace", "path": path, "value": "1"})
    };
    let many = |it: &PodContainer| it.limits.get(resource).is_some_and(|&count| count > 1);
    let edit = format!(
        "s#\"{0}\": \"[0-9]*\"#\"{resource}\": \"1\"#",
        pattern(resource)
    );
    repair(pod, many, operation, &edit)
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
    let operation = |path: &str| {
        let path = format!("{path}/{}", escaped(resource));
        json!({"op": "remove", "path": path})
    };
    let others = |it: &PodContainer| asking(&it) && Some(it.index) != first;
    match template(&owner(pod).kind) {
        Template::Patched { .. } => repair(pod, others, operation, ""),
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

fn repair(
    pod: &PodRead,
    which: impl Fn(&PodContainer) -> bool,
    operation: impl Fn(&str) -> serde_json::Value,
    edit: &str,
) -> Vec<String> {
    let owner = owner(pod);
    let namespace = quoted(&pod.namespace);
    let failed = pod.phase == "Failed";
    match template(&owner.kind) {
        Template::Patched { replaces } => {
            let list = |init| if init { "initContainers" } else { "containers" };
            let path = |it: &PodContainer| {
                format!(
                    "/spec/template/spec/{}/{}/resources/limits",
                    list(it.init),
                    it.index
                )
            };
            let operations: Vec<_> = pod
                .containers
                .iter()
                .filter(|it| which(it))
                .map(|it| operation(&path(it)))
                .collect();
            if operations.is_empty() {
                return Vec::new();
            }
            let mut commands = vec![format!(
                "kubectl -n {namespace} patch {} {} --type json -p {}",
                owner.kind.to_lowercase(),
                quoted(&owner.name),
                quoted(&serde_json::Value::Array(operations).to_string())
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

/// A resource's name in a JSON pointer.
fn escaped(resource: &str) -> String {
    resource.replace('~', "~0").replace('/', "~1")
}

/// A resource's name in a basic regular expression.
fn pattern(resource: &str) -> String {
    resource.replace('.', r"\.")
}

//! The RuntimeClass that pods want.

use std::collections::BTreeMap;

use serde_json::json;

use super::cluster::Cluster;
use super::found::{Found, MAX_OF_A_CODE, finding, object};
use super::mend::{self, quoted};
use super::told::named;
use crate::model::Severity;
use crate::model::setup::PodRead;

/// Pods that name a RuntimeClass, counted by its name.
#[derive(Debug, Default)]
pub(super) struct RuntimeClasses(BTreeMap<String, (u64, String)>);

impl RuntimeClasses {
    pub(super) fn pod(&mut self, pod: &PodRead) {
        let Some(class) = pod.runtime_class.as_deref() else {
            return;
        };
        if pod.containers.is_empty() && !class.contains("nvidia") {
            return;
        }
        let name = format!("{}/{}", pod.namespace, pod.name);
        match self.0.get_mut(class) {
            Some((count, first)) => {
                *count += 1;
                if name < *first {
                    *first = name;
                }
            }
            None => {
                self.0.insert(class.to_owned(), (1, name));
                if self.0.len() > MAX_OF_A_CODE {
                    self.0.pop_last();
                }
            }
        }
    }

    /// By class: how many pods, and the first of them.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, u64, &str)> {
        let all = self.0.iter();
        all.map(|(class, (count, first))| (class.as_str(), *count, first.as_str()))
    }
}

/// Who names a class: a sentence, and how many.
#[derive(Default)]
struct Users {
    sets: Vec<String>,
    pods: Option<(u64, String)>,
}

pub(super) fn rules(cluster: &Cluster, pods: &RuntimeClasses, found: &mut Found) {
    let Some(classes) = cluster.setup.runtime_classes.read() else {
        return;
    };
    let there = |name: &str| classes.iter().any(|class| class.name == name);
    let mut missing: BTreeMap<&str, Users> = BTreeMap::new();
    for set in cluster.daemon_sets() {
        if let Some(class) = named(set.runtime_class.as_deref()).filter(|class| !there(class)) {
            let users = &mut missing.entry(class).or_default().sets;
            users.push(format!("DaemonSet {}/{}", set.namespace, set.name));
        }
    }
    for (class, count, first) in pods.named().filter(|(class, ..)| !there(class)) {
        missing.entry(class).or_default().pods = Some((count, first.to_owned()));
    }
    for (class, users) in missing {
        let mut who = users.sets;
        match users.pods {
            Some((1, pod)) => who.push(format!("pod {pod}")),
            Some((count, pod)) => who.push(format!("{count} pods, such as {pod}")),
            None => {}
        }
        let policy = cluster.policy();
        let nri = policy.filter(|policy| policy.nri_plugin == Some(true));
        let (why, mend) = match nri {
            Some(policy) => (
                "The operator's NRI plugin is on, and with it the operator deletes its class. Take \
                 runtimeClassName out of the pods, or turn the plugin off with the command.",
                mend::patch_policy(
                    &policy.name,
                    &json!({"spec": {"cdi": {"nriPluginEnabled": false}}}),
                ),
            ),
            None => (
                "The command makes it, for nodes whose runtime has a handler of this name.",
                make(class),
            ),
        };
        found.add(
            finding(
                "runtime_class_missing",
                Severity::Error,
                object("RuntimeClass", None, class),
                format!(
                    "There is no RuntimeClass {class}, and {} want it: new pods of this kind are \
                     refused. {why}",
                    who.join(" and ")
                ),
            )
            .field("spec.runtimeClassName")
            .expected(format!("RuntimeClass {class}"))
            .found("none of this name")
            .mend([mend]),
        );
    }
}

fn make(class: &str) -> String {
    let object = json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": class},
        "handler": class,
    });
    format!(
        "printf %s {} | kubectl apply -f -",
        quoted(&object.to_string())
    )
}

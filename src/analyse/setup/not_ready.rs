//! A pod of the plugin that is not ready, and why.

use super::found::{Found, finding};
use super::mend::{quoted, role_words};
use super::on_node::OnNode;
use crate::model::Severity;
use crate::model::setup::{PluginContainer, PluginPod};

/// States in which a pod is for a while after it was made.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Whether the pod is as it should be, or may yet be; else a finding, unless another one explains it.
pub(super) fn rule(it: &OnNode<'_>, pod: &PluginPod, explained: bool, found: &mut Found) -> bool {
    if pod.ready {
        return true;
    }
    let stuck = |container: &&PluginContainer| {
        let reason = container.waiting.as_deref();
        reason.is_some_and(|reason| !STARTING.contains(&reason))
    };
    let container = pod.containers.iter().find(stuck);
    let since = pod.not_ready_since.or(pod.started);
    let now = it.cluster.now;
    let long = since.is_none_or(|since| now.saturating_sub(since) >= it.cluster.settling);
    if container.is_none() && !long {
        return true;
    }
    if explained {
        return false;
    }
    let undone = |container: &&PluginContainer| match container.init {
        true => container.done.is_none(),
        false => !container.ready,
    };
    let container = container.or_else(|| pod.containers.iter().find(undone));
    let reason = container.and_then(|it| it.waiting.as_deref());
    let message = container
        .and_then(|it| it.message.as_deref())
        .or(pod.message.as_deref());
    let (namespace, name) = (quoted(&pod.namespace), quoted(&pod.name));
    let mend = match container {
        Some(it) if it.restarts > 0 => format!(
            "kubectl -n {namespace} logs {name} -c {} --previous",
            quoted(&it.name)
        ),
        Some(it) if it.started.is_some() => {
            format!("kubectl -n {namespace} logs {name} -c {}", quoted(&it.name))
        }
        _ => format!("kubectl -n {namespace} describe pod {name}"),
    };
    let where_it_is = container.map_or_else(String::new, |it| format!(", container {}", it.name));
    let said = message.map_or_else(String::new, |message| {
        format!(" It says: {}", message.trim())
    });
    found.add(
        finding(
            "plugin_pod_not_ready",
            Severity::Error,
            pod.object(),
            format!(
                "The pod of {} is not ready{where_it_is}.{said} The command shows why; when that is \
                 mended it starts by itself.",
                role_words(pod.role)
            ),
        )
        .on(it.name)
        .field("status.conditions.Ready")
        .expected("True")
        .found(reason.map_or_else(|| format!("False, phase {}", pod.phase), str::to_owned))
        .mend([mend]),
    );
    false
}

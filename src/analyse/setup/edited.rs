//! The restart that nobody did: a ConfigMap edited after the plugin had started.

use super::found::{Found, finding, instant};
use super::labels;
use super::mend::role_words;
use super::nodes::Offer;
use super::on_node::OnNode;
use super::profiles::Sought;
use super::told::{CONFIG_LABEL, Outcome, named, told};
use crate::model::Severity;
use crate::model::setup::{PluginPod, PluginRole};

/// Which pods of a node run with what was there before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edited {
    pub(super) plugin: bool,
    pub(super) discovery: bool,
}

/// The file is read when the main container starts, and by a SIGHUP that config-manager sends when
/// the node's label changed, and when the kubelet restarted. The last two are not seen from outside,
/// so the finding is milder where the node says what the new content would have it say.
pub(super) fn rules(it: &OnNode<'_>, found: &mut Found) -> Edited {
    let mut edited = Edited::default();
    for pod in it.cluster.pods_on(it.name) {
        if rule(it, pod, found) {
            match pod.role {
                PluginRole::Plugin => edited.plugin = true,
                PluginRole::FeatureDiscovery => edited.discovery = true,
                PluginRole::MpsControl => {}
            }
        }
    }
    edited
}

fn rule(it: &OnNode<'_>, pod: &PluginPod, found: &mut Found) -> bool {
    let Some(name) = named(pod.wiring.config_map.as_deref()) else {
        return false;
    };
    let Sought::There(map) = it.cluster.profiles.sought(&pod.namespace, name) else {
        return false;
    };
    let main = pod.main();
    let (Some(changed), Some((main, started))) = (
        map.changed,
        main.and_then(|main| Some((main, main.started?))),
    ) else {
        return false;
    };
    if changed <= started {
        return false;
    }
    let of_operator = it.cluster.of_operator(pod);
    let label = it.node.label(CONFIG_LABEL);
    let told = told(it.cluster, &pod.namespace, &pod.wiring, of_operator, label);
    // A profile that would be refused is not to be rolled out; it is a finding of its own.
    let Outcome::Profile(config) = told.outcome else {
        return false;
    };
    let agrees = match pod.role {
        PluginRole::FeatureDiscovery => labels::agree(it.node, config),
        PluginRole::Plugin | PluginRole::MpsControl => {
            it.node.offer(config, it.strategy.strategy) == Offer::Agrees
        }
    };
    let (severity, agreement) = match agrees {
        true => (
            Severity::Warning,
            "What the node says agrees with the new content, so either the numbers were not edited, \
             or it was read since: by a changed label or a restarted kubelet. The restart does no harm.",
        ),
        false => (
            Severity::Error,
            "Nobody watches the ConfigMap, so what it had then is in force.",
        ),
    };
    let by = map
        .changed_by
        .as_deref()
        .map_or_else(String::new, |who| format!(" by {who}"));
    let (changed, started) = (instant(changed), instant(started));
    found.add(
        finding(
            "config_edited_not_rolled_out",
            severity,
            pod.object(),
            format!(
                "ConfigMap {}/{name} was changed at {changed}{by}, and container {} of {} runs since \
                 {started}. {agreement}",
                pod.namespace,
                main.name,
                role_words(pod.role)
            ),
        )
        .on(it.name)
        .field(format!("start of container {}", main.name))
        .expected(format!("after {changed}"))
        .found(started)
        .mend(it.cluster.reload(&pod.namespace, name, Some(it.name))),
    );
    !agrees
}

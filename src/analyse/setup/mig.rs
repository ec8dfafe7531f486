//! GPUs in MIG mode against the strategy in force.

use serde_json::json;

use super::cluster::Cluster;
use super::found::{Found, finding, object};
use super::mend;
use super::on_node::OnNode;
use super::told::named;
use crate::analyse::plugin_config::{MigStrategy, PluginConfig, Sharing};
use crate::model::Severity;
use crate::model::setup::PluginWiring;

/// The strategy of a plugin, and who sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InForce {
    pub(super) strategy: MigStrategy,
    from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// `MIG_STRATEGY` or `--mig-strategy`, which the operator sets from its ClusterPolicy.
    Environment,
    Policy,
    Profile,
    Default,
}

impl From {
    const fn words(self) -> &'static str {
        match self {
            Self::Environment => "MIG_STRATEGY of the plugin's container",
            Self::Policy => "spec.mig.strategy of the ClusterPolicy",
            Self::Profile => "flags.migStrategy of the profile",
            Self::Default => "the plugin's own default",
        }
    }
}

pub(super) fn in_force(
    cluster: &Cluster,
    wiring: &PluginWiring,
    of_operator: bool,
    config: Option<&PluginConfig>,
) -> InForce {
    let policy = cluster.policy().filter(|_| of_operator);
    let policy = policy.and_then(|policy| parsed(policy.mig_strategy.as_deref()));
    let environment = parsed(wiring.mig_strategy.as_deref());
    let profile = config.and_then(PluginConfig::mig_strategy);
    let all = [
        // The same thing, and the policy is the one to change.
        (
            policy.filter(|it| environment.is_none_or(|other| other == *it)),
            From::Policy,
        ),
        (environment, From::Environment),
        (profile, From::Profile),
    ];
    let set = all
        .iter()
        .find_map(|&(strategy, from)| Some((strategy?, from)));
    let (strategy, from) = set.unwrap_or((MigStrategy::None, From::Default));
    InForce { strategy, from }
}

fn parsed(text: Option<&str>) -> Option<MigStrategy> {
    match named(text)? {
        "none" => Some(MigStrategy::None),
        "single" => Some(MigStrategy::Single),
        "mixed" => Some(MigStrategy::Mixed),
        _ => None,
    }
}

const fn word(strategy: MigStrategy) -> &'static str {
    match strategy {
        MigStrategy::None => "none",
        MigStrategy::Single => "single",
        MigStrategy::Mixed => "mixed",
    }
}

pub(super) fn rules(it: &OnNode<'_>, found: &mut Found) {
    mps_with_mixed(it, found);
    if !it.node.mig() {
        return;
    }
    let InForce { strategy, from } = it.strategy;
    if let (MigStrategy::None, Some(config)) = (strategy, it.node.mig_by_manager()) {
        found.add(
            finding(
                "mig_with_strategy_none",
                Severity::Error,
                object("Node", None, it.name),
                format!(
                    "MIG manager has put {config:?} in force, and the plugin's strategy is none, by {}: \
                     it offers whole GPUs that no container can use, or nothing. Then pods and \
                     profiles ask for nvidia.com/mig-<profile>.",
                    from.words()
                ),
            )
            .on(it.name)
            .field("MIG strategy in force")
            .expected("mixed, or single where all instances are alike")
            .found(word(strategy))
            .mend(set_mixed(it)),
        );
        return;
    }
    let profile = it.config.as_deref().and_then(PluginConfig::mig_strategy);
    if let (Some(profile), From::Policy | From::Environment) = (profile, from)
        && profile != strategy
    {
        found.add(
            finding(
                "mig_strategy_overridden",
                Severity::Info,
                object("Node", None, it.name),
                format!(
                    "Profile {:?} says migStrategy {}, and {} wins over it: it has no effect, and may \
                     as well be left out.",
                    it.told.key.unwrap_or_default(),
                    word(profile),
                    from.words()
                ),
            )
            .on(it.name)
            .field("flags.migStrategy")
            .expected(word(profile))
            .found(word(strategy)),
        );
    }
}

/// `validateFlags` of the plugin refuses the two together, with or without GPUs in MIG mode.
fn mps_with_mixed(it: &OnNode<'_>, found: &mut Found) {
    let sharing = it.config.as_deref().map(PluginConfig::sharing);
    if sharing != Some(Sharing::Mps) || it.strategy.strategy != MigStrategy::Mixed {
        return;
    }
    let key = it.told.key.unwrap_or_default();
    found.add(
        finding(
            "mps_with_mig_mixed",
            Severity::Error,
            object("Node", None, it.name),
            format!(
                "Profile {key:?} shares by MPS, and the MIG strategy is mixed, by {}: the plugin \
                 refuses the two together and does not start. Without MIG in this cluster the \
                 strategy may be none; with it, this node needs a profile without MPS.",
                it.strategy.from.words()
            ),
        )
        .on(it.name)
        .field("MIG strategy in force")
        .expected("none or single")
        .found("mixed"),
    );
}

fn policy_strategy(it: &OnNode<'_>, strategy: &str) -> Option<String> {
    let policy = it.cluster.policy().filter(|_| it.of_operator)?;
    let patch = json!({"spec": {"mig": {"strategy": strategy}}});
    Some(mend::patch_policy(&policy.name, &patch))
}

fn set_mixed(it: &OnNode<'_>) -> Vec<String> {
    if let Some(patch) = policy_strategy(it, "mixed") {
        return vec![patch];
    }
    let release = it.cluster.release_in(it.namespace);
    let upgrade = |it_is| mend::helm(it_is, it.namespace, &["--set", "migStrategy=mixed"]);
    release.map(upgrade).into_iter().collect()
}

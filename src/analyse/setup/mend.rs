//! Commands to paste. Every name from the cluster is quoted for the shell.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::model::setup::PluginRole;

/// Repository of the stand-alone plugin's chart, as NVIDIA names it.
const CHART: &str = "nvdp/nvidia-device-plugin";

/// One word for a POSIX shell, whatever is in it.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

pub(super) fn patch_policy(name: &str, patch: &Value) -> String {
    format!(
        "kubectl patch {} --type merge -p {}",
        quoted(&format!("clusterpolicies.nvidia.com/{name}")),
        quoted(&patch.to_string())
    )
}

/// `spec.devicePlugin.config` of a ClusterPolicy.
pub(super) fn patch_plugin_config(name: &str, config: &Value) -> String {
    patch_policy(name, &json!({"spec": {"devicePlugin": {"config": config}}}))
}

pub(super) fn label_node(node: &str, label: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!(
            "kubectl label node {} {} --overwrite",
            quoted(node),
            quoted(&format!("{label}={value}"))
        ),
        None => format!(
            "kubectl label node {} {}",
            quoted(node),
            quoted(&format!("{label}-"))
        ),
    }
}

pub(super) fn restart<'n>(
    namespace: &str,
    daemon_sets: impl IntoIterator<Item = &'n str>,
) -> String {
    let mut command = format!("kubectl -n {} rollout restart", quoted(namespace));
    for name in daemon_sets {
        command.push(' ');
        command.push_str(&quoted(&format!("daemonset/{name}")));
    }
    command
}

pub(super) fn delete<'n>(
    namespace: &str,
    kind: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> String {
    let mut command = format!("kubectl -n {} delete {kind}", quoted(namespace));
    for name in names {
        command.push(' ');
        command.push_str(&quoted(name));
    }
    command
}

/// A Helm release of the stand-alone plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release<'r> {
    pub(super) name: &'r str,
    /// Of its chart.
    pub(super) version: Option<&'r str>,
}

/// The version of NVIDIA's chart that has this image: charts and images have the same.
pub(super) fn chart_version(image: &str) -> Option<&str> {
    let (_, tag) = image.rsplit_once(":v")?;
    let version = tag.split('-').next()?;
    let numbers = version
        .split('.')
        .filter(|part| part.parse::<u32>().is_ok());
    (numbers.count() == 3).then_some(version)
}

/// An upgrade of the stand-alone plugin's release, with its version and other values as they are.
pub(super) fn helm(release: Release<'_>, namespace: &str, options: &[&str]) -> String {
    let mut command = format!(
        "helm upgrade {} {CHART} -n {} --reuse-values",
        quoted(release.name),
        quoted(namespace)
    );
    if let Some(version) = release.version {
        command.push_str(&format!(" --version {}", quoted(version)));
    }
    for option in options {
        command.push(' ');
        command.push_str(&quoted(option));
    }
    command
}

/// What a container of this role is called in a sentence.
pub(super) const fn role_words(role: PluginRole) -> &'static str {
    match role {
        PluginRole::Plugin => "the device plugin",
        PluginRole::FeatureDiscovery => "GPU feature discovery",
        PluginRole::MpsControl => "the MPS control daemon",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_the_version_of_its_image() {
        for (image, version) in [
            ("nvcr.io/nvidia/k8s-device-plugin:v0.18.0", Some("0.18.0")),
            (
                "registry:5000/k8s-device-plugin:v0.17.1-ubi9",
                Some("0.17.1"),
            ),
            ("nvcr.io/nvidia/k8s-device-plugin@sha256:abc", None),
            ("k8s-device-plugin:latest", None),
            ("k8s-device-plugin:v1", None),
        ] {
            assert_eq!(chart_version(image), version, "{image}");
        }
    }

    #[test]
    fn words_of_the_cluster_cannot_leave_their_quotes() {
        for (word, written) in [
            ("gpu-operator", "gpu-operator"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's; rm -rf /", r"'it'\''s; rm -rf /'"),
            ("$(id)`id`\n", "'$(id)`id`\n'"),
            ("clé", "'clé'"),
        ] {
            assert_eq!(quoted(word), written);
        }
        assert_eq!(
            label_node("n 1", "nvidia.com/device-plugin.config", None),
            "kubectl label node 'n 1' nvidia.com/device-plugin.config-"
        );
        assert_eq!(
            patch_plugin_config("cluster-policy", &json!({"default": "an'y"})),
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
             '{\"spec\":{\"devicePlugin\":{\"config\":{\"default\":\"an'\\''y\"}}}}'"
        );
    }
}

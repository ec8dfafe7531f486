//! Templates and specifications of the plugin's pods.

use serde::Deserialize;

use super::shape::Strings;
use crate::model::setup::{PluginRole, PluginWiring};

/// Where config-manager looks for configurations.
const CONFIGURATIONS: &str = "/available-configs";
const CONFIG_MANAGER: &str = "config-manager";
/// The plugin's image has all its programs.
const IMAGE: &str = "/k8s-device-plugin";
/// Programs by role. Containers of the operator are named after them, those of the stand-alone
/// chart too, with a suffix.
const PROGRAMS: [(&str, PluginRole); 3] = [
    ("nvidia-device-plugin", PluginRole::Plugin),
    ("gpu-feature-discovery", PluginRole::FeatureDiscovery),
    ("mps-control-daemon", PluginRole::MpsControl),
];
const SUFFIX: &str = "-ctr";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodTemplate {
    pub(super) spec: PodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    pub(super) node_selector: Strings,
    pub(super) node_name: Option<String>,
    pub(super) runtime_class_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: Option<String>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    volume_mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mount {
    name: String,
    mount_path: String,
    sub_path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    config_map: Option<ConfigMapSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigMapSource {
    name: String,
    items: Option<Vec<KeyToPath>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeyToPath {
    key: String,
    path: String,
}

impl Container {
    /// What it runs, without its folder.
    fn program(&self) -> Option<&str> {
        self.command.as_ref()?.first()?.rsplit('/').next()
    }

    fn role(&self) -> Option<PluginRole> {
        let named = self.name.strip_suffix(SUFFIX).unwrap_or(&self.name);
        let of = |word: &str| PROGRAMS.iter().find(|(program, _)| *program == word);
        let found = of(named).or_else(|| of(self.program()?));
        let bare = || {
            let of_plugin = self.command.is_none() && self.image.as_ref()?.contains(IMAGE);
            of_plugin.then_some(PluginRole::Plugin)
        };
        found.map(|(_, role)| *role).or_else(bare)
    }

    fn is_config_manager(&self) -> bool {
        self.program() == Some(CONFIG_MANAGER) || self.name.starts_with(CONFIG_MANAGER)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let mut variables = self.env.iter().flatten();
        variables.find(|it| it.name == name)?.value.as_deref()
    }

    /// The value of a flag, which may follow it or stand behind `=`.
    fn flag(&self, flag: &str) -> Option<&str> {
        let mut words = self.command.iter().chain(&self.args).flatten();
        while let Some(word) = words.next() {
            match word.strip_prefix(flag) {
                Some("") => return words.next().map(String::as_str),
                Some(rest) if rest.starts_with('=') => return Some(&rest[1..]),
                _ => {}
            }
        }
        None
    }

    /// A flag, or the variable of the same meaning, which it wins over.
    fn setting(&self, flag: &str, variable: &str) -> Option<&str> {
        self.flag(flag).or_else(|| self.variable(variable))
    }
}

impl PodSpec {
    /// The container that does the work, and what it is.
    pub(super) fn main(&self) -> Option<(&Container, PluginRole)> {
        self.containers
            .iter()
            .find_map(|container| Some((container, container.role()?)))
    }

    fn managers(&self) -> impl Iterator<Item = &Container> {
        let init = self.init_containers.iter().flatten();
        let all = self.containers.iter().chain(init);
        all.filter(|container| container.is_config_manager())
    }

    pub(super) fn wiring(&self) -> PluginWiring {
        let Some((main, _)) = self.main() else {
            return PluginWiring::default();
        };
        let setting = |name: &str| {
            let mut values = self.managers().filter_map(|it| it.variable(name));
            values.next().map(str::to_owned)
        };
        let config_manager = self.managers().next().is_some();
        let (config_map, key) = if config_manager {
            (self.configurations(main), None)
        } else {
            let file = main.setting("--config-file", "CONFIG_FILE");
            file.and_then(|file| self.file(main, file)).unzip()
        };
        PluginWiring {
            config_map,
            default_config: setting("DEFAULT_CONFIG").or(key),
            fallbacks: setting("FALLBACK_STRATEGIES"),
            config_manager,
            mig_strategy: main
                .setting("--mig-strategy", "MIG_STRATEGY")
                .map(str::to_owned),
        }
    }

    /// The ConfigMap that config-manager chooses from.
    fn configurations(&self, main: &Container) -> Option<String> {
        let mounts = self.managers().chain([main]);
        let mut mounts = mounts.flat_map(|container| container.volume_mounts.iter().flatten());
        let mount = mounts.find(|mount| mount.mount_path == CONFIGURATIONS)?;
        Some(self.config_map(&mount.name)?.name.clone())
    }

    /// The ConfigMap and the key that a file of a container is.
    fn file(&self, container: &Container, file: &str) -> Option<(String, String)> {
        let mounts = container.volume_mounts.iter().flatten();
        mounts.into_iter().find_map(|mount| {
            let rest = file.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
            let path = match (&mount.sub_path, rest.strip_prefix('/')) {
                (Some(path), None) if rest.is_empty() => path.as_str(),
                (None, Some(path)) => path,
                _ => return None,
            };
            let source = self.config_map(&mount.name)?;
            let mut items = source.items.iter().flatten();
            let key = items.find(|item| item.path == path);
            let key = key.map_or(path, |item| item.key.as_str());
            Some((source.name.clone(), key.to_owned()))
        })
    }

    fn config_map(&self, volume: &str) -> Option<&ConfigMapSource> {
        let mut volumes = self.volumes.iter().flatten();
        volumes.find(|it| it.name == volume)?.config_map.as_ref()
    }
}

#[cfg(test)]
mod tests;

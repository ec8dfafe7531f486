//! The profiles of all ConfigMaps, parsed once; their texts are not kept.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::analyse::plugin_config::{Input, LintFinding, PluginConfig, Sharing, lint};
use crate::model::setup::{Asked, ConfigMapRead};

/// The resource that a GPU is, before renaming.
pub(super) const GPU: &str = "nvidia.com/gpu";

/// ConfigMaps by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Profiles(BTreeMap<String, Asked<BTreeMap<String, ConfigMap>>>);

/// A ConfigMap, as far as the rules need it.
#[derive(Debug)]
pub(super) struct ConfigMap {
    pub(super) profiles: BTreeMap<String, Profile>,
    pub(super) changed: Option<Duration>,
    pub(super) changed_by: Option<String>,
    pub(super) immutable: bool,
}

/// What stands under one key.
#[derive(Debug)]
pub(super) struct Profile {
    /// Absent where the plugin would refuse it.
    pub(super) config: Option<PluginConfig>,
    pub(super) lint: Vec<LintFinding>,
}

/// Whether a ConfigMap is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sought<'c> {
    There(&'c ConfigMap),
    Missing,
    /// Its namespace was not read.
    Unknown,
}

impl Profiles {
    pub(super) fn new(read: BTreeMap<String, Asked<Vec<ConfigMapRead>>>) -> Self {
        let parsed = |maps: Vec<ConfigMapRead>| -> BTreeMap<String, ConfigMap> {
            maps.into_iter()
                .map(|map| (map.name.clone(), ConfigMap::new(map)))
                .collect()
        };
        let read = read.into_iter();
        Self(
            read.map(|(namespace, asked)| (namespace, asked.map(parsed)))
                .collect(),
        )
    }

    pub(super) fn sought(&self, namespace: &str, name: &str) -> Sought<'_> {
        match self.0.get(namespace).and_then(Asked::read) {
            Some(maps) => maps.get(name).map_or(Sought::Missing, Sought::There),
            None => Sought::Unknown,
        }
    }

    /// Namespace, name and ConfigMap, in this order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str, &ConfigMap)> {
        self.0.iter().flat_map(|(namespace, maps)| {
            let maps = maps.read().into_iter().flatten();
            maps.map(|(name, map)| (namespace.as_str(), name.as_str(), map))
        })
    }

    /// What was asked, by namespace.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Asked<BTreeMap<String, ConfigMap>>> {
        self.0.values()
    }
}

impl ConfigMap {
    fn new(map: ConfigMapRead) -> Self {
        let parsed = |(key, text): (String, String)| {
            let found = lint(&text, Input::Key(&key));
            let mut findings = found.findings;
            let mut config = None;
            for one in found.configurations {
                findings.extend(one.findings);
                config = config.or(one.config);
            }
            let lint = findings;
            (key, Profile { config, lint })
        };
        Self {
            profiles: map.data.into_iter().map(parsed).collect(),
            changed: map.data_changed,
            changed_by: map.changed_by,
            immutable: map.immutable,
        }
    }

    pub(super) fn shares(&self) -> bool {
        self.profiles.values().any(Profile::shares)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The key that a person most likely means: one that shares, and of those `any`, which is the
    /// usual name, `default`, or the first.
    pub(super) fn likely_key(&self) -> Option<&str> {
        let rank = |key: &str, profile: &Profile| {
            let usual = match key {
                "any" => 0,
                "default" => 1,
                _ => 2,
            };
            (!profile.shares(), profile.config.is_none(), usual)
        };
        self.profiles
            .iter()
            .min_by_key(|(key, profile)| rank(key, profile))
            .map(|(key, _)| key.as_str())
    }
}

impl Profile {
    pub(super) fn shares(&self) -> bool {
        self.config
            .as_ref()
            .is_some_and(|config| config.sharing() != Sharing::None)
    }
}

//! The configuration of NVIDIA's Kubernetes device plugin: as a type, and a linter for it.
//!
//! # Where the rules come from
//! The plugin's v0.20, whose configuration GPU feature discovery and the MPS control daemon share.
//! Of <https://github.com/NVIDIA/k8s-device-plugin>, below `api/config/v1`: `config.go` and
//! `sharing.go` at 03973a97, which has `failRequestsGreaterThanOne` of MPS settable (pull request
//! 1762), `replicas.go` of that state as coreweave's fork keeps it (793753a1), `resources.go`,
//! `flags.go`, `imex.go`, `strategy.go` and `duration.go`; `validateFlags` of `cmd/nvidia-device-plugin/main.go`; `internal/rm/rm.go`
//! and `device_map.go` (0deecb2d); `internal/lm/mig-strategy.go` (062f0903). YAML is read by
//! sigs.k8s.io/yaml 1.6, which is YAML 1.1 (`yes` is true, `010` is 8) turned to JSON and read by
//! Go's encoding/json:
//! * the first document counts, further ones are not read;
//! * unknown keys are ignored without a word;
//! * of two equal keys the last one counts;
//! * keys match whatever their case, but within `timeSlicing` and `mps`, where they must be exact;
//! * an empty text is an empty configuration, without sharing;
//! * it stops at the first fault, and its pod with it: [`lint()`] reports all.
//!
//! The command line and the environment win over the file's `flags`.
//!
//! # Codes
//! Refused by the API server: `too_large`, `config_map_version`, `data_not_text`, `bad_key`. Not
//! read here: `not_yaml`, `tab_in_indentation`, `yaml_bomb`, `binary_data`, `no_config_map`,
//! `too_many_configurations`. Refused by the plugin: `unknown_version`, `unknown_value`,
//! `wrong_type`, `no_resources`, `no_resource_name`, `bad_resource_name`, `no_replicas`,
//! `too_few_replicas`, `bad_devices`, `incomplete_pattern`.
//!
//! Warnings: `unknown_key`, `misplaced_key`, `key_case`, `duplicate_key`, `duplicate_resource`,
//! `devices_ignored`, `rename_ignored`, `resources_ignored`, `documents_ignored`, `mps_wins`,
//! `mig_without_mixed`, `resource_matches_nothing`, `replicas_look_like_megabytes`,
//! `duration_without_unit`, `empty_configuration`, `config_map_empty`, `key_is_no_label_value`.
//!
//! Infos: `requests_greater_than_one_allowed`, `document_skipped`, `too_many_findings`.

mod decode;
mod fault;
mod flags;
mod keys;
mod lint;
mod place;
mod report;
mod resource;
mod scalar;
mod shared;
mod tabs;
#[cfg(test)]
mod tests;
mod yaml;

use std::borrow::Cow;

use serde::Serialize;

pub use self::lint::{Configuration, Input, Lint, MAX_BYTES, lint};
pub use self::report::LintFinding;

/// What the plugin reads of one configuration, as far as sharing goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginConfig {
    /// `flags.migStrategy`; absent where the file does not say.
    pub mig_strategy: Option<MigStrategy>,
    /// `sharing.timeSlicing`, without effect beside `sharing.mps`.
    pub time_slicing: Option<Replicated>,
    /// `sharing.mps`.
    pub mps: Option<Replicated>,
}

/// `flags.migStrategy`: what becomes of GPUs in MIG mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MigStrategy {
    /// MIG is not looked at: every GPU is `nvidia.com/gpu`.
    None,
    /// MIG devices, all alike, are `nvidia.com/gpu`.
    Single,
    /// MIG devices are `nvidia.com/mig-<profile>`.
    Mixed,
}

/// `ReplicatedResources` of `replicas.go`: `sharing.timeSlicing` or `sharing.mps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicated {
    /// Whether shared resources get the suffix `.shared`.
    pub rename_by_default: bool,
    /// Whether a container that asks for more than one is refused; absent where the file does not
    /// say, which time-slicing takes for no and MPS for yes.
    pub fail_requests_greater_than_one: Option<bool>,
    /// Never empty: the plugin refuses that.
    pub resources: Vec<SharedResource>,
}

/// `ReplicatedResource` of `replicas.go`: one of `resources`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedResource {
    /// With its prefix, which the plugin adds where it lacks: `nvidia.com/gpu`.
    pub name: String,
    /// Two or more; [`u32::MAX`] stands for more than that.
    pub replicas: u32,
    /// Read and ignored by the plugin.
    pub rename: Option<String>,
    /// Read and ignored by the plugin: all devices are shared.
    pub devices: Devices,
}

/// `ReplicatedDevices` of `replicas.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Devices {
    /// `all`, also where nothing is said.
    #[default]
    All,
    /// So many, the first ones.
    Count(u64),
    /// By index (`0`), MIG index (`0:1`) or UUID.
    List(Vec<String>),
}

/// How GPUs are shared: `SharingStrategy` of `sharing.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    None,
    TimeSlicing,
    Mps,
}

impl Sharing {
    /// The value of the node label `nvidia.com/gpu.sharing-strategy`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TimeSlicing => "time-slicing",
            Self::Mps => "mps",
        }
    }
}

impl PluginConfig {
    /// The strategy in force: MPS wins over time-slicing (`sharing.go`).
    pub const fn sharing(&self) -> Sharing {
        match (&self.mps, &self.time_slicing) {
            (Some(_), _) => Sharing::Mps,
            (None, Some(_)) => Sharing::TimeSlicing,
            (None, None) => Sharing::None,
        }
    }

    /// How often each device of a resource is advertised: one where it is not shared. `resource` is
    /// its name before renaming, such as `nvidia.com/gpu`. Of two entries for one resource the
    /// larger number counts: the plugin makes both, under the same ids (`device_map.go`).
    pub fn replicas_of(&self, resource: &str) -> u32 {
        let entries = self.entries(resource);
        entries.map(|entry| entry.replicas).max().unwrap_or(1)
    }

    /// The name under which a node advertises a resource: with the suffix `.shared` where it is
    /// shared and `renameByDefault` is set. `rename` has no say: the plugin ignores it.
    pub fn advertised_name<'r>(&self, resource: &'r str) -> Cow<'r, str> {
        let renames = self
            .in_force()
            .is_some_and(|shared| shared.rename_by_default);
        if renames && self.entries(resource).next().is_some() {
            Cow::Owned(format!("{resource}{}", resource::SHARED_SUFFIX))
        } else {
            Cow::Borrowed(resource)
        }
    }

    /// Whether a container that asks for more than one replica is refused (`rm.go`). Not set, it is
    /// no under time-slicing and yes under MPS (`config.go`); versions before v0.20 refuse under MPS
    /// whatever is set.
    pub fn fails_requests_greater_than_one(&self) -> bool {
        self.in_force().is_some_and(|shared| {
            let default = self.sharing() == Sharing::Mps;
            shared.fail_requests_greater_than_one.unwrap_or(default)
        })
    }

    /// `flags.migStrategy`; absent where the file does not say, and `--mig-strategy` or
    /// `MIG_STRATEGY` do, which win over it, or else `none` holds.
    pub const fn mig_strategy(&self) -> Option<MigStrategy> {
        self.mig_strategy
    }

    /// The block of `sharing` in force.
    pub fn in_force(&self) -> Option<&Replicated> {
        self.mps.as_ref().or(self.time_slicing.as_ref())
    }

    fn entries<'c>(&'c self, resource: &str) -> impl Iterator<Item = &'c SharedResource> {
        self.in_force()
            .into_iter()
            .flat_map(|shared| &shared.resources)
            .filter(move |entry| entry.name == resource)
    }
}

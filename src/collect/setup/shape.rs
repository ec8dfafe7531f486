//! What all objects have, and the small things they are made of.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::collect::cluster::whole;
use crate::collect::kubelet::NVIDIA_PREFIX;

/// Bytes that are kept of a message.
const MAX_MESSAGE: usize = 512;

/// Maps of the API, which may be `null`.
pub(super) type Strings = Option<BTreeMap<String, String>>;

/// An object as it is read. Whatever a shape does not name is dropped while it is read.
pub(super) trait Shape: DeserializeOwned {
    /// Its namespace, where it has one, and its name.
    fn key(&self) -> (Option<&str>, &str);
}

/// What tells objects apart.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) labels: Strings,
    pub(super) owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Owner {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) controller: Option<bool>,
}

impl Metadata {
    pub(super) fn key(&self) -> (Option<&str>, &str) {
        (self.namespace.as_deref(), &self.name)
    }

    pub(super) fn namespace(&self) -> String {
        self.namespace.clone().unwrap_or_default()
    }

    pub(super) fn label(&self, name: &str) -> Option<&String> {
        self.labels.as_ref()?.get(name)
    }

    pub(super) fn controller(&self) -> Option<&Owner> {
        let owners = self.owner_references.as_ref()?;
        owners.iter().find(|owner| owner.controller == Some(true))
    }
}

/// A condition of any object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) last_transition_time: Option<String>,
}

/// The condition of a kind.
pub(super) fn condition<'c>(
    conditions: Option<&'c Vec<Condition>>,
    kind: &str,
) -> Option<&'c Condition> {
    conditions?.iter().find(|condition| condition.kind == kind)
}

/// Since 1970, of the API's form of a time.
pub(super) fn instant(time: Option<&String>) -> Option<Duration> {
    let time = humantime::parse_rfc3339(time?).ok()?;
    time.duration_since(UNIX_EPOCH).ok()
}

/// A text that may be long, cut between characters.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

/// The scheduler's words: what it lacks stands behind what each taint keeps away.
pub(super) fn unscheduled(text: Option<&String>) -> Option<String> {
    const MAX: usize = 4096;
    let text = text.filter(|text| !text.is_empty())?;
    Some(text[..text.floor_char_boundary(MAX)].to_owned())
}

/// A text that says something.
pub(super) fn said(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(|text| cut(text))
}

/// The counts of `nvidia.com/*`.
pub(super) fn gpus(quantities: &Strings) -> BTreeMap<String, u64> {
    quantities
        .iter()
        .flatten()
        .filter(|(name, _)| name.starts_with(NVIDIA_PREFIX))
        .filter_map(|(name, quantity)| Some((name.clone(), whole(quantity)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_messages() {
        let time = |text: &str| instant(Some(&text.to_owned()));
        assert_eq!(time("1970-01-01T00:01:00Z"), Some(Duration::from_secs(60)));
        assert_eq!(
            time("1970-01-01T00:00:00.250000Z"),
            Some(Duration::from_millis(250))
        );
        assert_eq!(time("yesterday"), None);
        assert_eq!(instant(None), None);
        assert_eq!(cut(&"é".repeat(400)), "é".repeat(256));
        assert_eq!(said(Some(&String::new())), None);
    }
}

//! The keys that the plugin knows, and what becomes of the others: it ignores them silently.

use super::report::{Report, below, shown};
use super::yaml::{Entry, Node, Value};

/// A mapping of the configuration.
#[derive(Debug)]
pub(super) struct Section {
    /// For a sentence.
    path: &'static str,
    keys: &'static [&'static str],
    /// Whether the case of keys matters: it does where the plugin reads JSON into a Go map before it
    /// picks its fields, and does not where Go fills a struct.
    exact: bool,
}

pub(super) static TOP: Section = Section {
    path: "the top level",
    keys: &["version", "flags", "resources", "sharing", "imex"],
    exact: false,
};
pub(super) static FLAGS: Section = Section {
    path: "flags",
    keys: &[
        "migStrategy",
        "failOnInitError",
        "mpsRoot",
        "nvidiaDriverRoot",
        "nvidiaDevRoot",
        "gdrcopyEnabled",
        "gdsEnabled",
        "mofedEnabled",
        "useNodeFeatureAPI",
        "deviceDiscoveryStrategy",
        "plugin",
        "gfd",
    ],
    exact: false,
};
pub(super) static PLUGIN: Section = Section {
    path: "flags.plugin",
    keys: &[
        "passDeviceSpecs",
        "deviceListStrategy",
        "deviceIDStrategy",
        "cdiAnnotationPrefix",
        "nvidiaCTKPath",
        "containerDriverRoot",
        "kubeletSocket",
        "cdiFeatureFlags",
        "sharedDevicesAllocationPolicy",
    ],
    exact: false,
};
pub(super) static GFD: Section = Section {
    path: "flags.gfd",
    keys: &[
        "oneshot",
        "noTimestamp",
        "noCleanupOnExit",
        "sleepInterval",
        "outputFile",
        "machineTypeFile",
    ],
    exact: false,
};
pub(super) static RESOURCES: Section = Section {
    path: "resources",
    keys: &["gpus", "mig"],
    exact: false,
};
pub(super) static PATTERN: Section = Section {
    path: "resources.gpus[]",
    keys: &["pattern", "name"],
    exact: true,
};
pub(super) static SHARING: Section = Section {
    path: "sharing",
    keys: &["timeSlicing", "mps"],
    exact: false,
};
pub(super) static REPLICATED: Section = Section {
    path: "sharing.timeSlicing (or sharing.mps)",
    keys: &["renameByDefault", "failRequestsGreaterThanOne", "resources"],
    exact: true,
};
pub(super) static RESOURCE: Section = Section {
    path: "sharing.timeSlicing.resources[]",
    keys: &["name", "rename", "devices", "replicas"],
    exact: true,
};
pub(super) static IMEX: Section = Section {
    path: "imex",
    keys: &["channelIDs", "required"],
    exact: false,
};
/// `v1/ConfigMap` of Kubernetes.
pub(super) static CONFIG_MAP: Section = Section {
    path: "the ConfigMap",
    keys: &[
        "apiVersion",
        "kind",
        "metadata",
        "data",
        "binaryData",
        "immutable",
    ],
    exact: true,
};

/// Where a key may have been meant to stand, the likeliest first. Not `resources`, which the plugin
/// ignores.
static HOMES: [&Section; 8] = [
    &REPLICATED,
    &RESOURCE,
    &SHARING,
    &FLAGS,
    &PLUGIN,
    &GFD,
    &IMEX,
    &TOP,
];

/// The known keys of one mapping.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    found: Vec<(&'static str, &'n Entry)>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        let found = self.found.iter().find(|(name, _)| *name == key);
        found.map(|(_, entry)| *entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &'n Entry)> {
        self.found.iter().copied()
    }
}

/// Where a finding about a key's value points: to the value, or to the key where there is none.
pub(super) fn value_at(entry: &Entry) -> usize {
    if entry.node.is_null() {
        entry.at
    } else {
        entry.node.at
    }
}

/// The known keys of a mapping, with a warning for each other one. Nothing at all is an empty
/// mapping; anything else is an error.
pub(super) fn read<'n>(
    report: &mut Report<'_>,
    section: &Section,
    node: &'n Node,
    path: &str,
) -> Option<Fields<'n>> {
    let mut found: Vec<(&'static str, &'n Entry)> = Vec::new();
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ if node.is_null() => &[],
        _ => {
            wrong_type(report, node.at, path, node, "a mapping");
            return None;
        }
    };
    for entry in entries {
        let path = below(path, &entry.key);
        let Some(key) = section.known(&entry.key) else {
            unknown(report, section, entry, &path);
            continue;
        };
        if key != entry.key {
            report.warning(
                "key_case",
                entry.at,
                &path,
                format_args!("{} is read as {key} only because this part of the plugin does not look at the case of keys", shown(&entry.key)),
                format_args!("write {key}"),
            );
        }
        if let Some((_, first)) = found.iter_mut().find(|(name, _)| *name == key) {
            report.warning(
                "duplicate_key",
                entry.at,
                &path,
                format_args!(
                    "{key} stands here a second time; the last one counts, the others are ignored"
                ),
                "keep one of them",
            );
            *first = entry;
        } else {
            found.push((key, entry));
        }
    }
    Some(Fields { found })
}

/// A value that the plugin cannot read into its field.
pub(super) fn wrong_type(
    report: &mut Report<'_>,
    at: usize,
    path: &str,
    node: &Node,
    expected: &str,
) {
    let place = if path.is_empty() {
        "the configuration"
    } else {
        path
    };
    let mend = match node.text() {
        Some(_) if expected != "a text" => ", without quotes",
        _ => "",
    };
    report.error(
        "wrong_type",
        at,
        path,
        format_args!("{place} is {}, and the plugin, which reads {expected} here, stops (json: cannot unmarshal)", node.kind()),
        format_args!("write {expected}{mend}"),
    );
}

impl Section {
    fn known(&self, key: &str) -> Option<&'static str> {
        let same =
            |known: &&&str| **known == key || (!self.exact && known.eq_ignore_ascii_case(key));
        self.keys.iter().find(same).copied()
    }

    /// The likeliest of the keys for a misspelt one, and by how many letters it differs.
    fn nearest(&self, key: &str) -> Option<(&'static str, usize)> {
        let far = (key.chars().count() / 3).clamp(1, 3);
        self.keys
            .iter()
            .map(|known| (*known, distance(known, key)))
            .filter(|(_, distance)| *distance <= far)
            .min_by_key(|(_, distance)| *distance)
    }
}

fn unknown(report: &mut Report<'_>, section: &Section, entry: &Entry, path: &str) {
    let key = entry.key.as_str();
    let elsewhere = || HOMES.iter().filter(|home| !std::ptr::eq(**home, section));
    let near = section.nearest(key);
    let same = elsewhere()
        .flat_map(|home| home.keys.iter().map(move |known| (home, known)))
        .find(|(_, known)| known.eq_ignore_ascii_case(key));
    if let (Some((home, known)), true) = (same, near.is_none_or(|(_, distance)| distance > 0)) {
        report.warning(
            "misplaced_key",
            entry.at,
            path,
            format_args!(
                "{known} has no effect in {}: the plugin ignores it silently",
                section.path
            ),
            format_args!("move it to {}", home.path),
        );
        return;
    }
    let mend = if let Some((known, _)) = near {
        format!("did you mean {known}? If not, delete it")
    } else if let Some((home, (known, _))) = elsewhere()
        .filter_map(|home| home.nearest(key).map(|near| (home, near)))
        .min_by_key(|(_, (_, distance))| *distance)
        .filter(|(_, (known, _))| known.len() > 5)
    {
        format!("did you mean {known} of {}? If not, delete it", home.path)
    } else {
        format!("delete it; known here are {}", section.keys.join(", "))
    };
    report.warning(
        "unknown_key",
        entry.at,
        path,
        format_args!(
            "{} is no key of {}: it is ignored silently",
            shown(key),
            section.path
        ),
        mend,
    );
}

/// Letters to change, add or leave out to come from one word to the other, in any case.
fn distance(one: &str, other: &str) -> usize {
    const LONGEST: usize = 48;
    let letters = |word: &str| -> Vec<char> { word.to_lowercase().chars().take(LONGEST).collect() };
    let (one, other) = (letters(one), letters(other));
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ_by_so_many_letters() {
        for (one, other, is) in [
            ("replicas", "replicas", 0),
            ("replicas", "Replicas", 0),
            ("replicas", "replica", 1),
            ("replicas", "repilcas", 2),
            ("", "mps", 3),
            ("version", "sharing", 6),
        ] {
            assert_eq!(distance(one, other), is, "{one} {other}");
            assert_eq!(distance(other, one), is, "{other} {one}");
        }
    }
}

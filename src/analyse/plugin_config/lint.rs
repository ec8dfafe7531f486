//! A file, or one key of a ConfigMap, to findings.

use serde::Serialize;

use super::place::{Lines, Origin};
use super::report::{LintFinding, Report, below, shown};
use super::yaml::{self, Document, Entry, Node, Value};
use super::{PluginConfig, decode, keys};
use crate::model::Severity;

/// The most that Kubernetes takes in a ConfigMap, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Configurations of one file that are looked at.
const MAX_CONFIGURATIONS: usize = 256;
/// The most characters of a label's value, by which a node picks a key.
const MAX_LABEL: usize = 63;
/// The most characters of a ConfigMap's key.
const MAX_KEY: usize = 253;

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'k> {
    /// A file: a configuration, or manifests with ConfigMaps among them. Its content tells: a
    /// mapping with `kind` or `apiVersion` is a manifest.
    File,
    /// What stands under this key of a ConfigMap, as the API server gives it. Lines and columns are
    /// those of the value.
    Key(&'k str),
}

/// What [`lint()`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// One a key of a ConfigMap, or the one that the file is.
    pub configurations: Vec<Configuration>,
    /// Of the file itself: not of any one configuration.
    pub findings: Vec<LintFinding>,
}

/// One configuration of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// `namespace/name` or `name` of its ConfigMap, where the file has one.
    pub config_map: Option<String>,
    /// Its key in the ConfigMap.
    pub key: Option<String>,
    /// Absent where the plugin would refuse it.
    pub config: Option<PluginConfig>,
    /// From its top down.
    pub findings: Vec<LintFinding>,
}

impl Lint {
    /// Every finding, those of the file first.
    pub fn all(&self) -> impl Iterator<Item = &LintFinding> {
        let of_each = self.configurations.iter().flat_map(|each| &each.findings);
        self.findings.iter().chain(of_each)
    }

    /// The severity that matters most; absent where nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.all().map(|finding| finding.severity).max()
    }
}

/// Looks at configurations of the device plugin: what it would refuse, what it would ignore, and
/// what it would make of the rest. Pure; its time and memory are bounded whatever the text is.
pub fn lint(text: &str, input: Input<'_>) -> Lint {
    let lines = Lines::new(if text.len() > MAX_BYTES { "" } else { text });
    let mut file = Report::new(&lines, Origin::File);
    let mut configurations = Vec::new();
    if text.len() > MAX_BYTES {
        file.error(
            "too_large",
            0,
            "",
            format_args!(
                "it has {} bytes; Kubernetes takes {MAX_BYTES} in a ConfigMap",
                text.len()
            ),
            "is it the right file? A configuration has a few hundred bytes",
        );
    } else {
        match input {
            Input::Key(key) => {
                let path = below("data", key);
                let one = one(&lines, Origin::File, &yaml::documents(text), &path);
                configurations.push(one.of(None, Some(key)));
            }
            Input::File => {
                let documents = yaml::documents(text);
                if documents.iter().any(is_manifest) {
                    let mut manifests = Manifests {
                        text,
                        lines: &lines,
                        file,
                        configurations,
                    };
                    manifests.read(&documents);
                    (file, configurations) = (manifests.file, manifests.configurations);
                } else {
                    configurations.push(one(&lines, Origin::File, &documents, ""));
                }
            }
        }
    }
    Lint {
        configurations,
        findings: file.sorted(),
    }
}

fn is_manifest(document: &Document) -> bool {
    let root = document.root.as_ref();
    root.is_ok_and(|root| {
        root.get("kind")
            .or_else(|| root.get("apiVersion"))
            .is_some()
    })
}

/// One configuration: its first document.
fn one(lines: &Lines<'_>, origin: Origin, documents: &[Document], path: &str) -> Configuration {
    let mut report = Report::new(lines, origin);
    let config = match documents.first().map(|first| &first.root) {
        None => {
            decode::empty(&mut report, 0, path);
            Some(PluginConfig::default())
        }
        Some(Ok(root)) => decode::configuration(&mut report, root, path),
        Some(Err(fault)) => {
            report.error(fault.code, fault.at, path, &fault.message, fault.mend);
            None
        }
    };
    if let [Document { root: Ok(_), .. }, second, ..] = documents {
        report.warning(
            "documents_ignored",
            second.at,
            path,
            "the plugin reads the first document only: what starts here has no effect",
            "delete it, or make it the configuration of another key",
        );
    }
    Configuration {
        config_map: None,
        key: None,
        config,
        findings: report.sorted(),
    }
}

impl Configuration {
    fn of(self, config_map: Option<&str>, key: Option<&str>) -> Self {
        Self {
            config_map: config_map.map(str::to_owned),
            key: key.map(str::to_owned),
            ..self
        }
    }
}

fn kind_of(root: &Node) -> Option<&str> {
    root.get("kind").and_then(|kind| kind.node.text())
}

/// What a list, as `kubectl get -o yaml` writes it, has.
fn items(root: &Node) -> Vec<&Node> {
    match root.get("items").map(|entry| &entry.node.value) {
        Some(Value::List(items)) => items.iter().map(|item| &**item).collect(),
        _ => Vec::new(),
    }
}

/// A file of manifests.
struct Manifests<'l> {
    text: &'l str,
    lines: &'l Lines<'l>,
    file: Report<'l>,
    configurations: Vec<Configuration>,
}

impl Manifests<'_> {
    fn read(&mut self, documents: &[Document]) {
        let mut any = false;
        for document in documents {
            let root = match &document.root {
                Ok(root) => root,
                Err(fault) => {
                    self.file
                        .error(fault.code, fault.at, "", &fault.message, fault.mend);
                    continue;
                }
            };
            let kind = kind_of(root);
            let listed: Vec<&Node> = match kind {
                Some("List") => items(root),
                _ => vec![root],
            };
            let maps: Vec<&Node> = listed
                .into_iter()
                .filter(|root| kind_of(root) == Some("ConfigMap"))
                .collect();
            if !maps.is_empty() {
                any = true;
                maps.into_iter().for_each(|root| self.config_map(root));
            } else if !root.is_null() {
                self.file.info(
                    "document_skipped",
                    root.at,
                    "kind",
                    format_args!(
                        "this document is {}, not a ConfigMap: it is not looked at",
                        shown(kind.unwrap_or("without a kind"))
                    ),
                    "nothing, if no configuration of the plugin stands in it",
                );
            }
        }
        if !any {
            self.file.error(
                "no_config_map",
                0,
                "",
                "no ConfigMap stands in this file, so there is nothing to look at",
                "give the file with the ConfigMap, or a configuration of the plugin itself",
            );
        }
    }

    fn config_map(&mut self, root: &Node) {
        let Some(fields) = keys::read(&mut self.file, &keys::CONFIG_MAP, root, "") else {
            return;
        };
        let version = root.get("apiVersion");
        if version.and_then(|entry| entry.node.text()) != Some("v1") {
            self.file.error(
                "config_map_version",
                version.map_or(root.at, keys::value_at),
                "apiVersion",
                "a ConfigMap's apiVersion is v1; the API server refuses another",
                "write apiVersion: v1",
            );
        }
        let binary = fields
            .get("binaryData")
            .filter(|entry| !is_empty(&entry.node));
        if let Some(entry) = binary {
            self.file.error(
                "binary_data",
                entry.at,
                "binaryData",
                "configurations in binaryData cannot be looked at here or by people",
                "write them as text below data",
            );
        }
        let data = fields.get("data").filter(|entry| !is_empty(&entry.node));
        match data {
            Some(entry) => self.data(&entry.node, name(root).as_deref()),
            None if binary.is_none() => self.file.warning(
                "config_map_empty",
                fields.get("data").map_or(root.at, |entry| entry.at),
                "data",
                "this ConfigMap has no key, so the plugin finds no configuration in it and shares nothing, or does not start",
                "write one key for each configuration below data",
            ),
            None => {}
        }
    }

    fn data(&mut self, node: &Node, config_map: Option<&str>) {
        let Value::Map(entries) = &node.value else {
            return self.file.error(
                "data_not_text",
                node.at,
                "data",
                format_args!("data is {}, and the API server refuses it", node.kind()),
                "write one key for each configuration below data",
            );
        };
        let mut seen = std::collections::HashSet::new();
        for entry in entries {
            let path = below("data", &entry.key);
            if !seen.insert(entry.key.as_str()) {
                self.file.warning(
                    "duplicate_key",
                    entry.at,
                    &path,
                    "this key stands here a second time; the last one counts, the others are ignored",
                    "keep one of them",
                );
            }
            if self.configurations.len() == MAX_CONFIGURATIONS {
                return self.file.error(
                    "too_many_configurations",
                    entry.at,
                    &path,
                    format_args!("there are more than {MAX_CONFIGURATIONS} configurations; this one and those after it are not looked at"),
                    "look at fewer at a time",
                );
            }
            self.key(entry, &path);
            self.value(entry, config_map, &path);
        }
    }

    fn key(&mut self, entry: &Entry, path: &str) {
        let key = entry.key.as_str();
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty()
            || key.len() > MAX_KEY
            || !key.bytes().all(word)
            || key == "."
            || key.starts_with("..")
        {
            self.file.error(
                "bad_key",
                entry.at,
                path,
                format_args!(
                    "{} cannot be a key of a ConfigMap, and the API server refuses it",
                    shown(key)
                ),
                "write letters, digits, -, _ and . only",
            );
        } else if key.len() > MAX_LABEL
            || !key.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !key.ends_with(|c: char| c.is_ascii_alphanumeric())
        {
            self.file.warning(
                "key_is_no_label_value",
                entry.at,
                path,
                "no node can pick this key: the label nvidia.com/device-plugin.config cannot have such a value",
                format_args!("write at most {MAX_LABEL} characters, a letter or digit first and last"),
            );
        }
    }

    fn value(&mut self, entry: &Entry, config_map: Option<&str>, path: &str) {
        let (text, origin) = match &entry.node.value {
            Value::Block(text, span) => {
                let span = span.clone();
                (text.as_str(), Origin::block(self.text, text, span))
            }
            _ => match entry.node.text() {
                Some(text) => (text, Origin::At(entry.at)),
                None if entry.node.is_null() => ("", Origin::At(entry.at)),
                None => {
                    self.file.error(
                        "data_not_text",
                        entry.at,
                        path,
                        format_args!(
                            "this key holds {}, and the API server takes texts only",
                            entry.node.kind()
                        ),
                        format_args!(
                            "write {}: |- and the configuration below it, indented",
                            entry.key
                        ),
                    );
                    return;
                }
            },
        };
        let origin = if text.trim().is_empty() {
            Origin::At(entry.at)
        } else {
            origin
        };
        let found = one(self.lines, origin, &yaml::documents(text), path);
        self.configurations
            .push(found.of(config_map, Some(&entry.key)));
    }
}

fn is_empty(node: &Node) -> bool {
    node.is_null() || matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

/// `namespace/name` of a manifest.
fn name(root: &Node) -> Option<String> {
    let metadata = &root.get("metadata")?.node;
    let text = |key| metadata.get(key).and_then(|entry| entry.node.text());
    let name = text("name")?;
    Some(text("namespace").map_or_else(|| name.to_owned(), |space| format!("{space}/{name}")))
}

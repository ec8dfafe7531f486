//! Pods that ask for GPUs, against what the nodes offer. Those that one controller made are one
//! finding.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::found::{Found, MAX_OF_A_CODE, finding};
use super::nodes::{Node, SHARED_GPU};
use super::profiles::GPU;
use super::repair;
use crate::analyse::plugin_config::PluginConfig;
use crate::model::Severity;
use crate::model::setup::{ObjectRef, PodContainer, PodRead, SetupFinding};

/// Selectors of pods whose nodes are remembered.
const MAX_SELECTORS: usize = 256;
/// The plugin's words when it refuses a request for two replicas: `internal/rm/rm.go`.
const TOO_LARGE: &str = "maximum request size for shared resources is 1";

/// What a node does with requests, as far as pods need it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    /// Resources that this node offers more often than it has them.
    pub(super) resources: Vec<String>,
}

/// Findings about pods, by who made them.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    groups: BTreeMap<&'static str, BTreeMap<Key, Group>>,
    /// Pods of groups that were too many.
    left_out: BTreeMap<&'static str, u64>,
    /// What nodes that fit a selector offer of a resource, and of its other name.
    offered: HashMap<(BTreeMap<String, String>, String), (u64, u64)>,
}

/// The worst first, so that what is left out matters least.
type Key = (Reverse<Severity>, ObjectRef, String);

#[derive(Debug)]
struct Group {
    pods: u64,
    /// The first by name, whatever the order in which they come.
    first: PodRead,
    /// Where all of them are on one node.
    node: Option<String>,
    case: Case,
}

/// What is wrong with a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Pending {
        asked: String,
        other: String,
        offered: u64,
    },
    TooMany {
        resource: String,
        count: u64,
        refused: bool,
    },
    OneEach {
        resource: String,
        containers: Vec<String>,
    },
}

impl Case {
    const fn code(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending_on_zero_resource",
            Self::TooMany { .. } => "request_greater_than_one",
            Self::OneEach { .. } => "containers_request_one_each",
        }
    }

    const fn severity(&self) -> Severity {
        match self {
            Self::Pending { .. } | Self::TooMany { refused: true, .. } => Severity::Error,
            Self::TooMany { refused: false, .. } | Self::OneEach { .. } => Severity::Warning,
        }
    }

    fn resource(&self) -> &str {
        match self {
            Self::Pending { asked, .. } => asked,
            Self::TooMany { resource, .. } | Self::OneEach { resource, .. } => resource,
        }
    }
}

impl Workloads {
    /// `nodes` are all of the cluster; none where they are not known, and then nothing is said of
    /// pods that wait for one.
    pub(super) fn pod(
        &mut self,
        pod: &PodRead,
        nodes: Option<&BTreeMap<String, Node>>,
        shares: &HashMap<String, Shares>,
    ) {
        let cases = match pod.node.as_deref() {
            None => nodes
                .and_then(|nodes| self.pending(pod, nodes))
                .into_iter()
                .collect(),
            Some(node) => match pod.phase.as_str() {
                "Failed" => refused(pod).into_iter().collect(),
                "Succeeded" => Vec::new(),
                _ => shares
                    .get(node)
                    .map_or_else(Vec::new, |shares| on_shared(pod, shares)),
            },
        };
        for case in cases {
            self.add(pod, case);
        }
    }

    fn add(&mut self, pod: &PodRead, case: Case) {
        let code = case.code();
        let key = (
            Reverse(case.severity()),
            repair::owner(pod),
            case.resource().to_owned(),
        );
        let groups = self.groups.entry(code).or_default();
        match groups.get_mut(&key) {
            Some(group) => {
                group.pods += 1;
                if group.node != pod.node {
                    group.node = None;
                }
                if (&pod.name, &case) < (&group.first.name, &group.case) {
                    group.first = pod.clone();
                    group.case = case;
                }
            }
            None => {
                let group = Group {
                    pods: 1,
                    first: pod.clone(),
                    node: pod.node.clone(),
                    case,
                };
                groups.insert(key, group);
            }
        }
        // A group that is among the first in the end is never the last one on the way, so that its
        // count is whole.
        if groups.len() > MAX_OF_A_CODE
            && let Some((_, last)) = groups.pop_last()
        {
            *self.left_out.entry(code).or_default() += last.pods;
        }
    }

    /// The scheduler says that a resource is short, no node that the pod could go to has any of it,
    /// and some have the same GPUs under the other name.
    fn pending(&mut self, pod: &PodRead, nodes: &BTreeMap<String, Node>) -> Option<Case> {
        let message = pod.unscheduled.as_deref()?;
        let mut asked: Vec<&str> = pod
            .containers
            .iter()
            .flat_map(asks)
            .map(|(name, _)| name)
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let selector: BTreeMap<String, String> = pod
            .node_selector
            .iter()
            // Of other labels it is not known which nodes have them; then more nodes are looked at
            // than fit, and only what none of them has is called missing.
            .filter(|(label, _)| label.starts_with("nvidia.com/"))
            .map(|(label, value)| (label.clone(), value.clone()))
            .collect();
        for asked in asked {
            let other = other_name(asked);
            if !says_insufficient(message, asked) {
                continue;
            }
            let (own, others) = self.offered(&selector, asked, &other, nodes);
            if own == 0 && others > 0 {
                return Some(Case::Pending {
                    asked: asked.to_owned(),
                    other,
                    offered: others,
                });
            }
        }
        None
    }

    fn offered(
        &mut self,
        selector: &BTreeMap<String, String>,
        asked: &str,
        other: &str,
        nodes: &BTreeMap<String, Node>,
    ) -> (u64, u64) {
        let key = (selector.clone(), asked.to_owned());
        if let Some(known) = self.offered.get(&key) {
            return *known;
        }
        let fits = |node: &&Node| {
            let mut all = selector.iter();
            all.all(|(label, value)| node.label(label) == Some(value))
        };
        let sum = nodes.values().filter(fits).fold((0u64, 0u64), |sum, node| {
            (
                sum.0.saturating_add(node.allocatable(asked)),
                sum.1.saturating_add(node.allocatable(other)),
            )
        });
        if self.offered.len() < MAX_SELECTORS {
            self.offered.insert(key, sum);
        }
        sum
    }

    pub(super) fn findings(self, found: &mut Found) {
        for (code, more) in self.left_out {
            found.left_out(code, more);
        }
        for ((Reverse(severity), owner, _), group) in self.groups.into_values().flatten() {
            found.add(group.finding(severity, owner));
        }
    }
}

impl Group {
    fn finding(self, severity: Severity, owner: ObjectRef) -> SetupFinding {
        let Self {
            pods,
            first,
            node,
            case,
        } = self;
        let who = match pods {
            1 => format!("Pod {}/{}", first.namespace, first.name),
            pods => format!("{pods} pods, such as {}/{},", first.namespace, first.name),
        };
        let code = case.code();
        let mut it = match &case {
            Case::Pending {
                asked,
                other,
                offered,
            } => finding(
                code,
                severity,
                owner,
                format!(
                    "{who} can never be scheduled: no node that fits offers {asked}, because the \
                     plugin's profile {} the resource. {offered} of {other} are offered.",
                    match other.ends_with(".shared") {
                        true => "renames",
                        false => "does not rename",
                    }
                ),
            )
            .field("spec.containers[].resources.limits")
            .expected(other)
            .found(asked),
            Case::TooMany {
                resource,
                count,
                refused,
            } => finding(
                code,
                severity,
                owner,
                match refused {
                    true => format!(
                        "{who} was refused by the plugin: {count} of {resource} are no more time and \
                         no more memory than one, and failRequestsGreaterThanOne is on."
                    ),
                    false => format!(
                        "{who} holds {count} replicas of {resource}, which give no more time and no \
                         more memory than one, and may be of one GPU."
                    ),
                },
            )
            .field(format!("spec.containers[].resources.limits.{resource}"))
            .expected(1)
            .found(count),
            Case::OneEach {
                resource,
                containers,
            } => finding(
                code,
                severity,
                owner,
                format!(
                    "{who} has {} containers that ask for {resource} each ({}): they may be given \
                     replicas of one GPU, and share its memory and time with each other. Let one \
                     container ask, or take a node that does not share.",
                    containers.len(),
                    containers.join(", ")
                ),
            )
            .field(format!("spec.containers[].resources.limits.{resource}"))
            .expected("in one container")
            .found(format!("in {}", containers.len())),
        };
        it.node = node;
        it.mend(match &case {
            Case::Pending { asked, other, .. } => repair::rename(&first, asked, other),
            Case::TooMany { resource, .. } => repair::ask_for_one(&first, resource),
            Case::OneEach { resource, .. } => repair::ask_once(&first, resource),
        })
    }
}

/// What a container asks for: of these resources request and limit are one.
fn asks(container: &PodContainer) -> impl Iterator<Item = (&str, u64)> {
    let more = container
        .requests
        .iter()
        .filter(|(name, _)| !container.limits.contains_key(*name));
    let all = container.limits.iter().chain(more);
    all.filter(|(_, count)| **count > 0)
        .map(|(name, count)| (name.as_str(), *count))
}

/// `renameByDefault` on, or off.
fn other_name(resource: &str) -> String {
    match resource.strip_suffix(".shared") {
        Some(plain) => plain.to_owned(),
        None => format!("{resource}.shared"),
    }
}

/// Whether the scheduler's message names this resource, and not a longer one.
fn says_insufficient(message: &str, resource: &str) -> bool {
    const WORD: &str = "Insufficient ";
    message.match_indices(WORD).any(|(at, _)| {
        let rest = &message[at + WORD.len()..];
        let end = rest
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(rest.len());
        rest[..end].trim_end_matches('.') == resource
    })
}

/// A pod that the plugin refused at admission.
fn refused(pod: &PodRead) -> Option<Case> {
    let message = pod.message.as_deref()?;
    if pod.reason.as_deref() != Some("UnexpectedAdmissionError") || !message.contains(TOO_LARGE) {
        return None;
    }
    let largest = |(_, a): &(&str, u64), (_, b): &(&str, u64)| a.cmp(b);
    let (resource, count) = pod
        .containers
        .iter()
        .flat_map(asks)
        .filter(|(_, count)| *count > 1)
        .max_by(largest)?;
    Some(Case::TooMany {
        resource: resource.to_owned(),
        count,
        refused: true,
    })
}

/// A pod on a node that shares what it asks for.
fn on_shared(pod: &PodRead, shares: &Shares) -> Vec<Case> {
    let mut cases = Vec::new();
    for resource in &shares.resources {
        let asking: Vec<(&PodContainer, u64)> = pod
            .containers
            .iter()
            .filter_map(|it| Some((it, asks(it).find(|(name, _)| name == resource)?.1)))
            .collect();
        if let Some(count) = asking
            .iter()
            .map(|it| it.1)
            .filter(|&count| count > 1)
            .max()
        {
            cases.push(Case::TooMany {
                resource: resource.clone(),
                count,
                refused: false,
            });
        }
        // Init containers hand on what they had.
        let mains = asking.iter().filter(|(it, _)| !it.init);
        let mut names: Vec<_> = mains.map(|(it, _)| it.name.clone()).collect();
        names.sort_unstable();
        if names.len() > 1 {
            cases.push(Case::OneEach {
                resource: resource.clone(),
                containers: names,
            });
        }
    }
    cases
}

/// What a node shares: GPUs by its numbers, which hold whatever the profile says, else by its profile.
pub(super) fn shares(node: &Node, config: Option<&PluginConfig>) -> Shares {
    let factor = node.factor();
    let by_numbers = match factor {
        Some((replicas, renamed)) if replicas > 1 => Some(if renamed { SHARED_GPU } else { GPU }),
        _ => None,
    };
    let in_force = config.and_then(|config| Some((config, config.in_force()?)));
    let by_profile = in_force.into_iter().flat_map(|(config, shared)| {
        let entries = shared.resources.iter().map(|entry| entry.name.as_str());
        let untold = entries.filter(|name| factor.is_none() || *name != GPU);
        untold.map(|name| config.advertised_name(name).into_owned())
    });
    let mut resources: Vec<String> = by_profile.chain(by_numbers.map(str::to_owned)).collect();
    resources.sort_unstable();
    resources.dedup();
    Shares { resources }
}

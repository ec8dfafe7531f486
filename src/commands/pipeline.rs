//! From samples to snapshots: the one path that agent, demo and tests share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::announce::Announcer;
use super::curiosity::Curiosity;
use crate::analyse::findings::Findings;
use crate::analyse::lease::{LeaseSettings, Leases};
use crate::analyse::ledger::{Ledger, LedgerSettings};
use crate::analyse::names::MergedNames;
use crate::analyse::node::complete;
use crate::collect::cluster::ClusterView;
use crate::collect::host::NameBook;
use crate::model::{
    Allocations, CanaryWish, Cause, Moment, NodeSample, PodNames, Reading, Snapshot, Source,
    SourceHealth,
};

/// Between two looks for names that stay unknown after [`EAGER_LOOKS`].
const PATIENT: Duration = Duration::from_secs(30);
/// Looks for unknown names that follow each other without waiting.
const EAGER_LOOKS: u32 = 5;

/// What the operator may choose of the way from samples to snapshots.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct PipelineSettings {
    /// By what latency canaries are allowed.
    pub lease: LeaseSettings,
    /// Keeps delays in the buckets of a Prometheus native histogram too.
    pub native_histograms: bool,
}

/// The agent's memory, and what it needs to say who it is.
pub struct Pipeline {
    ledger: Ledger,
    leases: Leases,
    findings: Findings,
    announcer: Announcer,
    node: Option<Arc<str>>,
    host: Host,
    curiosity: Curiosity,
}

/// What one step came to.
pub struct Step {
    pub snapshot: Arc<Snapshot>,
    /// True where the kubelet should be asked before its time.
    pub ask_kubelet: bool,
    /// What each device's canary shall do from now on.
    pub wishes: Vec<CanaryWish>,
}

impl Pipeline {
    /// A pipeline that has seen nothing. `namespace` is the proof that PIDs are the host's.
    pub fn new(
        node: Option<Arc<str>>,
        book: NameBook,
        namespace: Reading<()>,
        settings: PipelineSettings,
    ) -> Self {
        let PipelineSettings {
            lease,
            native_histograms,
        } = settings;
        Self {
            ledger: Ledger::with(LedgerSettings { native_histograms }),
            leases: Leases::new(lease),
            findings: Findings::default(),
            announcer: Announcer::default(),
            node,
            host: Host::new(book, namespace),
            curiosity: Curiosity::default(),
        }
    }

    /// One step: what is new in, what is known now out. `health` is that of NVML, the kubelet and
    /// the canaries, in this order, and of Events where they are made.
    pub fn step(
        &mut self,
        sample: &NodeSample,
        allocations: &Reading<Arc<Allocations>>,
        health: Vec<SourceHealth>,
        cluster: ClusterView,
    ) -> Step {
        let names = self.host.names(sample, allocations, &cluster.names);
        self.ledger.observe(sample, allocations, &names);
        let mut sources = health;
        sources.extend([self.host.health.clone(), cluster.health]);
        let mut snapshot =
            self.ledger
                .snapshot(sample.at, self.node.clone(), super::build_info(), sources);
        complete(&mut snapshot, cluster.node);
        snapshot.findings = self.findings.judge(&snapshot);
        self.announcer.tell(&snapshot.findings);
        let ask_kubelet = self.curiosity.is_roused(&snapshot);
        Step {
            wishes: self.leases.decide(&snapshot),
            snapshot: Arc::new(snapshot),
            ask_kubelet,
        }
    }
}

/// All names, and the host's own looked up when something has none.
struct Host {
    book: NameBook,
    namespace: Reading<()>,
    merged: MergedNames,
    last_look: Option<Moment>,
    looks_in_vain: u32,
    health: SourceHealth,
}

impl Host {
    fn new(book: NameBook, namespace: Reading<()>) -> Self {
        Self {
            book,
            namespace,
            merged: MergedNames::default(),
            last_look: None,
            looks_in_vain: 0,
            health: SourceHealth {
                source: Source::Host,
                up: Reading::Failed(Cause::NotYet),
                detail: "".into(),
                errors: BTreeMap::new(),
                duration: None,
                last_success: None,
            },
        }
    }

    fn names(
        &mut self,
        sample: &NodeSample,
        allocations: &Reading<Arc<Allocations>>,
        statuses: &Arc<PodNames>,
    ) -> Arc<PodNames> {
        let mut names = self.merge(statuses);
        let wanted = has_unnamed(sample, &names);
        let due = match self.last_look {
            None => true,
            Some(last) if wanted && self.looks_in_vain < EAGER_LOOKS => last != sample.at,
            Some(last) => sample.at.since(last) >= PATIENT,
        };
        if due {
            let (_, listed) = self.book.refresh(sample.at);
            names = self.merge(statuses);
            self.last_look = Some(sample.at);
            self.looks_in_vain = match has_unnamed(sample, &names) {
                true => self.looks_in_vain.saturating_add(1),
                false => 0,
            };
            self.judge(
                listed,
                matches!(allocations, Reading::Unsupported),
                sample.at,
            );
        } else if !wanted {
            self.looks_in_vain = 0;
        }
        names
    }

    /// Names of statuses over those of log files; what they dispute is counted.
    fn merge(&mut self, statuses: &Arc<PodNames>) -> Arc<PodNames> {
        let (names, disputes) = self.merged.merge(statuses, &self.book.names());
        for dispute in &disputes {
            let count = self.health.errors.entry("name_disputed".into());
            *count.or_insert(0) += 1;
            tracing::warn!(
                id = &*dispute.id,
                status = %format_args!("{}/{}", dispute.status.namespace, dispute.status.pod),
                log = %format_args!("{}/{}", dispute.log.namespace, dispute.log.pod),
                "host: a log file names another pod than the pod's status, which is believed"
            );
        }
        names
    }

    fn judge(&mut self, listed: Reading<()>, no_kubelet: bool, now: Moment) {
        let (up, detail) = match (self.namespace, listed) {
            (Reading::Failed(Cause::PidNamespace), _) => (
                Reading::Failed(Cause::PidNamespace),
                "the agent does not see the host's processes: self/ns/pid of --proc-root is not \
                 the initial PID namespace",
            ),
            (Reading::Failed(cause), _) => (
                Reading::Failed(cause),
                "the PID namespace cannot be proven: self/ns/pid of --proc-root cannot be read",
            ),
            // A machine without a kubelet has no pods to name.
            (_, Reading::Failed(Cause::NotFound)) if no_kubelet => (Reading::Value(()), ""),
            (_, Reading::Failed(cause)) => (
                Reading::Failed(cause),
                "the pod log folders cannot be listed: mount /var/log/pods and \
                 /var/log/containers read-only, or give --pod-log-dir and --container-log-dir",
            ),
            _ => (Reading::Value(()), ""),
        };
        if up != self.health.up {
            match up {
                Reading::Failed(cause) => tracing::warn!(cause = cause.label(), "host: {detail}"),
                _ => tracing::info!("host: process and pod names can be read"),
            }
        }
        if let Reading::Failed(cause) = up {
            *self.health.errors.entry(cause.label().into()).or_insert(0) += 1;
        } else {
            self.health.last_success = Some(now.unix);
        }
        self.health.up = up;
        self.health.detail = detail.into();
    }
}

/// Whether a process of the sample is in a pod whose names are not known yet.
fn has_unnamed(sample: &NodeSample, names: &PodNames) -> bool {
    sample
        .windows
        .iter()
        .flat_map(|window| &window.devices)
        .flat_map(|device| &device.lists)
        .flat_map(|list| &list.processes)
        .filter_map(|process| process.facts.value())
        .any(
            |facts| match (&facts.cgroup.container_id, &facts.cgroup.pod_uid) {
                (Some(id), _) => !names.containers.contains_key(id),
                (None, Some(uid)) => !names.pods.contains_key(uid),
                (None, None) => false,
            },
        )
}

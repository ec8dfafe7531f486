//! Which findings that begin are told of which pods.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::findings::ENDED_UNDER_PRESSURE;
use crate::model::{ContainerView, Finding, GpuUuid, GpuView, PodEvent, Severity, Snapshot};

/// Pods that one finding is told of, at most.
const MOST_PODS: usize = 20;

/// Remembers what was so before.
#[derive(Debug, Default)]
pub struct Begun {
    /// Code and subject.
    findings: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Exits under pressure, where there were any.
    exits: HashMap<Row, u64>,
}

type Row = (GpuUuid, Arc<str>, Arc<str>, Arc<str>);

impl Begun {
    /// Findings that were not in the snapshot before and matter, each told of the pods that it
    /// concerns: the one that it is about, or those whose processes have just ended. A pod without a
    /// UID, or one that is not here, is not told of.
    pub fn events(&mut self, snapshot: &Snapshot) -> Vec<PodEvent> {
        let key = |finding: &Finding| (Arc::clone(&finding.code), Arc::clone(&finding.subject));
        let now: BTreeSet<_> = snapshot.findings.iter().map(key).collect();
        let exits: HashMap<Row, u64> = rows(snapshot)
            .filter(|(_, row)| row.exits_under_pressure > 0)
            .map(|(gpu, row)| (place(gpu, row), row.exits_under_pressure))
            .collect();
        let mut events: Vec<PodEvent> = Vec::new();
        for finding in &snapshot.findings {
            if finding.severity < Severity::Warning || self.findings.contains(&key(finding)) {
                continue;
            }
            let is_of_gpu = &*finding.code == ENDED_UNDER_PRESSURE;
            let concerned = rows(snapshot).filter(|(gpu, row)| match is_of_gpu {
                true => {
                    let before = self.exits.get(&place(gpu, row)).copied();
                    *gpu.identity.uuid.as_str() == *finding.subject
                        && row.exits_under_pressure > before.unwrap_or(0)
                }
                false => row.present && is_about(finding, row),
            });
            let mut told = BTreeSet::new();
            for (_, row) in concerned {
                let Some(uid) = row.pod_uid.clone() else {
                    continue;
                };
                if told.len() < MOST_PODS && told.insert(uid.clone()) {
                    events.push(PodEvent {
                        namespace: Arc::clone(&row.namespace),
                        pod: Arc::clone(&row.pod),
                        uid,
                        code: Arc::clone(&finding.code),
                        note: note(finding),
                    });
                }
            }
        }
        (self.findings, self.exits) = (now, exits);
        events
    }
}

fn rows(snapshot: &Snapshot) -> impl Iterator<Item = (&GpuView, &ContainerView)> {
    let gpus = snapshot.gpus.iter();
    gpus.flat_map(|gpu| gpu.containers.iter().map(move |row| (gpu, row)))
}

fn place(gpu: &GpuView, row: &ContainerView) -> Row {
    (
        gpu.identity.uuid.clone(),
        Arc::clone(&row.namespace),
        Arc::clone(&row.pod),
        Arc::clone(&row.container),
    )
}

/// Whether the finding's subject is the row's pod: no namespace has a slash in it.
fn is_about(finding: &Finding, row: &ContainerView) -> bool {
    let subject = finding.subject.split_once('/');
    subject.is_some_and(|(namespace, pod)| namespace == &*row.namespace && pod == &*row.pod)
}

fn note(finding: &Finding) -> String {
    let evidence = finding.evidence.trim_end_matches('.');
    format!("{evidence}. To mend: {}", finding.mend)
}

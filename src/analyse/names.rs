//! Names from pod statuses over names from log files.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::{PodName, PodNames};

/// One id that a status and a log file give to different pods. The status is believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dispute {
    /// Of a container or a pod.
    pub id: Arc<str>,
    pub status: PodName,
    pub log: PodName,
}

/// Both sources as one. Statuses are believed first; log files fill in what they do not tell, as
/// when the API server is away or has not told yet.
#[derive(Debug, Default)]
pub struct MergedNames {
    statuses: Arc<PodNames>,
    logs: Arc<PodNames>,
    merged: Arc<PodNames>,
    disputed: HashSet<Dispute>,
}

impl MergedNames {
    /// The names of both, made anew only when one of them is another. Disputes come with the merge
    /// that first has them.
    pub fn merge(
        &mut self,
        statuses: &Arc<PodNames>,
        logs: &Arc<PodNames>,
    ) -> (Arc<PodNames>, Vec<Dispute>) {
        if Arc::ptr_eq(&self.statuses, statuses) && Arc::ptr_eq(&self.logs, logs) {
            return (Arc::clone(&self.merged), Vec::new());
        }
        self.statuses = Arc::clone(statuses);
        self.logs = Arc::clone(logs);
        let mut disputed = HashSet::new();
        self.merged = if **statuses == PodNames::default() {
            Arc::clone(logs)
        } else {
            Arc::new(merged(statuses, logs, &mut disputed))
        };
        let news = disputed.difference(&self.disputed).cloned().collect();
        self.disputed = disputed;
        (Arc::clone(&self.merged), news)
    }
}

fn merged(statuses: &PodNames, logs: &PodNames, disputed: &mut HashSet<Dispute>) -> PodNames {
    let mut names = statuses.clone();
    let mut dispute = |id: &str, status: &PodName, log: &PodName| {
        if status != log {
            disputed.insert(Dispute {
                id: id.into(),
                status: status.clone(),
                log: log.clone(),
            });
        }
    };
    for (uid, log) in &logs.pods {
        let status = names.pods.entry(uid.clone()).or_insert_with(|| log.clone());
        dispute(uid.as_str(), status, log);
    }
    for (id, log) in &logs.containers {
        let status = names
            .containers
            .entry(id.clone())
            .or_insert_with(|| log.clone());
        dispute(id.as_str(), &status.pod, &log.pod);
    }
    names
}

#[cfg(test)]
mod tests {
    use crate::model::{ContainerId, ContainerName, PodUid};

    use super::*;

    fn pod(name: &str) -> PodName {
        PodName {
            namespace: "ml".into(),
            pod: name.into(),
        }
    }

    /// Containers and pods, each as (id, pod).
    fn names(of: &[(&str, &str)], from_status: bool) -> Arc<PodNames> {
        let mut names = PodNames::default();
        for (id, name) in of {
            names.pods.insert(PodUid::new(*id), pod(name));
            let container = ContainerName {
                pod: pod(name),
                container: "main".into(),
                from_status,
            };
            names.containers.insert(ContainerId::new(*id), container);
        }
        Arc::new(names)
    }

    #[test]
    fn a_status_is_believed_and_a_log_fills_in() {
        let mut merge = MergedNames::default();
        let statuses = names(&[("1", "a"), ("2", "b")], true);
        let logs = names(&[("2", "b"), ("3", "c")], false);
        let (both, disputes) = merge.merge(&statuses, &logs);
        assert!(disputes.is_empty());
        for (id, name, from_status) in [("1", "a", true), ("2", "b", true), ("3", "c", false)] {
            assert_eq!(both.pods[&PodUid::new(id)], pod(name));
            let container = &both.containers[&ContainerId::new(id)];
            assert_eq!(
                (&container.pod, container.from_status),
                (&pod(name), from_status)
            );
        }
        assert!(Arc::ptr_eq(&both, &merge.merge(&statuses, &logs).0));
    }

    #[test]
    fn what_they_dispute_is_the_statuses_and_is_told_once() {
        let mut merge = MergedNames::default();
        let statuses = names(&[("1", "a")], true);
        let (both, disputes) = merge.merge(&statuses, &names(&[("1", "evil")], false));
        assert_eq!(both.pods[&PodUid::new("1")], pod("a"));
        assert_eq!(both.containers[&ContainerId::new("1")].pod, pod("a"));
        assert_eq!(
            disputes.len(),
            1,
            "the same words of a pod and a container: {disputes:?}"
        );
        assert_eq!(
            (&disputes[0].status, &disputes[0].log),
            (&pod("a"), &pod("evil"))
        );
        let (_, again) = merge.merge(&statuses, &names(&[("1", "evil"), ("2", "b")], false));
        assert!(again.is_empty());
    }

    #[test]
    fn without_statuses_the_logs_are_taken_as_they_are() {
        let logs = names(&[("1", "a")], false);
        let (both, _) = MergedNames::default().merge(&Arc::default(), &logs);
        assert!(Arc::ptr_eq(&both, &logs));
    }
}

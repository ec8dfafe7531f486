//! What `check --functional` came to.

use std::fmt::Write;

use serde::Serialize;

use super::SCHEMA;
use crate::publish::terminal::cells::printable;

/// Pods ran or waited, and no two were on one GPU.
const NOT_SHARED: &str = "functional_not_shared";
/// A quota, a policy or rights kept the pods from being.
const PREVENTED: &str = "functional_prevented";

/// Whether GPUs are really shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Two of the pods were on one GPU at the same time.
    Shared,
    /// They were not, or did not all run.
    NotShared,
    /// It could not be tried.
    NotTried,
}

/// A pod of the trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TrialPod {
    pub name: String,
    pub running: bool,
    /// UUIDs, told from inside the pod.
    pub gpus: Vec<String>,
    /// `driver`, or `NVIDIA_VISIBLE_DEVICES` where the driver's library is not in the pod.
    pub told_by: Option<&'static str>,
    /// UUIDs under which the node's agent shows it; absent where no agent was asked.
    pub agent: Option<Vec<String>>,
    /// Why it does not run, or says nothing.
    pub why: Option<String>,
}

/// The trial, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Functional {
    schema: u32,
    pub outcome: Outcome,
    /// Where it is not as it should be; of deploy/time-slicing/failure-modes.md.
    pub code: Option<&'static str>,
    pub node: Option<String>,
    pub resource: Option<String>,
    /// Physical GPUs of the node.
    pub gpus: Option<u64>,
    pub namespace: String,
    pub pods: Vec<TrialPod>,
    /// The GPU that two or more of the pods were on.
    pub shared_gpu: Option<String>,
    /// Whether the agent shows two of them on that GPU; absent where it was not asked.
    pub agent_agrees: Option<bool>,
    /// What is so, and what to do where it is not as it should be.
    pub words: Vec<String>,
    /// Pods that could not be deleted.
    pub left_behind: Vec<String>,
}

impl Functional {
    /// Nothing tried yet.
    pub const fn new(namespace: String) -> Self {
        Self {
            schema: SCHEMA,
            outcome: Outcome::NotTried,
            code: None,
            node: None,
            resource: None,
            gpus: None,
            namespace,
            pods: Vec::new(),
            shared_gpu: None,
            agent_agrees: None,
            words: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    /// Notes what kept it from being tried.
    pub fn prevented(&mut self, words: String) {
        self.code = Some(PREVENTED);
        self.words.push(words);
    }

    /// Judges the pods: one GPU under two of them at the same time.
    pub fn judge(&mut self) {
        (self.outcome, self.code) = (Outcome::NotShared, Some(NOT_SHARED));
        if self.pods.iter().any(|pod| !pod.running) {
            return;
        }
        // Who sees several may have them in another way than by asking for one.
        let one = |pod: &TrialPod| match &pod.gpus[..] {
            [gpu] => Some(gpu.clone()),
            _ => None,
        };
        let mut all: Vec<String> = self.pods.iter().filter_map(one).collect();
        all.sort();
        let twice = all.windows(2).find(|pair| pair[0] == pair[1]);
        self.shared_gpu = twice.map(|pair| pair[0].clone());
        let Some(shared) = &self.shared_gpu else {
            self.words.push(match all.len() {
                _ if self.pods.iter().any(|pod| pod.gpus.len() > 1) => {
                    "a pod that asked for one GPU sees several, so nothing is proven: the device plugin hands \
                     GPUs over in a way that the node's runtime does not follow"
                        .to_owned()
                }
                0 => "no pod says on which GPU it is: give --runtime-class the class that brings the driver \
                      into pods, often nvidia".to_owned(),
                _ => "every pod has a GPU of its own: the node has more GPUs than its label \
                      nvidia.com/gpu.count says, or they are not shared"
                    .to_owned(),
            });
            return;
        };
        (self.outcome, self.code) = (Outcome::Shared, None);
        let seen = |pod: &&TrialPod| pod.agent.as_ref().is_some_and(|gpus| gpus.contains(shared));
        if self.pods.iter().any(|pod| pod.agent.is_some()) {
            self.agent_agrees = Some(self.pods.iter().filter(seen).count() > 1);
        }
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut out = String::new();
        if let (Some(node), Some(resource), Some(gpus)) = (&self.node, &self.resource, self.gpus) {
            let _ = writeln!(
                out,
                "node {}: {} pods in {} ask for one {} each, of {gpus} GPUs",
                printable(node),
                self.pods.len(),
                printable(&self.namespace),
                printable(resource),
            );
        }
        for pod in &self.pods {
            let what = match (pod.running, pod.told_by) {
                (true, Some(by)) if !pod.gpus.is_empty() => {
                    format!("{} (by {by})", pod.gpus.join(", "))
                }
                (true, _) => "runs, and does not say on which GPU".to_owned(),
                (false, _) => "does not run".to_owned(),
            };
            let agent = match &pod.agent {
                Some(gpus) if gpus.is_empty() => "; the agent does not show it".to_owned(),
                Some(gpus) => format!("; the agent: {}", gpus.join(", ")),
                None => String::new(),
            };
            let why = pod
                .why
                .as_ref()
                .map_or(String::new(), |why| format!(": {why}"));
            let line = format!("{}: {what}{agent}{why}", pod.name);
            let _ = writeln!(out, "    {}", printable(&line));
        }
        for words in &self.words {
            let _ = writeln!(out, "{}", printable(words));
        }
        let code = self.code.map_or(String::new(), |code| format!(": {code}"));
        let _ = match (self.outcome, &self.shared_gpu) {
            (Outcome::Shared, Some(gpu)) => {
                writeln!(out, "shared: two pods were on {gpu} at the same time")
            }
            (Outcome::NotTried, _) => writeln!(out, "not tried{code}"),
            _ => writeln!(out, "not shared{code}"),
        };
        if self.agent_agrees == Some(false) {
            out.push_str("the agent does not show two of them there: see its findings\n");
        }
        if !self.left_behind.is_empty() {
            let _ = writeln!(
                out,
                "left behind; delete them: kubectl -n {} delete pod {}",
                self.namespace,
                self.left_behind.join(" ")
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, gpus: &[&str], agent: Option<&[&str]>) -> TrialPod {
        let owned = |gpus: &[&str]| gpus.iter().map(|gpu| (*gpu).to_owned()).collect::<Vec<_>>();
        TrialPod {
            name: name.to_owned(),
            running: true,
            gpus: owned(gpus),
            told_by: Some("driver"),
            agent: agent.map(owned),
            why: None,
        }
    }

    fn judged(pods: Vec<TrialPod>) -> Functional {
        let mut trial = Functional::new("default".to_owned());
        trial.pods = pods;
        trial.judge();
        trial
    }

    #[test]
    fn two_on_one_gpu_are_shared_and_the_agent_may_disagree() {
        let agrees = |agents: [Option<&[&str]>; 2]| {
            let trial = judged(vec![
                pod("a", &["GPU-1"], agents[0]),
                pod("b", &["GPU-1"], agents[1]),
            ]);
            assert_eq!(trial.outcome, Outcome::Shared);
            assert_eq!(trial.shared_gpu.as_deref(), Some("GPU-1"));
            trial.agent_agrees
        };
        assert_eq!(agrees([None, None]), None);
        assert_eq!(agrees([Some(&["GPU-1"]), Some(&["GPU-1"])]), Some(true));
        assert_eq!(agrees([Some(&["GPU-1"]), Some(&[])]), Some(false));
    }

    #[test]
    fn one_gpu_each_or_a_pod_that_waits_is_not_shared() {
        let apart = judged(vec![pod("a", &["GPU-1"], None), pod("b", &["GPU-2"], None)]);
        assert_eq!(apart.outcome, Outcome::NotShared);
        assert!(apart.table().contains("gpu.count"), "{}", apart.table());

        let many = judged(vec![
            pod("a", &["GPU-1", "GPU-2"], None),
            pod("b", &["GPU-1", "GPU-2"], None),
        ]);
        assert_eq!(many.outcome, Outcome::NotShared);
        assert!(many.table().contains("sees several"), "{}", many.table());

        let silent = judged(vec![pod("a", &[], None), pod("b", &[], None)]);
        assert_eq!(silent.outcome, Outcome::NotShared);
        assert!(
            silent.table().contains("--runtime-class"),
            "{}",
            silent.table()
        );

        let waits = TrialPod {
            running: false,
            why: Some("1 Insufficient nvidia.com/gpu".to_owned()),
            ..pod("b", &[], None)
        };
        let one = judged(vec![pod("a", &["GPU-1"], None), waits]);
        assert_eq!(
            (one.outcome, one.shared_gpu.clone()),
            (Outcome::NotShared, None)
        );
        assert!(
            one.table().contains("b: does not run: 1 Insufficient"),
            "{}",
            one.table()
        );
    }
}

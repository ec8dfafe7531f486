//! From what rules see at an instant to findings that do not flicker.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::code::{Code, TOO_MANY_FINDINGS};
use crate::model::{Finding, GpuUuid, Moment, PodName, Snapshot, Source};

/// Findings of one code. Those that came first stay; how many more there are is a finding.
pub const MOST_OF_A_CODE: usize = 20;

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Node,
    Gpu(GpuUuid),
    Pod(PodName),
    Source(Source),
}

impl Subject {
    /// As series name it. A machine that has no name is `node`.
    fn text(&self, snapshot: &Snapshot) -> Arc<str> {
        match self {
            Self::Node => snapshot.node.clone().unwrap_or_else(|| "node".into()),
            Self::Gpu(uuid) => uuid.as_str().into(),
            Self::Pod(name) => format!("{}/{}", name.namespace, name.pod).into(),
            Self::Source(source) => source.label().into(),
        }
    }
}

/// Evidence, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) evidence: Arc<str>,
    pub(super) mend: Arc<str>,
}

impl Words {
    pub(super) fn new(evidence: impl fmt::Display, mend: impl Into<Arc<str>>) -> Self {
        Self {
            evidence: evidence.to_string().into(),
            mend: mend.into(),
        }
    }
}

/// What a rule says of a subject now. A rule that says nothing says that it is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is so.
    Holds(Words),
    /// Too little to raise a finding, too much to take it back.
    Nearly(Words),
    /// It cannot be told.
    Unknown,
}

impl Verdict {
    /// Of two GPUs of one pod, the one that weighs more.
    fn weight(&self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Nearly(_) => 1,
            Self::Holds(_) => 2,
        }
    }
}

/// One rule's word on one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) code: &'static Code,
    pub(super) subject: Subject,
    pub(super) verdict: Verdict,
}

/// What is known of one subject of one code.
#[derive(Debug)]
struct Held {
    /// Since when it is so, without a break.
    so_since: Option<Moment>,
    /// Since when it is not so, without a break.
    not_since: Option<Moment>,
    known_at: Moment,
    /// Since when it is a finding.
    raised: Option<Moment>,
    /// The newest words.
    words: Words,
}

impl Held {
    /// Takes in a verdict, `None` where it is not so. False where there is nothing to remember.
    fn step(&mut self, code: &Code, verdict: Option<Verdict>, now: Moment) -> bool {
        let is_so = match verdict {
            Some(Verdict::Unknown) => return now.since(self.known_at) <= code.blind_after,
            Some(Verdict::Holds(words)) => {
                self.words = words;
                true
            }
            Some(Verdict::Nearly(words)) => {
                self.words = words;
                self.raised.is_some()
            }
            None => false,
        };
        self.known_at = now;
        if is_so {
            self.not_since = None;
            let since = *self.so_since.get_or_insert(now);
            if self.raised.is_none() && now.since(since) >= code.raise_after {
                self.raised = Some(now);
            }
            return true;
        }
        self.so_since = None;
        let since = *self.not_since.get_or_insert(now);
        self.raised.is_some() && now.since(since) < code.clear_after
    }
}

/// All that is a finding, or may become one.
#[derive(Debug, Default)]
pub(super) struct Holding {
    held: HashMap<(&'static str, Subject), (&'static Code, Held)>,
}

impl Holding {
    /// Takes in all that the rules say at the snapshot's instant, and says what is a finding.
    pub(super) fn weigh(&mut self, seen: Vec<Seen>, snapshot: &Snapshot) -> Vec<Finding> {
        let now = snapshot.at;
        let mut verdicts: HashMap<(&'static str, Subject), (&'static Code, Verdict)> =
            HashMap::new();
        for Seen {
            code,
            subject,
            verdict,
        } in seen
        {
            match verdicts.entry((code.name, subject)) {
                Entry::Vacant(place) => {
                    place.insert((code, verdict));
                }
                Entry::Occupied(mut place) if place.get().1.weight() < verdict.weight() => {
                    place.insert((code, verdict));
                }
                Entry::Occupied(_) => {}
            }
        }
        let there = Present::new(self.held.keys().map(|(_, subject)| subject), snapshot);
        self.held.retain(|key, (code, held)| {
            let verdict = verdicts.remove(key).map(|(_, verdict)| verdict);
            // A pod with a grant and no process is not seen while the kubelet is silent.
            let unknown = verdict == Some(Verdict::Unknown);
            (unknown || there.has(&key.1)) && held.step(code, verdict, now)
        });
        for (key, (code, verdict)) in verdicts {
            let Verdict::Holds(words) = verdict else {
                continue;
            };
            let mut held = Held {
                so_since: None,
                not_since: None,
                known_at: now,
                raised: None,
                words: words.clone(),
            };
            held.step(code, Some(Verdict::Holds(words)), now);
            self.held.insert(key, (code, held));
        }
        self.findings(snapshot)
    }

    fn findings(&self, snapshot: &Snapshot) -> Vec<Finding> {
        let mut raised: BTreeMap<&'static str, Vec<(Moment, &Subject, &Code, &Words)>> =
            BTreeMap::new();
        for ((name, subject), (code, held)) in &self.held {
            if let Some(since) = held.raised {
                let of_code = raised.entry(name).or_default();
                of_code.push((since, subject, code, &held.words));
            }
        }
        let mut findings = Vec::new();
        for (name, mut of_code) in raised {
            of_code.sort_unstable_by_key(|(since, subject, ..)| (*since, *subject));
            let left = of_code.len().saturating_sub(MOST_OF_A_CODE);
            for (_, subject, code, words) in of_code.into_iter().take(MOST_OF_A_CODE) {
                findings.push(Finding {
                    code: name.into(),
                    severity: code.severity,
                    subject: subject.text(snapshot),
                    evidence: Arc::clone(&words.evidence),
                    mend: Arc::clone(&words.mend),
                });
            }
            if left > 0 {
                findings.push(Finding {
                    code: TOO_MANY_FINDINGS.name.into(),
                    severity: TOO_MANY_FINDINGS.severity,
                    subject: name.into(),
                    evidence: format!("{MOST_OF_A_CODE} are told, {left} more are left out").into(),
                    mend: "mend those that are told, and the others come up".into(),
                });
            }
        }
        findings.sort();
        findings
    }
}

/// Which subjects there still are.
struct Present<'a> {
    pods: HashSet<(&'a str, &'a str)>,
    gpus: HashSet<&'a GpuUuid>,
}

impl<'a> Present<'a> {
    /// Looks only where one of `subjects` asks for it.
    fn new<'s>(subjects: impl Iterator<Item = &'s Subject>, snapshot: &'a Snapshot) -> Self {
        let mut wanted = (false, false);
        for subject in subjects {
            wanted.0 |= matches!(subject, Subject::Pod(_));
            wanted.1 |= matches!(subject, Subject::Gpu(_));
        }
        let rows = snapshot.gpus.iter().flat_map(|gpu| &gpu.containers);
        let gpus = snapshot.gpus.iter().chain(&snapshot.mig_cards);
        Self {
            pods: rows
                .filter(|row| wanted.0 && row.present)
                .map(|row| (&*row.namespace, &*row.pod))
                .collect(),
            gpus: gpus
                .filter(|_| wanted.1)
                .map(|gpu| &gpu.identity.uuid)
                .collect(),
        }
    }

    fn has(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Node | Subject::Source(_) => true,
            Subject::Gpu(uuid) => self.gpus.contains(uuid),
            Subject::Pod(name) => self.pods.contains(&(&*name.namespace, &*name.pod)),
        }
    }
}

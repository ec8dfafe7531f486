//! Findings in the log: one line when one comes, one when it goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Finding, Severity};

type Key = (Arc<str>, Arc<str>);

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    told: BTreeSet<Key>,
}

/// What is another than before.
#[derive(Debug, Default, PartialEq)]
struct Changes<'a> {
    came: Vec<&'a Finding>,
    /// Code and subject.
    went: Vec<Key>,
}

impl Announcer {
    /// Logs what came and what went since the last call. Other words of the same finding are no
    /// change.
    pub(super) fn tell(&mut self, findings: &[Finding]) {
        let Changes { came, went } = self.changes(findings);
        for finding in came {
            let (code, subject) = (&*finding.code, &*finding.subject);
            let (evidence, mend) = (&*finding.evidence, &*finding.mend);
            match finding.severity {
                Severity::Error => {
                    tracing::error!(code, subject, evidence, mend, "a finding came");
                }
                Severity::Warning => {
                    tracing::warn!(code, subject, evidence, mend, "a finding came");
                }
                Severity::Info => tracing::info!(code, subject, evidence, mend, "a finding came"),
            }
        }
        for (code, subject) in went {
            tracing::info!(code = &*code, subject = &*subject, "a finding went");
        }
    }

    fn changes<'a>(&mut self, findings: &'a [Finding]) -> Changes<'a> {
        let key = |finding: &Finding| (Arc::clone(&finding.code), Arc::clone(&finding.subject));
        let came: Vec<&Finding> = findings
            .iter()
            .filter(|finding| !self.told.contains(&key(finding)))
            .collect();
        if came.is_empty() && self.told.len() == findings.len() {
            return Changes::default();
        }
        let now: BTreeSet<Key> = findings.iter().map(key).collect();
        let before = std::mem::replace(&mut self.told, now);
        let went = before.difference(&self.told).cloned().collect();
        Changes { came, went }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &str, evidence: &str) -> Finding {
        Finding {
            code: code.into(),
            severity: Severity::Warning,
            subject: "GPU-1".into(),
            evidence: evidence.into(),
            mend: "mend".into(),
        }
    }

    fn codes(announcer: &mut Announcer, findings: &[Finding]) -> (Vec<String>, Vec<String>) {
        let Changes { came, went } = announcer.changes(findings);
        let came = came.iter().map(|finding| finding.code.to_string());
        let went = went.iter().map(|(code, _)| code.to_string());
        (came.collect(), went.collect())
    }

    #[test]
    fn only_coming_and_going_is_told() {
        let mut announcer = Announcer::default();
        let none: Vec<String> = Vec::new();
        let steps: [(&[Finding], &[&str], &[&str]); 6] = [
            (&[], &[], &[]),
            (&[finding("a", "1 GiB")], &["a"], &[]),
            (&[finding("a", "2 GiB")], &[], &[]),
            (&[finding("b", "")], &["b"], &["a"]),
            (&[finding("b", "")], &[], &[]),
            (&[], &[], &["b"]),
        ];
        for (findings, came, went) in steps {
            let told = codes(&mut announcer, findings);
            assert_eq!((&*told.0, &*told.1), (&*strings(came), &*strings(went)));
        }
        assert_eq!(codes(&mut announcer, &[]), (none.clone(), none));
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }
}

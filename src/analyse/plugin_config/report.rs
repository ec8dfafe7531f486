//! Findings, and what collects them.

use std::fmt;

use serde::Serialize;

use super::place::{Lines, Origin};
use crate::model::Severity;

/// Findings of one configuration; what comes after them is not worth telling.
const MAX_FINDINGS: usize = 200;
/// Characters of a value that are repeated to the reader.
const MAX_SHOWN: usize = 64;

/// Something in a configuration that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LintFinding {
    /// Stable, `snake_case`.
    pub code: &'static str,
    /// An error is what the plugin or the API server refuses, a warning what does not do what it
    /// says, an info what is worth a second thought.
    pub severity: Severity,
    /// Of the whole file, from one.
    pub line: u32,
    /// Of the whole file, from one, in characters.
    pub column: u32,
    /// Such as `data.any.sharing.timeSlicing.resources[0].replicas`; empty for the whole file.
    pub path: String,
    /// What is so, and what follows.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// Findings of one text.
#[derive(Debug)]
pub(super) struct Report<'l> {
    lines: &'l Lines<'l>,
    origin: Origin,
    pub(super) findings: Vec<LintFinding>,
    /// Whether the plugin would refuse the configuration.
    pub(super) refused: bool,
}

impl<'l> Report<'l> {
    pub(super) const fn new(lines: &'l Lines<'l>, origin: Origin) -> Self {
        Self {
            lines,
            origin,
            findings: Vec::new(),
            refused: false,
        }
    }

    /// What the plugin or the API server refuses.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        at: usize,
        path: &str,
        message: impl fmt::Display,
        mend: impl fmt::Display,
    ) {
        self.refused = true;
        self.add(code, Severity::Error, at, path, &message, &mend);
    }

    /// What does not do what it says.
    pub(super) fn warning(
        &mut self,
        code: &'static str,
        at: usize,
        path: &str,
        message: impl fmt::Display,
        mend: impl fmt::Display,
    ) {
        self.add(code, Severity::Warning, at, path, &message, &mend);
    }

    /// What is worth a second thought.
    pub(super) fn info(
        &mut self,
        code: &'static str,
        at: usize,
        path: &str,
        message: impl fmt::Display,
        mend: impl fmt::Display,
    ) {
        self.add(code, Severity::Info, at, path, &message, &mend);
    }

    fn add(
        &mut self,
        code: &'static str,
        severity: Severity,
        at: usize,
        path: &str,
        message: &dyn fmt::Display,
        mend: &dyn fmt::Display,
    ) {
        let (code, severity, message, mend) = match self.findings.len().cmp(&MAX_FINDINGS) {
            std::cmp::Ordering::Less => (code, severity, message.to_string(), mend.to_string()),
            std::cmp::Ordering::Equal => (
                "too_many_findings",
                Severity::Info,
                format!("there is more after {MAX_FINDINGS} findings, and it is not told"),
                "mend these and look again".to_owned(),
            ),
            std::cmp::Ordering::Greater => return,
        };
        let (line, column) = self.lines.place(self.origin.outer(at));
        self.findings.push(LintFinding {
            code,
            severity,
            line,
            column,
            path: path.to_owned(),
            message,
            mend,
        });
    }

    /// The findings from the top of the file down.
    pub(super) fn sorted(mut self) -> Vec<LintFinding> {
        self.findings
            .sort_by_key(|finding| (finding.line, finding.column));
        self.findings
    }
}

/// A text of the file in a sentence: quoted, escaped, and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// A key below a path.
pub(super) fn below(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    let step = if !key.is_empty() && key.chars().all(plain) {
        key.to_owned()
    } else {
        format!("[{}]", shown(key))
    };
    match (path.is_empty(), step.starts_with('[')) {
        (true, _) => step,
        (false, true) => format!("{path}{step}"),
        (false, false) => format!("{path}.{step}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_quote_what_is_not_a_plain_word() {
        assert_eq!(below("", "flags"), "flags");
        assert_eq!(below("data", "a100-40gb"), "data.a100-40gb");
        assert_eq!(below("data", "config.yaml"), "data[\"config.yaml\"]");
        assert_eq!(below("data", ""), "data[\"\"]");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = shown(&"é".repeat(100));
        assert_eq!(cut.chars().count(), MAX_SHOWN + 3);
        assert_eq!(shown("a\tb"), "\"a\\tb\"");
    }
}

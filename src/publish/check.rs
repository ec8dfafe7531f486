//! What `slicewatch check` says: the findings as text for a person and as JSON for a program.

mod cluster;
mod files;
mod functional;
mod watched;

use std::fmt::{self, Display};

use serde::Serialize;

use super::terminal::cells::printable;
use crate::model::Severity;

pub use cluster::Cluster;
pub use files::{Advertised, FileFinding, FileReport, Files, Profile};
pub use functional::{Functional, Outcome, TrialPod};
pub use watched::{Watched, pages};

/// The version of the JSON: it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Findings by severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub errors: usize,
    pub warnings: usize,
    pub infos: usize,
}

impl Tally {
    /// Counts one more.
    pub const fn add(&mut self, severity: Severity) {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Info => self.infos += 1,
        }
    }
}

impl FromIterator<Severity> for Tally {
    fn from_iter<I: IntoIterator<Item = Severity>>(severities: I) -> Self {
        let mut tally = Self::default();
        for severity in severities {
            tally.add(severity);
        }
        tally
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (count, word) in [
            (self.errors, "error"),
            (self.warnings, "warning"),
            (self.infos, "info"),
        ] {
            if count > 0 {
                let comma = if first { "" } else { ", " };
                let s = if count == 1 { "" } else { "s" };
                write!(f, "{comma}{count} {word}{s}")?;
                first = false;
            }
        }
        if first {
            f.write_str("nothing found")?;
        }
        Ok(())
    }
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing, or what is worth a second thought.
    Clean,
    Warnings,
    Errors,
    /// Something could not be looked at. It wins over what was found.
    Incomplete,
}

impl Verdict {
    /// Of what was found, and of whether all could be looked at.
    pub const fn of(tally: Tally, complete: bool) -> Self {
        match tally {
            _ if !complete => Self::Incomplete,
            Tally { errors: 1.., .. } => Self::Errors,
            Tally { warnings: 1.., .. } => Self::Warnings,
            _ => Self::Clean,
        }
    }
}

/// What could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotChecked {
    /// A file, or a kind of object of the cluster.
    pub what: String,
    /// With the mend.
    pub why: String,
}

/// The lines at the end: what is missing, then the sum.
fn closing(out: &mut String, not_checked: &[NotChecked], tally: Tally) {
    let mut rest = not_checked;
    while let Some(NotChecked { why, .. }) = rest.first() {
        // A server that is gone is the one reason of much.
        let alike = rest.iter().take_while(|it| it.why == *why).count();
        let what: Vec<_> = rest[..alike].iter().map(|it| printable(&it.what)).collect();
        out.push_str(&format!(
            "not checked: {}: {}\n",
            what.join(", "),
            printable(why)
        ));
        rest = &rest[alike..];
    }
    out.push_str(&format!("{tally}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_checked_wins_over_what_was_found() {
        use Severity::{Error, Info, Warning};
        for (severities, complete, verdict, words) in [
            (&[][..], true, Verdict::Clean, "nothing found"),
            (&[Info], true, Verdict::Clean, "1 info"),
            (
                &[Info, Warning, Warning],
                true,
                Verdict::Warnings,
                "2 warnings, 1 info",
            ),
            (
                &[Error, Warning],
                true,
                Verdict::Errors,
                "1 error, 1 warning",
            ),
            (&[Error], false, Verdict::Incomplete, "1 error"),
            (&[], false, Verdict::Incomplete, "nothing found"),
        ] {
            let tally: Tally = severities.iter().copied().collect();
            assert_eq!(Verdict::of(tally, complete), verdict, "{severities:?}");
            assert_eq!(tally.to_string(), words);
        }
    }
}

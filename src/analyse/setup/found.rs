//! Findings, kept within bounds whatever the order in which they come.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use crate::model::Severity;
use crate::model::setup::{ObjectRef, SetupFinding};

/// Findings of one code that are listed; of the others the number is told.
pub const MAX_OF_A_CODE: usize = 100;

/// What was found so far. Of a code with too many, the worst stay, and of those the first by
/// object and node: so it does not matter in what order they were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    by_code: BTreeMap<&'static str, BTreeSet<(Reverse<Severity>, SetupFinding)>>,
    left_out: BTreeMap<&'static str, u64>,
}

impl Found {
    pub(super) fn add(&mut self, finding: SetupFinding) {
        let code = finding.code;
        let of_code = self.by_code.entry(code).or_default();
        if of_code.insert((Reverse(finding.severity), finding)) && of_code.len() > MAX_OF_A_CODE {
            of_code.pop_last();
            self.left_out(code, 1);
        }
    }

    /// There are more of a code than were made findings.
    pub(super) fn left_out(&mut self, code: &'static str, more: u64) {
        *self.left_out.entry(code).or_default() += more;
    }

    /// The worst first, and how many of each code are not among them.
    pub(super) fn sorted(self) -> (Vec<SetupFinding>, BTreeMap<&'static str, u64>) {
        let mut all: Vec<_> = self.by_code.into_values().flatten().collect();
        all.sort();
        let findings = all.into_iter().map(|(_, finding)| finding).collect();
        (findings, self.left_out)
    }
}

/// A finding to be filled in.
pub(super) fn finding(
    code: &'static str,
    severity: Severity,
    object: ObjectRef,
    words: impl Into<String>,
) -> SetupFinding {
    SetupFinding {
        code,
        severity,
        object,
        node: None,
        field: None,
        expected: None,
        found: None,
        words: words.into(),
        mend: Vec::new(),
    }
}

impl SetupFinding {
    pub(super) fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(super) fn expected(mut self, value: impl ToString) -> Self {
        self.expected = Some(value.to_string());
        self
    }

    pub(super) fn found(mut self, value: impl ToString) -> Self {
        self.found = Some(value.to_string());
        self
    }

    pub(super) fn mend(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.mend.extend(commands);
        self
    }
}

pub(super) fn object(kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

/// An instant since 1970 as a person and a machine read it.
pub(super) fn instant(since_1970: Duration) -> String {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(since_1970.as_secs()))
        .filter(|_| since_1970.as_secs() < YEAR_10000)
        .map_or_else(
            || format!("{} s since 1970", since_1970.as_secs()),
            |time| humantime::format_rfc3339_seconds(time).to_string(),
        )
}

/// The first second that RFC 3339 has no words for.
const YEAR_10000: u64 = 253_402_300_800;

/// Names in a sentence: the first few, and how many more.
pub(super) fn some_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 5;
    let mut names = names.into_iter();
    let mut text = names.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    let more = names.count();
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

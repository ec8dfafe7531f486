//! What was found in files.

use std::fmt::Write;

use comfy_table::Table;
use serde::Serialize;

use super::{NotChecked, SCHEMA, Tally, Verdict, closing};
use crate::model::Severity;
use crate::publish::terminal::cells::{RULED, printable, push_table};

/// One file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    pub file: String,
    /// What the plugin makes of it.
    pub profiles: Vec<Profile>,
    /// From its top down.
    pub findings: Vec<FileFinding>,
}

/// One configuration of the device plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// `namespace/name` or `name`, where the file is a manifest.
    pub config_map: Option<String>,
    pub key: Option<String>,
    /// `none`, `time-slicing` or `mps`; absent where the plugin would refuse the configuration.
    pub sharing: Option<&'static str>,
    /// Absent where nothing is shared.
    pub fails_requests_greater_than_one: Option<bool>,
    /// The resources that are shared.
    pub advertised: Vec<Advertised>,
}

/// A resource that is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advertised {
    /// Before renaming.
    pub resource: String,
    /// What pods must ask for.
    pub name: String,
    /// How often each device is offered.
    pub replicas: u32,
}

/// Something in a file that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileFinding {
    /// Stable, `snake_case`.
    pub code: String,
    pub severity: Severity,
    /// From one.
    pub line: u32,
    /// From one, in characters.
    pub column: u32,
    /// Such as `data.any.sharing`; empty for the whole file.
    pub path: String,
    pub message: String,
    pub mend: String,
}

/// All files of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Files {
    schema: u32,
    verdict: Verdict,
    #[serde(flatten)]
    tally: Tally,
    files: Vec<FileReport>,
    not_checked: Vec<NotChecked>,
}

impl Files {
    pub fn new(files: Vec<FileReport>, not_checked: Vec<NotChecked>) -> Self {
        let findings = files.iter().flat_map(|file| &file.findings);
        let tally = findings.map(|finding| finding.severity).collect();
        Self {
            schema: SCHEMA,
            verdict: Verdict::of(tally, not_checked.is_empty()),
            tally,
            files,
            not_checked,
        }
    }

    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// For a person: what each file means, then what is wrong with it, line by line.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for file in &self.files {
            out.push_str(&format!("{}\n", printable(&file.file)));
            push_table(&mut out, &profiles(&file.profiles));
            for finding in &file.findings {
                line(&mut out, &file.file, finding);
            }
            out.push('\n');
        }
        closing(&mut out, &self.not_checked, self.tally);
        out
    }
}

/// As compilers write it, so that editors find the place.
fn line(out: &mut String, file: &str, finding: &FileFinding) {
    let FileFinding {
        code,
        severity,
        line,
        column,
        path,
        message,
        mend,
    } = finding;
    let path = match path.as_str() {
        "" => String::new(),
        path => format!("{}: ", printable(path)),
    };
    let _ = writeln!(
        out,
        "{}:{line}:{column}: {} {}: {path}{}\n    mend: {}",
        printable(file),
        severity.label(),
        printable(code),
        printable(message),
        printable(mend),
    );
}

fn profiles(profiles: &[Profile]) -> Table {
    let mut table = Table::new();
    table.load_preset(RULED);
    table.set_header([
        "configmap",
        "key",
        "sharing",
        "resource",
        "replicas",
        "pods ask for",
        "at most one",
    ]);
    for profile in profiles {
        let text = |text: &Option<String>| match text {
            Some(text) => printable(text).into_owned(),
            None => "-".to_owned(),
        };
        let head = [
            text(&profile.config_map),
            text(&profile.key),
            profile.sharing.unwrap_or("refused").to_owned(),
        ];
        let one = match profile.fails_requests_greater_than_one {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        if profile.advertised.is_empty() {
            let rest = ["-", "-", "-", one].map(str::to_owned);
            table.add_row(head.iter().chain(&rest));
        }
        for resource in &profile.advertised {
            let rest = [
                printable(&resource.resource).into_owned(),
                resource.replicas.to_string(),
                printable(&resource.name).into_owned(),
                one.to_owned(),
            ];
            table.add_row(head.iter().chain(&rest));
        }
    }
    table
}

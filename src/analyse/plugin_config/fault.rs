//! Why a text is not read at all.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::tabs;
use super::yaml::MAX_NESTING;

/// Why a document is no tree.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) mend: &'static str,
}

impl Fault {
    /// The parser's fault in `text`.
    pub(super) fn scan(error: &ScanError, text: &str) -> Self {
        let at = error.marker().byte_offset().unwrap_or(0);
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => Self::deep(at),
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar => {
                let before = text.get(..at).unwrap_or_default();
                let line = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
                Self::tab(tabs::first(text, line..text.len(), &[]).unwrap_or(at))
            }
            _ => Self::not_yaml(at, &error.info()),
        }
    }

    pub(super) fn not_yaml(at: usize, why: &str) -> Self {
        Self {
            code: "not_yaml",
            at,
            message: format!("this is not YAML: {why}"),
            mend: "correct the text here or just above; every level is indented by spaces, a key ends with a colon and a space",
        }
    }

    pub(super) fn tab(at: usize) -> Self {
        Self {
            code: "tab_in_indentation",
            at,
            message: "a tab stands at the start of this line, where YAML takes spaces only".into(),
            mend: "write spaces in its place",
        }
    }

    pub(super) fn deep(at: usize) -> Self {
        Self::bomb(at, &format!("it nests more than {MAX_NESTING} deep"))
    }

    pub(super) fn bomb(at: usize, why: &str) -> Self {
        Self {
            code: "yaml_bomb",
            at,
            message: format!(
                "{why}; no configuration of the plugin is that large, so it is not read"
            ),
            mend: "write the values out, without anchors and aliases",
        }
    }
}

//! Why a web configuration file cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a web configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The file itself.
    #[error(
        "cannot read the web configuration file {path:?}; give --web.config.file the path of a YAML file that the agent may read"
    )]
    Read { path: PathBuf, source: io::Error },
    /// A certificate or key that it names.
    #[error(
        "cannot read {file:?}, which {key} in line {line} of the web configuration file {path:?} names; mount it there, and let the agent read it"
    )]
    Named {
        path: PathBuf,
        line: u64,
        key: &'static str,
        file: PathBuf,
        source: io::Error,
    },
    /// What stands in it, or in a file that it names.
    #[error("the web configuration file {path:?} is not valid in line {line}: {words}")]
    Invalid {
        path: PathBuf,
        line: u64,
        words: String,
    },
    /// A running agent does not open what it was started to protect: an edit that goes wrong halfway
    /// must not.
    #[error(
        "the web configuration file {path:?} no longer asks for {what}; restart the agent to serve without"
    )]
    Weaker { path: PathBuf, what: &'static str },
}

/// What is wrong in a line of the file, before it is known which file that is.
#[derive(Debug)]
pub(super) enum Fault {
    Invalid {
        line: u64,
        words: String,
    },
    Named {
        line: u64,
        key: &'static str,
        file: PathBuf,
        source: io::Error,
    },
}

impl Fault {
    pub(super) fn invalid(line: u64, words: impl Into<String>) -> Self {
        Self::Invalid {
            line,
            words: words.into(),
        }
    }

    pub(super) fn within(self, path: PathBuf) -> WebError {
        match self {
            Self::Invalid { line, words } => WebError::Invalid { path, line, words },
            Self::Named {
                line,
                key,
                file,
                source,
            } => WebError::Named {
                path,
                line,
                key,
                file,
                source,
            },
        }
    }
}

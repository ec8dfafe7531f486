//! `slicewatch check` as a process: files offline, and clusters made of a fake API server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod files;

use std::process::{Command, Output};

use serde_json::Value;

use crate::agent::{BINARY, output};

/// What a check said.
struct Said {
    status: Option<i32>,
    out: String,
    error: String,
}

impl Said {
    fn of(ended: Output) -> Self {
        let said = Self {
            status: ended.status.code(),
            out: String::from_utf8(ended.stdout).unwrap(),
            error: String::from_utf8(ended.stderr).unwrap(),
        };
        assert!(!said.error.contains("panicked"), "{}", said.error);
        said
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| {
            panic!("{error} in {:?}, beside {:?}", self.out, self.error);
        })
    }
}

/// A check in an empty environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().arg("check").args(arguments);
    command
}

fn check(arguments: &[&str]) -> Said {
    Said::of(output(&mut command(arguments)))
}

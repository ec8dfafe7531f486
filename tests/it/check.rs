//! `slicewatch check` as a process: files offline, and clusters made of a fake API server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod cluster;
mod files;
mod functional;
#[path = "../fakes/gpu_cluster.rs"]
mod gpu_cluster;
mod progress;
mod reading;
mod watch;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use slicewatch::collect::cluster::Access;
use slicewatch::collect::setup::SetupSettings;
use tempfile::TempDir;

use crate::agent::{BINARY, output};
use crate::cluster::fake::{FakeApi, Fault, ObjectFault};
use crate::cluster::objects::{self, Objects};

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

/// A fake API server and a kubeconfig for it.
struct Cluster {
    api: FakeApi,
    folder: TempDir,
}

impl Cluster {
    fn of(objects: Objects) -> Self {
        let api = FakeApi::start();
        api.set_objects(objects);
        Self {
            api,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.api.kubeconfig(self.folder.path())
    }

    fn settings(&self) -> SetupSettings {
        SetupSettings {
            timeout: Duration::from_secs(10),
            ..SetupSettings::new(Access::Kubeconfig(self.kubeconfig()))
        }
    }

    /// Fails so many requests of a kind, after some that do not.
    fn fault(&self, path: &'static str, after: usize, times: usize, fault: Fault) {
        self.api.script().object_faults.push(ObjectFault {
            path,
            after,
            times,
            fault,
        });
    }
}

//! A scripted `libcuda.so.1`.
//!
//! As a cdylib it exports the calls of CUDA's driver library that the latency canary makes. A
//! GPU is a process of its own, which shares memory with the launching one and goes on while that is
//! stopped, as a real GPU does: it starts kernels one after the other, each after the script's
//! delay. As an rlib the crate gives tests the script's type and [`Fake`], a copy of the library
//! with its script beside it, read again for every kernel.

mod exports;
mod gpu;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What the fake does.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    /// A call that answers this code.
    pub fails: Option<(String, i32)>,
    /// A call that never returns.
    pub hangs: Option<String>,
    /// From launch to start, in microseconds; launches take them in turn. Empty: 10.
    pub delays: Vec<u64>,
    /// Kernels wait, and start when this is no longer so.
    pub stalled: bool,
    /// The process dies at the next launch.
    pub dies: bool,
    /// The GPU's clock minus CLOCK_REALTIME, in nanoseconds.
    pub clock_offset: i64,
    /// How fast it runs away, in nanoseconds a second.
    pub clock_drift: f64,
}

/// One copy of the library.
#[derive(Debug)]
pub struct Fake {
    path: PathBuf,
}

impl Fake {
    /// A copy in this folder that lacks these calls.
    pub fn in_folder(folder: &Path, without: &[&str], script: &Script) -> Self {
        let mut bytes = fs::read(built()).expect("cargo has built the fake's cdylib");
        for name in without {
            // Both in the table of names and nowhere else: a name with its zeros around it.
            let wanted: Vec<u8> = [b"\0", name.as_bytes(), b"\0"].concat();
            let mut hits = 0;
            for at in 0..bytes.len() - wanted.len() {
                if bytes[at..].starts_with(&wanted) {
                    bytes[at + 1] = b'x';
                    hits += 1;
                }
            }
            assert!(hits > 0, "the fake has no {name}");
        }
        let path = folder.join("libcuda.so.1");
        fs::write(&path, bytes).expect("the folder is the test's own");
        let fake = Self { path };
        fake.set(script);
        fake
    }

    /// What `--cuda-library` is to name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does this from the next launch on.
    pub fn set(&self, script: &Script) {
        let fresh = self.path.with_extension("new");
        let json = serde_json::to_vec(script).expect("plain data");
        fs::write(&fresh, json).expect("the folder is the test's own");
        fs::rename(&fresh, script_of(&self.path)).expect("the folder is the test's own");
    }
}

/// The script beside a copy.
fn script_of(library: &Path) -> PathBuf {
    library.with_extension("json")
}

/// The cdylib, which cargo builds with the rlib: beside the test, or one folder up.
fn built() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let folders = test.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join("libfake_cuda.so"))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no libfake_cuda.so near {}", test.display()))
}

//! The acceptance run on a real GPU, a test a check: `tests/gpu/accept.py` does the work.
//!
//! ```console
//! $ cargo build --release --workspace
//! $ cargo test --release --features gpu-tests --test gpu -- --test-threads=1
//! ```

#![expect(clippy::expect_used, reason = "a test that cannot run has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A binary of the workspace, of the same profile as this test.
fn binary(name: &str) -> PathBuf {
    let agent = Path::new(env!("CARGO_BIN_EXE_slicewatch"));
    let path = agent.with_file_name(name);
    assert!(
        path.exists(),
        "{} is not there: build it with cargo build --workspace in the same profile",
        path.display()
    );
    path
}

fn check(name: &str) {
    let out = tempfile::tempdir().expect("a folder");
    let status = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu/accept.py"))
        .arg("--agent")
        .arg(binary("slicewatch"))
        .arg("--tenant")
        .arg(binary("slicewatch-tenant"))
        .arg("--overhead")
        .arg(binary("slicewatch-overhead"))
        .arg("--out")
        .arg(out.path())
        .args(["--only", name])
        .status()
        .expect("python3 runs");
    assert!(
        status.success(),
        "{name}: {status}; the limits broken are printed above"
    );
}

macro_rules! checks {
    ($($name:ident)*) => {$(
        #[test]
        #[cfg_attr(not(feature = "gpu-tests"), ignore = "needs a real GPU: --features gpu-tests")]
        fn $name() {
            check(&stringify!($name).replace('_', "-"));
        }
    )*};
}

checks! {
    share memory peak killed drain overhead
    canary_cost canary_memory canary_blame canary_faults canary_share
}

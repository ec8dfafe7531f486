//! The host readers against captured trees and against files that fail.
//!
//! Tests run as root, whom no mode bits stop: refusals come from a double.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod names;
mod processes;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use slicewatch::collect::host::{INITIAL_PID_NAMESPACE, RealFiles, prove_pid_namespace};
use slicewatch::model::{Cause, HostFiles, Reading};

const UID_A: &str = "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11";
const UID_B: &str = "77d7f3a0-9c41-4b0e-8f52-0d8c6b1e2a34";
const ID_A: &str = "3fb5a1c77d6f6ce2b1a0c1b8d3d7a9f0112233445566778899aabbccddeeff00";
const ID_B: &str = "a94c1e0b5d7f2e8896b3c5d41f0a7e6299aabbccddeeff00112233445566778e";

fn captured(tree: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/host")
        .join(tree)
}

/// What a path gives.
#[derive(Clone)]
enum Entry {
    Text(Vec<u8>),
    Folder(Vec<String>),
    /// An operating system's error number.
    Refused(i32),
}

/// Files that a test changes as it goes, with every read noted.
#[derive(Default)]
struct ScriptedFiles {
    entries: Mutex<HashMap<String, Entry>>,
    reads: Mutex<Vec<String>>,
    /// Put in place once that path was read.
    after: Mutex<HashMap<String, (String, Entry)>>,
}

impl ScriptedFiles {
    fn put(&self, path: &str, entry: Entry) {
        self.entries.lock().unwrap().insert(path.to_owned(), entry);
    }

    fn text(&self, path: &str, text: &str) {
        self.put(path, Entry::Text(text.as_bytes().to_vec()));
    }

    fn folder(&self, path: &str, names: impl IntoIterator<Item = String>) {
        self.put(path, Entry::Folder(names.into_iter().collect()));
    }

    fn remove(&self, path: &str) {
        self.entries.lock().unwrap().remove(path);
    }

    /// Once `read` was read, `path` is `entry`.
    fn afterwards(&self, read: &str, path: &str, entry: Entry) {
        let change = (path.to_owned(), entry);
        self.after.lock().unwrap().insert(read.to_owned(), change);
    }

    /// The paths read since the last call.
    fn reads(&self) -> Vec<String> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    fn entry(&self, path: &str) -> io::Result<Entry> {
        self.reads.lock().unwrap().push(path.to_owned());
        let entry = self.entries.lock().unwrap().get(path).cloned();
        if let Some((path, entry)) = self.after.lock().unwrap().remove(path) {
            self.put(&path, entry);
        }
        match entry {
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Some(Entry::Refused(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(entry) => Ok(entry),
        }
    }
}

impl HostFiles for ScriptedFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match self.entry(path)? {
            Entry::Text(text) => Ok(text),
            Entry::Folder(_) | Entry::Refused(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path)?).into_owned())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        match self.entry(path)? {
            Entry::Folder(names) => Ok(names),
            Entry::Text(_) | Entry::Refused(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}

#[test]
fn the_pid_namespace_is_proven_by_its_number_alone() {
    let files = ScriptedFiles::default();
    let link = "/host/proc/self/ns/pid";
    let proof = || prove_pid_namespace(&files, "/host/proc");
    assert_eq!(proof(), Reading::Failed(Cause::NotFound));
    for (text, expected) in [
        (INITIAL_PID_NAMESPACE, Reading::Value(())),
        ("pid:[4026532301]", Reading::Failed(Cause::PidNamespace)),
        ("pid:[40265318360]", Reading::Failed(Cause::PidNamespace)),
        ("", Reading::Failed(Cause::PidNamespace)),
    ] {
        files.text(link, text);
        assert_eq!(proof(), expected, "{text}");
    }
    files.put(link, Entry::Refused(libc::EACCES));
    assert_eq!(proof(), Reading::Failed(Cause::PermissionDenied));
}

#[test]
fn this_machines_own_proc_can_be_read() {
    let files = Arc::new(RealFiles::default());
    let told = prove_pid_namespace(&*files, "/proc");
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let is_host = link.to_str() == Some(INITIAL_PID_NAMESPACE);
    assert_eq!(told.value().is_some(), is_host);
    // What the table says of this test agrees with what the kernel told the test itself.
    let mut table =
        slicewatch::collect::host::ProcessTable::with_namespace(files, "/proc", Reading::Value(()));
    let pid = slicewatch::model::HostPid(std::process::id());
    let Reading::Value(facts) = table.look_up(pid) else {
        panic!("this test's own process is not found");
    };
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(&*facts.name, comm.trim_end());
    assert_eq!(table.look_up(pid), Reading::Value(facts));
}

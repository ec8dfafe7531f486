//! A test's own copy of the fake, and the strings to pull.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::{env, fs};

use libloading::{Library, Symbol};

use crate::script::Script;

/// The environment variable that names the file of a script, for a copy loaded by another process.
/// The copy reads it again when it is replaced.
pub const SCRIPT_FILE: &str = "FAKE_NVML_SCRIPT";

/// Puts a script where a copy in another process reads it. Never half of it: by renaming.
pub fn write(file: &Path, script: &Script) {
    let json = serde_json::to_vec(script).expect("plain data");
    let fresh = file.with_extension("new");
    fs::write(&fresh, json).expect("the folder is the test's own");
    fs::rename(&fresh, file).expect("the folder is the test's own");
}

/// One copy, loaded. Copies share nothing.
pub struct Fake {
    path: PathBuf,
    library: Library,
}

impl Fake {
    /// A fresh copy in this folder, with every symbol.
    pub fn in_folder(folder: &Path) -> Self {
        Self::without(folder, &[])
    }

    /// A fresh copy in this folder that lacks these symbols, as older drivers do.
    pub fn without(folder: &Path, symbols: &[&str]) -> Self {
        let path = Self::copy(folder, symbols);
        // SAFETY: our own library, without initialisers.
        let library = unsafe { Library::new(&path) }.expect("the copy loads");
        Self { path, library }
    }

    /// The copy alone, not loaded.
    pub fn copy(folder: &Path, symbols: &[&str]) -> PathBuf {
        let mut bytes = fs::read(built()).expect("cargo has built the fake's cdylib");
        for symbol in symbols {
            // Another name of the same length in the string table: looked up, it is not there.
            let name = format!("\0{symbol}\0").into_bytes();
            let mut found = 0;
            for at in 0..bytes.len().saturating_sub(name.len()) {
                if bytes[at..].starts_with(&name) {
                    bytes[at + name.len() - 2] = b'#';
                    found += 1;
                }
            }
            assert!(found > 0, "the fake exports no {symbol}");
        }
        let path = folder.join("libnvidia-ml.so.1");
        fs::write(&path, bytes).expect("the folder is the test's own");
        path
    }

    /// What `--nvml-library` is to name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shows this from now on.
    pub fn set(&self, script: &Script) {
        let json = serde_json::to_string(script).expect("plain data");
        let json = CString::new(json).expect("JSON has no NUL");
        // SAFETY: its signature.
        let code = unsafe {
            let set: Symbol<'_, unsafe extern "C" fn(*const c_char) -> u32> =
                self.library.get(b"fake_nvml_set").expect("exported");
            set(json.as_ptr())
        };
        assert_eq!(code, 0, "the fake did not understand its script");
    }

    /// How often this symbol was called.
    pub fn calls(&self, name: &str) -> u64 {
        let name = CString::new(name).expect("a symbol has no NUL");
        // SAFETY: its signature.
        unsafe {
            let calls: Symbol<'_, unsafe extern "C" fn(*const c_char) -> u64> =
                self.library.get(b"fake_nvml_calls").expect("exported");
            calls(name.as_ptr())
        }
    }

    /// How often NVML is initialised and not shut down.
    pub fn opened(&self) -> u64 {
        // SAFETY: its signature.
        unsafe {
            let opened: Symbol<'_, unsafe extern "C" fn() -> u64> =
                self.library.get(b"fake_nvml_opened").expect("exported");
            opened()
        }
    }
}

/// The cdylib, which cargo builds with the rlib: beside the test, or one folder up.
fn built() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let folders = test.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join("libfake_nvml.so"))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no libfake_nvml.so near {}", test.display()))
}

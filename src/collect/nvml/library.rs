//! Finding the driver's library.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nvml_wrapper::error::NvmlError;

use super::raw::{Session, meaning};
use crate::model::{Cause, GpuError};

/// What the loader knows it as.
pub const NAME: &str = "libnvidia-ml.so.1";

/// Where drivers, container toolkits, the GPU operator and GKE put the driver's libraries.
pub(in crate::collect) const ROOTS: [&str; 13] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/nvidia/lib64",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "/run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    "/run/nvidia/driver/usr/lib64",
    "/home/kubernetes/bin/nvidia/lib64",
    "/driver-root/usr/lib/x86_64-linux-gnu",
    "/driver-root/usr/lib/aarch64-linux-gnu",
    "/driver-root/usr/lib64",
    "/driver-root/home/kubernetes/bin/nvidia/lib64",
    "/driver-root/opt/nvidia/lib64",
];

/// Why there is no driver to talk to.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Nowhere on this node, or not mounted into the container.
    #[error(
        "no NVIDIA driver library {NAME} in the loader's paths nor in {tried}: run with the runtime \
         class `nvidia`, or mount the driver's folder and name the file with --nvml-library"
    )]
    NotFound {
        /// The folders looked into.
        tried: String,
    },
    /// The file is there, or was named, and cannot be loaded.
    #[error("cannot load {path}: {source}: --nvml-library must name the driver's {NAME}")]
    Load {
        /// The file.
        path: PathBuf,
        /// The loader's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not NVML, or far too old.
    #[error(
        "{path} has no symbol {symbol}: it is not NVIDIA's {NAME}, or far too old; name \
         another with --nvml-library or upgrade the driver"
    )]
    MissingSymbol {
        /// The file.
        path: PathBuf,
        /// The first that is missing.
        symbol: String,
    },
    /// The library is there, the driver is not.
    #[error("{path} does not initialise (NVML error {code}): {mend}")]
    Init {
        /// The file.
        path: PathBuf,
        /// NVML's return code.
        code: u32,
        /// What it means and what to do.
        mend: &'static str,
    },
}

impl LibraryError {
    /// The reason for readings and health series.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NotFound { .. } => Cause::NotFound,
            Self::Load { path, .. } if !path.exists() => Cause::NotFound,
            Self::Load { .. } | Self::MissingSymbol { .. } => Cause::Malformed,
            Self::Init { code, .. } => meaning(*code).err().map_or(Cause::Other, GpuError::cause),
        }
    }
}

/// Opens the library named, or the first of the usual ones that initialises.
///
/// # Errors
/// [`LibraryError`]: of the file named, else of the first library that exists, else
/// [`LibraryError::NotFound`].
pub fn open(named: Option<&Path>) -> Result<Arc<Session>, LibraryError> {
    match named {
        Some(path) => open_one(path),
        None => open_first(Path::new(NAME), &ROOTS),
    }
}

fn open_first(default: &Path, roots: &[&str]) -> Result<Arc<Session>, LibraryError> {
    // The loader's error for a name that it does not find is not worth telling.
    let mut first = match open_one(default) {
        Ok(session) => return Ok(session),
        Err(LibraryError::Load { .. }) => None,
        Err(error) => Some(error),
    };
    for root in roots {
        let path = Path::new(root).join(NAME);
        if !path.exists() {
            continue;
        }
        match open_one(&path) {
            Ok(session) => return Ok(session),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| {
        let mut tried = String::new();
        for (i, root) in roots.iter().enumerate() {
            let _ = write!(tried, "{}{root}", if i == 0 { "" } else { ", " });
        }
        LibraryError::NotFound { tried }
    }))
}

fn open_one(path: &Path) -> Result<Arc<Session>, LibraryError> {
    let path = path.to_owned();
    match Session::open(&path) {
        Ok(session) => Ok(Arc::new(session)),
        Err(NvmlError::LibloadingError(source)) => Err(LibraryError::Load {
            path,
            source: source.into(),
        }),
        Err(NvmlError::FailedToLoadSymbol(symbol)) => {
            Err(LibraryError::MissingSymbol { path, symbol })
        }
        Err(error) => {
            let code = u32::from(error);
            Err(LibraryError::Init {
                path,
                code,
                mend: init_mend(code),
            })
        }
    }
}

const fn init_mend(code: u32) -> &'static str {
    match code {
        4 => "permission denied on the NVIDIA devices: let the container use /dev/nvidiactl",
        9 => {
            "the kernel driver is not loaded, or its devices are not in the container: load it, or \
             run with the runtime class `nvidia`"
        }
        15 => "a GPU is lost: reset it or reboot the node",
        18 => {
            "library and kernel driver have different versions, after an upgrade: restart the pod \
             so that it mounts the new library, or reload the driver"
        }
        _ => "look into the kernel log for NVRM lines",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_names_the_folders_and_the_mend() {
        let error = open_first(
            Path::new("libnot-there.so.1"),
            &["/nowhere/a", "/nowhere/b"],
        )
        .expect_err("there is no such library");
        assert_eq!(error.cause(), Cause::NotFound);
        let text = error.to_string();
        assert!(text.contains("/nowhere/a, /nowhere/b"), "{text}");
        assert!(text.contains("runtime class `nvidia`"), "{text}");
        assert!(text.contains("--nvml-library"), "{text}");
    }

    #[test]
    fn a_file_of_another_kind_is_named_even_where_the_search_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(NAME), "no library").expect("written");
        let root = folder.path().to_str().expect("a plain path");
        let error = open_first(Path::new("libnot-there.so.1"), &[root, "/nowhere"])
            .expect_err("it is no library");
        assert_eq!(error.cause(), Cause::Malformed);
        assert!(error.to_string().contains(root), "{error}");
    }

    #[test]
    fn init_codes_have_causes() {
        let of = |code| {
            LibraryError::Init {
                path: PathBuf::new(),
                code,
                mend: init_mend(code),
            }
            .cause()
        };
        assert_eq!(of(4), Cause::PermissionDenied);
        assert_eq!(of(9), Cause::DriverNotLoaded);
        assert_eq!(of(15), Cause::GpuLost);
        assert_eq!(of(18), Cause::DriverNotLoaded);
        assert_eq!(of(999), Cause::Other);
    }
}

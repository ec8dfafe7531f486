//! The host's real files, below a root.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::model::HostFiles;

/// Most bytes of a file that are read. The largest file read here, `/proc/PID/cgroup` of a
/// cgroup v1 host, has about 2 KiB.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// Most names of a folder that are listed. A node of 500 pods has some thousand log files.
pub const MAX_NAMES: usize = 65_536;

/// Enough for `/proc/PID/stat` and for most cgroup files, so that one read and one allocation
/// of the right size do.
const FIRST_READ: usize = 4096;

/// The files of this host, or of a host whose root is mounted somewhere.
#[derive(Debug, Clone)]
pub struct RealFiles {
    root: PathBuf,
}

impl RealFiles {
    /// The files below `root`; `/` where the agent sees the host's own.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn real_path<'path>(&self, path: &'path str) -> Cow<'path, Path> {
        if self.root == Path::new("/") {
            return Cow::Borrowed(Path::new(path));
        }
        Cow::Owned(self.root.join(path.trim_start_matches('/')))
    }
}

impl Default for RealFiles {
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostFiles for RealFiles {
    /// A file of over [`MAX_FILE_BYTES`] is refused whole: half a file could name another pod.
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.real_path(path))?;
        let mut first = [0; FIRST_READ];
        let mut length = 0;
        while length < FIRST_READ {
            match file.read(&mut first[length..]) {
                Ok(0) => return Ok(first[..length].to_vec()),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut whole = first.to_vec();
        let left = (MAX_FILE_BYTES + 1 - FIRST_READ) as u64;
        file.take(left).read_to_end(&mut whole)?;
        if whole.len() > MAX_FILE_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{path} has over {MAX_FILE_BYTES} bytes"),
            ));
        }
        Ok(whole)
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        let target = fs::read_link(self.real_path(path))?;
        target.into_os_string().into_string().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the target of {path} is not UTF-8"),
            )
        })
    }

    /// A folder of over [`MAX_NAMES`] names is refused.
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for (seen, entry) in fs::read_dir(self.real_path(path))?.enumerate() {
            if seen == MAX_NAMES {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("{path} has over {MAX_NAMES} names"),
                ));
            }
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/x"), "text").unwrap();
        std::os::unix::fs::symlink("pid:[1]", root.path().join("proc/link")).unwrap();
        let files = RealFiles::new(root.path());
        assert_eq!(files.read("/proc/x").unwrap(), b"text");
        assert_eq!(files.read_link("/proc/link").unwrap(), "pid:[1]");
        let mut names = files.list("/proc").unwrap();
        names.sort();
        assert_eq!(names, ["link", "x"]);
        assert_eq!(
            files.read("/proc/none").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn files_of_every_size_up_to_the_bound_are_whole_and_larger_ones_refused() {
        let root = tempfile::tempdir().unwrap();
        let files = RealFiles::new(root.path());
        for size in [0, 1, 4095, 4096, 4097, MAX_FILE_BYTES] {
            fs::write(root.path().join("f"), vec![b'x'; size]).unwrap();
            assert_eq!(files.read("/f").unwrap().len(), size);
        }
        fs::write(root.path().join("f"), vec![b'x'; MAX_FILE_BYTES + 1]).unwrap();
        let error = files.read("/f").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("/f"));
    }

    #[test]
    fn names_that_are_not_text_are_left_out() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("good"), "").unwrap();
        let bad = std::ffi::OsStr::from_bytes(b"bad\xff");
        fs::write(root.path().join(bad), "").unwrap();
        assert_eq!(RealFiles::new(root.path()).list("/").unwrap(), ["good"]);
    }
}

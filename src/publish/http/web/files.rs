//! The files of a web configuration, and whether they have changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No certificate and no list of users is longer.
const MAX_BYTES: u64 = 1 << 20;

/// What tells two states of a file apart. It is taken through links: in a mounted Secret the file is
/// one, and stays while what it leads to is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The files that were read, as they were just before.
#[derive(Debug, Default)]
pub(super) struct Files {
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

impl Files {
    /// Reads a file, and remembers it whether it can be read or not.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let metadata = fs::metadata(path);
        let stamp = metadata.as_ref().ok().map(Stamp::of);
        self.seen.push((path.to_owned(), stamp));
        if !metadata?.is_file() {
            // A pipe would be waited for.
            return Err(io::Error::other("not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other("longer than 1 MiB"));
        }
        Ok(bytes)
    }

    /// Whether one of them is no longer as it was.
    pub(super) fn changed(&self) -> bool {
        self.seen.iter().any(|(path, before)| {
            let now = fs::metadata(path).ok();
            now.as_ref().map(Stamp::of) != *before
        })
    }
}

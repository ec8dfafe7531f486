//! What each request took, one by one, in a file: 24 bytes a request.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the host's `CLOCK_MONOTONIC`, which other processes read as well.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Never negative on this clock.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// One request. Host times are by [`monotonic_nanos`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Before the first launch.
    pub(crate) asked: u64,
    /// After the wait for the last kernel.
    pub(crate) done: u64,
    /// When the first kernel began, by the GPU's own clock.
    pub(crate) started_gpu: u64,
}

impl Request {
    /// From the first launch to the end of the wait.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_nanos(self.done.saturating_sub(self.asked))
    }

    /// Three little-endian words, in the order of the fields.
    fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (place, word) in
            bytes
                .chunks_exact_mut(8)
                .zip([self.asked, self.done, self.started_gpu])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The file of all requests. It is never more than a second behind while requests come, so that a
/// tenant that is killed leaves what it had.
pub(crate) struct Record {
    file: BufWriter<File>,
    flushed: u64,
}

impl Record {
    /// Opens the file anew.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create(path)?),
            flushed: 0,
        })
    }

    /// Adds one.
    pub(crate) fn add(&mut self, request: &Request) -> io::Result<()> {
        const SECOND: u64 = 1_000_000_000;
        self.file.write_all(&request.bytes())?;
        if request.done.saturating_sub(self.flushed) >= SECOND {
            self.flushed = request.done;
            self.file.flush()?;
        }
        Ok(())
    }

    /// Writes out what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_three_little_endian_words() {
        let request = Request {
            asked: 1,
            done: 258,
            started_gpu: 3,
        };
        let bytes = request.bytes();
        assert_eq!(bytes[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16], 3);
        assert_eq!(request.took(), Duration::from_nanos(257));
    }

    #[test]
    fn all_requests_are_in_the_file_in_the_end() {
        let folder = std::env::temp_dir().join(format!("slicewatch-record-{}", std::process::id()));
        let mut record = Record::create(&folder).unwrap();
        for asked in 0..1000 {
            let request = Request {
                asked,
                done: asked + 5,
                started_gpu: 0,
            };
            record.add(&request).unwrap();
        }
        record.finish().unwrap();
        let bytes = std::fs::read(&folder).unwrap();
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(bytes.len(), 24_000);
        assert_eq!(bytes[999 * 24..][..2], [0xe7, 0x03]);
    }

    #[test]
    fn the_clock_moves_on() {
        let before = monotonic_nanos();
        std::thread::sleep(Duration::from_millis(2));
        assert!(monotonic_nanos() >= before + 2_000_000);
    }
}

//! Each probe as a line of a file, for studies: the card, when it was launched (CLOCK_MONOTONIC),
//! its delay, and whether it started; seconds, tab-separated.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::pace::Timed;
use super::worker;
use crate::model::GpuUuid;

#[derive(Debug)]
pub(super) struct Trace {
    file: File,
}

impl Trace {
    /// Appends to a file; tells why where it cannot be.
    pub(super) fn open(path: &Path) -> Option<Self> {
        match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Some(Self { file }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the canary's trace cannot be written");
                None
            }
        }
    }

    pub(super) fn write(&mut self, gpu: &GpuUuid, probes: &[Timed]) {
        if probes.is_empty() {
            return;
        }
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9;
        let raw = worker::now();
        let mut lines = String::new();
        for probe in probes {
            let age = raw.saturating_sub(probe.launched) as f64 * 1e-9;
            lines.push_str(&format!(
                "{gpu}\t{:.9}\t{:.9}\t{}\n",
                now - age,
                probe.delay.as_secs_f64(),
                u8::from(probe.started)
            ));
        }
        // A study that misses lines sees that by their number.
        let _ = self.file.write_all(lines.as_bytes());
    }
}

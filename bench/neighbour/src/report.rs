//! What a tenant says: one JSON object a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Seconds since 1970 by the wall clock.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// Context, kernel and held memory are there; the load has not begun.
    Ready {
        pid: u32,
        unix: f64,
        gpu_uuid: &'a str,
        model: &'a str,
        held_bytes: u64,
    },
    /// `--calibrate`: how fast this card is, alone.
    Calibration {
        pid: u32,
        unix: f64,
        gpu_uuid: &'a str,
        model: &'a str,
        iterations_per_ms: f64,
        iterations: u32,
        kernels: usize,
        /// Spread of the kernels' times: wide means the card was not alone.
        kernel_ms_p10: f64,
        kernel_ms_p50: f64,
        kernel_ms_p90: f64,
    },
    /// Cumulative figures under way.
    Interim(Totals),
    /// Cumulative figures at the end.
    Final(Totals),
    /// Device memory was taken (positive) or given back (negative), just now.
    Memory {
        pid: u32,
        unix: f64,
        reason: &'static str,
        change_bytes: i64,
    },
    /// A step of a growing tenant did not fit; it is tried again.
    Refused {
        pid: u32,
        unix: f64,
        reason: &'static str,
        /// Of the step: those before it were taken.
        number: u64,
        requested_bytes: u64,
        /// What its steps hold by now.
        held_bytes: u64,
    },
    /// The illegal access that was asked for was made.
    Fault {
        pid: u32,
        /// When it was launched.
        unix: f64,
        /// Until the driver told.
        seconds: f64,
        error: &'a str,
    },
    /// Why the tenant ends before its time.
    Error {
        pid: u32,
        unix: f64,
        error: &'static str,
        requested_bytes: u64,
    },
}

/// What was done since the load began.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Totals {
    pub(crate) pid: u32,
    pub(crate) unix: f64,
    pub(crate) started_unix: f64,
    pub(crate) elapsed_seconds: f64,
    pub(crate) requests: u64,
    pub(crate) kernels: u64,
    /// Kernels times the length of one alone: the GPU time that this tenant used.
    pub(crate) busy_seconds: f64,
    /// Absent until a request has ended.
    pub(crate) latency_ms: Option<Latency>,
}

/// From a request's first launch to its last kernel's end, as the host sees it, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    /// From a histogram of microseconds; `None` where it is empty.
    pub(crate) fn of(microseconds: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
        (!microseconds.is_empty()).then(|| Self {
            mean: microseconds.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: microseconds.max() as f64 / 1000.0,
        })
    }
}

/// Where the lines go; shared between the threads.
pub(crate) struct Reporter(Mutex<Box<dyn Write + Send>>);

impl Reporter {
    /// Opens the file anew, or the standard output for `-`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path)?)
        };
        Ok(Self(Mutex::new(sink)))
    }

    /// Writes one whole line at once, so that a reader never sees halves for long.
    pub(crate) fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sink.write_all(&text)?;
        sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_its_kind_beside_its_fields() {
        let line = Line::Memory {
            pid: 7,
            unix: 1.5,
            reason: "peak",
            change_bytes: -8,
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"memory","pid":7,"unix":1.5,"reason":"peak","change_bytes":-8}"#
        );
    }

    #[test]
    fn totals_lie_flat_beside_the_kind() {
        let line = Line::Final(Totals {
            pid: 7,
            unix: 2.0,
            started_unix: 1.0,
            elapsed_seconds: 1.0,
            requests: 0,
            kernels: 0,
            busy_seconds: 0.0,
            latency_ms: None,
        });
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.starts_with(r#"{"kind":"final","pid":7,"#), "{text}");
        assert!(text.ends_with(r#""latency_ms":null}"#), "{text}");
    }

    #[test]
    fn latency_is_absent_before_the_first_request_and_in_milliseconds_after() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
        assert!(Latency::of(&histogram).is_none());
        histogram.saturating_record(8_000);
        let latency = Latency::of(&histogram).unwrap();
        assert!((latency.p50 - 8.0).abs() < 0.02, "{latency:?}");
        assert!((latency.mean - 8.0).abs() < 0.02, "{latency:?}");
    }
}

//! The snapshot as Prometheus metrics: one table, one pass, three encodings.

pub mod document;
mod families;
mod openmetrics;
mod process;
mod protobuf;
pub mod table;
mod text;

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::model::Snapshot;

pub use process::ProcessStats;
pub use table::{Kind, Metric, Scope, Stability, TABLE, Unit};

/// A form in which Prometheus reads metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4: what everything understands.
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily` messages, each after its length.
    Protobuf,
}

impl Format {
    /// The `Content-Type` of a body in this form.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Writes every metric of `snapshot`, and of the agent's own process, in `format`.
pub fn encode(snapshot: &Arc<Snapshot>, process: &ProcessStats, format: Format) -> Vec<u8> {
    match format {
        Format::Text => text::encode(snapshot, process).into_bytes(),
        Format::OpenMetrics => openmetrics::encode(snapshot, process).into_bytes(),
        Format::Protobuf => protobuf::encode(snapshot, process),
    }
}

/// About what a body comes to, so that it is not copied as it grows: some 2.7 KiB a container.
fn expected_bytes(snapshot: &Snapshot) -> usize {
    let containers: usize = snapshot.gpus.iter().map(|gpu| gpu.containers.len()).sum();
    (16 << 10) + (12 << 10) * snapshot.gpus.len() + (11 << 8) * containers
}

/// `body` as gzip, at the level that costs least: metrics shrink twentyfold even so.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    // Writing to a Vec gives no error; if it did, an empty body would be refused by its reader.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

//! Prometheus protobuf: `io.prometheus.client.MetricFamily` messages, each after its length.
//! Written field by field from borrowed text, as owned messages would copy every label of every
//! series. Field numbers are those of `metrics.proto`; a test reads the bytes back with prost.

use std::convert::Infallible;

use prost::encoding::{encode_varint, encoded_len_varint};

use crate::model::Snapshot;

use super::ProcessStats;
use super::families::{self, Family, Label, Labels, Number};
use super::table::Kind;

/// A key of a length-delimited field.
const fn bytes_key(field: u8) -> u8 {
    field << 3 | 2
}

mod field {
    //! Numbers in `metrics.proto`.
    pub(super) const FAMILY_NAME: u8 = 1;
    pub(super) const FAMILY_HELP: u8 = 2;
    pub(super) const FAMILY_TYPE: u8 = 3;
    pub(super) const FAMILY_METRIC: u8 = 4;
    pub(super) const FAMILY_UNIT: u8 = 5;
    pub(super) const METRIC_LABEL: u8 = 1;
    pub(super) const METRIC_GAUGE: u8 = 2;
    pub(super) const METRIC_COUNTER: u8 = 3;
    pub(super) const LABEL_NAME: u8 = 1;
    pub(super) const LABEL_VALUE: u8 = 2;
    /// Of Gauge and of Counter.
    pub(super) const VALUE: u8 = 1;
}

/// Writes every family into one buffer.
pub(super) fn encode(snapshot: &Snapshot, process: &ProcessStats) -> Vec<u8> {
    let mut out = Vec::with_capacity(super::expected_bytes(snapshot));
    let mut scratch = Scratch::default();
    let done: Result<(), Infallible> = families::each(snapshot, process, |family| {
        scratch.family.clear();
        write_family(family, &mut scratch);
        encode_varint(scratch.family.len() as u64, &mut out);
        out.extend_from_slice(&scratch.family);
        Ok(())
    });
    match done {
        Ok(()) => out,
        Err(never) => match never {},
    }
}

/// Buffers whose lengths must be known before they are written.
#[derive(Default)]
struct Scratch {
    family: Vec<u8>,
    metric: Vec<u8>,
}

fn write_family(family: &Family<'_>, scratch: &mut Scratch) {
    let metric = family.metric;
    let out = &mut scratch.family;
    text(out, field::FAMILY_NAME, metric.name.as_bytes());
    text(out, field::FAMILY_HELP, metric.help.as_bytes());
    out.push(field::FAMILY_TYPE << 3);
    out.push(match metric.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
    });
    for (labels, value) in family.samples() {
        scratch.metric.clear();
        write_metric(&mut scratch.metric, metric.kind, labels, value);
        text(&mut scratch.family, field::FAMILY_METRIC, &scratch.metric);
    }
    if !metric.unit.label().is_empty() {
        let unit = metric.unit.label().as_bytes();
        text(&mut scratch.family, field::FAMILY_UNIT, unit);
    }
}

fn write_metric(out: &mut Vec<u8>, kind: Kind, labels: Labels<'_, '_>, value: Number) {
    for (name, value) in labels.pairs() {
        match value {
            Label::Text(value) => label(out, name, value.as_bytes()),
            Label::Number(number) => label(out, name, number.to_string().as_bytes()),
        }
    }
    let holder = match kind {
        Kind::Gauge => field::METRIC_GAUGE,
        Kind::Counter => field::METRIC_COUNTER,
    };
    // A message with one fixed 64-bit field: its key and eight bytes.
    out.extend_from_slice(&[bytes_key(holder), 9, field::VALUE << 3 | 1]);
    out.extend_from_slice(&value.as_f64().to_le_bytes());
}

fn label(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let part = |text: &[u8]| 1 + encoded_len_varint(text.len() as u64) + text.len();
    out.push(bytes_key(field::METRIC_LABEL));
    encode_varint((part(name.as_bytes()) + part(value)) as u64, out);
    text(out, field::LABEL_NAME, name.as_bytes());
    text(out, field::LABEL_VALUE, value);
}

/// A string, or a message that is already written.
fn text(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(bytes_key(field));
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

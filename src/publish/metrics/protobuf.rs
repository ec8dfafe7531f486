//! Prometheus protobuf: `io.prometheus.client.MetricFamily` messages, each after its length.
//! Written field by field from borrowed text, as owned messages would copy every label of every
//! series. Field numbers are those of `metrics.proto`; a test reads the bytes back with prost.

use std::convert::Infallible;

use prost::encoding::{encode_varint, encoded_len_varint};

use crate::model::{DelayHistogram, NativeBuckets, Snapshot};

use super::ProcessStats;
use super::families::{self, Family, Label, Labels, Value};
use super::table::Kind;

/// A key of a varint field.
const fn varint_key(field: u8) -> u8 {
    field << 3
}

/// A key of a field of eight bytes.
const fn fixed64_key(field: u8) -> u8 {
    field << 3 | 1
}

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
    pub(super) const METRIC_HISTOGRAM: u8 = 7;
    pub(super) const LABEL_NAME: u8 = 1;
    pub(super) const LABEL_VALUE: u8 = 2;
    /// Of Gauge and of Counter.
    pub(super) const VALUE: u8 = 1;
    pub(super) const HISTOGRAM_COUNT: u8 = 1;
    pub(super) const HISTOGRAM_SUM: u8 = 2;
    pub(super) const HISTOGRAM_BUCKET: u8 = 3;
    pub(super) const HISTOGRAM_SCHEMA: u8 = 5;
    pub(super) const HISTOGRAM_ZERO_THRESHOLD: u8 = 6;
    pub(super) const HISTOGRAM_ZERO_COUNT: u8 = 7;
    pub(super) const HISTOGRAM_POSITIVE_SPAN: u8 = 12;
    pub(super) const HISTOGRAM_POSITIVE_DELTA: u8 = 13;
    pub(super) const BUCKET_COUNT: u8 = 1;
    pub(super) const BUCKET_BOUND: u8 = 2;
    pub(super) const SPAN_OFFSET: u8 = 1;
    pub(super) const SPAN_LENGTH: u8 = 2;
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
    histogram: Vec<u8>,
    /// A bucket, a span or a list within the histogram.
    part: Vec<u8>,
}

fn write_family(family: &Family<'_>, scratch: &mut Scratch) {
    let metric = family.metric;
    let out = &mut scratch.family;
    text(out, field::FAMILY_NAME, metric.name.as_bytes());
    text(out, field::FAMILY_HELP, metric.help.as_bytes());
    out.push(varint_key(field::FAMILY_TYPE));
    out.push(match metric.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Histogram => 4,
    });
    for (labels, value) in family.samples() {
        write_metric(scratch, metric.kind, labels, value);
        text(&mut scratch.family, field::FAMILY_METRIC, &scratch.metric);
    }
    if !metric.unit.label().is_empty() {
        let unit = metric.unit.label().as_bytes();
        text(&mut scratch.family, field::FAMILY_UNIT, unit);
    }
}

fn write_metric(scratch: &mut Scratch, kind: Kind, labels: Labels<'_, '_>, value: Value<'_>) {
    let out = &mut scratch.metric;
    out.clear();
    for (name, value) in labels.pairs() {
        match value {
            Label::Text(value) => label(out, name, value.as_bytes()),
            Label::Number(number) => label(out, name, number.to_string().as_bytes()),
        }
    }
    let number = match value {
        Value::Number(number) => number,
        Value::Histogram(histogram) => {
            scratch.histogram.clear();
            write_histogram(&mut scratch.histogram, &mut scratch.part, histogram);
            text(out, field::METRIC_HISTOGRAM, &scratch.histogram);
            return;
        }
    };
    let holder = match kind {
        Kind::Counter => field::METRIC_COUNTER,
        _ => field::METRIC_GAUGE,
    };
    // A message with one field of eight bytes, after its key.
    out.extend_from_slice(&[bytes_key(holder), 9]);
    double(out, field::VALUE, number.as_f64());
}

fn write_histogram(out: &mut Vec<u8>, part: &mut Vec<u8>, histogram: &DelayHistogram) {
    let count = histogram.count();
    varint(out, field::HISTOGRAM_COUNT, count);
    double(out, field::HISTOGRAM_SUM, histogram.sum.0);
    let mut below = 0u64;
    for (bound, within) in families::buckets(histogram) {
        // The count says what the last one would.
        if bound.is_infinite() {
            break;
        }
        below = below.saturating_add(within);
        part.clear();
        varint(part, field::BUCKET_COUNT, below);
        double(part, field::BUCKET_BOUND, bound);
        text(out, field::HISTOGRAM_BUCKET, part);
    }
    // Prometheus drops the whole scrape for one whose buckets do not add up to its count.
    let native = histogram.native.as_ref();
    if let Some(native) = native.filter(|native| observations(native) == Some(count)) {
        write_native(out, part, native);
    }
}

fn observations(native: &NativeBuckets) -> Option<u64> {
    let mut counts = native.positive.values();
    counts.try_fold(native.zero_count, |sum, &count| sum.checked_add(count))
}

/// Runs of neighbouring buckets as spans, and each count as what it is more than the one before.
fn write_native(out: &mut Vec<u8>, part: &mut Vec<u8>, native: &NativeBuckets) {
    let NativeBuckets {
        schema,
        zero_threshold,
        zero_count,
        positive,
    } = native;
    varint(out, field::HISTOGRAM_SCHEMA, zigzag((*schema).into()));
    double(out, field::HISTOGRAM_ZERO_THRESHOLD, *zero_threshold);
    varint(out, field::HISTOGRAM_ZERO_COUNT, *zero_count);
    let mut after = 0i64;
    let mut numbers = positive.keys().map(|&number| i64::from(number)).peekable();
    while let Some(first) = numbers.next() {
        let mut next = first + 1;
        while numbers.next_if_eq(&next).is_some() {
            next += 1;
        }
        part.clear();
        varint(part, field::SPAN_OFFSET, zigzag(first - after));
        varint(part, field::SPAN_LENGTH, (next - first) as u64);
        text(out, field::HISTOGRAM_POSITIVE_SPAN, part);
        after = next;
    }
    part.clear();
    let mut before = 0u64;
    for &count in positive.values() {
        encode_varint(zigzag(count.wrapping_sub(before) as i64), part);
        before = count;
    }
    text(out, field::HISTOGRAM_POSITIVE_DELTA, part);
}

/// A signed number as `sint32` and `sint64` have it: small where it is near zero.
const fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn varint(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(varint_key(field));
    encode_varint(value, out);
}

fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(fixed64_key(field));
    out.extend_from_slice(&value.to_le_bytes());
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

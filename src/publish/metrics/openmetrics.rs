//! OpenMetrics text 1.0, through prometheus-client: a collector over the snapshot, since its
//! own families cannot drop a series.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
    text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use crate::model::Snapshot;

use super::ProcessStats;
use super::families::{self, Label, Labels, Number, Value};
use super::table::{Kind, Metric, Unit};

/// Encodes whatever the snapshot holds, anew each time.
#[derive(Debug)]
struct SnapshotCollector {
    snapshot: Arc<Snapshot>,
    process: ProcessStats,
}

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        families::each(&self.snapshot, &self.process, |family| {
            let metric = family.metric;
            let (name, unit) = name_and_unit(metric);
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(name, metric.help, unit, kind)?;
            for (labels, value) in family.samples() {
                if labels.is_empty() {
                    sample(&mut encoder, metric.kind, value)?;
                } else {
                    sample(&mut encoder.encode_family(&labels)?, metric.kind, value)?;
                }
            }
            Ok(())
        })
    }
}

/// The encoder adds unit and `_total` itself.
fn name_and_unit(metric: &Metric) -> (&'static str, Option<&'static registry::Unit>) {
    let name = metric.family_name();
    let without = |suffix| name.strip_suffix(suffix).unwrap_or(name);
    match metric.unit {
        Unit::Count => (name, None),
        Unit::Bytes => (without("_bytes"), Some(&registry::Unit::Bytes)),
        Unit::Seconds => (without("_seconds"), Some(&registry::Unit::Seconds)),
    }
}

fn sample(encoder: &mut MetricEncoder<'_>, kind: Kind, value: Value<'_>) -> fmt::Result {
    let number = match value {
        Value::Number(number) => number,
        Value::Histogram(histogram) => {
            let buckets: Vec<_> = families::buckets(histogram).collect();
            let (sum, count) = (histogram.sum.0, histogram.count());
            return encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None);
        }
    };
    match (kind, number) {
        (Kind::Counter, Number::Unsigned(value)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        }
        (Kind::Counter, other) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(&other.as_f64(), None)
        }
        (_, Number::Unsigned(value)) => encoder.encode_gauge(&value),
        (_, Number::Signed(value)) => encoder.encode_gauge(&value),
        (_, Number::Float(value)) => encoder.encode_gauge(&value),
    }
}

impl EncodeLabelSet for Labels<'_, '_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.pairs() {
            let encoder = encoder.encode_label();
            match value {
                Label::Text(text) => (name, text).encode(encoder)?,
                Label::Number(number) => (name, number).encode(encoder)?,
            }
        }
        Ok(())
    }
}

/// Writes every family, and the end mark.
pub(super) fn encode(snapshot: &Arc<Snapshot>, process: &ProcessStats) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(SnapshotCollector {
        snapshot: Arc::clone(snapshot),
        process: *process,
    }));
    let mut out = String::with_capacity(super::expected_bytes(snapshot));
    // It fails where the writer does, or a histogram is native only: a String takes everything
    // and every histogram has its classic buckets. Without its end mark a body would be refused, not misread.
    let _ = text::encode(&mut out, &registry);
    out
}

//! A strict reader of text 0.0.4 and of the part of OpenMetrics 1.0 that the agent writes, and
//! the messages of the protobuf form.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Labels = BTreeMap<String, String>;

/// Families by name as Prometheus stores them: kind and series. Those of a histogram have the
/// label [`SAMPLE`] beyond their own: `bucket`, `sum` or `count`.
pub(crate) type Families = BTreeMap<String, (String, BTreeMap<Labels, f64>)>;

/// Says which sample of a histogram a series is.
pub(crate) const SAMPLE: &str = "sample";

/// Reads text 0.0.4.
///
/// # Errors
/// The line, where a family lacks HELP or TYPE, comes twice or is torn apart; a counter is not
/// called `_total`; a series comes twice; or anything does not parse.
pub(crate) fn text(body: &str) -> Result<Families, String> {
    read(body, false)
}

/// Reads OpenMetrics 1.0, with the same strictness, its end mark, and units that are suffixes.
pub(crate) fn openmetrics(body: &str) -> Result<Families, String> {
    let body = body.strip_suffix("# EOF\n").ok_or("no # EOF at the end")?;
    read(body, true)
}

fn read(body: &str, open: bool) -> Result<Families, String> {
    let mut families = Families::new();
    let mut seen = BTreeSet::new();
    let (mut helped, mut current) = (None, None::<(String, String)>);
    if !body.ends_with('\n') {
        return Err("no newline at the end".into());
    }
    for line in body.lines() {
        let fail = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else {
                return fail("no help");
            };
            if help.is_empty() || !seen.insert(name.to_owned()) {
                return fail("empty help, or family twice");
            }
            helped = Some(name.to_owned());
            current = None;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else {
                return fail("no type");
            };
            if helped.as_deref() != Some(name) || !["counter", "gauge", "histogram"].contains(&kind)
            {
                return fail("TYPE without HELP, or of no known kind");
            }
            let stored = match (open, kind) {
                (true, "counter") => format!("{name}_total"),
                _ => name.to_owned(),
            };
            if stored.ends_with("_total") != (kind == "counter") {
                return fail("wrong type for the name");
            }
            families.insert(stored.clone(), (kind.to_owned(), BTreeMap::new()));
            current = Some((name.to_owned(), stored));
        } else if let Some(rest) = line.strip_prefix("# UNIT ").filter(|_| open) {
            let Some((name, unit)) = rest.split_once(' ') else {
                return fail("no unit");
            };
            let right = current.as_ref().is_some_and(|(family, _)| family == name);
            if !right || !name.ends_with(&format!("_{unit}")) {
                return fail("UNIT out of place");
            }
        } else {
            let (name, mut labels, value) =
                sample(line).map_err(|what| format!("{what}: {line}"))?;
            let family = current.as_ref().and_then(|(_, stored)| {
                Some((
                    name.strip_prefix(stored.as_str())?,
                    families.get_mut(stored)?,
                ))
            });
            let Some((suffix, (kind, series))) = family else {
                return fail("sample outside its family");
            };
            match (kind.as_str(), suffix) {
                ("histogram", "_bucket" | "_sum" | "_count") => {
                    labels.insert(SAMPLE.to_owned(), suffix[1..].to_owned());
                }
                ("histogram", _) => return fail("no sample of a histogram"),
                (_, "") => {}
                _ => return fail("sample outside its family"),
            }
            if !value.is_finite() || (kind != "gauge" && value < 0.0) {
                return fail("not a value");
            }
            if series.insert(labels, value).is_some() {
                return fail("series twice");
            }
        }
    }
    if let Some((name, _)) = families.iter().find(|(_, (_, series))| series.is_empty()) {
        return Err(format!("{name} has no series"));
    }
    for (name, (kind, series)) in &families {
        if kind == "histogram" {
            whole(series).map_err(|what| format!("{name}: {what}"))?;
        }
    }
    Ok(families)
}

/// Holds that each histogram has a sum, a count, and buckets that grow up to that count.
fn whole(series: &BTreeMap<Labels, f64>) -> Result<(), String> {
    type Parts = (Option<f64>, Option<f64>, Vec<(f64, f64)>);
    let mut histograms: BTreeMap<Labels, Parts> = BTreeMap::new();
    for (labels, &value) in series {
        let mut own = labels.clone();
        let sample = own.remove(SAMPLE);
        let le = own.remove("le");
        let (sum, count, buckets) = histograms.entry(own).or_default();
        match (sample.as_deref(), le) {
            (Some("sum"), None) => *sum = Some(value),
            (Some("count"), None) => *count = Some(value),
            (Some("bucket"), Some(le)) => {
                let bound = le.parse().map_err(|_| format!("bad bound {le}"))?;
                buckets.push((bound, value));
            }
            other => return Err(format!("stray sample {other:?}")),
        }
    }
    for (labels, (sum, count, mut buckets)) in histograms {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let grows = buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1);
        let closed = buckets.last().map(|&(bound, below)| (bound, Some(below)));
        if sum.is_none() || !grows || closed != Some((f64::INFINITY, count)) {
            return Err(format!(
                "{labels:?}: no sum, or buckets that do not come to the count"
            ));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Result<(String, Labels, f64), &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Err("bad name");
    }
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("bad label")?;
            if label.is_empty() || !label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return Err("bad label name");
            }
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err("label twice");
            }
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
            } else {
                rest = after.strip_prefix('}').ok_or("no closing bracket")?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let value = value.parse().map_err(|_| "bad value")?;
    Ok((name.to_owned(), labels, value))
}

/// Text up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, '\\')) => '\\',
                Some((_, '"')) => '"',
                Some((_, 'n')) => '\n',
                _ => return Err("bad escape"),
            }),
            other => value.push(other),
        }
    }
    Err("no closing quote")
}

/// `io.prometheus.client`, as far as the agent writes it.
pub(crate) mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) help: String,
        #[prost(enumeration = "MetricType", tag = "3")]
        pub(crate) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(crate) metric: Vec<Metric>,
        #[prost(string, tag = "5")]
        pub(crate) unit: String,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
    pub(crate) enum MetricType {
        Counter = 0,
        Gauge = 1,
        Histogram = 4,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(crate) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(crate) gauge: Option<Value>,
        #[prost(message, optional, tag = "3")]
        pub(crate) counter: Option<Value>,
        #[prost(message, optional, tag = "7")]
        pub(crate) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(crate) sample_count: u64,
        #[prost(double, tag = "2")]
        pub(crate) sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(crate) bucket: Vec<Bucket>,
        #[prost(sint32, optional, tag = "5")]
        pub(crate) schema: Option<i32>,
        #[prost(double, tag = "6")]
        pub(crate) zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        pub(crate) zero_count: u64,
        #[prost(message, repeated, tag = "12")]
        pub(crate) positive_span: Vec<Span>,
        #[prost(sint64, repeated, tag = "13")]
        pub(crate) positive_delta: Vec<i64>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(crate) cumulative_count: u64,
        #[prost(double, tag = "2")]
        pub(crate) upper_bound: f64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Span {
        #[prost(sint32, tag = "1")]
        pub(crate) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(crate) length: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }

    /// Gauge and Counter alike.
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Value {
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
    }
}

/// Reads the delimited protobuf form.
pub(crate) fn messages(mut body: &[u8]) -> Result<Vec<proto::MetricFamily>, String> {
    let mut families = Vec::new();
    while !body.is_empty() {
        let family = prost::Message::decode_length_delimited(&mut body);
        families.push(family.map_err(|error| error.to_string())?);
    }
    Ok(families)
}

/// Reads the delimited protobuf form with the strictness of the texts.
pub(crate) fn protobuf(body: &[u8]) -> Result<Families, String> {
    let mut families = Families::new();
    for message in messages(body)? {
        let proto::MetricFamily {
            name,
            help,
            kind,
            metric,
            unit,
        } = message;
        let kind = proto::MetricType::try_from(kind).map_err(|error| error.to_string())?;
        let counter = kind == proto::MetricType::Counter;
        let stem = name.strip_suffix("_total").unwrap_or(&name);
        if help.is_empty() || !stem.ends_with(&unit) || counter != name.ends_with("_total") {
            return Err(format!("{name}: no help, or wrong unit or type"));
        }
        let mut series = BTreeMap::new();
        let mut add = |labels: Labels, value| match series.insert(labels, value) {
            None => Ok(()),
            Some(_) => Err(format!("{name}: series twice")),
        };
        for metric in metric {
            let labels = metric.label.into_iter().map(|pair| (pair.name, pair.value));
            let labels: Labels = labels.collect();
            match (kind, metric.counter, metric.gauge, metric.histogram) {
                (proto::MetricType::Counter, Some(value), None, None)
                | (proto::MetricType::Gauge, None, Some(value), None) => add(labels, value.value)?,
                (proto::MetricType::Histogram, None, None, Some(histogram)) => {
                    native(&histogram).map_err(|what| format!("{name}: {what}"))?;
                    for (sample, value) in samples(&histogram) {
                        add(labels.clone().into_iter().chain(sample).collect(), value)?;
                    }
                }
                _ => return Err(format!("{name}: value of another kind")),
            }
        }
        let kind = match kind {
            proto::MetricType::Counter => "counter",
            proto::MetricType::Gauge => "gauge",
            proto::MetricType::Histogram => {
                whole(&series).map_err(|what| format!("{name}: {what}"))?;
                "histogram"
            }
        };
        let twice = families.insert(name.clone(), (kind.to_owned(), series));
        if twice.is_some() {
            return Err(format!("{name}: family twice"));
        }
    }
    Ok(families)
}

/// The classic samples, with the labels that they have in text.
fn samples(histogram: &proto::Histogram) -> Vec<(Labels, f64)> {
    let named = |sample: &str| Labels::from([(SAMPLE.to_owned(), sample.to_owned())]);
    let count = histogram.sample_count as f64;
    let bucket = |le: String, below| {
        let mut labels = named("bucket");
        labels.insert("le".to_owned(), le);
        (labels, below)
    };
    let buckets = histogram.bucket.iter().map(|one| {
        let bound = match one.upper_bound {
            whole if whole.fract() == 0.0 => format!("{whole:.1}"),
            other => other.to_string(),
        };
        bucket(bound, one.cumulative_count as f64)
    });
    let rest = [
        bucket("+Inf".to_owned(), count),
        (named("sum"), histogram.sample_sum),
        (named("count"), count),
    ];
    buckets.chain(rest).collect()
}

/// The native buckets by number; nothing where there are none.
///
/// # Errors
/// What makes Prometheus drop the scrape: spans that do not go with the counts, or counts that do
/// not come to the number of observations.
pub(crate) fn native(
    histogram: &proto::Histogram,
) -> Result<Option<BTreeMap<i32, u64>>, &'static str> {
    if histogram.schema.is_none() {
        let empty = histogram.positive_span.is_empty() && histogram.positive_delta.is_empty();
        return empty
            .then_some(None)
            .ok_or("native buckets without a schema");
    }
    let mut deltas = histogram.positive_delta.iter();
    let (mut number, mut count, mut buckets) = (0, 0, BTreeMap::new());
    for (index, span) in histogram.positive_span.iter().enumerate() {
        if span.length == 0 || (index > 0 && span.offset <= 0) {
            return Err("spans that touch");
        }
        number += span.offset;
        for _ in 0..span.length {
            count += deltas.next().ok_or("more places than counts")?;
            buckets.insert(
                number,
                u64::try_from(count).map_err(|_| "a count below zero")?,
            );
            number += 1;
        }
    }
    if deltas.next().is_some() {
        return Err("more counts than places");
    }
    if histogram.zero_count + buckets.values().sum::<u64>() != histogram.sample_count {
        return Err("native buckets that do not come to the count");
    }
    Ok(Some(buckets))
}

#[test]
fn the_reader_refuses_what_prometheus_would() {
    let head = "# HELP a_b Help.\n# TYPE a_b gauge\n";
    let good = format!("{head}a_b{{x=\"1\"}} 1\na_b{{x=\"2\"}} 0.5\n");
    assert_eq!(text(&good).unwrap()["a_b"].1.len(), 2);
    let bad = [
        format!("{head}a_b{{x=\"1\"}} 1\na_b{{x=\"1\"}} 2\n"),
        format!("{head}a_b 1"),
        format!("{head}{head}a_b 1\n"),
        format!("{head}other 1\n"),
        format!("{head}a_b NaN\n"),
        format!("{head}a_b{{x=\"1}} 1\n"),
        format!("{head}a_b{{x=\"1\",x=\"2\"}} 1\n"),
        head.to_owned(),
        "a_b 1\n".to_owned(),
        "# TYPE a_b gauge\na_b 1\n".to_owned(),
        "# HELP a_b Help.\n# TYPE a_b counter\na_b 1\n".to_owned(),
    ];
    for body in bad {
        assert!(text(&body).is_err(), "{body}");
    }
    let head = "# HELP h Help.\n# TYPE h histogram\n";
    let whole = "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    assert_eq!(text(&format!("{head}{whole}")).unwrap()["h"].1.len(), 4);
    for (from, to) in [
        ("h_sum 3\n", ""),
        ("h_count 2\n", ""),
        ("h_count 2", "h_count 3"),
        ("h_bucket{le=\"+Inf\"} 2\n", ""),
        ("} 1\n", "} 3\n"),
        ("h_sum 3", "h 3"),
        ("h_sum 3", "h_max 3"),
    ] {
        let body = format!("{head}{}", whole.replace(from, to));
        assert!(text(&body).is_err(), "{body}");
    }
}

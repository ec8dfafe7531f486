//! A strict reader of text 0.0.4 and of the part of OpenMetrics 1.0 that the agent writes, and
//! the messages of the protobuf form.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Labels = BTreeMap<String, String>;

/// Families by name as Prometheus stores them: kind and series.
pub(crate) type Families = BTreeMap<String, (String, BTreeMap<Labels, f64>)>;

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
            if helped.as_deref() != Some(name) || !["counter", "gauge"].contains(&kind) {
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
            let (name, labels, value) = sample(line).map_err(|what| format!("{what}: {line}"))?;
            let Some((_, stored)) = current.as_ref().filter(|(_, stored)| *stored == name) else {
                return fail("sample outside its family");
            };
            let Some((kind, series)) = families.get_mut(stored) else {
                return fail("no family");
            };
            if !value.is_finite() || (kind == "counter" && value < 0.0) {
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
    Ok(families)
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
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(crate) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(crate) gauge: Option<Value>,
        #[prost(message, optional, tag = "3")]
        pub(crate) counter: Option<Value>,
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
        let counter = kind == proto::MetricType::Counter as i32;
        let stem = name.strip_suffix("_total").unwrap_or(&name);
        if help.is_empty() || !stem.ends_with(&unit) || counter != name.ends_with("_total") {
            return Err(format!("{name}: no help, or wrong unit or type"));
        }
        let mut series = BTreeMap::new();
        for metric in metric {
            let value = match (counter, metric.counter, metric.gauge) {
                (true, Some(value), None) | (false, None, Some(value)) => value.value,
                _ => return Err(format!("{name}: value of another kind")),
            };
            let labels = metric.label.into_iter().map(|pair| (pair.name, pair.value));
            if series.insert(labels.collect(), value).is_some() {
                return Err(format!("{name}: series twice"));
            }
        }
        let kind = if counter { "counter" } else { "gauge" };
        let twice = families.insert(name.clone(), (kind.to_owned(), series));
        if twice.is_some() {
            return Err(format!("{name}: family twice"));
        }
    }
    Ok(families)
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
}

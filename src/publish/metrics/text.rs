//! Prometheus text 0.0.4.

use std::convert::Infallible;
use std::fmt::Write;

use crate::model::Snapshot;

use super::ProcessStats;
use super::families::{self, Label, Labels, Number, Value};

/// Writes every family into one buffer.
pub(super) fn encode(snapshot: &Snapshot, process: &ProcessStats) -> String {
    let mut out = String::with_capacity(super::expected_bytes(snapshot));
    let done: Result<(), Infallible> = families::each(snapshot, process, |family| {
        let metric = family.metric;
        out.push_str("# HELP ");
        out.push_str(metric.name);
        out.push(' ');
        escape(&mut out, metric.help, false);
        out.push_str("\n# TYPE ");
        out.push_str(metric.name);
        out.push(' ');
        out.push_str(metric.kind.label());
        out.push('\n');
        for (labels, value) in family.samples() {
            let histogram = match value {
                Value::Number(number) => {
                    sample(&mut out, metric.name, "", labels, None, number);
                    continue;
                }
                Value::Histogram(histogram) => histogram,
            };
            let mut count = 0u64;
            for (bound, within) in families::buckets(histogram) {
                count = count.saturating_add(within);
                let number = count.into();
                sample(
                    &mut out,
                    metric.name,
                    "_bucket",
                    labels,
                    Some(bound),
                    number,
                );
            }
            let sum = histogram.sum.0.into();
            sample(&mut out, metric.name, "_sum", labels, None, sum);
            sample(&mut out, metric.name, "_count", labels, None, count.into());
        }
        Ok(())
    });
    match done {
        Ok(()) => out,
        Err(never) => match never {},
    }
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: Labels<'_, '_>,
    bound: Option<f64>,
    value: Number,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut before = '{';
    for (name, value) in labels.pairs() {
        out.push(before);
        before = ',';
        out.push_str(name);
        out.push_str("=\"");
        match value {
            Label::Text(text) => escape(out, text, true),
            Label::Number(number) => write(out, format_args!("{number}")),
        }
        out.push('"');
    }
    if let Some(bound) = bound {
        out.push(before);
        before = ',';
        out.push_str("le=\"");
        le(out, bound);
        out.push('"');
    }
    if before == ',' {
        out.push('}');
    }
    out.push(' ');
    number(out, value);
    out.push('\n');
}

/// A bound as OpenMetrics has it: its series must not change with the form of the scrape.
fn le(out: &mut String, bound: f64) {
    if bound.is_infinite() {
        out.push_str("+Inf");
    } else if bound.fract() == 0.0 {
        write(out, format_args!("{bound:.1}"));
    } else {
        write(out, format_args!("{bound}"));
    }
}

fn number(out: &mut String, value: Number) {
    match value {
        Number::Unsigned(value) => write(out, format_args!("{value}")),
        Number::Signed(value) => write(out, format_args!("{value}")),
        Number::Float(value) => write(out, format_args!("{value}")),
    }
}

/// Writing to a `String` gives no error.
fn write(out: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(what);
}

/// HELP escapes backslash and newline, a label value the quote too.
fn escape(out: &mut String, text: &str, quotes: bool) {
    // A fold without an early end is one the compiler makes wide; nearly no name needs more.
    let special = text.bytes().fold(false, |found, byte| {
        found | matches!(byte, b'\\' | b'\n' | b'"')
    });
    if !special {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_or_a_line_is_escaped() {
        let cases = [
            ("plain", true, "plain"),
            ("", true, ""),
            ("a\"b", true, "a\\\"b"),
            ("a\"b", false, "a\"b"),
            ("a\nb", false, "a\\nb"),
            ("c:\\dir\n", true, "c:\\\\dir\\n"),
            ("\\n", true, "\\\\n"),
            ("tab\t🦀", true, "tab\t🦀"),
        ];
        for (text, quotes, wanted) in cases {
            let mut out = String::new();
            escape(&mut out, text, quotes);
            assert_eq!(out, wanted);
        }
    }

    #[test]
    fn numbers_have_no_exponent_and_lose_no_digit() {
        let cases = [
            (Number::Unsigned(u64::MAX), "18446744073709551615"),
            (Number::Signed(-9_000_000), "-9000000"),
            (Number::Float(0.1), "0.1"),
            (Number::Float(1_764_000_000.25), "1764000000.25"),
        ];
        for (value, wanted) in cases {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, wanted);
        }
    }
}

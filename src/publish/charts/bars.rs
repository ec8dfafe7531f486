//! Bars: one against a mark, parts of a whole, and a ranking.

use std::borrow::Cow;

use super::{Escaped, Label, percent, put};

/// One part of a stacked bar.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Of the stylesheet.
    pub class: &'a str,
    pub value: f64,
    /// Shown to who points at it.
    pub name: &'a str,
}

/// Parts of a whole, one after another; what is left of the whole stays empty. `marks` stand as
/// lines across.
pub fn stack(label: &Label<'_>, whole: f64, segments: &[Segment<'_>], marks: &[f64]) -> String {
    let mut out = String::with_capacity(256 + 96 * segments.len());
    open(&mut out, "stack", label);
    let mut at = 0.0;
    for segment in segments {
        let (from, to) = (percent(at, whole), percent(at + segment.value, whole));
        at += segment.value.max(0.0);
        let wide = to - from;
        if wide > 0.0 {
            put(
                &mut out,
                format_args!(
                    "<rect class=\"{}\" x=\"{from}%\" width=\"{:.2}%\" height=\"100%\"><title>{}</title></rect>",
                    Escaped(segment.class),
                    wide,
                    Escaped(segment.name),
                ),
            );
        }
    }
    for mark in marks {
        line(&mut out, percent(*mark, whole));
    }
    out.push_str("</svg>");
    out
}

/// A value against a mark, both of a whole. What is over the mark has a class of its own.
pub fn bar(label: &Label<'_>, whole: f64, value: f64, mark: Option<f64>) -> String {
    let mut out = String::with_capacity(320);
    open(&mut out, "bar", label);
    let end = percent(value, whole);
    let mark = mark.map(|mark| percent(mark, whole));
    let within = mark.map_or(end, |mark| mark.min(end));
    put(
        &mut out,
        format_args!("<rect class=\"part\" width=\"{within}%\" height=\"100%\"/>"),
    );
    if end > within {
        put(
            &mut out,
            format_args!(
                "<rect class=\"over\" x=\"{within}%\" width=\"{:.2}%\" height=\"100%\"/>",
                end - within
            ),
        );
    }
    if let Some(mark) = mark {
        line(&mut out, mark);
    }
    out.push_str("</svg>");
    out
}

/// One line of a ranking.
#[derive(Debug, Clone, Copy)]
pub struct Bar<'a> {
    /// Of the stylesheet.
    pub class: &'a str,
    pub name: &'a str,
    /// The value as it is to be read.
    pub words: &'a str,
    pub value: f64,
}

/// Characters of a name that fit above a bar on a narrow screen.
const NAME: usize = 36;

/// Bars under one another with their names and values, the longest as long as there is room for. A name
/// that is too long loses its middle, as ends tell names apart; who points at it reads it whole.
pub fn ranked(label: &Label<'_>, rows: &[Bar<'_>]) -> String {
    const ROW: usize = 36;
    /// Of the width; values stand in the rest.
    const LONGEST: f64 = 0.74;
    let most = rows.iter().map(|row| row.value).fold(0.0, f64::max);
    let mut out = String::with_capacity(256 + 256 * rows.len());
    put(
        &mut out,
        format_args!(
            "<svg class=\"chart ranked\" {} height=\"{}\">{label}",
            label.attributes(),
            ROW * rows.len()
        ),
    );
    for (index, row) in rows.iter().enumerate() {
        let top = index * ROW;
        put(
            &mut out,
            format_args!(
                "<g><title>{}</title><text class=\"name\" x=\"0\" y=\"{}\">{}</text>\
                 <rect class=\"{}\" y=\"{}\" width=\"{:.2}%\" height=\"8\"/>\
                 <text class=\"value\" x=\"100%\" y=\"{}\" text-anchor=\"end\">{}</text></g>",
                Escaped(row.name),
                top + 13,
                Escaped(&shortened(row.name)),
                Escaped(row.class),
                top + 19,
                percent(row.value, most) * LONGEST,
                top + 27,
                Escaped(row.words),
            ),
        );
    }
    out.push_str("</svg>");
    out
}

fn shortened(name: &str) -> Cow<'_, str> {
    let count = name.chars().count();
    if count <= NAME {
        return Cow::Borrowed(name);
    }
    let head = name.chars().take(NAME / 2);
    let tail = name.chars().skip(count - NAME / 2 + 1);
    Cow::Owned(head.chain(['…']).chain(tail).collect())
}

fn open(out: &mut String, class: &str, label: &Label<'_>) {
    let attributes = label.attributes();
    put(
        out,
        format_args!("<svg class=\"chart {class}\" {attributes}>{label}"),
    );
}

fn line(out: &mut String, at: f64) {
    put(
        out,
        format_args!("<line class=\"mark\" x1=\"{at}%\" x2=\"{at}%\" y1=\"0\" y2=\"100%\"/>"),
    );
}

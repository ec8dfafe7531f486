//! Lines and areas over time. Gaps stay gaps.

use super::{Escaped, Label, percent, put};

/// Units of the drawing across and down: more than a screen has pixels for, few enough for short
/// paths.
const WIDE: f32 = 900.0;
const HIGH: f32 = 200.0;

/// A value at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// From 0, the left edge, to 1.
    pub at: f32,
    /// `None` is a gap.
    pub value: Option<f32>,
}

/// One line.
#[derive(Debug, Clone, Copy)]
pub struct Curve<'a> {
    /// Of the stylesheet.
    pub class: &'a str,
    /// From left to right.
    pub points: &'a [Point],
    /// Filled down to the bottom.
    pub area: bool,
}

/// A level across the whole chart.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    /// Of the stylesheet.
    pub class: &'a str,
    pub value: f32,
}

/// The scale and what is written at it.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// The value at the upper edge; the lower one is 0.
    pub top: f32,
    /// Values with a line across, and their words.
    pub ticks: &'a [(f32, String)],
    /// Words below the left and the right edge.
    pub ends: [&'a str; 2],
}

/// A chart of lines with its scale.
pub fn lines(
    label: &Label<'_>,
    axis: &Axis<'_>,
    curves: &[Curve<'_>],
    marks: &[Mark<'_>],
) -> String {
    let mut out = String::with_capacity(4096);
    put(
        &mut out,
        format_args!("<svg class=\"chart lines\" {}>{label}", label.attributes()),
    );
    for (value, _) in axis.ticks {
        let y = 100.0 - percent(f64::from(*value), f64::from(axis.top));
        put(
            &mut out,
            format_args!("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y}%\" y2=\"{y}%\"/>"),
        );
    }
    drawing(&mut out, axis.top, curves, marks);
    for (value, words) in axis.ticks {
        let y = 100.0 - percent(f64::from(*value), f64::from(axis.top));
        put(
            &mut out,
            format_args!(
                "<text class=\"tick\" x=\"2\" y=\"{y}%\" dy=\"-3\">{}</text>",
                Escaped(words)
            ),
        );
    }
    let [start, end] = axis.ends;
    put(
        &mut out,
        format_args!(
            "<text class=\"tick\" x=\"0\" y=\"100%\" dy=\"14\">{}</text>\
             <text class=\"tick\" x=\"100%\" y=\"100%\" dy=\"14\" text-anchor=\"end\">{}</text></svg>",
            Escaped(start),
            Escaped(end)
        ),
    );
    out
}

/// Lines alone, for a row of a table.
pub fn spark(label: &Label<'_>, top: f32, curves: &[Curve<'_>]) -> String {
    let mut out = String::with_capacity(1024);
    put(
        &mut out,
        format_args!("<svg class=\"chart spark\" {}>{label}", label.attributes()),
    );
    drawing(&mut out, top, curves, &[]);
    out.push_str("</svg>");
    out
}

/// The curves, stretched to whatever size the chart has.
fn drawing(out: &mut String, top: f32, curves: &[Curve<'_>], marks: &[Mark<'_>]) {
    put(
        out,
        format_args!(
            "<svg viewBox=\"0 0 {WIDE} {HIGH}\" width=\"100%\" height=\"100%\" preserveAspectRatio=\"none\">"
        ),
    );
    for curve in curves.iter().filter(|curve| curve.area) {
        let area = path(curve.points, top, true);
        if !area.is_empty() {
            put(
                out,
                format_args!(
                    "<path class=\"{} area\" d=\"{area}\"/>",
                    Escaped(curve.class)
                ),
            );
        }
    }
    for mark in marks {
        let y = down(mark.value, top);
        put(
            out,
            format_args!(
                "<path class=\"{} level\" d=\"M0 {y}H{WIDE}\"/>",
                Escaped(mark.class)
            ),
        );
    }
    for curve in curves {
        let line = path(curve.points, top, false);
        if !line.is_empty() {
            put(
                out,
                format_args!(
                    "<path class=\"{} line\" d=\"{line}\"/>",
                    Escaped(curve.class)
                ),
            );
        }
    }
    out.push_str("</svg>");
}

/// A path through each stretch without a gap.
fn path(points: &[Point], top: f32, area: bool) -> String {
    let mut out = String::new();
    for run in points.split(|point| point.value.is_none()) {
        let places: Vec<(i32, i32)> = run
            .iter()
            .filter_map(|point| Some((across(point.at), down(point.value?, top))))
            .collect();
        stretch(&mut out, &places, area);
    }
    out
}

fn stretch(out: &mut String, places: &[(i32, i32)], area: bool) {
    let [(first_x, first_y), .., (last_x, last_y)] = *places else {
        // A single point is a dot: a line without length has round ends.
        if let [(x, y)] = *places
            && !area
        {
            put(out, format_args!("M{x} {y}h0"));
        }
        return;
    };
    if area {
        put(out, format_args!("M{first_x} {HIGH}V{first_y}"));
    } else {
        put(out, format_args!("M{first_x} {first_y}"));
    }
    out.push('L');
    for three in places.windows(3) {
        let [(_, before), (x, y), (_, after)] = *three else {
            continue;
        };
        // The middle of a level line says nothing.
        if before != y || y != after {
            put(out, format_args!("{x} {y} "));
        }
    }
    put(out, format_args!("{last_x} {last_y}"));
    if area {
        put(out, format_args!("V{HIGH}Z"));
    }
}

fn across(at: f32) -> i32 {
    (at.clamp(0.0, 1.0) * WIDE).round() as i32
}

fn down(value: f32, top: f32) -> i32 {
    let share = percent(f64::from(value), f64::from(top)) as f32 / 100.0;
    ((1.0 - share) * HIGH).round() as i32
}

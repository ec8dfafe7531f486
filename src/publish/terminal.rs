//! The snapshot as tables for a terminal: each GPU, then its pods.

mod canary;
pub(in crate::publish) mod cells;
mod gpu;
pub mod progress;
pub mod screen;
pub mod top;

use std::fmt::{Display, Write};
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::{Cause, GpuView, Moment, Reading, Snapshot};

use cells::{printable, push_table};
use gpu::Rates;

/// One snapshot as text, no wider than `width` columns where one is given. Time is shown as
/// GPU seconds since the container was first seen; [`table_between`] shows shares.
pub fn table(snapshot: &Snapshot, width: Option<u16>) -> String {
    render(snapshot, None, |_| None, width)
}

/// The later of two snapshots, with the share of each GPU's time that each pod received between
/// them. A share is unknown where a counter went back or is not in both.
pub fn table_between(earlier: &Snapshot, later: &Snapshot, width: Option<u16>) -> String {
    let span = later.at.since(earlier.at);
    let rates = |view| Some(Rates::new(earlier, later.at, view));
    render(later, Some(span), rates, width)
}

/// `span` is what shares are told over, `rates` what is known of them on a GPU.
fn render<'a>(
    snapshot: &'a Snapshot,
    span: Option<Duration>,
    rates: impl Fn(&'a GpuView) -> Option<Rates<'a>>,
    width: Option<u16>,
) -> String {
    let mut out = String::new();
    line(&mut out, width, &heading(snapshot, span));
    for view in &snapshot.gpus {
        let rates = rates(view);
        out.push('\n');
        for text in gpu::heading(view) {
            line(&mut out, width, &text);
        }
        push_table(
            &mut out,
            &gpu::pods(view, rates.as_ref(), width.map(columns)),
        );
        for text in canary::neighbours(view) {
            line(&mut out, width, &text);
        }
    }
    for card in &snapshot.mig_cards {
        out.push('\n');
        line(&mut out, width, &gpu::card(card));
    }
    if snapshot.gpus.is_empty() {
        let reason = match snapshot.nvml_cause() {
            Some(cause) => format!("No GPU to show: {}.", cells::words(cause)),
            None => "No GPU to show.".to_owned(),
        };
        line(&mut out, width, &reason);
    }
    notes(&mut out, snapshot, width);
    out
}

fn heading(snapshot: &Snapshot, span: Option<Duration>) -> String {
    let node = snapshot.node.as_deref().map_or_else(
        || "this node".to_owned(),
        |node| format!("node {}", printable(node)),
    );
    let mut text = format!("{node}, {} UTC", clock(snapshot.at));
    if let Some(span) = span {
        let _ = write!(text, ", shares over {:.1} s", span.as_secs_f64());
    }
    text
}

/// `2026-11-21 10:00:00` of an instant's wall clock.
fn clock(at: Moment) -> impl Display {
    let seconds = at.unix.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date, counted from 1 March of the year 0 so that leap days come last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Sources that are not up, and findings, after the tables.
fn notes(out: &mut String, snapshot: &Snapshot, width: Option<u16>) {
    let mut notes = Vec::new();
    for health in &snapshot.sources {
        match health.up {
            Reading::Value(()) => {}
            Reading::Unsupported => notes.push(format!("{}: not here", health.source.label())),
            Reading::Failed(Cause::NotYet) => {
                notes.push(format!("{}: not tried yet", health.source.label()));
            }
            Reading::Failed(cause) => notes.push(format!(
                "{}: {}: {}",
                health.source.label(),
                cells::words(cause),
                printable(&health.detail)
            )),
        }
    }
    for finding in &snapshot.findings {
        notes.push(format!(
            "{}: {} ({}): {}; to mend: {}",
            finding.severity.label(),
            printable(&finding.code),
            printable(&finding.subject),
            printable(finding.evidence.trim_end_matches('.')),
            printable(&finding.mend),
        ));
    }
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        line(out, width, &note);
    }
}

/// A line of text, wrapped at words where it is wider than the terminal; what follows its first
/// line stands two columns further in.
fn line(out: &mut String, width: Option<u16>, text: &str) {
    let width = width.map_or(usize::MAX, |width| columns(width).into());
    let indent = text.len() - text.trim_start().len();
    let mut column = indent;
    out.push_str(&text[..indent]);
    for (index, word) in text[indent..].split(' ').enumerate() {
        let wide = word.width();
        if index > 0 && column.saturating_add(1 + wide) <= width {
            out.push(' ');
            column += 1;
        } else if index > 0 {
            column = break_line(out, indent);
        }
        for character in word.chars() {
            let wide = character.width().unwrap_or(0);
            if column + wide > width {
                column = break_line(out, indent);
            }
            out.push(character);
            column += wide;
        }
    }
    out.push('\n');
}

/// Starts the next line of wrapped text and says in which column.
fn break_line(out: &mut String, indent: usize) -> usize {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent + 2));
    indent + 2
}

/// A width that something can be shown in.
const fn columns(width: u16) -> u16 {
    if width < 40 { 40 } else { width }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_show_as_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_799, "2000-02-29 23:59:59"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_795_255_384, "2026-11-21 10:03:04"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ];
        for (seconds, wanted) in cases {
            let at = Moment {
                unix: Duration::from_secs(seconds),
                ..Moment::default()
            };
            assert_eq!(clock(at).to_string(), wanted);
        }
    }
}

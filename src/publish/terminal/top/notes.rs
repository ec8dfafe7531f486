//! Pages of words: findings with their mends and the health of the sources, and the help.

use ratatui::style::Color;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::{Cause, Finding, Reading, Snapshot, SourceHealth};
use crate::publish::terminal::cells::words;

use super::keys::KEYS;
use super::look::Look;
use super::pages::Body;

/// Below this there is no room for a column of keys.
const NARROW: usize = 64;

/// Findings, the worst first.
pub(super) fn worst_first(snapshot: &Snapshot) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = snapshot.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// What a finding says, and what mends it.
pub(super) fn said(look: Look, finding: &Finding) -> [String; 2] {
    let what = format!(
        "{} {} ({}): {}",
        finding.severity.label(),
        look.text(&finding.code),
        look.text(&finding.subject),
        look.text(finding.evidence.trim_end_matches('.')),
    );
    [what, format!("  to mend: {}", look.text(&finding.mend))]
}

/// A line that begins with the finding's severity, which has a colour.
pub(super) fn with_severity(look: Look, finding: &Finding, line: String) -> Line<'static> {
    let word = finding.severity.label();
    match line.strip_prefix(word) {
        Some(rest) => Line::from(vec![
            Span::styled(word, look.severity(finding.severity)),
            Span::raw(rest.to_owned()),
        ]),
        None => Line::raw(line),
    }
}

/// All that a finding says, in as many lines as it takes.
pub(super) fn told(look: Look, finding: &Finding, width: usize) -> Vec<Line<'static>> {
    let [what, mend] = said(look, finding);
    let mut lines = wrapped(look, &what, width);
    if let Some(first) = lines.first_mut() {
        *first = with_severity(look, finding, first.to_string());
    }
    lines.extend(wrapped(look, &mend, width));
    lines
}

/// All findings and sources.
pub(super) fn findings(look: Look, snapshot: &Snapshot, width: usize) -> Body {
    let mut body = Body::default();
    let count = snapshot.findings.len();
    let heading = match count {
        0 => "No findings".to_owned(),
        1 => "1 finding".to_owned(),
        _ => format!("{count} findings"),
    };
    body.lines.push(Line::styled(heading, look.strong()));
    for finding in worst_first(snapshot) {
        body.lines.extend(told(look, finding, width));
        body.lines.push(Line::default());
    }
    body.lines.push(Line::styled("Sources", look.strong()));
    for health in &snapshot.sources {
        let (state, is_down) = state(health);
        let text = match &*health.detail {
            "" => format!("{} {state}", health.source.label()),
            detail => format!("{} {state}: {detail}", health.source.label()),
        };
        let style = match is_down {
            true => look.tint(Color::Red),
            false => ratatui::style::Style::new(),
        };
        let lines = wrapped(look, &text, width);
        body.lines
            .extend(lines.into_iter().map(|line| line.style(style)));
    }
    body
}

/// How a source is, and whether that is bad.
pub(super) fn state(health: &SourceHealth) -> (String, bool) {
    match health.up {
        Reading::Value(()) => ("up".to_owned(), false),
        Reading::Unsupported => ("not here".to_owned(), false),
        Reading::Failed(Cause::NotYet) => ("not tried yet".to_owned(), false),
        Reading::Failed(cause) => (format!("down ({})", words(cause)), true),
    }
}

/// What the keys do.
pub(super) fn help(look: Look, width: usize) -> Body {
    let mut body = Body::default();
    body.lines.push(Line::styled("Keys", look.strong()));
    for (keys, what) in KEYS {
        let text = match width {
            ..NARROW => format!("  {keys}: {what}"),
            _ => format!("  {keys:30} {what}"),
        };
        body.lines.extend(wrapped(look, &text, width));
    }
    body.lines.push(Line::default());
    body.lines.push(Line::styled("Words", look.strong()));
    for text in [
        "of share: memory held, by the fair share of the replicas granted.",
        "time: share of the GPU's time, over the last 20 s.",
        "inflicts: how much longer a request of anybody on the GPU waits because of this pod, over the last 20 s.",
        "waits: how long this pod's own requests wait because of the others.",
        "alone: what a request waits while nobody else is active.",
        "?: not known, and why; -: there can be none.",
    ] {
        body.lines
            .extend(wrapped(look, &format!("  {text}"), width));
    }
    body
}

/// Text in lines no wider than asked, broken at words where there are some; what follows the first
/// stands two columns further in.
pub(super) fn wrapped(look: Look, text: &str, width: usize) -> Vec<Line<'static>> {
    let text = look.text(text);
    let indent = text.len() - text.trim_start_matches(' ').len();
    // At least a word has room.
    let width = width.max(indent + 10);
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    let mut column = indent;
    let mut is_first = true;
    for word in text[indent..].split(' ') {
        let wide = word.width();
        if !is_first && column + 1 + wide > width {
            lines.push(Line::raw(std::mem::replace(
                &mut line,
                " ".repeat(indent + 2),
            )));
            column = indent + 2;
        } else if !is_first {
            line.push(' ');
            column += 1;
        }
        is_first = false;
        for character in word.chars() {
            let wide = character.width().unwrap_or(0);
            if column + wide > width {
                lines.push(Line::raw(std::mem::replace(
                    &mut line,
                    " ".repeat(indent + 2),
                )));
                column = indent + 2;
            }
            line.push(character);
            column += wide;
        }
    }
    lines.push(Line::raw(line));
    lines
}

//! Characters and colours: what a terminal and its user can take.

use std::borrow::Cow;

use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use crate::model::Severity;
use crate::publish::terminal::cells::{printable, without_middle};

/// Eighths of a block, and the heights of a sparkline.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_HEIGHTS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// How things are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// False where the locale's characters are not UTF-8: then ASCII alone is drawn.
    pub unicode: bool,
    /// False with `NO_COLOR`.
    pub color: bool,
}

impl Look {
    /// A filled bar of exactly `width` columns; more than all is all.
    pub(super) fn bar(self, ratio: f64, width: usize) -> String {
        let ratio = if ratio.is_nan() { 0.0 } else { ratio };
        let eighths = (ratio.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
        let (full, part) = (eighths / 8, eighths % 8);
        let mut bar = String::with_capacity(width * 3);
        if self.unicode {
            bar.extend(std::iter::repeat_n('█', full));
            // What is there is seen, however little it is.
            let part = if ratio > 0.0 && eighths == 0 { 1 } else { part };
            let more = part > 0 && full < width;
            if more {
                bar.push(EIGHTHS[part - 1]);
            }
            bar.extend(std::iter::repeat_n('·', width - full - usize::from(more)));
        } else {
            let some = ratio > 0.0 && full == 0 && width > 0;
            let full = if some { 1 } else { full };
            bar.extend(std::iter::repeat_n('#', full));
            bar.extend(std::iter::repeat_n('.', width - full));
        }
        bar
    }

    /// One character a value, from zero to the highest; a blank where there is none.
    pub(super) fn sparkline(self, values: &[Option<f64>]) -> String {
        let heights = if self.unicode { HEIGHTS } else { ASCII_HEIGHTS };
        let highest = values.iter().flatten().copied().fold(0.0, f64::max);
        let height = |value: f64| match highest > 0.0 {
            true => ((value / highest * 7.0).round() as usize).min(7),
            false => 0,
        };
        let character = |value: &Option<f64>| value.map_or(' ', |value| heights[height(value)]);
        values.iter().map(character).collect()
    }

    /// A name or sentence of somebody else, such that it cannot steer the terminal.
    pub(super) fn text<'a>(self, text: &'a str) -> Cow<'a, str> {
        let text = printable(text);
        if self.unicode || text.is_ascii() {
            return text;
        }
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                ' '..='~' => out.push(character),
                '…' => out.push('~'),
                other => out.extend(other.escape_unicode()),
            }
        }
        Cow::Owned(out)
    }

    /// The text in exactly `width` columns: a long one loses its middle, as ends tell names apart.
    pub(super) fn name(self, text: &str, width: usize) -> String {
        self.fit(text, width, width.saturating_sub(1) / 2)
    }

    /// The text in exactly `width` columns: a long one loses its end.
    pub(in crate::publish::terminal) fn start(self, text: &str, width: usize) -> String {
        self.fit(text, width, 0)
    }

    /// The same, at the right.
    pub(super) fn right(self, text: &str, width: usize) -> String {
        let text = self.start(text, width);
        let text = text.trim_end();
        format!(
            "{:blanks$}{text}",
            "",
            blanks = width.saturating_sub(text.width())
        )
    }

    fn fit(self, text: &str, width: usize, last: usize) -> String {
        let mut text = self.text(text).into_owned();
        if text.width() > width {
            let mark = if self.unicode { "…" } else { "~" };
            let first = width.saturating_sub(1).saturating_sub(last);
            let mark = if width == 0 { "" } else { mark };
            text = without_middle(&text, first, last, mark);
        }
        let blanks = width.saturating_sub(text.width());
        text.extend(std::iter::repeat_n(' ', blanks));
        text
    }

    /// What is marked by a colour, where there are colours.
    pub(super) fn tint(self, color: Color) -> Style {
        match self.color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    /// Headings.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What matters less.
    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The chosen row, and bars of keys.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// How bad a part of a whole is.
    pub(super) fn level(self, ratio: f64) -> Style {
        self.tint(match ratio {
            ratio if ratio > 1.0 => Color::Red,
            ratio if ratio > 0.9 => Color::Yellow,
            _ => Color::Green,
        })
    }

    /// How bad a finding is.
    pub(super) fn severity(self, severity: Severity) -> Style {
        self.tint(match severity {
            Severity::Error => Color::Red,
            Severity::Warning => Color::Yellow,
            Severity::Info => Color::Cyan,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNICODE: Look = Look {
        unicode: true,
        color: true,
    };
    const ASCII: Look = Look {
        unicode: false,
        color: false,
    };

    #[test]
    fn bars_are_as_wide_as_asked_and_show_the_least_there_is() {
        for (ratio, unicode, ascii) in [
            (0.0, "····", "...."),
            (f64::NAN, "····", "...."),
            (0.001, "▏···", "#..."),
            (0.5, "██··", "##.."),
            (0.53, "██▏·", "##.."),
            (1.0, "████", "####"),
            (7.0, "████", "####"),
            (-1.0, "····", "...."),
        ] {
            assert_eq!(UNICODE.bar(ratio, 4), unicode, "{ratio}");
            assert_eq!(ASCII.bar(ratio, 4), ascii, "{ratio}");
        }
        assert_eq!(UNICODE.bar(0.5, 0), "");
        assert_eq!(ASCII.bar(0.5, 0), "");
    }

    #[test]
    fn a_gap_in_a_sparkline_is_no_zero() {
        let values = [Some(0.0), None, Some(1.0), Some(2.0)];
        assert_eq!(UNICODE.sparkline(&values), "▁ ▅█");
        assert_eq!(ASCII.sparkline(&values), "_ =#");
        assert_eq!(UNICODE.sparkline(&[Some(0.0)]), "▁");
        assert_eq!(UNICODE.sparkline(&[]), "");
    }

    #[test]
    fn names_are_cut_to_their_column_and_cannot_steer() {
        for (name, width, unicode, ascii) in [
            ("train-0", 9, "train-0  ", "train-0  "),
            ("train-0", 5, "tr…-0", "tr~-0"),
            ("train-0", 1, "…", "~"),
            ("train-0", 0, "", ""),
            ("a\u{1b}[2J", 12, "a\\u{1b}[2J  ", "a\\u{1b}[2J  "),
            ("🦀é", 12, "🦀é         ", "\\u{1f9…u{e9}"),
        ] {
            assert_eq!(UNICODE.name(name, width), unicode, "{name:?}");
            let ascii = ascii.replace('…', "~");
            assert_eq!(ASCII.name(name, width), ascii, "{name:?}");
        }
        assert_eq!(UNICODE.right("12", 4), "  12");
        assert_eq!(UNICODE.start("abcdef", 4), "abc…");
    }
}

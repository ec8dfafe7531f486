//! The table of a GPU's containers: the wider the terminal, the more columns.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::{Bytes, Reading};
use crate::publish::terminal::canary::seconds;
use crate::publish::terminal::cells::reading;

use super::look::Look;
use super::rows::{Choice, Row, Sort, Told};

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Memory,
    OfShare,
    ShareBar,
    Time,
    TimeBar,
    Inflicted,
    Waits,
    Peak,
    FairShare,
    Samples,
    Evidence,
}

/// Columns as they stand, with their headings and widths, and which a narrow terminal does without:
/// those with the highest number go first.
const COLUMNS: [(Column, &str, usize, u8); 11] = [
    (Column::Memory, "memory", 9, 1),
    (Column::ShareBar, "of share", 8, 4),
    (Column::OfShare, "", 6, 3),
    (Column::FairShare, "fair share", 10, 9),
    (Column::Peak, "peak", 9, 8),
    (Column::TimeBar, "time", 8, 7),
    (Column::Time, "time", 7, 2),
    (Column::Samples, "samples", 8, 10),
    (Column::Inflicted, "inflicts", 9, 5),
    (Column::Waits, "waits", 9, 6),
    (Column::Evidence, "evidence", 16, 11),
];
const LAST_RANK: u8 = 11;
/// A name has at least this much, and at most that.
const NAME: (usize, usize) = (18, 72);
/// What stands before a name.
const MARK: usize = 2;

/// The columns that a width has room for.
pub(super) struct Columns {
    look: Look,
    name: usize,
    kept: Vec<(Column, &'static str, usize)>,
}

impl Columns {
    pub(super) fn new(look: Look, width: usize) -> Self {
        let needs = |rank: u8| -> usize {
            let kept = COLUMNS.iter().filter(|column| column.3 <= rank);
            kept.map(|column| column.2 + 1).sum()
        };
        let room = width.saturating_sub(MARK);
        let fits = |rank: &u8| needs(*rank) + NAME.0 <= room;
        let rank = (1..=LAST_RANK).rev().find(fits).unwrap_or(2);
        let kept = COLUMNS.iter().filter(|column| column.3 <= rank);
        Self {
            look,
            name: room.saturating_sub(needs(rank)).clamp(1, NAME.1),
            kept: kept
                .map(|&(column, head, width, _)| (column, head, width))
                .collect(),
        }
    }

    pub(super) fn header(&self, choice: &Choice) -> Line<'static> {
        let Self { look, name, kept } = self;
        let sorted = match choice.sort {
            Sort::Memory => Some(Column::Memory),
            Sort::Time => Some(Column::Time),
            Sort::Inflicted => Some(Column::Inflicted),
            Sort::Name => None,
        };
        let arrow = match (look.unicode, choice.reversed) {
            (true, false) => "▼",
            (true, true) => "▲",
            (false, false) => "v",
            (false, true) => "^",
        };
        let marked = |head: &str, is_it: bool| match is_it {
            true => format!("{arrow}{head}"),
            false => head.to_owned(),
        };
        let pod = marked("pod", sorted.is_none());
        let mut text = format!("  {}", look.start(&pod, *name));
        for (column, head, width) in kept {
            let head = marked(head, sorted == Some(*column));
            text.push(' ');
            text.push_str(&match column {
                Column::ShareBar | Column::TimeBar | Column::Evidence => look.start(&head, *width),
                _ => look.right(&head, *width),
            });
        }
        Line::styled(text, look.faint())
    }

    pub(super) fn row(&self, row: &Row, is_chosen: bool) -> Line<'static> {
        let look = self.look;
        let mark = if is_chosen { "> " } else { "  " };
        let base = match (is_chosen, row.key.present) {
            (true, _) => look.chosen(),
            (false, true) => Style::new(),
            (false, false) => look.faint(),
        };
        let name = match row.key.present {
            true => row.name.clone(),
            false => format!("{} (gone)", row.name),
        };
        let mut spans = vec![Span::styled(
            format!("{mark}{}", look.name(&name, self.name)),
            base,
        )];
        for &(column, _, width) in &self.kept {
            let (text, style) = self.cell(row, column, width);
            spans.push(Span::styled(" ", base));
            spans.push(Span::styled(text, base.patch(style)));
        }
        Line::from(spans)
    }

    /// Memory that no container has: only the columns of memory say something.
    pub(super) fn rest(&self, name: &str, memory: &str) -> Line<'static> {
        let look = self.look;
        let mut text = format!("  {}", look.name(name, self.name));
        for &(column, _, width) in &self.kept {
            text.push(' ');
            let cell = if column == Column::Memory { memory } else { "" };
            text.push_str(&look.right(&why(cell), width));
        }
        Line::styled(text.trim_end().to_owned(), look.faint())
    }

    fn cell(&self, row: &Row, column: Column, width: usize) -> (String, Style) {
        let look = self.look;
        let plain = |text: &str| (look.right(&why(text), width), Style::new());
        let bar = |ratio: Option<f64>, style: Style| match ratio {
            Some(ratio) => (look.bar(ratio, width), style),
            None => (look.start("", width), Style::new()),
        };
        let share = row.of_share();
        let time = row.time.as_ref().ok().copied();
        match column {
            Column::Memory => plain(&bytes(&row.memory)),
            Column::FairShare => plain(&bytes(&row.fair_share)),
            Column::Peak => plain(&bytes(&row.peak)),
            Column::ShareBar => bar(share, look.level(share.unwrap_or(0.0))),
            Column::OfShare => match share {
                Some(share) => (look.right(&percent(share), width), look.level(share)),
                None => plain("-"),
            },
            Column::TimeBar => bar(time, look.tint(ratatui::style::Color::Cyan)),
            Column::Time => plain(&told(&row.time, percent)),
            Column::Samples => plain(
                &row.samples
                    .map_or_else(|| "-".to_owned(), |n| n.to_string()),
            ),
            Column::Inflicted => plain(&told(&row.inflicted, seconds)),
            Column::Waits => plain(&told(&row.waits, seconds)),
            Column::Evidence => (look.start(row.evidence, width), Style::new()),
        }
    }
}

pub(super) fn bytes(value: &Reading<Bytes>) -> String {
    reading(value)
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn told(told: &Told, words: impl FnOnce(f64) -> String) -> String {
    match told {
        Ok(value) => words(*value),
        Err(why) => why.clone(),
    }
}

/// `? (gpu lost)` without its brackets, which a column has no room for.
fn why(text: &str) -> String {
    text.replace(['(', ')'], "")
}

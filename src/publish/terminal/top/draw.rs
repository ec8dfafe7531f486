//! The screen: a head of two or three lines, the body that is scrolled, findings, and the keys.

use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use crate::model::Snapshot;
use crate::publish::terminal::clock;

use super::look::Look;
use super::notes::{findings, help, said, state, told, with_severity, worst_first, wrapped};
use super::pages::{Body, Drawing, Heading};
use super::{Page, Top};

/// From here on findings stand below the GPUs.
const ROOMY: usize = 20;
/// An agent publishes once a second: an answer older than this is worth a colour.
const OLD: Duration = Duration::from_secs(5);

impl Top {
    /// Draws what is known at `now`.
    pub fn draw(&mut self, frame: &mut Frame<'_>, now: Duration) {
        let area = frame.area();
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        if width == 0 || height == 0 {
            return;
        }
        let head = self.head(width, now);
        let foot = self.foot(width);
        // The body is what the screen is for: in a small one it goes before the rest.
        let head = &head[..head.len().min(height.div_ceil(4))];
        let foot = &foot[..foot.len().min(height / 4)];
        let body = self.body(width);
        let room = height - head.len() - foot.len();
        let notes = match self.page {
            Page::Gpus if height >= ROOMY => {
                let free = room.saturating_sub(body.lines.len());
                self.below(width, free.max(height / 4))
            }
            _ => Vec::new(),
        };
        let room = room - notes.len();
        let lines = self.scrolled(body, room);
        let buffer = frame.buffer_mut();
        let mut pen = Pen {
            buffer,
            area,
            row: 0,
        };
        pen.lines(head);
        pen.lines(&lines);
        pen.row = (height - notes.len() - foot.len()) as u16;
        pen.lines(&notes);
        pen.lines(foot);
    }

    /// Who is looked at, how old that is, and how its sources are.
    fn head(&self, width: usize, now: Duration) -> Vec<Line<'static>> {
        let look = self.look;
        let mut spans = vec![Span::styled("slicewatch top", look.strong())];
        if self.paused {
            spans.push(Span::styled("  PAUSED", look.tint(Color::Yellow)));
        }
        if let (Some(shown), Some(answered)) = (&self.shown, self.answered) {
            let snapshot = &shown.snapshot;
            let node = snapshot.node.as_deref().unwrap_or("this node");
            let age = now.saturating_sub(answered);
            let style = if age > OLD {
                look.tint(Color::Yellow)
            } else {
                Style::new()
            };
            spans.push(Span::styled(format!("  {} s old", age.as_secs()), style));
            spans.push(Span::raw(format!(
                "  {}  {} UTC",
                look.text(node),
                clock(snapshot.at)
            )));
        }
        spans.push(Span::raw(format!("  {}", look.text(&self.source))));
        let mut lines = vec![Line::from(spans)];
        if let Some(silence) = &self.silence {
            let length = now.saturating_sub(silence.since).as_secs();
            let text = format!("no answer for {length} s, asking on: {}", silence.words);
            let told = wrapped(look, &text, width).into_iter().take(2);
            lines.extend(told.map(|line| line.style(look.tint(Color::Red))));
        }
        if let Some(shown) = &self.shown {
            lines.push(sources(look, &shown.snapshot));
        }
        lines
    }

    /// What is typed, or what can be pressed.
    fn foot(&self, width: usize) -> Vec<Line<'static>> {
        let look = self.look;
        let mut lines = Vec::new();
        let filter = look.text(&self.choice.filter);
        if self.typing {
            let text = format!("filter: {filter}_  (enter keeps it, esc ends it)");
            lines.push(Line::styled(look.start(&text, width), look.strong()));
        } else if !filter.is_empty() {
            let text = format!("only with \"{filter}\" in the name; esc shows all");
            lines.push(Line::styled(look.start(&text, width), look.strong()));
        }
        let order = if self.choice.reversed {
            ", reversed"
        } else {
            ""
        };
        let sort = self.choice.sort.label();
        let text = match self.page {
            Page::Gpus => format!(
                "q quit  ? help  n neighbours  f findings  s by {sort}{order}  / filter  p pause  tab GPU"
            ),
            _ => "q quit  esc back  up, down scroll  p pause".to_owned(),
        };
        lines.push(Line::styled(look.start(&text, width), look.chosen()));
        lines
    }

    /// Findings below the GPUs: all of them where there is room, else the worst, cut.
    fn below(&self, width: usize, most: usize) -> Vec<Line<'static>> {
        let look = self.look;
        let Some(shown) = &self.shown else {
            return Vec::new();
        };
        let all = worst_first(&shown.snapshot);
        if all.is_empty() {
            return vec![Line::styled("no findings", look.faint())];
        }
        let count = format!("findings: {}", all.len());
        let mut lines = vec![Line::styled(count.clone(), look.strong())];
        lines.extend(all.iter().flat_map(|finding| told(look, finding, width)));
        if lines.len() <= most {
            return lines;
        }
        lines.clear();
        let room = (most.saturating_sub(1) / 2).min(all.len()).max(1);
        let heading = match all.len() - room {
            0 => count,
            more => format!("{count}, {more} more with f"),
        };
        lines.push(Line::styled(heading, look.strong()));
        for finding in &all[..room] {
            let [what, mend] = said(look, finding);
            lines.push(with_severity(look, finding, look.start(&what, width)));
            lines.push(Line::raw(look.start(&mend, width)));
        }
        lines
    }

    fn body(&self, width: usize) -> Body {
        let look = self.look;
        if self.page == Page::Help {
            return help(look, width);
        }
        let (Some(shown), Some(all)) = (&self.shown, &self.all) else {
            let lines = match self.silence {
                Some(_) => "Nothing was heard yet.",
                None => "Waiting for the first answer.",
            };
            return Body {
                lines: vec![Line::raw(lines)],
                ..Body::default()
            };
        };
        let drawing = |shown| Drawing {
            look,
            width,
            window: &self.window,
            shown,
            choice: &self.choice,
        };
        match &self.page {
            Page::Gpus => drawing(shown).gpus(self.chosen.as_ref()),
            // Neighbours that the filter leaves out are neighbours too.
            Page::Neighbours(key) => drawing(all).neighbours(key),
            Page::Findings | Page::Help => findings(look, &shown.snapshot, width),
        }
    }

    /// The lines that are seen: so many that the chosen one is among them, with the heading of what
    /// is scrolled over above.
    fn scrolled(&mut self, body: Body, room: usize) -> Vec<Line<'static>> {
        self.seen = room;
        let Body {
            mut lines,
            chosen,
            sections,
        } = body;
        let above = if room >= 6 { 2 } else { 0 };
        if let Some(chosen) = chosen {
            let mut begins = sections.iter().rev().map(|heading| heading.places[0]);
            let begin = begins.find(|begin| *begin <= chosen).unwrap_or(0);
            let first_row = lines.len().min(begin + room);
            self.scroll = match chosen {
                // From its GPU's heading on, where that leaves the row to be seen.
                chosen if chosen < first_row && chosen < self.scroll + above => begin,
                chosen if chosen < self.scroll + above => chosen.saturating_sub(above),
                chosen if chosen >= self.scroll + room && chosen < first_row => begin,
                chosen if chosen >= self.scroll + room => (chosen + 1).saturating_sub(room),
                _ => self.scroll,
            };
        }
        self.scroll = self.scroll.min(lines.len().saturating_sub(room));
        let scroll = self.scroll;
        let mut seen: Vec<_> = lines.drain(scroll..).take(room).collect();
        let mut above_all = sections.into_iter().rev();
        let heading = above_all.find(|heading| heading.places[0] <= scroll);
        if let Some(Heading { places, lines }) = heading.filter(|_| above > 0 && chosen.is_some()) {
            let heading = places.into_iter().zip(lines);
            for (row, (line, (place, heading))) in seen.iter_mut().zip(heading).enumerate() {
                if place < scroll + row {
                    *line = heading;
                }
            }
        }
        seen
    }
}

fn sources(look: Look, snapshot: &Snapshot) -> Line<'static> {
    let mut spans = Vec::new();
    for health in &snapshot.sources {
        let (state, is_down) = state(health);
        let style = match is_down {
            true => look.tint(Color::Red),
            false => look.faint(),
        };
        let comma = if spans.is_empty() { "" } else { ", " };
        spans.push(Span::styled(
            format!("{comma}{} {state}", health.source.label()),
            style,
        ));
    }
    if spans.is_empty() {
        spans.push(Span::styled("the agent tells of no source", look.faint()));
    }
    Line::from(spans)
}

/// Writes line below line, within the screen.
struct Pen<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    row: u16,
}

impl Pen<'_> {
    fn lines(&mut self, lines: &[Line<'static>]) {
        for line in lines {
            if self.row >= self.area.height {
                return;
            }
            let (x, y) = (self.area.x, self.area.y + self.row);
            self.buffer.set_line(x, y, line, self.area.width);
            self.row += 1;
        }
    }
}

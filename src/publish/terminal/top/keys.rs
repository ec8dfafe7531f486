//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{Flow, Page, Top};

/// A filter is no longer.
const MOST_TYPED: usize = 253;

/// The keys and what they do, for the help.
pub(super) const KEYS: [(&str, &str); 13] = [
    ("up, down, j, k", "choose a pod; scroll"),
    ("page up, page down, home, end", "the same, further"),
    ("tab, shift-tab", "next GPU, GPU before"),
    ("enter, n", "neighbours of the pod: who it waits for"),
    ("f", "findings with their mends, and health of the sources"),
    ("esc", "back; without the filter"),
    ("s", "sort by memory, time, delay inflicted, name"),
    ("r", "the other way round"),
    ("/", "show only what has a text in namespace/pod/container"),
    ("p, space", "pause, go on"),
    ("?, h", "this page"),
    ("q, ctrl-c", "end"),
    ("ctrl-l", "draw anew"),
];

impl Top {
    pub(super) fn key(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Stay;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Flow::Quit,
            KeyCode::Char('l') if control => return Flow::Redraw,
            _ if self.typing => self.typed(key.code, control),
            KeyCode::Char(_) if control => {}
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('?' | 'h') => self.turn_to(Page::Help),
            KeyCode::Char('f') => self.turn_to(Page::Findings),
            KeyCode::Char('p' | ' ') => {
                self.paused = !self.paused;
                if !self.paused {
                    self.show();
                }
            }
            KeyCode::Esc if self.page != Page::Gpus => self.turn_to(Page::Gpus),
            KeyCode::Esc => {
                self.choice.filter.clear();
                self.choose();
            }
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-self.page_length()),
            KeyCode::PageDown => self.go(self.page_length()),
            KeyCode::Home => self.go(isize::MIN),
            KeyCode::End => self.go(isize::MAX),
            code if self.page == Page::Gpus => self.of_gpus(code),
            _ => {}
        }
        Flow::Stay
    }

    /// Keys of the list of GPUs alone.
    fn of_gpus(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter | KeyCode::Char('n') => {
                if let Some(chosen) = self.chosen.clone() {
                    self.turn_to(Page::Neighbours(chosen));
                }
            }
            KeyCode::Tab => self.next_gpu(true),
            KeyCode::BackTab => self.next_gpu(false),
            KeyCode::Char('s') => {
                self.choice.sort = self.choice.sort.next();
                self.choose();
            }
            KeyCode::Char('r') => {
                self.choice.reversed = !self.choice.reversed;
                self.choose();
            }
            KeyCode::Char('/') => self.typing = true,
            _ => {}
        }
    }

    fn typed(&mut self, code: KeyCode, control: bool) {
        let filter = &mut self.choice.filter;
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                filter.clear();
                self.typing = false;
            }
            KeyCode::Backspace => {
                filter.pop();
            }
            KeyCode::Char('u') if control => filter.clear(),
            KeyCode::Char(character) if !control && filter.len() < MOST_TYPED => {
                filter.push(character);
            }
            _ => {}
        }
        self.choose();
    }

    /// Another page; the same key again leads back.
    fn turn_to(&mut self, page: Page) {
        self.page = if self.page == page { Page::Gpus } else { page };
        self.scroll = 0;
    }

    fn page_length(&self) -> isize {
        self.seen.saturating_sub(4).clamp(1, 1000) as isize
    }

    /// The row, or the line, so many further down.
    fn go(&mut self, by: isize) {
        if self.page != Page::Gpus {
            // Drawing knows where the end is.
            self.scroll = self.scroll.saturating_add_signed(by);
            return;
        }
        let Some(shown) = &self.shown else {
            return;
        };
        let last = shown.rows().count().saturating_sub(1);
        let place = self
            .place()
            .unwrap_or(0)
            .saturating_add_signed(by)
            .min(last);
        let row = shown.rows().nth(place);
        self.chosen = row.map(|row| row.key.clone());
    }

    /// The first row of the next GPU that has one, round in a circle.
    fn next_gpu(&mut self, forwards: bool) {
        let Some(shown) = &self.shown else {
            return;
        };
        let firsts: Vec<_> = shown
            .sections
            .iter()
            .filter_map(|section| section.rows.first())
            .map(|row| &row.key)
            .collect();
        let of_it = |chosen: &super::Key| firsts.iter().position(|key| key.gpu == chosen.gpu);
        let count = firsts.len();
        let now = self.chosen.as_ref().and_then(of_it);
        let next = match now {
            Some(now) if forwards => (now + 1) % count,
            Some(now) => (now + count - 1) % count,
            None => 0,
        };
        self.chosen = firsts.get(next).map(|key| (*key).clone());
    }
}

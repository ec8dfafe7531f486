//! The live view of `slicewatch top`: what happens to it, and what it then shows. Nothing here reads
//! a clock, a key or a socket: time is an argument, and so is what was pressed or answered.

mod draw;
mod keys;
mod look;
mod notes;
mod pages;
mod plain;
mod rows;
mod table;
mod window;

use std::sync::Arc;
use std::time::Duration;

use ratatui::crossterm::event::KeyEvent;

use crate::model::Snapshot;

pub use look::Look;
pub use plain::Lines;
use rows::{Choice, Key, Shown};
use window::Window;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A key.
    Key(KeyEvent),
    /// What the agent says, which may be what it said before.
    Answer(Arc<Snapshot>),
    /// The agent did not answer: why, and what to do about it.
    NoAnswer(String),
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// On.
    Stay,
    /// On, and all of the screen anew.
    Redraw,
    /// The user has seen enough.
    Quit,
}

/// What the body of the screen is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Gpus,
    Neighbours(Key),
    Findings,
    Help,
}

/// An agent that does not answer.
#[derive(Debug, Clone)]
struct Silence {
    since: Duration,
    words: String,
}

/// All that the screen knows.
#[derive(Debug)]
pub struct Top {
    /// What is looked at, in words.
    source: String,
    look: Look,
    window: Window,
    /// The newest, or what was the newest when it was paused: all rows.
    all: Option<Shown>,
    /// Of them what is wanted.
    shown: Option<Shown>,
    /// When something new was answered.
    answered: Option<Duration>,
    silence: Option<Silence>,
    page: Page,
    choice: Choice,
    /// Whether the keys write the filter.
    typing: bool,
    chosen: Option<Key>,
    paused: bool,
    /// First line of the body on the screen.
    scroll: usize,
    /// Lines of the body that are seen at once, when it was last drawn.
    seen: usize,
}

impl Top {
    /// A view that has seen nothing yet of `source`, which is shown.
    pub fn new(source: String, look: Look) -> Self {
        Self {
            source,
            look,
            window: Window::default(),
            all: None,
            shown: None,
            answered: None,
            silence: None,
            page: Page::Gpus,
            choice: Choice::default(),
            typing: false,
            chosen: None,
            paused: false,
            scroll: 0,
            seen: 0,
        }
    }

    /// Takes in what happened at `now`, a time since any start.
    pub fn on(&mut self, event: Event, now: Duration) -> Flow {
        match event {
            Event::Key(key) => return self.key(key),
            Event::Answer(snapshot) => {
                self.silence = None;
                if self.window.push(&snapshot) {
                    self.answered = Some(now);
                    if !self.paused {
                        self.show();
                    }
                }
            }
            Event::NoAnswer(words) => {
                let since = self.silence.take().map_or(now, |silence| silence.since);
                self.silence = Some(Silence { since, words });
            }
        }
        Flow::Stay
    }

    /// Brings the newest onto the screen.
    fn show(&mut self) {
        self.all = Shown::new(&self.window);
        self.choose();
    }

    /// Sorts and filters anew; what is chosen stays chosen while it is there.
    fn choose(&mut self) {
        let place = self.place();
        self.shown = self.all.as_ref().map(|all| all.chosen(&self.choice));
        let rows = || self.shown.iter().flat_map(Shown::rows);
        let is_there = |key: &Key| rows().any(|row| row.key == *key);
        if !self.chosen.as_ref().is_some_and(is_there) {
            let count = rows().count();
            let place = place.unwrap_or(0).min(count.saturating_sub(1));
            self.chosen = rows().nth(place).map(|row| row.key.clone());
        }
    }

    /// Which of the rows is chosen.
    fn place(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        let mut rows = self.shown.as_ref()?.rows();
        rows.position(|row| row.key == *chosen)
    }
}

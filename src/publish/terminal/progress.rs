//! How far a long command is: on a terminal one line on standard error, gone when it is done; a line
//! now and then elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::cells::printable;
use super::top::Look;

/// Between two changes of the line.
const CHANGE: Duration = Duration::from_millis(100);
/// Between two lines where there is no terminal: a command that takes no longer says nothing.
const LINE: Duration = Duration::from_secs(10);
/// Back to the first column, and nothing from there on.
const ERASE: &str = "\r\u{1b}[K";

/// Where it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// With so many columns.
    Terminal(usize),
    Lines,
    Nowhere,
}

/// Says how far a command is, until it is dropped.
#[derive(Debug)]
pub struct Progress {
    place: Place,
    begun: Instant,
    /// When it was told last.
    told: Duration,
    /// Whether a line stands on the terminal.
    stands: bool,
}

impl Progress {
    /// Tells of a command that begins now.
    pub fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let place = match stderr().is_terminal() && !is_dumb {
            true => {
                let size = ratatui::crossterm::terminal::size();
                // A line that fills the last column may break.
                let width = size.map_or(0, |(width, _)| usize::from(width)).max(41) - 1;
                Place::Terminal(width)
            }
            false => Place::Lines,
        };
        Self::at(place)
    }

    /// Tells nothing.
    pub fn silent() -> Self {
        Self::at(Place::Nowhere)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            begun: Instant::now(),
            told: Duration::ZERO,
            stands: false,
        }
    }

    /// Another thing is done from now on.
    pub fn begin(&mut self, words: impl Display) {
        self.tell(words, true);
    }

    /// It is so far: told where the last time is a while ago.
    pub fn say(&mut self, words: impl Display) {
        self.tell(words, false);
    }

    fn tell(&mut self, words: impl Display, is_new: bool) {
        if let Some(text) = self.text(words, is_new, self.begun.elapsed()) {
            // Who cannot hear how far it is will hear the result.
            let mut err = stderr().lock();
            let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
        }
    }

    /// What is to be written, if it is time.
    fn text(&mut self, words: impl Display, is_new: bool, now: Duration) -> Option<String> {
        let passed = now.saturating_sub(self.told);
        let is_due = match self.place {
            Place::Terminal(_) => is_new || !self.stands || passed >= CHANGE,
            Place::Lines => passed >= LINE,
            Place::Nowhere => false,
        };
        if !is_due {
            return None;
        }
        self.told = now;
        let words = words.to_string();
        let text = format!("{} ({} s)", printable(&words), now.as_secs());
        Some(match self.place {
            Place::Terminal(width) => {
                self.stands = true;
                let look = Look {
                    unicode: false,
                    color: false,
                };
                format!("{ERASE}{}", look.start(&text, width).trim_end())
            }
            Place::Lines | Place::Nowhere => format!("slicewatch: {text}\n"),
        })
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.stands {
            let _ = stderr().lock().write_all(ERASE.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of words said at these milliseconds, each new or not.
    fn written(place: Place, said: &[(u64, bool, &str)]) -> Vec<String> {
        let mut progress = Progress::at(place);
        let texts = said.iter().filter_map(|&(at, is_new, words)| {
            progress.text(words, is_new, Duration::from_millis(at))
        });
        let texts = texts.collect();
        progress.stands = false;
        texts
    }

    #[test]
    fn a_terminal_has_one_line_that_is_not_changed_too_often() {
        let said = [
            (0, true, "asking"),
            (10, false, "1 node"),
            (90, false, "2 nodes"),
            (120, false, "3 nodes"),
            (130, true, "pods"),
            (2500, false, "a\u{1b}[2Jb and very many more words"),
        ];
        assert_eq!(
            written(Place::Terminal(20), &said),
            [
                "\r\u{1b}[Kasking (0 s)",
                "\r\u{1b}[K3 nodes (0 s)",
                "\r\u{1b}[Kpods (0 s)",
                "\r\u{1b}[Ka\\u{1b}[2Jb and ver~",
            ]
        );
    }

    #[test]
    fn elsewhere_a_line_comes_now_and_then_and_none_of_a_short_command() {
        let said = [
            (0, true, "asking"),
            (9_900, true, "nodes"),
            (10_000, false, "7 nodes"),
            (15_000, true, "pods"),
            (20_000, false, "9 pods"),
        ];
        assert_eq!(
            written(Place::Lines, &said),
            [
                "slicewatch: 7 nodes (10 s)\n",
                "slicewatch: 9 pods (20 s)\n"
            ]
        );
        assert!(written(Place::Nowhere, &said).is_empty());
    }
}

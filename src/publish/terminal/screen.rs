//! A terminal that is drawn on: taken over, and given back as it was, whatever ends the program but
//! SIGKILL.

use std::io::{self, IsTerminal, Stdout, Write, stdin, stdout};
use std::panic;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{Event, read};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Position, Rect};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc;

/// Keys that wait to be taken in.
const WAITING: usize = 64;

/// A terminal that cannot be drawn on.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    #[error("the terminal cannot be drawn on; for plain lines: slicewatch top | cat")]
    Draw(#[source] io::Error),
    #[error("the keys of the terminal cannot be read; for plain lines: slicewatch top | cat")]
    Keys(#[source] io::Error),
}

/// Whether there is a terminal with keys that can be drawn on.
pub fn is_there() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stdin().is_terminal() && stdout().is_terminal() && !is_dumb
}

/// The columns of the terminal that standard output is, where it is one.
pub fn width() -> Option<u16> {
    let size = || ratatui::crossterm::terminal::size().ok();
    let (width, _) = stdout().is_terminal().then(size)??;
    (width > 0).then_some(width)
}

/// The terminal, while it is taken over.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it tells of itself.
    ///
    /// # Errors
    /// [`ScreenError::Draw`].
    pub fn open() -> Result<Self, ScreenError> {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
        }));
        let begun = enable_raw_mode()
            .and_then(|()| execute!(stdout(), EnterAlternateScreen, Hide))
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match begun {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(ScreenError::Draw(error))
            }
        }
    }

    /// Draws what is another than before.
    ///
    /// # Errors
    /// [`ScreenError::Draw`].
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), ScreenError> {
        self.terminal.draw(draw).map_err(ScreenError::Draw)?;
        Ok(())
    }

    /// Forgets what was drawn, so that all of it is drawn again.
    ///
    /// # Errors
    /// [`ScreenError::Draw`].
    pub fn clear(&mut self) -> Result<(), ScreenError> {
        // Not `clear`: that asks where the cursor is, and the answer would come among the keys.
        let size = self.terminal.size().map_err(ScreenError::Draw)?;
        let area = Rect::from((Position::ORIGIN, size));
        self.terminal.resize(area).map_err(ScreenError::Draw)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal as it was. What fails here can be told to nobody.
fn give_back() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = stdout().flush();
}

/// What the user does to the terminal, as it happens: a thread waits for it, until the program ends.
///
/// # Errors
/// [`ScreenError::Keys`], now or later.
pub fn events() -> Result<mpsc::Receiver<Result<Event, ScreenError>>, ScreenError> {
    let (happened, events) = mpsc::channel(WAITING);
    let reading = move || {
        loop {
            let event = read().map_err(ScreenError::Keys);
            let failed = event.is_err();
            if happened.blocking_send(event).is_err() || failed {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("keys".into());
    thread.spawn(reading).map_err(ScreenError::Keys)?;
    Ok(events)
}

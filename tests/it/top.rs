//! The live view: what it shows of snapshots, and how it behaves in a terminal.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod keys;
mod pictures;
pub(crate) mod terminal;

use std::sync::Arc;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::{Moment, Snapshot};
use slicewatch::publish::terminal::top::{Event, Flow, Lines, Look, Top};

const PLAIN: Look = Look {
    unicode: true,
    color: false,
};

/// All snapshots of a scenario's first seconds.
pub(crate) fn scenario(name: &str, seconds: u64) -> Vec<Arc<Snapshot>> {
    let start = Moment {
        monotonic: Duration::from_secs(1000),
        unix: Duration::from_secs(1_795_255_384),
    };
    let mut agent = SimulatedAgent::new(name, 1, start, SamplerSettings::default()).unwrap();
    let mut seen = Vec::new();
    let end = start.monotonic + Duration::from_secs(seconds);
    agent.run(end, |_, snapshot| seen.push(snapshot));
    seen
}

/// A view that has seen them, a second apart.
fn view(snapshots: &[Arc<Snapshot>], look: Look) -> Top {
    let mut top = Top::new("http://127.0.0.1:9735".to_owned(), look);
    for (second, snapshot) in snapshots.iter().enumerate() {
        let now = Duration::from_secs(second as u64);
        let flow = top.on(Event::Answer(Arc::clone(snapshot)), now);
        assert_eq!(flow, Flow::Stay);
    }
    top
}

fn press(top: &mut Top, code: KeyCode) -> Flow {
    let key = KeyEvent::new(code, KeyModifiers::NONE);
    top.on(Event::Key(key), Duration::from_secs(60))
}

fn press_all(top: &mut Top, keys: &str) {
    for key in keys.chars() {
        assert_eq!(press(top, KeyCode::Char(key)), Flow::Stay, "{key}");
    }
}

/// The screen as text, at a time since the view's start.
fn drawn(top: &mut Top, (width, height): (u16, u16), seconds: u64) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now = Duration::from_secs(seconds);
    terminal.draw(|frame| top.draw(frame, now)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

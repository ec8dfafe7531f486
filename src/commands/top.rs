//! `slicewatch top`: an agent or a scenario, live in the terminal.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use ratatui::crossterm::event::Event as Pressed;
use tokio::sync::{mpsc, watch};

use super::agent::{Heartbeat, terminated};
use super::demo::{speed, turn};
use super::options::Period;
use super::remote::{Remote, RemoteArgs};
use super::simulated::SimulatedAgent;
use crate::collect::clock::Clock;
use crate::collect::sampler::SamplerSettings;
use crate::model::Snapshot;
use crate::publish::terminal::screen::{self, Screen};
use crate::publish::terminal::top::{Event, Flow, Lines, Look, Top};

/// Between two looks, on a screen: an agent publishes once a second.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same, of plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);
/// Between two pictures while nothing happens: ages grow.
const BEAT: Duration = Duration::from_millis(500);

/// Flags of the view.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// The agent to look at
    #[arg(
        long,
        default_value = "http://127.0.0.1:9735",
        value_name = "URL",
        conflicts_with = "scenario"
    )]
    url: String,
    /// Look at a simulated node instead
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Same seed, same simulated world
    #[arg(
        long,
        default_value_t = 1,
        value_name = "NUMBER",
        requires = "scenario"
    )]
    seed: u64,
    /// Simulated seconds in a real one
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = speed, requires = "scenario")]
    speed: f64,
    /// From one look to the next [default: 1s, of plain lines 2s]
    #[arg(long, value_name = "TIME")]
    interval: Option<Period>,
    /// Print so many tables as plain lines, and end; without a terminal they are plain lines too
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Characters of bars [default: by the locale]
    #[arg(long, env = "SLICEWATCH_CHARACTERS", value_enum, value_name = "KIND")]
    characters: Option<Characters>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What bars are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Characters {
    Ascii,
    Unicode,
}

/// Shows until it is told to end.
///
/// # Errors
/// A flag that cannot be used, an unknown scenario, or a terminal that cannot be drawn on. An agent
/// that does not answer is asked again, unless so many tables are wanted and none could be had.
pub async fn run(args: TopArgs) -> anyhow::Result<()> {
    let is_plain = args.count.is_some() || !screen::is_there();
    let interval = match (args.interval, is_plain) {
        (Some(Period(interval)), _) => interval,
        (None, true) => PLAIN_INTERVAL,
        (None, false) => INTERVAL,
    };
    let source = Source::new(&args)?;
    let name = source.name();
    let answers = source.watch(interval)?;
    let ended = terminated();
    if is_plain {
        return plain(answers, args.count, ended).await;
    }
    let look = look(args.characters, |name| std::env::var(name).ok());
    draw(Top::new(name, look), answers, ended).await
}

/// What is looked at.
enum Source {
    Agent(Box<Remote>),
    World {
        scenario: String,
        latest: watch::Receiver<Option<Arc<Snapshot>>>,
    },
}

impl Source {
    fn new(args: &TopArgs) -> anyhow::Result<Self> {
        let Some(scenario) = args.scenario.clone() else {
            return Ok(Self::Agent(Box::new(Remote::new(&args.url, &args.remote)?)));
        };
        let start = Clock::new().now();
        let settings = SamplerSettings::default();
        let agent = SimulatedAgent::new(&scenario, args.seed, start, settings)?;
        let (publish, latest) = watch::channel(None);
        let speed = args.speed;
        let world = move || {
            let heartbeat = Heartbeat::new();
            let told = |snapshot| {
                publish.send_replace(Some(snapshot));
                !publish.is_closed()
            };
            turn(agent, start.monotonic, speed, None, told, &heartbeat);
        };
        let thread = std::thread::Builder::new().name("world".into());
        thread
            .spawn(world)
            .context("no thread for the simulated world")?;
        Ok(Self::World { scenario, latest })
    }

    fn name(&self) -> String {
        match self {
            Self::Agent(agent) => agent
                .address()
                .trim_end_matches("/api/v1/snapshot")
                .to_owned(),
            Self::World { scenario, .. } => format!("scenario {scenario}"),
        }
    }

    fn ask(&self) -> anyhow::Result<Arc<Snapshot>> {
        match self {
            Self::Agent(agent) => agent.fetch(),
            Self::World { latest, .. } => {
                if latest.has_changed().is_err() {
                    bail!("the simulated world has ended; start it anew")
                }
                let latest = latest.borrow().clone();
                latest.ok_or_else(|| anyhow!("the simulated world is about to begin"))
            }
        }
    }

    /// Asks again and again on a thread of its own: an agent may take its time, the keys may not.
    fn watch(self, interval: Duration) -> anyhow::Result<mpsc::Receiver<Answer>> {
        let (answered, answers) = mpsc::channel(1);
        let asking = move || {
            // A world needs a moment for its first snapshot.
            let patience = Instant::now() + BEAT;
            loop {
                let begun = Instant::now();
                let answer = self.ask();
                if answer.is_err() && matches!(self, Self::World { .. }) && begun < patience {
                    std::thread::sleep(BEAT / 20);
                    continue;
                }
                if answered.blocking_send(answer).is_err() {
                    return;
                }
                std::thread::sleep(interval.saturating_sub(begun.elapsed()));
            }
        };
        let thread = std::thread::Builder::new().name("looks".into());
        thread
            .spawn(asking)
            .context("no thread to ask the agent with")?;
        Ok(answers)
    }
}

type Answer = anyhow::Result<Arc<Snapshot>>;

/// On the screen.
async fn draw(
    mut top: Top,
    mut answers: mpsc::Receiver<Answer>,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut screen = Screen::open()?;
    let mut events = screen::events()?;
    let start = Instant::now();
    let mut ended = std::pin::pin!(ended);
    let mut beat = tokio::time::interval(BEAT);
    loop {
        screen.draw(|frame| top.draw(frame, start.elapsed()))?;
        let event = tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            Some(pressed) = events.recv() => match pressed? {
                Pressed::Key(key) => Event::Key(key),
                // Another size: drawn anew.
                _ => continue,
            },
            Some(answer) = answers.recv() => match answer {
                Ok(snapshot) => Event::Answer(snapshot),
                Err(error) => Event::NoAnswer(format!("{error:#}")),
            },
            _ = beat.tick() => continue,
        };
        match top.on(event, start.elapsed()) {
            Flow::Stay => {}
            Flow::Redraw => screen.clear()?,
            Flow::Quit => return Ok(()),
        }
    }
}

/// As tables, one a look.
async fn plain(
    mut answers: mpsc::Receiver<Answer>,
    count: Option<u64>,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut ended = std::pin::pin!(ended);
    let (mut lines, mut heard) = (Lines::default(), false);
    for look in 1.. {
        let answer = tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            Some(answer) = answers.recv() => answer,
            else => return Ok(()),
        };
        let is_last = count == Some(look);
        let text = match (answer, heard) {
            (Err(error), false) if is_last => return Err(error),
            (Err(error), _) => format!("no answer, asking on: {error:#}\n"),
            (Ok(snapshot), _) => {
                heard = true;
                lines.table(&snapshot, screen::width())
            }
        };
        let mut out = std::io::stdout().lock();
        write!(out, "{}{text}", if look > 1 { "\n" } else { "" })?;
        out.flush()?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// What this terminal can show, by the user's word and the environment.
fn look(characters: Option<Characters>, variable: impl Fn(&str) -> Option<String>) -> Look {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let locale = || ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let utf8 = |locale: String| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    };
    Look {
        unicode: match characters {
            Some(characters) => characters == Characters::Unicode,
            None => locale().is_some_and(utf8),
        },
        color: set("NO_COLOR").is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_and_no_color_say_what_is_drawn() {
        let of = |characters, environment: &[(&str, &str)]| {
            let look = look(characters, |name| {
                let mut found = environment.iter().filter(|(key, _)| *key == name);
                found.next().map(|(_, value)| (*value).to_owned())
            });
            (look.unicode, look.color)
        };
        for (environment, wanted) in [
            (&[][..], (false, true)),
            (&[("LANG", "C")], (false, true)),
            (&[("LANG", "en_US.UTF-8")], (true, true)),
            (&[("LANG", "de_DE.utf8"), ("NO_COLOR", "1")], (true, false)),
            (&[("LANG", "C.UTF-8"), ("LC_ALL", "C")], (false, true)),
            (
                &[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("NO_COLOR", "")],
                (true, true),
            ),
        ] {
            assert_eq!(of(None, environment), wanted, "{environment:?}");
        }
        assert!(of(Some(Characters::Unicode), &[]).0);
        assert!(!of(Some(Characters::Ascii), &[("LANG", "C.UTF-8")]).0);
    }
}

//! `slicewatch snapshot`: one reading, as a table or JSON.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::node::Node;
use super::options::{Options, Period, settings};
use super::remote::{Remote, RemoteArgs};
use super::simulated::SimulatedAgent;
use crate::analyse::lease::CanaryMode;
use crate::collect::clock::Clock;
use crate::collect::sampler::SamplerSettings;
use crate::model::{GpuSeconds, Reading, Snapshot};
use crate::publish::terminal::progress::Progress;
use crate::publish::terminal::table_between;

/// How long a node is watched unless told otherwise: four drains of its utilization ring.
const WATCH_FOR: Duration = Duration::from_secs(15);
/// The same of a simulated node, whose time costs nothing.
const SIMULATED_FOR: Duration = Duration::from_secs(60);
/// Between two looks at a running agent, which publishes once a second.
const LOOK: Duration = Duration::from_secs(1);

/// Flags of the snapshot.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[arg(long, value_enum, default_value = "table")]
    format: SnapshotFormat,
    /// Read a running agent, such as http://127.0.0.1:9735, instead of this node
    #[arg(long, value_name = "URL", conflicts_with = "scenario")]
    url: Option<String>,
    /// Read a simulated node instead of this one
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
    /// How long to watch before the reading is taken: shares of time need it [default: 15s, of a
    /// scenario 60s of simulated time]
    #[arg(long, value_name = "TIME")]
    duration: Option<Period>,
    /// A TOML file of the agent's settings
    #[arg(long, env = "SLICEWATCH_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// How to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotFormat {
    Table,
    Json,
}

/// Prints one reading.
///
/// # Errors
/// A setting that cannot be used, an agent that does not answer or answers something else, an
/// unknown scenario, or a node without a driver.
pub async fn run(args: SnapshotArgs) -> anyhow::Result<()> {
    let default = match args.scenario {
        Some(_) => SIMULATED_FOR,
        None => WATCH_FOR,
    };
    let duration = args.duration.map_or(default, |period| period.0);
    let stretch = match (&args.url, &args.scenario) {
        (Some(url), _) => {
            let agent = Remote::new(url, &args.remote)?;
            remote(&agent, duration, args.format).await?
        }
        (None, Some(scenario)) => simulated(scenario, args.seed, duration)?,
        (None, None) => local(args.options, args.config.as_deref(), duration).await?,
    };
    let mut out = std::io::stdout().lock();
    match args.format {
        SnapshotFormat::Table => {
            let (earlier, later) = stretch.ends();
            out.write_all(table_between(earlier, later, None).as_bytes())?;
        }
        SnapshotFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &*stretch.last)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A drain comes at least this often: `--drain-period` allows no more.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// The stretch that shares of time are told over. GPU time moves only when a ring is drained, so
/// the stretch begins and ends on a drain: else up to one drain's time would be missing from it.
struct Stretch {
    last: Arc<Snapshot>,
    /// The first with a GPU in it.
    first: Option<Arc<Snapshot>>,
    /// The first and the last right after a drain that found the GPU busy.
    drained: Option<(Arc<Snapshot>, Arc<Snapshot>)>,
}

impl Stretch {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            first: (!snapshot.gpus.is_empty()).then(|| Arc::clone(&snapshot)),
            last: snapshot,
            drained: None,
        }
    }

    /// Takes in the next snapshot.
    fn push(&mut self, snapshot: Arc<Snapshot>) {
        let busy = |snapshot: &Snapshot| -> Vec<Reading<GpuSeconds>> {
            snapshot.gpus.iter().map(|gpu| gpu.busy).collect()
        };
        if self.first.is_none() && !snapshot.gpus.is_empty() {
            self.first = Some(Arc::clone(&snapshot));
        } else if busy(&self.last) != busy(&snapshot) {
            let first = match self.drained.take() {
                Some((first, _)) => first,
                None => Arc::clone(&snapshot),
            };
            self.drained = Some((first, Arc::clone(&snapshot)));
        }
        self.last = snapshot;
    }

    /// Both ends. Without two drains (an idle card, MIG) they are the first and the last snapshot;
    /// where drains have found nothing for a while, that too is a measurement.
    fn ends(&self) -> (&Snapshot, &Snapshot) {
        match (&self.drained, &self.first) {
            (Some((first, last)), _) if self.last.at.since(last.at) > DRAIN_MAX => {
                (first, &self.last)
            }
            (Some((first, last)), _) if last.at > first.at => (first, last),
            (_, Some(first)) => (first, &self.last),
            (_, None) => (&self.last, &self.last),
        }
    }
}

/// What is left of the time that is watched for.
struct Watching(Duration);

impl fmt::Display for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watching, {:.0} s to go", self.0.as_secs_f64())
    }
}

/// A table needs two readings to show shares of time; JSON is the agent's latest alone.
async fn remote(
    agent: &Remote,
    duration: Duration,
    format: SnapshotFormat,
) -> anyhow::Result<Stretch> {
    let end = tokio::time::Instant::now() + duration;
    let mut progress = Progress::new();
    let mut stretch = Stretch::new(agent.fetch()?);
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        progress.say(Watching(left));
        if left.is_zero() || format == SnapshotFormat::Json {
            return Ok(stretch);
        }
        tokio::time::sleep(left.min(LOOK)).await;
        stretch.push(agent.fetch()?);
    }
}

fn simulated(scenario: &str, seed: u64, duration: Duration) -> anyhow::Result<Stretch> {
    let start = Clock::new().now();
    let mut agent = SimulatedAgent::new(scenario, seed, start, SamplerSettings::default())?;
    let mut stretch: Option<Stretch> = None;
    let mut progress = Progress::new();
    let end = start.monotonic + duration;
    agent.run(end, |_, snapshot| {
        progress.say(Watching(end.saturating_sub(snapshot.at.monotonic)));
        match &mut stretch {
            Some(stretch) => stretch.push(snapshot),
            None => stretch = Some(Stretch::new(snapshot)),
        };
    });
    stretch
        .filter(|stretch| stretch.first.is_some())
        .with_context(|| {
            format!("--duration {duration:?} is too short for a reading; write 2s or more")
        })
}

async fn local(
    options: Options,
    config: Option<&std::path::Path>,
    duration: Duration,
) -> anyhow::Result<Stretch> {
    // A look of a few seconds disturbs no tenant, unless it is asked to.
    let probes = options.canary.is_some();
    let mut settings = settings(options, config)?;
    if !probes {
        settings.pipeline.lease.mode = CanaryMode::Off;
    }
    let mut node = Node::start(&settings);
    let end = tokio::time::Instant::now() + duration;
    let mut progress = Progress::new();
    let mut stretch = Stretch::new(node.step());
    while tokio::time::Instant::now() < end {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        progress.say(Watching(left));
        tokio::time::sleep(Duration::from_millis(500)).await;
        stretch.push(node.step());
    }
    node.stop();
    if stretch.first.is_none() {
        let nvml = stretch
            .last
            .sources
            .iter()
            .find(|health| health.source == crate::model::Source::Nvml);
        let words = nvml.map_or("", |health| &health.detail);
        bail!("no GPU was read within {duration:?}: {words}")
    }
    Ok(stretch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_scenario_add_up_to_what_its_card_was_busy() {
        let stretch = simulated("noisy-neighbour", 1, SIMULATED_FOR).unwrap();
        let (earlier, later) = stretch.ends();
        let span = later.at.since(earlier.at).as_secs_f64();
        let time = |snapshot: &Snapshot| -> f64 {
            let rows = &snapshot.gpus[0].containers;
            rows.iter()
                .filter_map(|row| row.gpu_time.value())
                .map(|time| time.0)
                .sum()
        };
        // The scenario's card is busy all the time, but for a sample at each end.
        let share = (time(later) - time(earlier)) / span;
        assert!((0.95..=1.02).contains(&share), "{share} over {span} s");
        assert!(table_between(earlier, later, None).contains("of time"));
        assert!(!table_between(earlier, later, None).contains("(new)"));
    }

    #[test]
    fn a_card_without_a_ring_and_a_short_look_still_give_two_ends() {
        for (scenario, seconds) in [("mig", 60), ("quiet", 2), ("noisy-neighbour", 2)] {
            let stretch = simulated(scenario, 1, Duration::from_secs(seconds)).unwrap();
            let (earlier, later) = stretch.ends();
            assert!(earlier.at <= later.at, "{scenario}");
        }
        let error = simulated("quiet", 1, Duration::from_millis(50))
            .err()
            .unwrap();
        assert!(error.to_string().contains("2s"), "{error}");
    }
}

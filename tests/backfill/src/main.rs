//! The history of a simulated node, as Prometheus would have scraped it: the agent's own parts run
//! on the scenario in virtual time, and every scrape is written as OpenMetrics with its timestamp,
//! for `promtool tsdb create-blocks-from openmetrics`. Beside it stands what really happened.
//!
//! Not as in a scrape: a series that ends has no staleness marker, which the text cannot carry, so
//! that Prometheus shows its last value for five minutes more; and the agent's own process is made
//! up, since the real one does a week in seconds.

mod exposition;
mod truth;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::options::Period;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::{Moment, Snapshot};
use slicewatch::simulate::SimNode;

use exposition::Target;
use truth::Record;

/// Writes what Prometheus would have scraped from a simulated node, with timestamps.
#[derive(Debug, Parser)]
#[command(name = "slicewatch-backfill", version)]
struct Arguments {
    /// Which node to simulate
    #[arg(long, value_name = "NAME")]
    scenario: String,
    /// Same seed, same world
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// The first scrape, in seconds since 1970
    #[arg(long, value_name = "UNIX")]
    start: u64,
    /// How much history
    #[arg(long, value_name = "TIME")]
    length: Period,
    /// Between two scrapes
    #[arg(long, default_value = "30s", value_name = "TIME")]
    step: Period,
    /// Between two looks at the truth
    #[arg(long, default_value = "10m", value_name = "TIME")]
    truth_step: Period,
    /// Steps the node's wall clock so many seconds after the start by so many; again for each
    #[arg(long = "clock-step", value_name = "AFTER:BY", value_parser = clock_step)]
    clock_steps: Vec<(f64, f64)>,
    /// A label of the target; again for each
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// OpenMetrics goes here
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// What really happened goes here, as JSON
    #[arg(long, value_name = "PATH")]
    truth: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(samples) => {
            println!("{samples} samples");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("slicewatch-backfill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many samples were written.
fn run(arguments: &Arguments) -> anyhow::Result<u64> {
    let target = Target::new(&arguments.labels)?;
    let mut output = create(&arguments.output)?;
    let begin = Moment {
        monotonic: Duration::from_secs(100_000),
        unix: Duration::from_secs(arguments.start),
    };
    let mut agent = SimulatedAgent::new(
        &arguments.scenario,
        arguments.seed,
        begin,
        SamplerSettings::default(),
    )?;
    let mut record = Record::new(&arguments.scenario, arguments.truth_step.0, begin);
    let (mut samples, mut scrapes) = (0, 0);
    let mut scrape = |node: &SimNode, snapshot: &Arc<Snapshot>| {
        record.look(node);
        let due = arguments.step.0 * scrapes;
        if snapshot.at.since(begin) < due {
            return Ok(());
        }
        scrapes += 1;
        // A scrape comes at its time, whichever snapshot is the last, and by Prometheus' clock.
        samples += target.write(snapshot, begin, begin.unix + due, &mut output)?;
        Ok(())
    };
    let mut failed: std::io::Result<()> = Ok(());
    let mut run_to = |agent: &mut SimulatedAgent, to: Duration| {
        agent.run(begin.monotonic + to, |node, snapshot| {
            if failed.is_ok() {
                failed = scrape(node, &snapshot);
            }
        });
    };
    for &(after, by) in &arguments.clock_steps {
        run_to(&mut agent, Duration::from_secs_f64(after));
        agent.node().step_wall_clock(by);
    }
    run_to(&mut agent, arguments.length.0);
    failed.with_context(|| unwritten(&arguments.output))?;
    output
        .write_all(b"# EOF\n")
        .and_then(|()| output.flush())
        .with_context(|| unwritten(&arguments.output))?;
    let mut truth = create(&arguments.truth)?;
    serde_json::to_writer(&mut truth, &record).with_context(|| unwritten(&arguments.truth))?;
    truth.flush().with_context(|| unwritten(&arguments.truth))?;
    Ok(samples)
}

/// `AFTER:BY`, both in seconds.
fn clock_step(text: &str) -> Result<(f64, f64), String> {
    text.split_once(':')
        .and_then(|(after, by)| Some((after.parse().ok()?, by.parse().ok()?)))
        .filter(|(after, by): &(f64, f64)| (0.0..1e9).contains(after) && by.abs() < 1e9)
        .ok_or_else(|| "write AFTER:BY in seconds, such as 600:-90".to_owned())
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| unwritten(path))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

fn unwritten(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests;

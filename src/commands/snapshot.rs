//! `slicewatch snapshot`: one reading, as a table or JSON.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::node::Node;
use super::options::{Options, Period, settings};
use super::simulated::SimulatedAgent;
use crate::collect::clock::Clock;
use crate::collect::sampler::SamplerSettings;
use crate::model::Snapshot;
use crate::model::snapshot::SCHEMA;
use crate::publish::terminal::table_between;

/// An answer longer than this is not a snapshot.
const MAX_BYTES: u64 = 64 << 20;

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
    /// How long to watch before the reading is taken: shares of time need it
    #[arg(long, default_value = "8s", value_name = "TIME")]
    duration: Period,
    /// A TOML file of the agent's settings
    #[arg(long, env = "SLICEWATCH_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
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
    let (earlier, later) = match (&args.url, &args.scenario) {
        (Some(url), _) => remote(url, args.duration.0, args.format).await?,
        (None, Some(scenario)) => simulated(scenario, args.seed, args.duration.0)?,
        (None, None) => local(args.options, args.config.as_deref(), args.duration.0).await?,
    };
    let mut out = std::io::stdout().lock();
    match args.format {
        SnapshotFormat::Table => out.write_all(table_between(&earlier, &later, None).as_bytes())?,
        SnapshotFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &*later)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

type Pair = (Arc<Snapshot>, Arc<Snapshot>);

/// A table needs two readings to show shares of time; JSON is the agent's latest alone.
async fn remote(url: &str, duration: Duration, format: SnapshotFormat) -> anyhow::Result<Pair> {
    let address = format!("{}/api/v1/snapshot", url.trim_end_matches('/'));
    let first = fetch(&address)?;
    if format == SnapshotFormat::Json {
        return Ok((Arc::clone(&first), first));
    }
    tokio::time::sleep(duration).await;
    Ok((first, fetch(&address)?))
}

fn fetch(address: &str) -> anyhow::Result<Arc<Snapshot>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let body = agent
        .get(address)
        .call()
        .with_context(|| format!("{address} did not answer; give --url the address of a running agent, such as http://127.0.0.1:9735"))?
        .body_mut()
        .with_config()
        .limit(MAX_BYTES)
        .read_to_vec()
        .with_context(|| format!("{address}: the answer broke off"))?;
    let value: serde_json::Value = serde_json::from_slice(&body)
        .with_context(|| format!("{address}: not a slicewatch agent's snapshot (no JSON)"))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => bail!(
            "{address}: snapshot schema {schema}, this program reads {SCHEMA}; use the agent's own version"
        ),
        None => bail!("{address}: not a slicewatch agent's snapshot (no schema)"),
    }
    let snapshot = serde_json::from_value(value)
        .with_context(|| format!("{address}: the snapshot is not understood"))?;
    Ok(Arc::new(snapshot))
}

fn simulated(scenario: &str, seed: u64, duration: Duration) -> anyhow::Result<Pair> {
    let start = Clock::new().now();
    let mut agent = SimulatedAgent::new(scenario, seed, start, SamplerSettings::default())?;
    let mut pair: Option<Pair> = None;
    agent.run(start.monotonic + duration, |_, snapshot| {
        if snapshot.gpus.is_empty() {
            return;
        }
        pair = Some(match pair.take() {
            Some((first, _)) => (first, snapshot),
            None => (Arc::clone(&snapshot), snapshot),
        });
    });
    pair.with_context(|| {
        format!("--duration {duration:?} is too short for a reading; write 2s or more")
    })
}

async fn local(
    options: Options,
    config: Option<&std::path::Path>,
    duration: Duration,
) -> anyhow::Result<Pair> {
    let mut node = Node::start(&settings(options, config)?);
    // The first reading with GPUs in it opens the stretch.
    let end = tokio::time::Instant::now() + duration;
    let mut first: Option<Arc<Snapshot>> = None;
    let last = loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let snapshot = node.step();
        if first.is_none() && !snapshot.gpus.is_empty() {
            first = Some(Arc::clone(&snapshot));
        }
        if tokio::time::Instant::now() >= end {
            break snapshot;
        }
    };
    node.stop();
    match first {
        Some(first) => Ok((first, last)),
        None => {
            let nvml = last
                .sources
                .iter()
                .find(|health| health.source == crate::model::Source::Nvml);
            let words = nvml.map_or("", |health| &health.detail);
            bail!("no GPU was read within {duration:?}: {words}")
        }
    }
}

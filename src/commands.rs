//! One file a subcommand: composition of the floors, and nothing else.

pub mod agent;
mod announce;
pub mod canary;
pub mod check;
mod curiosity;
pub mod demo;
pub mod node;
pub mod options;
pub mod pipeline;
pub mod remote;
pub mod simulated;
pub mod snapshot;
pub mod top;
pub mod witness;

use clap::{Parser, Subcommand};

/// Shows what sharing a GPU really costs, pod by pod.
#[derive(Debug, Parser)]
#[command(name = "slicewatch", version, max_term_width = 100)]
pub struct Cli {
    /// What to log: a level, or filters such as `slicewatch=debug`.
    #[arg(
        long,
        global = true,
        env = "SLICEWATCH_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// How to log, on standard error.
    #[arg(
        long,
        global = true,
        env = "SLICEWATCH_LOG_FORMAT",
        default_value = "text",
        value_enum
    )]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Samples this node's GPUs and serves metrics: what the DaemonSet runs.
    Agent(Box<agent::AgentArgs>),
    /// The same agent on a simulated time-sliced node: no GPU, no cluster.
    Demo(demo::DemoArgs),
    /// A worker of the agent's latency canary, which the agent starts.
    #[command(hide = true)]
    Canary(canary::CanaryArgs),
    /// Verifies the time-slicing set-up of a cluster, or a configuration file of the device plugin.
    Check(Box<check::CheckArgs>),
    /// One reading of this node, of a running agent, or of a scenario.
    Snapshot(Box<snapshot::SnapshotArgs>),
    /// A live view of a running agent, or of a scenario, in the terminal.
    Top(Box<top::TopArgs>),
    /// Says which GPUs this container has: what `check --functional` runs in its pods.
    #[command(hide = true)]
    Witness(witness::WitnessArgs),
}

impl Command {
    /// The exit status of a command that could not do its work: 2 of a check, whose 1 says that it
    /// found errors.
    pub const fn failure(&self) -> u8 {
        match self {
            Self::Check(_) => check::NOT_CHECKED,
            Self::Agent(_)
            | Self::Canary(_)
            | Self::Demo(_)
            | Self::Snapshot(_)
            | Self::Top(_)
            | Self::Witness(_) => 1,
        }
    }

    /// Whether it draws on a terminal, where there is one: then lines of a log would stand in the
    /// picture.
    pub const fn draws(&self) -> bool {
        matches!(self, Self::Top(_))
    }
}

/// Runs a subcommand to its end; gives the exit status.
///
/// # Errors
/// One clear line: what was wrong, with which input, and the mend.
pub async fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Agent(args) => agent::run(*args).await?,
        Command::Canary(args) => canary::run(&args)?,
        Command::Check(args) => return check::run(*args).await,
        Command::Demo(args) => demo::run(args).await?,
        Command::Snapshot(args) => snapshot::run(*args).await?,
        Command::Top(args) => top::run(*args).await?,
        Command::Witness(args) => witness::run(args).await?,
    }
    Ok(0)
}

/// The program's own version and compiler.
pub fn build_info() -> crate::model::BuildInfo {
    crate::model::BuildInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        rustc: env!("CARGO_PKG_RUST_VERSION").into(),
    }
}

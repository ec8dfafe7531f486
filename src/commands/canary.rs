//! `slicewatch canary`: the agent's own worker process. Nobody else starts it.

use std::path::PathBuf;

use clap::Args;

use crate::collect::canary::worker;

/// What the agent tells its worker.
#[derive(Debug, Args)]
pub struct CanaryArgs {
    /// PID of the agent
    #[arg(long)]
    parent: u32,
    /// Path of libcuda.so.1
    #[arg(long, value_name = "PATH")]
    cuda_library: Option<PathBuf>,
}

/// Probes until the agent ends it.
///
/// # Errors
/// Not started by an agent.
pub fn run(args: &CanaryArgs) -> anyhow::Result<()> {
    Ok(worker::run(args.parent, args.cuda_library.as_deref())?)
}

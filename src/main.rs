//! Arguments, logging, exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use slicewatch::commands::{Cli, LogFormat, run};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let failure = cli.command.failure();
    match start(cli) {
        Ok(status) => ExitCode::from(status),
        // Whoever read our output has seen enough.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the chain of causes is part of what to mend.
            eprintln!("slicewatch: {error:#}");
            ExitCode::from(failure)
        }
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        kind.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}

fn start(cli: Cli) -> anyhow::Result<u8> {
    let filter: Targets = cli.log.parse().with_context(|| {
        format!(
            "--log {:?}: not a level (error, warn, info, debug, trace) or a list such as info,slicewatch=debug",
            cli.log
        )
    })?;
    let drawn_over = cli.command.draws() && std::io::stderr().is_terminal();
    let filter = if drawn_over { Targets::new() } else { filter };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = tracing_subscriber::registry().with(filter);
    match cli.log_format {
        LogFormat::Text => logs
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .init(),
        LogFormat::Json => logs.with(lines.json()).init(),
    }
    // One thread: the work is small, and each further one costs memory. Sampler threads are apart.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime did not start")?
        .block_on(run(cli.command))
}

//! `slicewatch check`: whether GPUs are shared as they are meant to be, and what to type if not.

mod files;
pub mod functional;
pub mod pass;
pub mod watch;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::functional::FunctionalArgs;
use self::pass::{Pass, pass};
use self::watch::WatchArgs;
use super::options::Period;
use crate::analyse::setup::SETTLING;
use crate::collect::setup::{SetupSettings, access};
use crate::publish::check::{Cluster, Files, Functional, NotChecked, Outcome, Verdict};
use crate::publish::terminal::progress::Progress;

/// The exit status of a check that found errors.
const ERRORS: u8 = 1;
/// The exit status of a check that could not look at all it was to look at.
pub const NOT_CHECKED: u8 = 2;

/// Flags of the check.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 nothing or warnings only, 1 errors found, 2 something could not be checked."
)]
pub struct CheckArgs {
    /// Look at a configuration of the device plugin, or a manifest with ConfigMaps, and at no
    /// cluster; - is standard input. May be given again
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["node", "all_nodes", "namespace", "kubeconfig", "context", "timeout", "settling"]
    )]
    config_file: Vec<PathBuf>,
    /// Look at one node, and at what is not of any node. May be given again
    #[arg(long, value_name = "NAME", conflicts_with = "all_nodes")]
    node: Vec<String>,
    /// Look at all nodes; so it does unless told otherwise
    #[arg(long)]
    all_nodes: bool,
    /// Where the operator or the stand-alone plugin is [default: found]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// A kubeconfig to ask the API server with [default: that of KUBECONFIG, else ~/.kube/config,
    /// else the pod's service account]
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// One of the kubeconfig's contexts [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// How long the API server may take for an answer [default: 30s]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Period>,
    /// For so long after a start of the device plugin, what its node says may be of before, and is
    /// no finding [default: 2m]
    #[arg(long, value_name = "TIME", conflicts_with = "functional")]
    settling: Option<Period>,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    functional: FunctionalArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

/// How to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// Prints what was found; gives the exit status.
///
/// # Errors
/// Where nothing could be looked at: a kubeconfig that cannot be used, a name that is none.
pub async fn run(args: CheckArgs) -> anyhow::Result<u8> {
    if args.watch.watch {
        let settings = settings(&args)?;
        let settling = settling(&args);
        watch::run(args.watch, settings, settling).await?;
        return Ok(0);
    }
    let output = args.output;
    if args.functional.functional {
        let found = functional::run(&args.functional, &settings(&args)?).await?;
        print(&text(output, &found, Functional::table)?)?;
        return Ok(match found.outcome {
            Outcome::Shared
                if found.agent_agrees != Some(false) && found.left_behind.is_empty() =>
            {
                0
            }
            Outcome::Shared | Outcome::NotShared => ERRORS,
            Outcome::NotTried => NOT_CHECKED,
        });
    }
    let (text, verdict) = if args.config_file.is_empty() {
        let found = of_cluster(&args).await?;
        (text(output, &found, Cluster::table)?, found.verdict())
    } else {
        let found = of_files(&args.config_file)?;
        (text(output, &found, Files::table)?, found.verdict())
    };
    print(&text)?;
    Ok(status(verdict))
}

fn text<F: Serialize>(
    output: Output,
    found: &F,
    table: impl FnOnce(&F) -> String,
) -> serde_json::Result<String> {
    match output {
        Output::Table => Ok(table(found)),
        Output::Json => serde_json::to_string_pretty(found).map(|text| text + "\n"),
    }
}

/// Of whom what is asked.
fn settings(args: &CheckArgs) -> anyhow::Result<SetupSettings> {
    let mut settings = SetupSettings::new(access(args.kubeconfig.clone())?);
    settings.context.clone_from(&args.context);
    settings.namespace.clone_from(&args.namespace);
    settings.nodes.clone_from(&args.node);
    if let Some(Period(timeout)) = args.timeout {
        settings.timeout = timeout;
    }
    Ok(settings)
}

fn settling(args: &CheckArgs) -> Duration {
    args.settling.map_or(SETTLING, |period| period.0)
}

/// Looks at a cluster.
async fn of_cluster(args: &CheckArgs) -> anyhow::Result<Cluster> {
    let settings = settings(args)?;
    let Pass {
        server,
        report,
        not_checked,
        complete,
    } = pass(&settings, settling(args), &mut Progress::new()).await?;
    Ok(Cluster::new(server, report, not_checked, complete))
}

/// Looks at files.
fn of_files(files: &[PathBuf]) -> anyhow::Result<Files> {
    let stdin = files.iter().filter(|file| files::is_stdin(file)).count();
    ensure!(
        stdin < 2,
        "--config-file - is given twice; standard input can be read once"
    );
    let (mut reports, mut not_checked) = (Vec::new(), Vec::new());
    for file in files {
        match files::check(file) {
            Ok(report) => reports.push(report),
            Err(error) => not_checked.push(NotChecked {
                what: file.display().to_string(),
                why: error.to_string(),
            }),
        }
    }
    Ok(Files::new(reports, not_checked))
}

const fn status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Clean | Verdict::Warnings => 0,
        Verdict::Errors => ERRORS,
        Verdict::Incomplete => NOT_CHECKED,
    }
}

/// Whoever stops reading has seen enough, and the exit status stays what it is.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

//! How `slicewatch check` grows with the cluster: one pass over a made-up API server, whose lists
//! come in pages of real size. The server is in this process; the check in another, of its own for
//! each size, so that its memory is of that size alone.

#[path = "../../../tests/fakes/gpu_cluster.rs"]
mod gpu_cluster;
#[path = "../../../tests/fakes/objects.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests, which use more of it and fail by panicking"
)]
mod objects;
mod server;
mod usage;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use slicewatch::analyse::setup::SETTLING;
use slicewatch::collect::cluster::Access;
use slicewatch::collect::setup::SetupSettings;
use slicewatch::commands::check::pass::{Pass, pass};
use slicewatch::publish::check::Cluster;
use slicewatch::publish::terminal::progress::Progress;

use server::Server;

/// Prints time and memory of a check by number of nodes, as a table.
#[derive(Debug, Parser)]
#[command(name = "slicewatch-check-scale", version)]
struct Arguments {
    /// Nodes, each of one GPU shared by four: one row a number
    #[arg(long, value_delimiter = ',', default_value = "1250,2500,5000", value_name = "N,…",
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    nodes: Vec<u32>,
    /// Pods on each node that ask for a GPU; three more do not
    #[arg(long, default_value_t = 4, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..=4))]
    tenants: u32,
    /// Print one JSON object a size instead
    #[arg(long)]
    json: bool,
    /// This process is the one that is measured, and this its cluster
    #[arg(long, hide = true, value_name = "PATH")]
    here: Option<PathBuf>,
}

/// What the check itself can tell.
#[derive(Debug, Serialize, Deserialize)]
struct Cost {
    nodes: u64,
    pods: u64,
    findings: usize,
    seconds: f64,
    /// Of the whole process.
    cpu_seconds: f64,
    rss_before_bytes: u64,
    rss_peak_bytes: u64,
}

/// One size.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    cost: Cost,
    requests: u64,
    answered_bytes: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slicewatch-check-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(kubeconfig) = &arguments.here {
        println!("{}", serde_json::to_string(&measure(kubeconfig)?)?);
        return Ok(());
    }
    if !arguments.json {
        println!(
            "| nodes | pods that ask | requests | answers, MiB | seconds | CPU, s | CPU a node, us | \
             highest, MiB | at start, MiB |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        );
    }
    for &nodes in &arguments.nodes {
        let outcome = in_a_process(nodes, arguments.tenants)?;
        if arguments.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            print(&outcome);
        }
    }
    Ok(())
}

fn print(outcome: &Outcome) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Outcome {
        cost,
        requests,
        answered_bytes,
    } = outcome;
    println!(
        "| {} | {} | {requests} | {:.0} | {:.2} | {:.2} | {:.0} | {:.1} | {:.1} |",
        cost.nodes,
        cost.pods,
        mib(*answered_bytes),
        cost.seconds,
        cost.cpu_seconds,
        cost.cpu_seconds * 1e6 / cost.nodes as f64,
        mib(cost.rss_peak_bytes),
        mib(cost.rss_before_bytes),
    );
}

/// Serves a cluster of this size, and has another process check it.
fn in_a_process(nodes: u32, tenants: u32) -> anyhow::Result<Outcome> {
    let server = Server::start(gpu_cluster::time_sliced(nodes as usize, tenants as usize))?;
    let folder = tempfile::tempdir().context("cannot make a folder for a kubeconfig")?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig()).context("cannot write a kubeconfig")?;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let output = Command::new(program)
        .arg("--here")
        .arg(&kubeconfig)
        .output()
        .context("cannot start the measured process")?;
    ensure!(
        output.status.success(),
        "the measured process failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let cost: Cost =
        serde_json::from_slice(&output.stdout).context("the measured process gave no outcome")?;
    ensure!(
        cost.nodes == u64::from(nodes) && cost.pods == u64::from(nodes * tenants),
        "not everything was read: {cost:?}"
    );
    Ok(Outcome {
        cost,
        requests: server.requests(),
        answered_bytes: server.bytes(),
    })
}

fn measure(kubeconfig: &Path) -> anyhow::Result<Cost> {
    // As the program's own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let rss_before_bytes = usage::status_bytes("VmRSS")?;
    let began = Instant::now();
    let settings = SetupSettings::new(Access::Kubeconfig(kubeconfig.to_owned()));
    let Pass {
        server,
        report,
        not_checked,
        complete,
    } = runtime.block_on(pass(&settings, SETTLING, &mut Progress::silent()))?;
    ensure!(complete, "the check is incomplete: {not_checked:?}");
    let (nodes, pods) = (report.nodes_read, report.pods_read);
    let findings = report.findings.len();
    let text = Cluster::new(server, report, not_checked, complete).table();
    ensure!(!text.is_empty(), "nothing was said");
    let seconds = began.elapsed().as_secs_f64();
    let nanos: u64 = usage::cpu_by_thread()?.values().sum();
    Ok(Cost {
        nodes,
        pods,
        findings,
        seconds,
        cpu_seconds: nanos as f64 / 1e9,
        rss_before_bytes,
        rss_peak_bytes: usage::status_bytes("VmHWM")?,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_small_cluster_is_read_whole() {
        let server = Server::start(gpu_cluster::time_sliced(600, 1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        let cost = measure(&kubeconfig).unwrap();
        assert_eq!((cost.nodes, cost.pods, cost.findings), (600, 600, 0));
        assert!(server.requests() > 8);
        assert!(server.bytes() > 600 * 10_000);
    }
}

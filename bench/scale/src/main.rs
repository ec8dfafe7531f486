//! How the agent grows with the node: the agent's own sampler threads (over cards made of
//! arithmetic and a really written host), pipeline and HTTP server, each size in a process of its
//! own. What is left out is the driver's library and the kubelet's client.

#[path = "../../node.rs"]
mod node;
mod usage;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use anyhow::{Context, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use slicewatch::collect::cluster::ClusterView;
use slicewatch::commands::pipeline::{Pipeline, PipelineSettings};
use slicewatch::model::{GpuWindow, Moment, NodeSample, Reading, Source, SourceHealth};
use slicewatch::publish::http::{HttpState, bind, serve};
use tokio::sync::{mpsc, watch};

use node::{Shape, TICK, TICKS_A_WINDOW};

/// Windows between two scrapes.
const SCRAPE_EVERY: u32 = 15;
/// Windows before CPU is counted: what is read once has been read.
const WARM_UP: u32 = 15;

/// Prints the agent's CPU and memory by number of processes, as a table.
#[derive(Debug, Parser)]
#[command(name = "slicewatch-scale", version)]
struct Arguments {
    /// Cards
    #[arg(long, default_value_t = 8, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus: u32,
    /// Processes on all cards together, a pod each: one row a number
    #[arg(long, value_delimiter = ',', default_value = "10,100,400,1000", value_name = "N,…",
          value_parser = clap::value_parser!(u32).range(1..=8000))]
    processes: Vec<u32>,
    /// Windows of one second counted, after 15 that are not; they run as fast as they can
    #[arg(long, default_value_t = 60, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    windows: u32,
    /// Print one JSON object a size instead
    #[arg(long)]
    json: bool,
    /// This process is the one that is measured
    #[arg(long, hide = true)]
    here: bool,
}

/// One size.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    gpus: u32,
    processes: u32,
    windows: u32,
    scrapes: u32,
    /// CPU of all sampler threads.
    sampler_milliseconds_per_window: f64,
    /// CPU of the thread that steps and serves, scrapes included.
    agent_milliseconds_per_window: f64,
    /// Of the last scrape, as it went over the wire.
    scrape_bytes: usize,
    rss_bytes: u64,
    rss_anon_bytes: u64,
    rss_file_bytes: u64,
    rss_peak_bytes: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slicewatch-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.here {
        for &processes in &arguments.processes {
            let shape = Shape {
                gpus: arguments.gpus,
                pods: processes,
                processes,
            };
            println!(
                "{}",
                serde_json::to_string(&measure(shape, arguments.windows)?)?
            );
        }
        return Ok(());
    }
    if !arguments.json {
        println!(
            "| processes | CPU a window, ms | samplers, ms | steps and scrapes, ms | \
             us a process | resident, MiB | anonymous, MiB | highest, MiB | scrape, KiB |\n\
             |---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        );
    }
    for &processes in &arguments.processes {
        let outcome = in_a_process(arguments, processes)?;
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
    let sampler = outcome.sampler_milliseconds_per_window;
    let agent = outcome.agent_milliseconds_per_window;
    println!(
        "| {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
        outcome.processes,
        sampler + agent,
        sampler,
        agent,
        (sampler + agent) * 1e3 / f64::from(outcome.processes),
        mib(outcome.rss_bytes),
        mib(outcome.rss_anon_bytes),
        mib(outcome.rss_peak_bytes),
        outcome.scrape_bytes as f64 / 1024.0,
    );
}

/// Measures one size in a process of its own, whose memory is of that size alone.
fn in_a_process(arguments: &Arguments, processes: u32) -> anyhow::Result<Outcome> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let output = Command::new(program)
        .arg("--here")
        .args(["--gpus", &arguments.gpus.to_string()])
        .args(["--processes", &processes.to_string()])
        .args(["--windows", &arguments.windows.to_string()])
        .output()
        .context("cannot start the measured process")?;
    ensure!(
        output.status.success(),
        "the measured process failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("the measured process gave no outcome")
}

fn measure(shape: Shape, windows: u32) -> anyhow::Result<Outcome> {
    let root = tempfile::tempdir().context("cannot make a folder for the host's files")?;
    shape
        .write_host(root.path())
        .context("cannot write the host's files")?;
    // As the agent's own.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(turn(shape, windows, root.path()))
}

async fn turn(shape: Shape, windows: u32, root: &Path) -> anyhow::Result<Outcome> {
    let start = node::start();
    let samplers = Samplers::spawn(shape, root, start)?;
    let (publish, snapshots) = watch::channel(None);
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let mut scraper = Scraper::spawn(listener.local_addr()?)?;
    let server = tokio::spawn(serve(
        listener,
        HttpState::new(snapshots, || true),
        std::future::pending(),
    ));

    let book = node::name_book(root);
    let node = Some("node".into());
    let settings = PipelineSettings::default();
    let mut pipeline = Pipeline::new(node, book, Reading::Value(()), settings);
    let mut answer = shape.allocations();
    let mut now = start;
    let mut before = BTreeMap::new();
    let (mut scrapes, mut scrape_bytes) = (0, 0);
    for window in 0..WARM_UP + windows {
        if window == WARM_UP {
            before = usage::cpu_by_thread()?;
        }
        if window % 10 == 0 {
            // As the kubelet's client: asked every 10 s, its answer is made anew.
            answer = shape.allocations();
        }
        now = now.later(TICK * TICKS_A_WINDOW);
        let sample = NodeSample {
            at: now,
            windows: samplers.windows()?,
            silent: Vec::new(),
            canaries: Vec::new(),
        };
        let step = pipeline.step(
            &sample,
            &Reading::Value(answer.clone()),
            vec![up(Source::Nvml, now), up(Source::Kubelet, now)],
            ClusterView::absent("the benchmark has no API server"),
        );
        drop(sample);
        publish.send_replace(Some(step.snapshot));
        if window % SCRAPE_EVERY == SCRAPE_EVERY - 1 {
            scrape_bytes = scraper.scrape().await?;
            scrapes += u32::from(window >= WARM_UP);
        }
    }
    let after = usage::cpu_by_thread()?;
    server.abort();
    let spent = |counts: fn(&str) -> bool| {
        let nanos = |of: &BTreeMap<String, u64>| -> u64 {
            of.iter()
                .filter(|(name, _)| counts(name))
                .map(|(_, nanos)| nanos)
                .sum()
        };
        nanos(&after).saturating_sub(nanos(&before)) as f64 / 1e6 / f64::from(windows)
    };
    Ok(Outcome {
        gpus: shape.gpus,
        processes: shape.processes,
        windows,
        scrapes,
        sampler_milliseconds_per_window: spent(|name| name == Samplers::NAME),
        agent_milliseconds_per_window: spent(|name| {
            ![Samplers::NAME, Scraper::NAME].contains(&name)
        }),
        scrape_bytes,
        rss_bytes: usage::status_bytes("VmRSS")?,
        rss_anon_bytes: usage::status_bytes("RssAnon")?,
        rss_file_bytes: usage::status_bytes("RssFile")?,
        rss_peak_bytes: usage::status_bytes("VmHWM")?,
    })
}

fn up(source: Source, now: Moment) -> SourceHealth {
    SourceHealth {
        source,
        up: Reading::Value(()),
        detail: "".into(),
        errors: BTreeMap::new(),
        duration: None,
        last_success: Some(now.unix),
    }
}

/// A thread a card, as the agent has; each makes a window when told to.
struct Samplers {
    go: Vec<Sender<()>>,
    windows: Receiver<Vec<GpuWindow>>,
}

impl Samplers {
    const NAME: &str = "gpu";

    fn spawn(shape: Shape, root: &Path, start: Moment) -> anyhow::Result<Self> {
        let (give, windows) = sync_channel(64);
        let mut go = Vec::new();
        for gpu in 0..shape.gpus {
            let (tell, told) = channel();
            go.push(tell);
            let give = give.clone();
            let root = root.to_owned();
            thread::Builder::new()
                .name(Self::NAME.to_owned())
                .spawn(move || {
                    let mut card = shape.card(gpu, &root, start);
                    let mut now = start;
                    while told.recv().is_ok() {
                        let windows = (0..TICKS_A_WINDOW)
                            .filter_map(|_| {
                                now = now.later(TICK);
                                card.poll(now)
                            })
                            .collect();
                        if give.send(windows).is_err() {
                            return;
                        }
                    }
                })
                .context("no thread for a sampler")?;
        }
        Ok(Self { go, windows })
    }

    /// The next second of every card.
    fn windows(&self) -> anyhow::Result<Vec<GpuWindow>> {
        for go in &self.go {
            go.send(()).context("a sampler has ended")?;
        }
        let mut all = Vec::new();
        for _ in &self.go {
            all.extend(self.windows.recv().context("the samplers have ended")?);
        }
        Ok(all)
    }
}

/// Prometheus, as far as the agent sees it, on a thread of its own.
struct Scraper {
    go: Sender<()>,
    lengths: mpsc::UnboundedReceiver<std::io::Result<usize>>,
}

impl Scraper {
    const NAME: &str = "scraper";

    fn spawn(agent: SocketAddr) -> anyhow::Result<Self> {
        let (go, told) = channel();
        let (give, lengths) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name(Self::NAME.to_owned())
            .spawn(move || {
                while told.recv().is_ok() {
                    if give.send(get(agent)).is_err() {
                        return;
                    }
                }
            })
            .context("no thread for the scraper")?;
        Ok(Self { go, lengths })
    }

    async fn scrape(&mut self) -> anyhow::Result<usize> {
        self.go.send(()).context("the scraper has ended")?;
        let length = self.lengths.recv().await.context("the scraper has ended")?;
        length.context("the scrape failed")
    }
}

/// Bytes of the answer, headers included.
fn get(agent: SocketAddr) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(agent)?;
    stream.write_all(
        b"GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\
          Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: gzip\r\n\r\n",
    )?;
    let (mut length, mut part) = (0, [0; 4096]);
    loop {
        match stream.read(&mut part)? {
            0 => return Ok(length),
            read if length == 0 && !part[..read].starts_with(b"HTTP/1.1 200") => {
                return Err(std::io::Error::other("the agent's answer is not 200"));
            }
            read => length += read,
        }
    }
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
    fn every_process_of_a_small_node_is_seen_and_served() {
        let shape = Shape {
            gpus: 2,
            pods: 10,
            processes: 10,
        };
        let outcome = measure(shape, 15).unwrap();
        assert_eq!(outcome.scrapes, 1);
        assert!(outcome.scrape_bytes > 1000, "{outcome:?}");
        assert!(outcome.sampler_milliseconds_per_window > 0.0);
        assert!(outcome.rss_peak_bytes >= outcome.rss_bytes);
    }
}

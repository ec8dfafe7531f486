//! `slicewatch demo`: the same agent on a simulated time-sliced node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use tokio::sync::{oneshot, watch};

use super::agent::{Heartbeat, terminated};
use super::options::Period;
use super::simulated::SimulatedAgent;
use crate::collect::clock::Clock;
use crate::collect::sampler::SamplerSettings;
use crate::model::Snapshot;
use crate::publish::http::{HttpState, LivePage, WebConfig, bind, serve};
use crate::simulate::scenarios;

/// The agent's beat in real time.
const TICK: Duration = Duration::from_millis(100);

/// Flags of the demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Which node to simulate
    #[arg(
        long,
        env = "SLICEWATCH_SCENARIO",
        default_value = "noisy-neighbour",
        value_name = "NAME"
    )]
    scenario: String,
    /// Same seed, same world
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Simulated seconds in a real one
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = speed)]
    speed: f64,
    /// End after this much simulated time [default: run until stopped]
    #[arg(long, value_name = "TIME")]
    duration: Option<Period>,
    /// Address to serve on
    #[arg(
        long,
        env = "SLICEWATCH_LISTEN",
        default_value = "127.0.0.1:9735",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// A YAML file that asks for TLS and passwords, as the agent's
    #[arg(
        long = "web.config.file",
        alias = "web-config-file",
        env = "SLICEWATCH_WEB_CONFIG_FILE",
        value_name = "PATH"
    )]
    web_config_file: Option<PathBuf>,
    /// Serve the live page at /, as the agent
    #[arg(
        long = "web.page",
        alias = "web-page",
        env = "SLICEWATCH_WEB_PAGE",
        num_args = 0..=1,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    web_page: bool,
    /// Print the scenarios and what they show, and end
    #[arg(long)]
    list_scenarios: bool,
}

/// A factor of time.
///
/// # Errors
/// What is none, or out of range.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("write a factor from 0.01 to 1000, such as 10".to_owned()),
    }
}

/// Simulates and serves until stopped, or for the duration asked.
///
/// # Errors
/// An unknown scenario, a web configuration that cannot be used, or an address that cannot be listened on.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    if args.list_scenarios {
        for scenario in scenarios() {
            println!("{:16} {}", scenario.name, scenario.summary);
        }
        return Ok(());
    }
    let start = Clock::new().now();
    let agent = SimulatedAgent::new(&args.scenario, args.seed, start, SamplerSettings::default())?;
    let web = args.web_config_file.as_deref();
    let web = web.map(WebConfig::open).transpose()?;
    let scheme = match &web {
        Some(web) if web.tls() => "https",
        _ => "http",
    };
    let listener = bind(args.listen).await?;
    println!(
        "slicewatch demo, scenario {}: {scheme}://{}/ and /metrics; Ctrl-C ends it",
        args.scenario,
        listener.local_addr()?
    );
    let heartbeat = Heartbeat::new();
    let (publish, snapshots) = watch::channel(None);
    let page = args.web_page.then(LivePage::new);
    let state = HttpState::new(snapshots, heartbeat.alive())
        .configured(web)
        .with_page(page.clone());
    let (ended, end) = oneshot::channel::<()>();
    let (speed, duration) = (args.speed, args.duration.map(|period| period.0));
    // The world runs on a thread of its own: at high speed it must not delay an answer.
    std::thread::Builder::new()
        .name("world".into())
        .spawn(move || {
            let told = |snapshot: Arc<Snapshot>| {
                if let Some(page) = &page {
                    page.observe(&snapshot);
                }
                publish.send_replace(Some(snapshot));
                !publish.is_closed()
            };
            turn(agent, start.monotonic, speed, duration, told, &heartbeat);
            let _ = ended.send(());
        })
        .context("no thread for the simulated world")?;
    serve(listener, state, async {
        tokio::select! {
            () = terminated() => {}
            _ = end => {}
        }
    })
    .await;
    Ok(())
}

/// Runs the world at `speed` until `duration` has passed in it, or nobody listens any more, as
/// `tell` says.
pub(super) fn turn(
    mut agent: SimulatedAgent,
    start: Duration,
    speed: f64,
    duration: Option<Duration>,
    tell: impl Fn(Arc<Snapshot>) -> bool,
    heartbeat: &Heartbeat,
) {
    let began = Instant::now();
    let mut heard = true;
    loop {
        // One step ahead, so that there is an answer at once.
        let passed = began.elapsed().mul_f64(speed) + Duration::from_secs(2);
        let to = duration.map_or(passed, |duration| passed.min(duration));
        agent.run(start + to, |_, snapshot| heard = tell(snapshot));
        heartbeat.beat();
        if !heard || duration.is_some_and(|duration| to >= duration) {
            return;
        }
        std::thread::sleep(TICK);
    }
}

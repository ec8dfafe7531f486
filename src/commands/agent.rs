//! `slicewatch agent`: the DaemonSet process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::node::Node;
use super::options::{Options, settings};
use crate::publish::http::{HttpState, LivePage, WebConfig, bind, serve};

/// Between two snapshots.
const STEP: Duration = Duration::from_secs(1);
/// A loop that has not turned for this long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Flags of the agent.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// A TOML file of the same settings; flags and environment win over it
    #[arg(long, env = "SLICEWATCH_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Samples and serves until SIGTERM or SIGINT.
///
/// # Errors
/// A setting or web configuration that cannot be used, or an address that cannot be listened on. A
/// missing driver or kubelet is no error: it shows in health and is looked for again.
pub async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let settings = settings(args.options, args.config.as_deref())?;
    let web = settings.web_config_file.as_deref();
    let web = web.map(WebConfig::open).transpose()?;
    let listener = bind(settings.listen).await?;
    let tls = web.as_ref().is_some_and(WebConfig::tls);
    tracing::info!(address = %listener.local_addr()?, tls, version = env!("CARGO_PKG_VERSION"), "serving");
    let heartbeat = Heartbeat::new();
    let (publish, snapshots) = watch::channel(None);
    let page = settings.web_page.then(LivePage::new);
    let state = HttpState::new(snapshots, heartbeat.alive())
        .configured(web)
        .with_page(page.clone());
    let mut node = Node::start(&settings);
    let stepping = async {
        let mut tick = tokio::time::interval(STEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let snapshot = node.step();
            if let Some(page) = &page {
                page.observe(&snapshot);
            }
            publish.send_replace(Some(snapshot));
            heartbeat.beat();
        }
    };
    tokio::select! {
        () = serve(listener, state, terminated()) => {}
        () = stepping => {}
    }
    tracing::info!("ending");
    node.stop();
    Ok(())
}

/// Completes on the first SIGTERM or SIGINT; a second one ends the process at once.
pub async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(130);
    });
}

/// Tells whether a loop still turns: liveness, whatever the devices do.
#[derive(Clone)]
pub struct Heartbeat {
    start: Instant,
    last_millis: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A heart that has just beaten.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            last_millis: Arc::default(),
        }
    }

    /// The loop has turned.
    pub fn beat(&self) {
        self.last_millis
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The question, for the health page.
    pub fn alive(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let this = self.clone();
        move || {
            let last = Duration::from_millis(this.last_millis.load(Ordering::Relaxed));
            this.start.elapsed().saturating_sub(last) < DEAD_AFTER
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

//! `check --watch`: the same look again and again, served as metrics.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::pass::pass;
use crate::collect::setup::SetupSettings;
use crate::commands::agent::terminated;
use crate::commands::options::Period;
use crate::publish::check::{Cluster, Watched, pages};
use crate::publish::http::{bind, serve_pages};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// The port after the agent's.
const LISTEN: &str = "127.0.0.1:9736";

/// Flags of the watch.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Look again and again, and serve what is found as metrics, until SIGTERM
    #[arg(long, conflicts_with_all = ["config_file", "output"])]
    pub watch: bool,
    /// From one look to the next [default: 60s]
    #[arg(long, value_name = "TIME", requires = "watch")]
    interval: Option<Period>,
    /// Where to serve /metrics
    #[arg(long, value_name = "ADDRESS", requires = "watch", default_value = LISTEN)]
    listen: SocketAddr,
}

/// Looks and serves until it is asked to end.
///
/// # Errors
/// An address that cannot be listened on. A cluster that cannot be asked is asked again.
pub async fn run(args: WatchArgs, settings: SetupSettings) -> anyhow::Result<()> {
    let listener = bind(args.listen).await?;
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");
    let (publish, latest) = watch::channel(Watched::default());
    let looking = async {
        let mut tick = interval(args.interval.map_or(INTERVAL, |Period(interval)| interval));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let before = publish.borrow().clone();
            let after = look(&settings, &before).await;
            tell_changes(&before, &after);
            publish.send_replace(after);
        }
    };
    tokio::select! {
        () = serve_pages(listener, pages(latest), None, terminated()) => {}
        () = looking => {}
    }
    tracing::info!("ending");
    Ok(())
}

/// One look, with credentials read anew: a service account's token expires within the hour.
async fn look(settings: &SetupSettings, before: &Watched) -> Watched {
    let begun = Instant::now();
    match pass(settings).await {
        Ok(pass) if pass.complete => {
            let at = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Watched::found(
                Cluster::new(pass.server, pass.report, pass.not_checked, true),
                at,
                begun.elapsed(),
            )
        }
        Ok(pass) => {
            for missed in pass.not_checked {
                tracing::warn!(what = missed.what, why = missed.why, "not checked");
            }
            before.missed(begun.elapsed())
        }
        Err(error) => {
            tracing::warn!(%error, "the cluster cannot be asked");
            before.missed(begun.elapsed())
        }
    }
}

/// A line for each finding that came or went, and none for those that stay.
fn tell_changes(before: &Watched, after: &Watched) {
    let (before, after) = (before.findings(), after.findings());
    for (code, severity, subject, node) in after.difference(&before) {
        tracing::warn!(code, severity, subject, node, "found");
    }
    for (code, severity, subject, node) in before.difference(&after) {
        tracing::info!(code, severity, subject, node, "no longer so");
    }
}

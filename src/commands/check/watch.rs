//! `check --watch`: the same look again and again, served as metrics.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::pass::pass;
use crate::collect::setup::{SetupReader, SetupSettings};
use crate::commands::agent::terminated;
use crate::commands::options::Period;
use crate::publish::check::{Cluster, NotChecked, Watched, pages};
use crate::publish::http::{bind, serve_pages};
use crate::publish::terminal::progress::Progress;

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
pub async fn run(
    args: WatchArgs,
    settings: SetupSettings,
    settling: Duration,
) -> anyhow::Result<()> {
    // What cannot be used now will not be later.
    SetupReader::open(&settings).await?;
    let listener = bind(args.listen).await?;
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");
    let (publish, latest) = watch::channel(Watched::default());
    let looking = async {
        let mut tick = interval(args.interval.map_or(INTERVAL, |Period(interval)| interval));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unseen = Vec::new();
        loop {
            tick.tick().await;
            let before = publish.borrow().clone();
            let (after, missed) = look(&settings, settling, &before).await;
            tell_missed(&unseen, &missed);
            tell_changes(&before, &after);
            unseen = missed;
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

/// One look, with credentials read anew: a service account's token expires within the hour. With what
/// it could not see.
async fn look(
    settings: &SetupSettings,
    settling: Duration,
    before: &Watched,
) -> (Watched, Vec<NotChecked>) {
    let begun = Instant::now();
    let pass = match pass(settings, settling, &mut Progress::silent()).await {
        Ok(pass) => pass,
        Err(error) => {
            let missed = NotChecked {
                what: "the cluster".to_owned(),
                why: error.to_string(),
            };
            return (before.missed(begun.elapsed()), vec![missed]);
        }
    };
    // A right that was there and is no more takes sight of what was found with it.
    let seen_before = |it: &NotChecked| {
        let unseen = before.unseen();
        unseen.is_some_and(|unseen| !unseen.contains(it.what.as_str()))
    };
    let missed = pass.not_checked.clone();
    if !pass.complete || missed.iter().any(seen_before) {
        return (before.missed(begun.elapsed()), missed);
    }
    let at = SystemTime::now().duration_since(UNIX_EPOCH);
    let found = Cluster::new(pass.server, pass.report, pass.not_checked, true);
    (
        Watched::found(found, at.unwrap_or_default(), begun.elapsed()),
        missed,
    )
}

/// A line for each reason that was not there before.
fn tell_missed(before: &[NotChecked], now: &[NotChecked]) {
    let mut told: Vec<&str> = before.iter().map(|it| it.why.as_str()).collect();
    for NotChecked { what, why } in now {
        if !told.contains(&why.as_str()) {
            tracing::warn!(what, why, "not checked");
            told.push(why);
        }
    }
    if now.is_empty() && !before.is_empty() {
        tracing::info!("everything is checked again");
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

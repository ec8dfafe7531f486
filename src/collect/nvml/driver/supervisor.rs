//! Decides which cards have a thread and when to look for others. Never calls the driver.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::warn;

use super::board::Watch;
use super::card::{Context, spawn};
use crate::collect::nvml::gpu::NvmlGpu;
use crate::collect::nvml::raw::give_back_unwritten;
use crate::collect::nvml::{Session, library};
use crate::model::{Cause, GpuError, GpuSource, GpuUuid};

/// How long the threads have to end.
const STOP: Duration = Duration::from_millis(450);
/// Cards looked at, whatever number the driver claims.
const CARDS_MAX: u32 = 64;

/// What the supervisor waits for.
pub(super) enum Event {
    /// The agent ends.
    Stop,
    /// A card's thread has ended: told to where there is no cause.
    Ended { id: u64, cause: Option<Cause> },
    /// A look for cards has ended.
    Scanned(Result<Scan, (Cause, String)>),
}

/// What a look for cards found.
pub(super) struct Scan {
    session: Weak<Session>,
    /// Cards that no thread has.
    gpus: Vec<(u32, NvmlGpu)>,
    /// Cards that gave no handle.
    failed: Vec<(u32, GpuError)>,
}

struct CardThread {
    id: u64,
    uuid: GpuUuid,
    index: u32,
    session: Weak<Session>,
    watch: Arc<Watch>,
    join: JoinHandle<()>,
}

pub(super) struct Supervisor {
    context: Context,
    events: Receiver<Event>,
    /// The session that new cards join; dead once no card holds it.
    session: Weak<Session>,
    threads: Vec<CardThread>,
    next_id: u64,
    scan: Option<JoinHandle<()>>,
    /// When to look for cards next, in monotonic time.
    next_scan: Duration,
    retry: Duration,
    last_failure: Option<Duration>,
    /// What was last told of scans, not to tell it again.
    told: String,
}

impl Supervisor {
    pub(super) fn new(context: Context, events: Receiver<Event>) -> Self {
        Self {
            retry: context.settings.retry_min,
            context,
            events,
            session: Weak::new(),
            threads: Vec::new(),
            next_id: 0,
            scan: None,
            next_scan: Duration::ZERO,
            last_failure: None,
            told: String::new(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let now = self.now();
            if self.scan.is_none() && now >= self.next_scan {
                self.start_scan();
            }
            let wait = if self.scan.is_some() {
                self.context.settings.rescan
            } else {
                self.next_scan.saturating_sub(now)
            };
            match self.events.recv_timeout(wait) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Event::Ended { id, cause }) => self.ended(id, cause),
                Ok(Event::Scanned(outcome)) => {
                    self.scanned(outcome);
                    give_back_unwritten();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.finish();
    }

    fn now(&self) -> Duration {
        self.context.settings.clock.now().monotonic
    }

    /// Looks again soon, later each time that it fails in a row.
    fn retry_later(&mut self) {
        let now = self.now();
        let (min, max) = (
            self.context.settings.retry_min,
            self.context.settings.retry_max,
        );
        self.retry = match self.last_failure {
            Some(last) if now.saturating_sub(last) <= max * 2 => (self.retry * 2).min(max),
            _ => min,
        };
        self.last_failure = Some(now);
        self.next_scan = now + self.retry;
    }

    fn in_session(&self, thread: &CardThread) -> bool {
        Weak::ptr_eq(&thread.session, &self.session)
    }

    fn start_scan(&mut self) {
        // Numbers are constant within a session: a card that has a thread is not asked who it
        // is, so that one that hangs does not hang the search too.
        let taken: BTreeSet<u32> = self
            .threads
            .iter()
            .filter(|thread| self.in_session(thread))
            .map(|thread| thread.index)
            .collect();
        let held: BTreeSet<GpuUuid> = self
            .threads
            .iter()
            .map(|thread| thread.uuid.clone())
            .collect();
        let session = self.session.clone();
        let settings = Arc::clone(&self.context.settings);
        let tell = self.context.tell.clone();
        let board = Arc::clone(&self.context.board);
        board.scanning(Some(settings.clock.now()));
        let spawned = thread::Builder::new()
            .name("nvml-scan".to_owned())
            .spawn(move || {
                let outcome = scan(&session, settings.library.as_deref(), &taken, &held);
                board.scanning(None);
                // Where nobody listens any more, what was opened is closed here.
                let _ = tell.send(Event::Scanned(outcome));
            });
        match spawned {
            Ok(join) => self.scan = Some(join),
            Err(error) => {
                self.context.board.scanning(None);
                self.fail(Cause::Other, &format!("no thread for NVML: {error}"));
                self.retry_later();
            }
        }
    }

    fn fail(&self, cause: Cause, detail: &str) {
        self.context.board.count(cause.label());
        self.context.board.fail(cause, detail);
    }

    /// Warns of a scan's trouble unless it was the last thing told.
    fn tell(&mut self, cause: Cause, detail: String) {
        if self.told != detail {
            warn!(cause = cause.label(), detail, "cannot read every GPU");
            self.told = detail;
        }
    }

    fn scanned(&mut self, outcome: Result<Scan, (Cause, String)>) {
        if let Some(scan) = self.scan.take() {
            let _ = scan.join();
        }
        let scan = match outcome {
            Ok(scan) => scan,
            Err((cause, detail)) => {
                self.context.board.count(cause.label());
                // With cards still being read the driver is there, and only the search failed.
                if self.threads.iter().any(|thread| self.in_session(thread)) {
                    self.tell(cause, detail);
                } else {
                    self.context.board.fail(cause, &detail);
                    self.silence(&[], cause);
                }
                self.retry_later();
                return;
            }
        };
        self.session = scan.session;
        for (index, gpu) in scan.gpus {
            self.take(index, gpu);
        }
        for (index, error) in &scan.failed {
            self.context.board.count(error.cause().label());
            self.tell(
                error.cause(),
                format!("GPU {index} gives no handle: {error}"),
            );
        }
        self.silence(&scan.failed, Cause::GpuLost);
        let working = self.threads.iter().any(|thread| self.in_session(thread));
        if working {
            self.context.board.succeed();
        } else if let Some((index, error)) = scan.failed.first() {
            let detail = format!("GPU {index} does not answer, nor does any other: {error}");
            self.context.board.fail(error.cause(), &detail);
        } else if self.threads.is_empty() {
            let detail = "the driver shows no GPU: give the container all of them \
                          (NVIDIA_VISIBLE_DEVICES=all), or keep the agent off this node";
            self.fail(Cause::NotFound, detail);
        }
        if working && scan.failed.is_empty() && self.context.board.silent().is_empty() {
            self.next_scan = self.now() + self.context.settings.rescan;
        } else {
            self.retry_later();
        }
    }

    /// Says why each card without a thread is silent: its own error where the scan has one.
    fn silence(&self, failed: &[(u32, GpuError)], otherwise: Cause) {
        for (card, _) in self.context.board.silent() {
            let own = failed
                .iter()
                .find(|(index, _)| *card.index == *index.to_string());
            let cause = own.map_or(otherwise, |(_, error)| error.cause());
            self.context.board.silence(&card.uuid, cause);
        }
    }

    fn take(&mut self, index: u32, gpu: NvmlGpu) {
        let identity = Arc::new(gpu.card().clone());
        let uuid = identity.uuid.clone();
        let watch = Arc::new(Watch::default());
        let id = self.next_id;
        self.next_id += 1;
        match spawn(&self.context, gpu, id, Arc::clone(&watch)) {
            Ok(join) => {
                self.context.board.taken(identity, Arc::clone(&watch));
                self.threads.push(CardThread {
                    id,
                    uuid,
                    index,
                    session: self.session.clone(),
                    watch,
                    join,
                });
            }
            Err(error) => {
                self.context.board.count(Cause::Other.label());
                warn!(gpu_uuid = %uuid, %error, "no thread for this GPU");
            }
        }
    }

    fn ended(&mut self, id: u64, cause: Option<Cause>) {
        let Some(at) = self.threads.iter().position(|thread| thread.id == id) else {
            return;
        };
        let thread = self.threads.swap_remove(at);
        let current = self.in_session(&thread);
        let _ = thread.join.join();
        // Told to end, it was, because the driver went away.
        let reason = cause.unwrap_or(Cause::DriverNotLoaded);
        if let Some(cause) = cause {
            self.context.board.count(cause.label());
        }
        self.context.board.released(&thread.uuid, reason);
        if !current {
            // It hung over a reload of the driver, and its card can be had again.
            let soon = self.now() + self.context.settings.retry_min;
            self.next_scan = self.next_scan.min(soon);
            return;
        }
        if cause == Some(Cause::DriverNotLoaded) {
            for other in self.threads.iter().filter(|other| self.in_session(other)) {
                other.watch.stop();
            }
            // The last of them shuts NVML down; the next look opens it anew.
            self.session = Weak::new();
            let detail = "the driver was unloaded or reloaded under the agent: it is opened anew";
            self.context.board.fail(Cause::DriverNotLoaded, detail);
        } else if !self.threads.iter().any(|thread| self.in_session(thread)) {
            let detail = format!("no GPU answers any more: {}", reason.label());
            self.context.board.fail(reason, &detail);
        }
        self.retry_later();
    }

    /// Tells all to end and waits for those that can.
    fn finish(mut self) {
        for thread in &self.threads {
            thread.watch.stop();
        }
        let deadline = self.now() + STOP;
        let hang_after = self.context.settings.hang_after;
        loop {
            let now = self.context.settings.clock.now();
            let left = deadline.saturating_sub(now.monotonic);
            let hung = |thread: &CardThread| {
                let inside = thread.watch.inside(now);
                inside.is_some_and(|length| length > hang_after)
            };
            let all_hang = self.threads.iter().all(hung);
            if left.is_zero() || (all_hang && self.scan.is_none()) {
                break;
            }
            match self.events.recv_timeout(left) {
                Ok(Event::Ended { id, .. }) => {
                    if let Some(at) = self.threads.iter().position(|thread| thread.id == id) {
                        let _ = self.threads.swap_remove(at).join.join();
                    }
                }
                Ok(Event::Scanned(outcome)) => {
                    self.scan = None;
                    dispose(outcome);
                }
                Ok(Event::Stop) => {}
                Err(_) => break,
            }
        }
        // A scan may have ended just now: what it opened must not be closed, which calls the
        // driver, in this thread.
        if self.scan.is_some() {
            dispose(self.events);
        }
    }
}

/// Drops something that may call the driver where it can hang nobody.
fn dispose<T: Send + 'static>(thing: T) {
    let _ = thread::Builder::new()
        .name("nvml-close".to_owned())
        .spawn(move || drop(thing));
}

fn scan(
    session: &Weak<Session>,
    named: Option<&Path>,
    taken: &BTreeSet<u32>,
    held: &BTreeSet<GpuUuid>,
) -> Result<Scan, (Cause, String)> {
    let session = match session.upgrade() {
        Some(session) => session,
        None => library::open(named).map_err(|error| (error.cause(), error.to_string()))?,
    };
    let count = session.device_count().map_err(|error| {
        let detail = format!("the driver does not say how many GPUs it has: {error}");
        (error.cause(), detail)
    })?;
    let mut gpus: Vec<(u32, NvmlGpu)> = Vec::new();
    let mut failed = Vec::new();
    for index in (0..count.min(CARDS_MAX)).filter(|index| !taken.contains(index)) {
        match NvmlGpu::open(Arc::clone(&session), index) {
            // Its last thread still hangs in a call of an older session.
            Ok(gpu) if held.contains(&gpu.card().uuid) => {}
            Ok(gpu) => gpus.push((index, gpu)),
            Err(error) => failed.push((index, error)),
        }
    }
    Ok(Scan {
        session: Arc::downgrade(&session),
        gpus,
        failed,
    })
}

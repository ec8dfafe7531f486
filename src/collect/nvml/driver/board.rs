//! What the threads tell and the agent reads. Its lock is held for moments, never in a call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::NvmlRound;
use crate::model::{
    Cause, DeviceWindow, GpuIdentity, GpuUuid, GpuWindow, Moment, Reading, Source, SourceHealth,
};

/// Cards remembered, gone ones included: far more than a node holds.
const CARDS_MAX: usize = 256;

/// The value behind a lock, whatever a thread that died has left: each is whole at any time.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between one card's thread and those that watch it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Microseconds of monotonic time at which the thread went into the driver, plus one; 0 while
    /// it is out of it.
    entered: AtomicU64,
    stopped: Mutex<bool>,
    stopping: Condvar,
}

impl Watch {
    pub(super) fn enter(&self, now: Moment) {
        let micros = u64::try_from(now.monotonic.as_micros()).unwrap_or(u64::MAX - 1);
        self.entered.store(micros + 1, Ordering::Release);
    }

    pub(super) fn leave(&self) {
        self.entered.store(0, Ordering::Release);
    }

    /// For how long the thread has been inside the driver.
    pub(super) fn inside(&self, now: Moment) -> Option<Duration> {
        let micros = self.entered.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.monotonic.saturating_sub(Duration::from_micros(micros)))
    }

    pub(super) fn stop(&self) {
        *locked(&self.stopped) = true;
        self.stopping.notify_all();
    }

    /// Sleeps unless told to stop; true where it was.
    pub(super) fn sleep(&self, length: Duration) -> bool {
        let stopped = locked(&self.stopped);
        let woken = self
            .stopping
            .wait_timeout_while(stopped, length, |stopped| !*stopped);
        *woken.unwrap_or_else(PoisonError::into_inner).0
    }
}

struct Card {
    identity: Arc<GpuIdentity>,
    /// The thread that has the card.
    watch: Option<Arc<Watch>>,
    /// Why no thread has it.
    cause: Cause,
    /// Whether the hang was told of.
    hung: bool,
}

struct State {
    cards: BTreeMap<GpuUuid, Card>,
    up: Reading<()>,
    detail: Arc<str>,
    /// Since when a scan runs.
    scanning: Option<Duration>,
    errors: BTreeMap<Arc<str>, u64>,
    longest: Option<Duration>,
    last_success: Option<Duration>,
}

impl State {
    fn count(&mut self, reason: &str) {
        if let Some(count) = self.errors.get_mut(reason) {
            *count += 1;
        } else {
            self.errors.insert(reason.into(), 1);
        }
    }

    fn take_in(&mut self, window: &GpuWindow) {
        if let Some(card) = self.cards.get_mut(&window.card.uuid) {
            card.identity = Arc::clone(&window.card);
        }
        match window.up {
            Reading::Value(()) => self.last_success = Some(window.to.unix),
            Reading::Failed(cause) => self.count(cause.label()),
            Reading::Unsupported => {}
        }
        if window.up.value().is_some() {
            let of_device = |device: &DeviceWindow| match (device.memory, device.lists_failed) {
                (Reading::Failed(cause), _) | (_, Some(cause)) => Some(cause),
                _ => None,
            };
            // What was not asked yet or moved meanwhile is no error.
            for cause in window.devices.iter().filter_map(of_device) {
                if !matches!(cause, Cause::NotYet | Cause::Torn) {
                    self.count(cause.label());
                }
            }
        }
    }
}

/// The state of all, behind one lock.
pub(super) struct Board {
    hang_after: Duration,
    state: Mutex<State>,
}

impl Board {
    pub(super) fn new(hang_after: Duration) -> Self {
        Self {
            hang_after,
            state: Mutex::new(State {
                cards: BTreeMap::new(),
                up: Reading::Failed(Cause::NotYet),
                detail: "the driver's library is being opened".into(),
                scanning: None,
                errors: BTreeMap::new(),
                longest: None,
                last_success: None,
            }),
        }
    }

    /// Everything is well with library and driver.
    pub(super) fn succeed(&self) {
        let mut state = locked(&self.state);
        if state.up.value().is_none() {
            info!(cards = state.cards.len(), "NVML answers");
        }
        state.up = Reading::Value(());
        state.detail = "".into();
    }

    /// No card can be read for this reason.
    pub(super) fn fail(&self, cause: Cause, detail: &str) {
        let mut state = locked(&self.state);
        if state.up != Reading::Failed(cause) || &*state.detail != detail {
            warn!(cause = cause.label(), detail, "NVML does not answer");
        }
        state.up = Reading::Failed(cause);
        state.detail = detail.into();
    }

    pub(super) fn count(&self, reason: &str) {
        locked(&self.state).count(reason);
    }

    pub(super) fn polled(&self, took: Duration) {
        let mut state = locked(&self.state);
        state.longest = state.longest.max(Some(took));
    }

    pub(super) fn scanning(&self, since: Option<Moment>) {
        locked(&self.state).scanning = since.map(|moment| moment.monotonic);
    }

    /// A thread took the card over.
    pub(super) fn taken(&self, identity: Arc<GpuIdentity>, watch: Arc<Watch>) {
        let mut state = locked(&self.state);
        let uuid = identity.uuid.clone();
        let known = state.cards.contains_key(&uuid);
        if !known && state.cards.len() >= CARDS_MAX {
            let gone = state.cards.iter().find(|(_, card)| card.watch.is_none());
            if let Some(gone) = gone.map(|(uuid, _)| uuid.clone()) {
                state.cards.remove(&gone);
            }
        }
        info!(gpu_uuid = %uuid, known, "GPU is read");
        state.cards.insert(
            uuid,
            Card {
                identity,
                watch: Some(watch),
                cause: Cause::NotYet,
                hung: false,
            },
        );
    }

    /// The card's thread has ended.
    pub(super) fn released(&self, uuid: &GpuUuid, cause: Cause) {
        let mut state = locked(&self.state);
        if let Some(card) = state.cards.get_mut(uuid) {
            card.watch = None;
        }
        drop(state);
        self.silence(uuid, cause);
    }

    /// Why a card without a thread is silent; told once.
    pub(super) fn silence(&self, uuid: &GpuUuid, cause: Cause) {
        let mut state = locked(&self.state);
        let Some(card) = state.cards.get_mut(uuid) else {
            return;
        };
        if card.watch.is_none() && card.cause != cause {
            card.cause = cause;
            warn!(gpu_uuid = %uuid, cause = cause.label(), "GPU is silent");
        }
    }

    /// Cards that no thread has.
    pub(super) fn silent(&self) -> Vec<(Arc<GpuIdentity>, Cause)> {
        let state = locked(&self.state);
        let silent = state.cards.values().filter(|card| card.watch.is_none());
        silent
            .map(|card| (Arc::clone(&card.identity), card.cause))
            .collect()
    }

    /// What the agent gets; tells of cards that hang and of those that came back from it.
    pub(super) fn round(&self, now: Moment, windows: Vec<GpuWindow>) -> NvmlRound {
        let mut state = locked(&self.state);
        for window in &windows {
            state.take_in(window);
        }
        let mut silent = Vec::new();
        let mut answering = 0;
        let mut hangs = 0;
        for card in state.cards.values_mut() {
            let inside = card.watch.as_ref().map(|watch| watch.inside(now));
            let hung = matches!(inside, Some(Some(length)) if length > self.hang_after);
            if hung != card.hung {
                card.hung = hung;
                let gpu_uuid = card.identity.uuid.as_str();
                if hung {
                    hangs += 1;
                    warn!(gpu_uuid, cause = Cause::Hung.label(), "GPU is silent");
                } else {
                    info!(gpu_uuid, "the driver's call has returned");
                }
            }
            let cause = match inside {
                _ if hung => Cause::Hung,
                None => card.cause,
                Some(_) => {
                    answering += 1;
                    continue;
                }
            };
            let heard = |window: &GpuWindow| window.card.uuid == card.identity.uuid;
            if !windows.iter().any(heard) {
                silent.push((Arc::clone(&card.identity), cause));
            }
        }
        for _ in 0..hangs {
            state.count(Cause::Hung.label());
        }
        let scan = state.scanning.unwrap_or(now.monotonic);
        let scan_hangs = now.monotonic.saturating_sub(scan) > self.hang_after;
        let cards_hang = answering == 0 && state.cards.values().any(|card| card.hung);
        let (up, detail) = if cards_hang || (scan_hangs && answering == 0) {
            let detail = "a call into the driver has not returned: see the kernel log for XIDs; \
                          the node may need a reboot";
            (Reading::Failed(Cause::Hung), detail.into())
        } else {
            (state.up, Arc::clone(&state.detail))
        };
        NvmlRound {
            windows,
            silent,
            health: SourceHealth {
                source: Source::Nvml,
                up,
                detail,
                errors: state.errors.clone(),
                duration: state.longest.take(),
                last_success: state.last_success,
            },
        }
    }
}

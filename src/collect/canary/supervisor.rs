//! The canaries' thread: takes every card's turn when it is due.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::board::{Board, Entry};
use super::card::{Card, Outcome};
use super::trace::Trace;
use super::worker::now;
use super::{CanarySettings, nanos};
use crate::model::{CanaryReason, CanaryState, CanaryWish, GpuUuid};

/// Cards that are looked after, whatever is wished for.
const CARDS_MAX: usize = 64;
/// How long ended workers are waited for when the agent ends.
const LAST_WAIT: Duration = Duration::from_millis(300);

/// A card, its entry, and when its next turn is due.
struct Place {
    card: Card,
    entry: Entry,
    wake: Option<u64>,
}

pub(super) struct Supervisor {
    settings: CanarySettings,
    board: Arc<Mutex<Board>>,
    inbox: Receiver<Vec<CanaryWish>>,
    cards: BTreeMap<GpuUuid, Place>,
    trace: Option<Trace>,
}

impl Supervisor {
    pub(super) fn new(
        settings: CanarySettings,
        board: Arc<Mutex<Board>>,
        inbox: Receiver<Vec<CanaryWish>>,
    ) -> Self {
        Self {
            trace: settings.trace.as_deref().and_then(Trace::open),
            settings,
            board,
            inbox,
            cards: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let wake = self.turn();
            let wishes = match wake {
                Some(wake) => {
                    let wait = Duration::from_nanos(wake.saturating_sub(now()));
                    self.inbox.recv_timeout(wait)
                }
                None => self.inbox.recv().map_err(RecvTimeoutError::from),
            };
            match wishes {
                Ok(wishes) => self.steer(wishes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.finish();
    }

    fn steer(&mut self, wishes: Vec<CanaryWish>) {
        // A card that nobody names any more has no canary, and no entry once it is still.
        for place in self.cards.values_mut() {
            place.card.steer(CanaryState::Off, CanaryReason::GpuDown);
            place.wake = Some(0);
        }
        let mut named = HashSet::with_capacity(wishes.len());
        for CanaryWish { gpu, state, reason } in wishes.into_iter().take(CARDS_MAX) {
            let place = self.cards.entry(gpu.clone()).or_insert_with(|| Place {
                card: Card::new(gpu.clone()),
                entry: Entry::new(),
                wake: Some(0),
            });
            place.card.steer(state, reason);
            named.insert(gpu);
        }
        self.cards
            .retain(|gpu, place| named.contains(gpu) || !place.card.is_still());
        let mut board = lock(&self.board);
        board.cards.retain(|gpu, _| self.cards.contains_key(gpu));
        board.failing.retain(|gpu, _| self.cards.contains_key(gpu));
    }

    /// Takes the turns that are due; says when the next one is.
    fn turn(&mut self) -> Option<u64> {
        for (gpu, Place { card, entry, wake }) in &mut self.cards {
            let now = now();
            if wake.is_none_or(|wake| wake > now) {
                continue;
            }
            let before = (entry.state, entry.reason);
            // The board is not held meanwhile: the agent's steps wait for no process.
            let outcome = card.turn(&self.settings, entry, now);
            if before != (entry.state, entry.reason) {
                tracing::debug!(
                    gpu = gpu.as_str(),
                    state = entry.state.label(),
                    reason = entry.reason.label(),
                    "canary"
                );
            }
            if let Some(trace) = &mut self.trace {
                trace.write(gpu, &entry.probes);
            }
            *wake = outcome.wake;
            note(&mut lock(&self.board), gpu, entry, outcome);
        }
        self.cards.values().filter_map(|place| place.wake).min()
    }

    /// Ends all workers; those that do not end at once die with this thread.
    fn finish(mut self) {
        let started = now();
        for place in self.cards.values_mut() {
            place.card.steer(CanaryState::Off, CanaryReason::Disabled);
            place.wake = Some(0);
        }
        while now().saturating_sub(started) < nanos(LAST_WAIT) {
            self.turn();
            if self.cards.values().all(|place| place.card.is_still()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a turn's outcome on the board.
fn note(board: &mut Board, gpu: &GpuUuid, entry: &mut Entry, outcome: Outcome) {
    if outcome.ready || !outcome.wanted {
        board.failing.remove(gpu);
    }
    if let Some(failed) = outcome.failed {
        *board.errors.entry(failed.label.into()).or_insert(0) += 1;
        let known = board.failing.get(gpu).map(|(_, words)| words);
        // One line a change, not one a try.
        if known != Some(&failed.words) {
            tracing::warn!(
                gpu = gpu.as_str(),
                reason = failed.label,
                "canary: {}",
                failed.words
            );
        }
        // A full framebuffer is the tenants' right, no fault of the source.
        if failed.state != CanaryState::Yielded {
            let why = (failed.cause, failed.words);
            board.failing.insert(gpu.clone(), why);
        }
    }
    board
        .cards
        .entry(gpu.clone())
        .or_insert_with(Entry::new)
        .absorb(entry);
}

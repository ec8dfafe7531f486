//! Keeps NVML open and one sampler thread a card alive.
//!
//! Three kinds of thread. The **supervisor** decides and never calls the driver, so that nothing
//! can hang it. A **scan** thread, one at a time, opens the library and looks for cards. A
//! **card** thread owns one card and polls its sampler. NVML is shut down by whichever thread
//! drops the last card: never while another is inside a call. The agent's side, [`NvmlHandle`],
//! takes what is there and waits for nothing.

mod board;
mod card;
mod supervisor;

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::collect::clock::Clock;
use crate::collect::sampler::SamplerSettings;
use crate::model::{Cause, GpuIdentity, GpuWindow, HostFiles, Moment, Reading, SourceHealth};

use board::{Board, locked};
use supervisor::{Event, Supervisor};

/// Windows that wait to be collected; a sampler that finds no room waits.
const WINDOWS_MAX: usize = 64;

/// How to reach and watch the driver.
#[derive(Debug, Clone)]
pub struct NvmlSettings {
    /// The library to load; `None` looks in the usual places.
    pub library: Option<PathBuf>,
    /// What each card's sampler reads when.
    pub sampler: SamplerSettings,
    /// A card inside the driver for longer than this is silent with [`Cause::Hung`].
    pub hang_after: Duration,
    /// A poll that took longer is counted under `slow`.
    pub slow_after: Duration,
    /// Between looks for new cards.
    pub rescan: Duration,
    /// Before the first look for a lost card or driver; doubled after each that fails.
    pub retry_min: Duration,
    /// At most this long between them.
    pub retry_max: Duration,
    /// The agent's clock, whose moments the windows carry.
    pub clock: Clock,
    /// The proof that this PID namespace is the one whose PIDs the driver tells.
    pub pid_namespace: Reading<()>,
}

impl Default for NvmlSettings {
    fn default() -> Self {
        Self {
            library: None,
            sampler: SamplerSettings::default(),
            hang_after: Duration::from_secs(5),
            slow_after: Duration::from_secs(1),
            rescan: Duration::from_secs(60),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
            clock: Clock::new(),
            pid_namespace: Reading::Failed(Cause::PidNamespace),
        }
    }
}

/// What NVML came to since the last round.
#[derive(Debug, Clone, PartialEq)]
pub struct NvmlRound {
    /// Windows that closed, oldest first for each card.
    pub windows: Vec<GpuWindow>,
    /// Cards that are known and do not answer. None of them has a window in this round.
    pub silent: Vec<(Arc<GpuIdentity>, Cause)>,
    /// Of the library and the driver as a whole.
    pub health: SourceHealth,
}

/// The running threads, seen from the agent. Dropped, it tells them to end and does not wait.
pub struct NvmlHandle {
    board: Arc<Board>,
    windows: Mutex<Receiver<GpuWindow>>,
    tell: Sender<Event>,
    supervisor: Option<JoinHandle<()>>,
}

/// Starts the threads. Whatever goes wrong is told by [`NvmlHandle::collect`], and tried again.
/// `host` and `proc_root` are for who the processes are.
pub fn start(settings: NvmlSettings, host: Arc<dyn HostFiles>, proc_root: String) -> NvmlHandle {
    let (tell, events) = mpsc::channel();
    let (send, windows) = mpsc::sync_channel(WINDOWS_MAX);
    let board = Arc::new(Board::new(settings.hang_after));
    let supervisor = Supervisor::new(
        card::Context {
            settings: Arc::new(settings),
            host,
            proc_root: proc_root.into(),
            board: Arc::clone(&board),
            windows: send,
            tell: tell.clone(),
        },
        events,
    );
    let spawned = thread::Builder::new()
        .name("nvml".to_owned())
        .spawn(move || supervisor.run());
    if let Err(error) = &spawned {
        board.fail(Cause::Other, &format!("no thread for NVML: {error}"));
    }
    NvmlHandle {
        board,
        windows: Mutex::new(windows),
        tell,
        supervisor: spawned.ok(),
    }
}

impl NvmlHandle {
    /// Takes what has come, without waiting for anything. `now` is of the clock in the settings.
    pub fn collect(&self, now: Moment) -> NvmlRound {
        let windows: Vec<_> = locked(&self.windows)
            .try_iter()
            .take(4 * WINDOWS_MAX)
            .collect();
        self.board.round(now, windows)
    }

    /// Ends all threads and waits up to half a second for them. One that hangs in the driver is
    /// left behind.
    pub fn stop(mut self) {
        let _ = self.tell.send(Event::Stop);
        if let Some(supervisor) = self.supervisor.take() {
            // The supervisor never calls the driver and gives up on its own.
            let _ = supervisor.join();
        }
    }
}

impl Drop for NvmlHandle {
    fn drop(&mut self) {
        let _ = self.tell.send(Event::Stop);
    }
}

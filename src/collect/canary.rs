//! The latency canary: a kernel of one thread, launched at random times on each shared GPU, whose
//! own clock says when it started. What it waited is what a tenant's short request waits.
//!
//! **Who does what.** A [worker] process for each card holds the CUDA context and
//! launches; a fault or a hang there kills it and never the agent, which does not call CUDA. It is
//! stopped (SIGSTOP) whenever it has nothing to launch, since CUDA's own event thread would
//! otherwise wake for each completion of any tenant (measured on an H200: 2-4 % of a core). One
//! thread of the agent draws the launches' times, continues the workers, and reads what the kernels
//! wrote into memory shared with it, for which no worker has to wake.
//!
//! **Why the GPU's clock.** On an idle GPU the host sees a completion 0.15-0.3 ms after the launch,
//! by interrupt and power state; the kernel starts after 18 us. The two clocks are tied to each
//! other by the probes themselves: see [`clock`].
//!
//! **Why random.** Poisson arrivals see time averages; a fixed period locks in with tenants that
//! have one, and was up to four times wrong.
//!
//! **Why one worker a card.** CUDA's errors and hangs are a process's: one card's fault would end
//! the probes of all, and a stopped process stops all its threads.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::model::{
    CanarySource, CanaryWindow, CanaryWish, Cause, Moment, Reading, Source, SourceHealth,
};

mod board;
mod card;
pub mod clock;
mod pace;
mod process;
mod raw;
mod supervisor;
mod timing;
mod trace;
pub mod worker;

pub use worker::NAME as CUDA_LIBRARY;

use board::Board;
use supervisor::Supervisor;

/// Steps whose wishes the thread may be behind.
const WISHES_MAX: usize = 4;

/// How the canaries run.
#[derive(Debug, Clone)]
pub struct CanarySettings {
    /// Probes a second and card, on average.
    pub rate: f64,
    /// The program that has the `canary` command: this one.
    pub program: PathBuf,
    /// Path of libcuda.so.1; `None`: beside NVML, then where the loader and driver roots have it.
    pub library: Option<PathBuf>,
    /// Where start times of processes are read.
    pub proc_root: String,
    /// A worker that does not come out of a call for so long is killed.
    pub hung_after: Duration,
    /// A probe that has not started after so long is given up with its worker.
    pub give_up_after: Duration,
    /// Each probe is appended to this file, for studies.
    pub trace: Option<PathBuf>,
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self {
            rate: 10.0,
            program: "/proc/self/exe".into(),
            library: None,
            proc_root: "/proc".into(),
            hung_after: Duration::from_secs(15),
            give_up_after: Duration::from_secs(120),
            trace: None,
        }
    }
}

/// The canaries of this node. Dropped, they end with their workers.
#[derive(Debug)]
pub struct Canaries {
    board: Arc<Mutex<Board>>,
    /// `None` once it ends: that ends the thread.
    wishes: Option<SyncSender<Vec<CanaryWish>>>,
    /// False while the thread does not take wishes: it is stuck, or gone.
    goes_on: bool,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread that steers the workers; none runs before it is wished for.
///
/// # Errors
/// The system's word where no thread can be started.
pub fn start(settings: CanarySettings) -> std::io::Result<Canaries> {
    let board = Arc::new(Mutex::new(Board::default()));
    let (wishes, inbox) = sync_channel(WISHES_MAX);
    let supervisor = Supervisor::new(settings, Arc::clone(&board), inbox);
    let thread = std::thread::Builder::new()
        .name("canary".into())
        .stack_size(256 << 10)
        .spawn(move || supervisor.run())?;
    Ok(Canaries {
        board,
        wishes: Some(wishes),
        goes_on: true,
        thread: Some(thread),
    })
}

impl CanarySource for Canaries {
    fn steer(&mut self, wishes: Vec<CanaryWish>) {
        // What is not taken is told again with the next step.
        let sender = self.wishes.as_ref();
        self.goes_on = sender.is_some_and(|sender| sender.try_send(wishes).is_ok());
    }

    fn collect(&mut self, now: Moment) -> (Vec<CanaryWindow>, SourceHealth) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut windows, mut health) = board.take(now);
        if !self.goes_on {
            // What stands on the board is not of now.
            windows.clear();
            health.up = Reading::Failed(Cause::Hung);
            health.detail =
                "the canaries' thread does not go on: a process cannot be started, the \
                             trace not be written, or it has ended: restart the agent"
                    .into();
        }
        (windows, health)
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// The health of canaries that are switched off, or have nothing to do yet.
fn idle_health() -> SourceHealth {
    SourceHealth {
        source: Source::Canary,
        up: Reading::Unsupported,
        detail: "".into(),
        errors: Default::default(),
        duration: None,
        last_success: None,
    }
}

//! The worker process: holds the context, launches when told to, and is stopped in between.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use rustix::thread::set_name;
use rustix::time::{ClockId, clock_gettime};

use super::raw::cuda::{Context, Failure, load};
use super::raw::page::{MAGIC, SLOTS, Shared};
use super::raw::switches::preemptions;
use crate::collect::nvml::library::ROOTS;
use crate::model::canary::WORKER_NAME;

/// What the loader knows CUDA's driver library as.
pub const NAME: &str = "libcuda.so.1";

/// `phase` of the page; 0 while it starts.
pub(super) mod phase {
    pub(in crate::collect::canary) const READY: u32 = 1;
    pub(in crate::collect::canary) const FAILED: u32 = 2;
}

/// Why a worker did not work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Not started by an agent.
    #[error(
        "the canary is a part of the agent, which starts it with its page as standard input: run \
         `slicewatch agent`"
    )]
    NoPage(#[source] io::Error),
    /// The agent is of another build.
    #[error("the canary's page is of another build: agent and canary must be one binary")]
    OtherBuild,
    /// A signal could not be sent or asked for.
    #[error("the system refuses a canary what every process may do")]
    System(#[from] io::Error),
}

/// Runs until the agent, `parent`, ends it. Standard input must be the agent's page, and the
/// environment show CUDA one device. Where CUDA refuses a step, that stands in the page for the agent
/// to tell, and it ends.
///
/// # Errors
/// [`WorkerError`].
pub fn run(parent: u32, library: Option<&Path>) -> Result<(), WorkerError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    // The agent may have ended before the line above.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != i32::try_from(parent).ok() {
        return Ok(());
    }
    // For people who read process lists, and for another agent on this node.
    if let Ok(name) = CString::new(WORKER_NAME) {
        let _ = set_name(&name);
    }
    let input: OwnedFd = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(WorkerError::NoPage)?;
    let page = Shared::open(input).map_err(WorkerError::NoPage)?;
    if page.magic.load(Acquire) != MAGIC {
        return Err(WorkerError::OtherBuild);
    }
    let Err(failure) = serve(&page, library);
    page.step.store(failure.step as u32, Relaxed);
    page.code.store(failure.code, Relaxed);
    page.phase.store(phase::FAILED, Release);
    Ok(())
}

fn serve(page: &Shared, library: Option<&Path>) -> Result<Infallible, Failure> {
    let context = Context::new(load(&candidates(library))?, page)?;
    warm_up(page, &context)?;
    page.phase.store(phase::READY, Release);
    let mut launched: u64 = 0;
    loop {
        while launched < page.wanted.load(Acquire) {
            probe(page, &context, launched)?;
            launched += 1;
        }
        stop(getpid());
    }
}

/// The first launch sets things up that no other one needs: it is no probe.
fn warm_up(page: &Shared, context: &Context) -> Result<(), Failure> {
    context.launch(0)?;
    while page.slots[0].started.load(Acquire) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn probe(page: &Shared, context: &Context, number: u64) -> Result<(), Failure> {
    let index = number as usize % SLOTS;
    let slot = &page.slots[index];
    slot.seen.store(0, Relaxed);
    slot.started.store(0, Relaxed);
    let preempted = preemptions();
    slot.before.store(now(), Release);
    context.launch(index)?;
    let after = now();
    let preempted = u64::from(preemptions() != preempted);
    slot.preempted.store(preempted, Relaxed);
    slot.after.store(after, Relaxed);
    page.launched.store(number + 1, Release);
    // A start that is seen at once ties the clocks to each other from the other side.
    let until = after + page.look.load(Relaxed);
    loop {
        let started = slot.started.load(Acquire) != 0;
        let now = now();
        if started {
            slot.seen.store(now, Release);
        }
        let is_next_due = page.wanted.load(Relaxed) > number + 1;
        if started || now >= until || is_next_due {
            return Ok(());
        }
        std::hint::spin_loop();
    }
}

/// Stops all threads of this process until the agent continues it.
fn stop(this: Pid) {
    // Every process may stop itself.
    let _ = kill_process(this, Signal::STOP);
}

/// Nanoseconds of the clock that nobody steps or slews.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::MonotonicRaw);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Where CUDA's library may be: the file named, else the loader's own, then the driver roots.
fn candidates(named: Option<&Path>) -> Vec<PathBuf> {
    match named {
        Some(path) => vec![path.to_owned()],
        None => std::iter::once(PathBuf::from(NAME))
            .chain(ROOTS.iter().map(|root| Path::new(root).join(NAME)))
            .collect(),
    }
}

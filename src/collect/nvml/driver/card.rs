//! The thread that owns one card.

use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::NvmlSettings;
use super::board::{Board, Watch};
use super::supervisor::Event;
use crate::collect::host::ProcessTable;
use crate::collect::nvml::gpu::NvmlGpu;
use crate::collect::sampler::Sampler;
use crate::model::{Cause, GpuWindow, HostFiles};

/// Between polls at the least, whatever the sampler asks for.
const REST: Duration = Duration::from_millis(5);
/// Before a full channel is tried again.
const FULL: Duration = Duration::from_millis(50);

/// What all threads share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) settings: Arc<NvmlSettings>,
    pub(super) host: Arc<dyn HostFiles>,
    pub(super) proc_root: Arc<str>,
    pub(super) board: Arc<Board>,
    pub(super) windows: SyncSender<GpuWindow>,
    pub(super) tell: Sender<Event>,
}

/// Tells the supervisor that the thread has ended, however it did.
struct Ending {
    id: u64,
    /// `None` where it was told to end.
    cause: Option<Cause>,
    tell: Sender<Event>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.tell.send(Event::Ended {
            id: self.id,
            cause: self.cause,
        });
    }
}

/// Starts the thread of one card.
pub(super) fn spawn(
    context: &Context,
    gpu: NvmlGpu,
    id: u64,
    watch: Arc<Watch>,
) -> std::io::Result<JoinHandle<()>> {
    let context = context.clone();
    thread::Builder::new()
        .name(format!("gpu{id}"))
        .spawn(move || {
            let mut ending = Ending {
                id,
                // Stands if the thread panics.
                cause: Some(Cause::Other),
                tell: context.tell.clone(),
            };
            ending.cause = run(&context, gpu, &watch);
        })
}

fn run(context: &Context, gpu: NvmlGpu, watch: &Watch) -> Option<Cause> {
    let settings = &context.settings;
    let clock = settings.clock;
    let processes = ProcessTable::with_namespace(
        Arc::clone(&context.host),
        &context.proc_root,
        settings.pid_namespace,
    );
    let sampling = settings.sampler.clone();
    let mut sampler = Sampler::new(Box::new(gpu), processes, sampling, clock.now());
    let cause = loop {
        let before = clock.now();
        watch.enter(before);
        let poll = sampler.poll(before);
        watch.leave();
        let after = clock.now();
        let took = after.since(before);
        context.board.polled(took);
        if took > settings.slow_after {
            context.board.count("slow");
        }
        if let Some(window) = poll.window
            && !deliver(context, watch, window)
        {
            break None;
        }
        if poll.dead.is_some() {
            break poll.dead;
        }
        let rest = poll.next.saturating_sub(clock.now().monotonic).max(REST);
        if watch.sleep(rest) {
            break None;
        }
    };
    // Frees events and maybe the driver: that can hang as any call can.
    watch.enter(clock.now());
    drop(sampler);
    watch.leave();
    cause
}

/// Hands a window over, waiting while there is no room; false where the thread shall end.
fn deliver(context: &Context, watch: &Watch, mut window: GpuWindow) -> bool {
    loop {
        match context.windows.try_send(window) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => window = back,
        }
        if watch.sleep(FULL) {
            return false;
        }
    }
}

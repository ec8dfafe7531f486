//! Device memory beside the load: steps and a short peak that come and go, and growth.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::gpu::{Gpu, GpuError};
use crate::report::{Line, Reporter, unix_now};

/// How long a thread sleeps before it looks whether it should end.
const SLICE: Duration = Duration::from_millis(20);

/// Tells the threads to end, and keeps the first failure of any of them.
#[derive(Default)]
pub(crate) struct Stop {
    now: AtomicBool,
    failure: Mutex<Option<anyhow::Error>>,
}

impl Stop {
    /// True once the tenant should end.
    pub(crate) fn is_set(&self) -> bool {
        self.now.load(Ordering::Acquire)
    }

    /// Ends every thread.
    pub(crate) fn set(&self) {
        self.now.store(true, Ordering::Release);
    }

    /// Ends every thread, because of this; only the first failure is kept.
    pub(crate) fn fail(&self, error: anyhow::Error) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.set();
    }

    /// What went wrong in another thread.
    pub(crate) fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Sleeps until `then`; false where the tenant should end before.
    fn sleep_until(&self, then: Instant) -> bool {
        while !self.is_set() {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(SLICE));
        }
        false
    }
}

/// A block of memory and when it is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) reason: &'static str,
    pub(crate) bytes: u64,
    /// After the load's beginning.
    pub(crate) first: Duration,
    pub(crate) hold: Duration,
    /// From one beginning to the next; `None` for once.
    pub(crate) period: Option<Duration>,
}

impl Block {
    /// Takes and gives back the block on its schedule until told to end. For a thread of its own.
    pub(crate) fn run(&self, gpu: &Gpu, reporter: &Reporter, stop: &Stop, started: Instant) {
        if let Err(error) = self.hold_on_schedule(gpu, reporter, stop, started) {
            stop.fail(error);
        }
    }

    fn hold_on_schedule(
        &self,
        gpu: &Gpu,
        reporter: &Reporter,
        stop: &Stop,
        started: Instant,
    ) -> anyhow::Result<()> {
        gpu.bind()?;
        let size = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        let say = |change_bytes| {
            reporter
                .write(&Line::Memory {
                    pid: std::process::id(),
                    unix: unix_now(),
                    reason: self.reason,
                    change_bytes,
                })
                .context("cannot write the report")
        };
        let mut begin = started + self.first;
        while stop.sleep_until(begin) {
            let block = gpu.allocate(self.bytes)?;
            let taken = Instant::now();
            say(size)?;
            // Held from when it was there, not from when it was asked for. Where the tenant ends
            // first it is given back at once.
            let _ended = stop.sleep_until(taken + self.hold);
            block.free()?;
            say(-size)?;
            let Some(period) = self.period else { break };
            // A step that the driver made late does not make the next ones crowd.
            begin = (begin + period).max(Instant::now());
        }
        Ok(())
    }
}

/// Memory that grows by a step a period, and is given back with the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) step_bytes: u64,
    /// Steps in all.
    pub(crate) steps: u64,
    /// After the load's beginning.
    pub(crate) first: Duration,
    pub(crate) period: Duration,
}

impl Growth {
    /// Grows until told to end. A step that does not fit is told and tried again a period later.
    pub(crate) fn run(&self, gpu: &Gpu, reporter: &Reporter, stop: &Stop, started: Instant) {
        if let Err(error) = self.grow(gpu, reporter, stop, started) {
            stop.fail(error);
        }
    }

    fn grow(
        &self,
        gpu: &Gpu,
        reporter: &Reporter,
        stop: &Stop,
        started: Instant,
    ) -> anyhow::Result<()> {
        const REASON: &str = "grow";
        gpu.bind()?;
        let (mut taken, mut due) = (0, started + self.first);
        while taken < self.steps && stop.sleep_until(due) {
            let line = match gpu.allocate(self.step_bytes) {
                // The block is kept: memory goes back with the process.
                Ok(_block) => {
                    taken += 1;
                    Line::Memory {
                        pid: std::process::id(),
                        unix: unix_now(),
                        reason: REASON,
                        change_bytes: i64::try_from(self.step_bytes).unwrap_or(i64::MAX),
                    }
                }
                Err(GpuError::OutOfMemory { requested_bytes }) => Line::Refused {
                    pid: std::process::id(),
                    unix: unix_now(),
                    reason: REASON,
                    number: taken + 1,
                    requested_bytes,
                    held_bytes: taken.saturating_mul(self.step_bytes),
                },
                Err(error) => return Err(error.into()),
            };
            reporter.write(&line).context("cannot write the report")?;
            due = (due + self.period).max(Instant::now());
        }
        Ok(())
    }
}

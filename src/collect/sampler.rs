//! The schedule of one GPU's reads: a passive state machine that a thread or a simulation polls.
//!
//! Memory is read at 10 Hz. The process list is read once a window, and at once whenever used
//! memory moved (at most five a second), each time between two readings of memory: a list that
//! memory moved under is *torn*, read again, and told from a whole one. The utilization ring is
//! drained every few seconds, and sooner when a process ended, since the driver forgets it.

use std::sync::Arc;
use std::time::Duration;

use crate::collect::host::ProcessTable;
use crate::model::{
    Bytes, Cause, ContextKind, Drain, GpuError, GpuIdentity, GpuSource, GpuWindow, ListedProcess,
    Memory, MigProfile, Moment, ProcessList, RawProcess, Reading, Refusal, XidEvent,
};

mod device;
mod drain;

use device::Device;
use drain::Ring;

/// Between two looks for MIG instances that came or went.
const DEVICES_PERIOD: Duration = Duration::from_secs(60);
/// A drain that a process's end asked for comes no sooner than this after the last.
const EARLY_DRAIN: Duration = Duration::from_millis(500);
/// A step of the wall clock against the monotonic one, beyond which ring times mean nothing.
const CLOCK_STEP: Duration = Duration::from_millis(500);
/// How long samples stay in the driver's ring: measured 14 s.
const RING_DEPTH: Duration = Duration::from_secs(15);

/// How often what is read.
#[derive(Debug, Clone)]
pub struct SamplerSettings {
    /// Between readings of device memory.
    pub memory_period: Duration,
    /// Between process lists while memory stands still; also the length of a window.
    pub window: Duration,
    /// Between drains of the utilization ring; well inside the ring's 10-14 s.
    pub drain_period: Duration,
    /// Free memory under this share of the total counts as pressure.
    pub floor_ratio: f64,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            memory_period: Duration::from_millis(100),
            window: Duration::from_secs(1),
            drain_period: Duration::from_secs(3),
            floor_ratio: 0.05,
        }
    }
}

/// What a poll came to.
#[derive(Debug, Default)]
pub struct Poll {
    /// Set when a window closed.
    pub window: Option<GpuWindow>,
    /// The monotonic time at which the next read is due.
    pub next: Duration,
    /// Set where the source is dead and must be opened anew.
    pub dead: Option<Cause>,
}

/// Reads one GPU on schedule.
pub struct Sampler {
    source: Box<dyn GpuSource>,
    processes: ProcessTable,
    settings: SamplerSettings,
    card: Arc<GpuIdentity>,
    devices: Vec<Device>,
    devices_failed: Option<GpuError>,
    mig_profiles: Option<Reading<Arc<[MigProfile]>>>,
    xids: Vec<XidEvent>,
    ring: RingState,
    drained: Option<Reading<Drain>>,
    window_from: Moment,
    next_memory: Duration,
    next_devices: Duration,
    process_ended: bool,
    rows: Vec<RawProcess>,
}

/// Where the ring stands.
enum RingState {
    /// Not read yet, or its clock stepped: anchored anew at this monotonic time.
    AnchorAt(Duration),
    Running(Ring),
    /// This card has none.
    Unsupported,
}

impl Sampler {
    /// A sampler that has read nothing; GPU time before `now` is not counted.
    pub fn new(
        source: Box<dyn GpuSource>,
        processes: ProcessTable,
        settings: SamplerSettings,
        now: Moment,
    ) -> Self {
        Self {
            card: Arc::new(source.card().clone()),
            source,
            processes,
            settings,
            devices: Vec::new(),
            devices_failed: None,
            mig_profiles: None,
            xids: Vec::new(),
            ring: RingState::AnchorAt(now.monotonic),
            drained: None,
            window_from: now,
            next_memory: now.monotonic,
            next_devices: now.monotonic,
            process_ended: false,
            rows: Vec::new(),
        }
    }

    /// Makes the reads that are due at `now`, in this order: devices, memory, lists, ring. A
    /// window closes on the first poll at or after its length.
    pub fn poll(&mut self, now: Moment) -> Poll {
        if now.monotonic < self.next_memory {
            return Poll {
                next: self.next_memory,
                ..Poll::default()
            };
        }
        self.next_memory = now.monotonic + self.settings.memory_period
            - Duration::from_nanos(
                // Late by less than a period: keep the beat. By more: start a new one.
                match now.monotonic.saturating_sub(self.next_memory) {
                    late if late < self.settings.memory_period => late.as_nanos() as u64,
                    _ => 0,
                },
            );
        let closing = now.since(self.window_from) >= self.settings.window;
        let result = self.read(now, closing);
        let window = (closing || result.is_err()).then(|| self.take_window(now, result.err()));
        Poll {
            window,
            next: self.next_memory,
            dead: result
                .err()
                .filter(|error| error.needs_reopen())
                .map(GpuError::cause),
        }
    }

    fn read(&mut self, now: Moment, closing: bool) -> Result<(), GpuError> {
        if now.monotonic >= self.next_devices {
            self.find_devices(now)?;
        }
        // A drain wants a list of its own instant: the driver forgets who has just exited.
        let draining = self.drain_is_due(now, closing);
        for index in 0..self.devices.len() {
            let reading = self.memory(index)?;
            self.devices[index].read_memory(reading, now, &self.settings);
            let device = &self.devices[index];
            // The first list says which contexts are older than the first drain.
            if draining
                || device.last_list.is_none()
                || (closing && device.lists.is_empty())
                || (device.moved && device.may_list(now))
            {
                self.list(index, now)?;
            }
        }
        if closing {
            match self.source.xids() {
                Ok(xids) => self.xids.extend(xids),
                Err(error) if error.needs_reopen() => return Err(error),
                Err(_) => {}
            }
        }
        self.drain_if_due(now, draining)
    }

    /// A reading of memory; an error that ends the source is an error here too.
    fn memory(&mut self, index: usize) -> Result<Reading<Memory>, GpuError> {
        match self.source.memory(index) {
            Ok(memory) => Ok(Reading::Value(memory)),
            Err(error) if error.needs_reopen() => Err(error),
            Err(error) => Ok(error.into()),
        }
    }

    fn find_devices(&mut self, now: Moment) -> Result<(), GpuError> {
        self.next_devices = now.monotonic + DEVICES_PERIOD;
        match self.source.devices() {
            Ok(identities) => {
                self.devices_failed = None;
                self.card = Arc::new(self.source.card().clone());
                let mut old = std::mem::take(&mut self.devices);
                self.devices = identities
                    .into_iter()
                    .map(
                        |identity| match old.iter().position(|d| *d.identity == identity) {
                            Some(index) => old.swap_remove(index),
                            None => Device::new(Arc::new(identity)),
                        },
                    )
                    .collect();
            }
            Err(error) => {
                self.devices_failed = Some(error);
                self.next_devices = now.monotonic + self.settings.window;
                if error.needs_reopen() {
                    return Err(error);
                }
            }
        }
        if self.mig_profiles.is_none() {
            self.mig_profiles = Some(match self.source.mig_profiles() {
                Ok(profiles) => Reading::Value(profiles.into()),
                Err(error) => error.into(),
            });
        }
        Ok(())
    }

    /// Reads the list of a device between two readings of its memory; once more if it was torn.
    fn list(&mut self, index: usize, now: Moment) -> Result<(), GpuError> {
        for attempt in 0..2 {
            let Reading::Value(before) = self.devices[index].memory else {
                self.devices[index].lists_failed = match self.devices[index].memory {
                    Reading::Failed(cause) => Some(cause),
                    _ => Some(Cause::NotAvailable),
                };
                return Ok(());
            };
            self.rows.clear();
            let complete = match self.source.processes(index, &mut self.rows) {
                Ok(complete) => complete,
                Err(error) if error.needs_reopen() => return Err(error),
                Err(error) => {
                    self.devices[index].lists_failed = Some(error.cause());
                    return Ok(());
                }
            };
            let processes = self.identify();
            let after = self.memory(index)?;
            let device = &mut self.devices[index];
            let torn = after.copied().is_none_or(|after| after.used != before.used);
            device.listed(now);
            if torn {
                device.torn += 1;
                device.read_memory(after, now, &self.settings);
            }
            device.moved = false;
            if !torn || attempt == 1 {
                device.lists.push(ProcessList {
                    at: now,
                    memory: before,
                    torn,
                    complete,
                    processes,
                });
                break;
            }
        }
        self.note_processes(now);
        Ok(())
    }

    /// Merges the rows of a PID's contexts and asks the host who each is, at once: a process may
    /// be gone a moment later.
    fn identify(&mut self) -> Vec<ListedProcess> {
        self.rows.sort_by_key(|row| (row.pid, row.kind));
        let mut merged: Vec<ListedProcess> = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            match merged.last_mut() {
                // A process's contexts are one sum to the driver, told in each of its lists.
                Some(last) if last.pid == row.pid && row.pid.0 != 0 => {
                    last.used = larger(last.used, row.used);
                    if row.kind == ContextKind::Mps {
                        last.kind = ContextKind::Mps;
                    }
                }
                _ => merged.push(ListedProcess {
                    pid: row.pid,
                    kind: row.kind,
                    used: row.used,
                    facts: if row.pid.0 == 0 {
                        Reading::Unsupported
                    } else {
                        self.processes.look_up(row.pid)
                    },
                }),
            }
        }
        merged
    }

    /// Tells the ring of every device's newest list: a PID of none of them has ended.
    fn note_processes(&mut self, now: Moment) {
        let newest: Vec<&ProcessList> = self
            .devices
            .iter()
            .filter_map(|device| device.lists.last())
            .collect();
        if let RingState::Running(ring) = &mut self.ring {
            for list in &newest {
                for process in &list.processes {
                    ring.note(process.pid, &process.facts, now);
                }
            }
        }
        // An absence can be told only from a whole list of each device in this window.
        if newest.len() < self.devices.len() || newest.iter().any(|list| !list.complete) {
            return;
        }
        if let RingState::Running(ring) = &mut self.ring {
            self.process_ended |= ring.close_list(now);
        }
        self.processes.retain(|pid| {
            newest
                .iter()
                .any(|list| list.processes.iter().any(|process| process.pid == pid))
        });
    }

    fn drain_if_due(&mut self, now: Moment, due: bool) -> Result<(), GpuError> {
        match &mut self.ring {
            RingState::Unsupported => Ok(()),
            RingState::AnchorAt(due) if now.monotonic < *due => Ok(()),
            RingState::AnchorAt(_) => {
                // What is in the ring already was before us, or has times of another clock.
                match self.source.ring(Duration::ZERO) {
                    Ok(read) => {
                        let newest = read.samples.last().map(|sample| sample.at);
                        let newest = newest.or_else(|| read.rows.iter().map(|r| r.last_won).max());
                        let mut ring = Ring::new(newest.unwrap_or(now.unix), now);
                        for list in self.devices.iter().filter_map(|device| device.lists.last()) {
                            for process in &list.processes {
                                ring.note(process.pid, &process.facts, now);
                            }
                        }
                        self.ring = RingState::Running(ring);
                        Ok(())
                    }
                    Err(error) => self.ring_failed(error),
                }
            }
            RingState::Running(_) if !due => Ok(()),
            RingState::Running(ring) => {
                let last = ring.last_drain();
                let since = now.since(last);
                self.process_ended = false;
                let wall = now.unix.abs_diff(last.unix);
                if wall.abs_diff(since) > CLOCK_STEP || now.unix < last.unix {
                    self.ring = RingState::AnchorAt(now.monotonic + RING_DEPTH);
                    self.drained = Some(Reading::Value(Drain {
                        covered: Duration::ZERO,
                        samples: 0,
                        busy_samples: 0,
                        busy: Default::default(),
                        rows: Vec::new(),
                        refused: [(Refusal::ClockStep, 1)].into(),
                    }));
                    return Ok(());
                }
                match self.source.ring(ring.watermark()) {
                    Ok(read) => {
                        let drain = ring.drain(&read, now);
                        tracing::debug!(gpu_uuid = %self.card.uuid, ?read, ?drain, "drained");
                        self.drained = Some(match self.drained.take() {
                            Some(Reading::Value(earlier)) => Reading::Value(joined(earlier, drain)),
                            _ => Reading::Value(drain),
                        });
                        Ok(())
                    }
                    Err(error) => self.ring_failed(error),
                }
            }
        }
    }

    /// Whether the ring's time has come: it is drained regularly, and sooner when somebody ended.
    /// A regular drain waits for the end of a window, whose list it then shares.
    fn drain_is_due(&self, now: Moment, closing: bool) -> bool {
        let RingState::Running(ring) = &self.ring else {
            return false;
        };
        let since = now.since(ring.last_drain());
        let regular = closing && since + self.settings.memory_period >= self.settings.drain_period;
        regular || (self.process_ended && since >= EARLY_DRAIN)
    }

    fn ring_failed(&mut self, error: GpuError) -> Result<(), GpuError> {
        if error.needs_reopen() {
            return Err(error);
        }
        if error == GpuError::Unsupported {
            self.ring = RingState::Unsupported;
        }
        self.drained = Some(error.into());
        Ok(())
    }

    fn take_window(&mut self, now: Moment, error: Option<GpuError>) -> GpuWindow {
        let up = match (error, self.devices_failed) {
            (Some(error), _) => Reading::Failed(error.cause()),
            (None, Some(error)) if self.devices.is_empty() => Reading::Failed(error.cause()),
            _ => Reading::Value(()),
        };
        let window = GpuWindow {
            card: Arc::clone(&self.card),
            from: self.window_from,
            to: now,
            up,
            devices: self.devices.iter_mut().map(Device::take_window).collect(),
            drain: match self.ring {
                RingState::Unsupported => Some(Reading::Unsupported),
                _ => self.drained.take(),
            },
            xids: std::mem::take(&mut self.xids),
            mig_profiles: self
                .mig_profiles
                .clone()
                .unwrap_or(Reading::Failed(Cause::NotYet)),
        };
        self.window_from = now;
        window
    }
}

/// The larger of two readings of one process; a known one over an unknown one.
fn larger(a: Reading<Bytes>, b: Reading<Bytes>) -> Reading<Bytes> {
    match (a, b) {
        (Reading::Value(a), Reading::Value(b)) => Reading::Value(a.max(b)),
        (Reading::Value(a), _) | (_, Reading::Value(a)) => Reading::Value(a),
        (a, _) => a,
    }
}

/// Two drains of one window as one.
fn joined(mut earlier: Drain, later: Drain) -> Drain {
    earlier.covered += later.covered;
    earlier.samples += later.samples;
    earlier.busy_samples += later.busy_samples;
    earlier.busy += later.busy;
    earlier.rows.extend(later.rows);
    for (refusal, count) in later.refused {
        *earlier.refused.entry(refusal).or_insert(0) += count;
    }
    earlier
}

#[cfg(test)]
mod tests;

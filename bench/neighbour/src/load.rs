//! A tenant's load: requests, and the memory beside them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::arguments::Arguments;
use crate::gpu::{Burner, Gpu, Stamped};
use crate::memory::{Block, Growth, Stop};
use crate::pace::{Bursts, Pace, Spread};
use crate::record::{Record, Request, monotonic_nanos};
use crate::report::{Latency, Line, Reporter, Totals, unix_now};

/// Longest latency that is told apart, in microseconds.
const LATENCY_TOP: u64 = 600_000_000;
const RECORD: &str = "cannot write the record of requests";

/// The load as asked for, with its memory beside it.
pub(crate) fn run(arguments: &Arguments, reporter: &Reporter) -> anyhow::Result<()> {
    let turns = if arguments.idle {
        None
    } else {
        Some(arguments.turns().map_err(|message| anyhow!(message))?)
    };
    let gpu = Gpu::open(arguments.device, arguments.wait)?;
    let burner = match turns {
        Some(turns) => Some((
            Burner::new(&gpu, arguments.blocks, arguments.threads)?,
            turns,
        )),
        None => None,
    };
    let held_bytes = mib(arguments.memory_mib);
    // Freed with the process.
    let _held = match held_bytes {
        0 => None,
        bytes => Some(gpu.allocate(bytes)?),
    };
    reporter
        .write(&Line::Ready {
            pid: std::process::id(),
            unix: unix_now(),
            gpu_uuid: &gpu.uuid,
            model: &gpu.model,
            held_bytes,
        })
        .context("cannot write the report")?;
    if let Some(start) = arguments.start_at {
        // By the wall clock, once: a clock that steps during the wait is nobody's to mend here.
        thread::sleep(Duration::from_secs_f64((start - unix_now()).max(0.0)));
    }

    let stop = Stop::default();
    let mut run = Run::begin(arguments, reporter)?;
    let worked = thread::scope(|scope| {
        let (gpu, stop, started) = (&gpu, &stop, run.started);
        for block in blocks(arguments) {
            scope.spawn(move || block.run(gpu, reporter, stop, started));
        }
        if let Some(growth) = growth(arguments) {
            scope.spawn(move || growth.run(gpu, reporter, stop, started));
        }
        let worked = run.work(burner.as_ref(), stop);
        stop.set();
        worked
    });
    if let Some(error) = stop.take_failure() {
        return Err(error);
    }
    worked?;
    run.report_end()
}

fn mib(n: u64) -> u64 {
    n.saturating_mul(1 << 20)
}

fn milliseconds(n: f64) -> Duration {
    Duration::from_secs_f64(n / 1000.0)
}

/// What comes and goes, from the arguments.
fn blocks(arguments: &Arguments) -> Vec<Block> {
    let mut blocks = Vec::new();
    if arguments.step_mib > 0 {
        blocks.push(Block {
            reason: "step",
            bytes: mib(arguments.step_mib),
            first: Duration::ZERO,
            hold: milliseconds(arguments.step_hold_ms),
            period: Some(milliseconds(arguments.step_period_ms)),
        });
    }
    if arguments.peak_mib > 0 {
        blocks.push(Block {
            reason: "peak",
            bytes: mib(arguments.peak_mib),
            first: Duration::from_secs_f64(arguments.peak_at_s),
            hold: milliseconds(arguments.peak_hold_ms),
            period: None,
        });
    }
    blocks
}

/// How its memory grows, from the arguments.
fn growth(arguments: &Arguments) -> Option<Growth> {
    (arguments.grow_mib > 0).then(|| Growth {
        step_bytes: mib(arguments.grow_mib),
        steps: arguments.grow_steps.unwrap_or(u64::MAX),
        first: Duration::from_secs_f64(arguments.grow_at_s),
        period: milliseconds(arguments.grow_every_ms),
    })
}

/// When it makes its requests, from the arguments.
fn pace(arguments: &Arguments) -> Pace {
    let spread = |mean, kind| Spread {
        mean: milliseconds(mean),
        kind,
    };
    let bursts = arguments
        .burst_on_ms
        .zip(arguments.burst_off_ms)
        .map(|(on, off)| Bursts {
            on: spread(on, arguments.bursts),
            off: spread(off, arguments.bursts),
        });
    let seed = arguments.seed.unwrap_or_else(|| std::process::id().into());
    Pace::new(
        spread(arguments.gap_ms, arguments.gaps),
        bursts,
        SmallRng::seed_from_u64(seed),
    )
}

/// The load under way.
struct Run<'a> {
    arguments: &'a Arguments,
    reporter: &'a Reporter,
    started: Instant,
    started_unix: f64,
    deadline: Instant,
    next_report: Option<Instant>,
    fault_at: Option<Instant>,
    pace: Pace,
    record: Option<Record>,
    requests: u64,
    kernels: u64,
    /// In microseconds.
    latency: Histogram<u64>,
}

impl<'a> Run<'a> {
    fn begin(arguments: &'a Arguments, reporter: &'a Reporter) -> anyhow::Result<Self> {
        let record = match &arguments.record {
            Some(path) => Some(Record::create(path).with_context(|| {
                format!("cannot write the record of requests to {}", path.display())
            })?),
            None => None,
        };
        let latency = Histogram::new_with_bounds(1, LATENCY_TOP, 3)?;
        let started = Instant::now();
        Ok(Self {
            arguments,
            reporter,
            started,
            started_unix: unix_now(),
            deadline: started + Duration::from_secs_f64(arguments.seconds),
            next_report: arguments
                .report_every
                .map(|every| started + Duration::from_secs_f64(every)),
            fault_at: arguments
                .fault_at_s
                .map(|after| started + Duration::from_secs_f64(after)),
            pace: pace(arguments),
            record,
            requests: 0,
            kernels: 0,
            latency,
        })
    }

    /// Requests and rests until the time is over or another thread says stop.
    fn work(&mut self, burner: Option<&(Burner, u32)>, stop: &Stop) -> anyhow::Result<()> {
        let Some((burner, turns)) = burner else {
            return self.rest_until(self.deadline, stop);
        };
        while Instant::now() < self.deadline && !stop.is_set() {
            if self.fault_at.is_some_and(|at| Instant::now() >= at) {
                return self.fault(burner);
            }
            self.request(burner, *turns)?;
            self.report_if_due()?;
            let (now, next) = {
                let now = self.started.elapsed();
                (now, self.pace.next(now))
            };
            if next > now {
                self.rest_until(self.started + next, stop)?;
            }
        }
        match self.record.take() {
            Some(record) => record.finish().context(RECORD),
            None => Ok(()),
        }
    }

    /// One request: its kernels queued at once and waited for together.
    fn request(&mut self, burner: &Burner, turns: u32) -> anyhow::Result<()> {
        let kernels = self.arguments.kernels_per_request;
        let asked = monotonic_nanos();
        burner.launch(turns, Stamped::Yes)?;
        for _ in 1..kernels {
            burner.launch(turns, Stamped::No)?;
        }
        burner.wait()?;
        let request = Request {
            asked,
            done: monotonic_nanos(),
            started_gpu: burner.started(),
        };
        let took = u64::try_from(request.took().as_micros()).unwrap_or(LATENCY_TOP);
        self.latency.saturating_record(took.max(1));
        self.requests += 1;
        self.kernels += u64::from(kernels);
        match &mut self.record {
            Some(record) => record.add(&request).context(RECORD),
            None => Ok(()),
        }
    }

    /// The illegal access; nothing can be asked of the GPU after it.
    fn fault(&mut self, burner: &Burner) -> anyhow::Result<()> {
        let (unix, begun) = (unix_now(), Instant::now());
        let error = burner
            .fault()?
            .context("the illegal access was made, and the driver saw nothing wrong")?;
        self.write(&Line::Fault {
            pid: std::process::id(),
            unix,
            seconds: begun.elapsed().as_secs_f64(),
            error: &error,
        })
    }

    /// Sleeps until `then` or the end, and reports meanwhile.
    fn rest_until(&mut self, then: Instant, stop: &Stop) -> anyhow::Result<()> {
        const SLICE: Duration = Duration::from_millis(50);
        let then = then.min(self.deadline).min(self.fault_at.unwrap_or(then));
        while !stop.is_set() {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(SLICE));
            self.report_if_due()?;
        }
        Ok(())
    }

    fn report_if_due(&mut self) -> anyhow::Result<()> {
        let (Some(due), Some(every)) = (self.next_report, self.arguments.report_every) else {
            return Ok(());
        };
        let now = Instant::now();
        if now < due {
            return Ok(());
        }
        let every = Duration::from_secs_f64(every);
        self.next_report = Some((due + every).max(now));
        self.write(&Line::Interim(self.totals()))
    }

    fn report_end(&self) -> anyhow::Result<()> {
        self.write(&Line::Final(self.totals()))
    }

    fn write(&self, line: &Line<'_>) -> anyhow::Result<()> {
        self.reporter.write(line).context("cannot write the report")
    }

    fn totals(&self) -> Totals {
        Totals {
            pid: std::process::id(),
            unix: unix_now(),
            started_unix: self.started_unix,
            elapsed_seconds: self.started.elapsed().as_secs_f64(),
            requests: self.requests,
            kernels: self.kernels,
            busy_seconds: self.kernels as f64 * self.arguments.kernel_ms / 1000.0,
            latency_ms: Latency::of(&self.latency),
        }
    }
}

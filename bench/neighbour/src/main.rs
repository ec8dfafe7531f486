//! A CUDA tenant with a known load: the noisy neighbour, and the truth it is measured against.

mod arguments;
mod gpu;
mod memory;
mod report;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Parser;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::arguments::{Arguments, Gaps};
use crate::gpu::{Burner, Gpu, GpuError};
use crate::memory::{Block, Stop};
use crate::report::{Latency, Line, Reporter, Totals, unix_now};

/// Out of memory has an exit status of its own: a neighbour's doing, not a fault.
const OUT_OF_MEMORY: u8 = 3;

const WARM_UP: Duration = Duration::from_millis(1500);
const CALIBRATION_KERNELS: usize = 50;
const CALIBRATION_KERNEL_MS: f64 = 3.0;

/// Longest latency that is told apart, in microseconds.
const LATENCY_TOP: u64 = 600_000_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let reporter = match Reporter::open(&arguments.report) {
        Ok(reporter) => reporter,
        Err(error) => {
            eprintln!(
                "slicewatch-tenant: cannot write the report to {}: {error}",
                arguments.report.display()
            );
            return ExitCode::FAILURE;
        }
    };
    let outcome = if arguments.calibrate {
        calibrate(&arguments, &reporter)
    } else {
        load(&arguments, &reporter)
    };
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("slicewatch-tenant: {error:#}");
    let (name, requested_bytes, status) = match error.downcast_ref::<GpuError>() {
        Some(GpuError::OutOfMemory { requested_bytes }) => (
            "out_of_memory",
            *requested_bytes,
            ExitCode::from(OUT_OF_MEMORY),
        ),
        Some(GpuError::NoLibrary) => ("no_libcuda", 0, ExitCode::FAILURE),
        Some(GpuError::NoDevice { .. }) => ("no_device", 0, ExitCode::FAILURE),
        Some(GpuError::Call { .. }) | None => ("failed", 0, ExitCode::FAILURE),
    };
    // A report that cannot be written was said above already.
    let _ = reporter.write(&Line::Error {
        pid: std::process::id(),
        unix: unix_now(),
        error: name,
        requested_bytes,
    });
    status
}

/// How many turns of the loop this card makes in a millisecond, alone.
fn calibrate(arguments: &Arguments, reporter: &Reporter) -> anyhow::Result<()> {
    let gpu = Gpu::open(arguments.device, arguments.wait)?;
    let burner = Burner::new(&gpu, arguments.blocks, arguments.threads)?;
    // Clocks need a while under load to rise. The length grows towards the wanted one meanwhile.
    let begun = Instant::now();
    let mut turns = 1000_u32;
    while begun.elapsed() < WARM_UP {
        let ms = burner.time(turns)?;
        let factor = (CALIBRATION_KERNEL_MS / ms.max(1e-3)).clamp(0.5, 10.0);
        turns = (f64::from(turns) * factor).clamp(1.0, 1e9) as u32;
    }
    let mut times = Vec::with_capacity(CALIBRATION_KERNELS);
    for _ in 0..CALIBRATION_KERNELS {
        times.push(burner.time(turns)?);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    if at(0.5) <= 0.0 {
        return Err(anyhow!("the GPU's events say that a kernel took no time"));
    }
    reporter
        .write(&Line::Calibration {
            pid: std::process::id(),
            unix: unix_now(),
            gpu_uuid: &gpu.uuid,
            model: &gpu.model,
            iterations_per_ms: f64::from(turns) / at(0.5),
            iterations: turns,
            kernels: times.len(),
            kernel_ms_p10: at(0.1),
            kernel_ms_p50: at(0.5),
            kernel_ms_p90: at(0.9),
        })
        .context("cannot write the report")
}

/// The load as asked for, with its memory beside it.
fn load(arguments: &Arguments, reporter: &Reporter) -> anyhow::Result<()> {
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
        for block in blocks(arguments) {
            let (gpu, stop, started) = (&gpu, &stop, run.started);
            scope.spawn(move || block.run(gpu, reporter, stop, started));
        }
        let worked = run.work(burner.as_ref(), &stop);
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

/// The load under way.
struct Run<'a> {
    arguments: &'a Arguments,
    reporter: &'a Reporter,
    started: Instant,
    started_unix: f64,
    deadline: Instant,
    next_report: Option<Instant>,
    random: SmallRng,
    requests: u64,
    kernels: u64,
    /// In microseconds.
    latency: Histogram<u64>,
}

impl<'a> Run<'a> {
    fn begin(arguments: &'a Arguments, reporter: &'a Reporter) -> anyhow::Result<Self> {
        let seed = arguments.seed.unwrap_or_else(|| std::process::id().into());
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
            random: SmallRng::seed_from_u64(seed),
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
        let per_request = self.arguments.kernels_per_request;
        while Instant::now() < self.deadline && !stop.is_set() {
            let asked = Instant::now();
            for _ in 0..per_request {
                burner.launch(*turns)?;
            }
            burner.wait()?;
            let took = asked.elapsed().as_micros();
            self.latency
                .saturating_record(u64::try_from(took).unwrap_or(LATENCY_TOP).max(1));
            self.requests += 1;
            self.kernels += u64::from(per_request);
            self.report_if_due()?;
            let rest = self.rest();
            if !rest.is_zero() {
                self.rest_until(Instant::now() + rest, stop)?;
            }
        }
        Ok(())
    }

    /// The next rest.
    fn rest(&mut self) -> Duration {
        let mean = milliseconds(self.arguments.gap_ms);
        match self.arguments.gaps {
            Gaps::Fixed => mean,
            // 1 - [0, 1) is never 0, so the logarithm is finite.
            Gaps::Exponential => mean.mul_f64(-(1.0 - self.random.random::<f64>()).ln()),
        }
    }

    /// Sleeps until `then` or the end, and reports meanwhile.
    fn rest_until(&mut self, then: Instant, stop: &Stop) -> anyhow::Result<()> {
        const SLICE: Duration = Duration::from_millis(50);
        let then = then.min(self.deadline);
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

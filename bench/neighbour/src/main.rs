//! A CUDA tenant with a known load: the noisy neighbour, and the truth it is measured against.

mod arguments;
mod gpu;
mod load;
mod memory;
mod pace;
mod record;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Parser;

use crate::arguments::Arguments;
use crate::gpu::{Burner, Gpu, GpuError};
use crate::report::{Line, Reporter, unix_now};

/// Out of memory has an exit status of its own: a neighbour's doing, not a fault.
const OUT_OF_MEMORY: u8 = 3;

const WARM_UP: Duration = Duration::from_millis(1500);
const CALIBRATION_KERNELS: usize = 50;
const CALIBRATION_KERNEL_MS: f64 = 3.0;

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
        load::run(&arguments, &reporter)
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

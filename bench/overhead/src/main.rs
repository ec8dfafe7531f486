//! The bare loop: the NVML calls that the agent cannot do without, on its schedule, and nothing
//! else. What the agent costs beyond this is its own.

mod nvml;
mod usage;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use serde::Serialize;

use crate::nvml::{Device, List, Nvml};
use crate::usage::{process_cpu_seconds, status_bytes, thread_cpu_seconds};

/// The agent's NVML calls and nothing else: prints their CPU cost as one JSON object.
#[derive(Debug, Parser)]
#[command(name = "slicewatch-overhead", version)]
struct Arguments {
    /// Length of the run, in whole seconds
    #[arg(long, value_name = "S", default_value = "120",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,

    /// The driver's library
    #[arg(long, value_name = "FILE", default_value = "libnvidia-ml.so.1")]
    nvml_library: String,
}

/// Memory is read at 10 Hz: this is a tick.
const TICK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: u32 = 10;
/// The utilization ring is drained every 3 s.
const TICKS_A_DRAIN: u32 = 30;

/// Calls of one kind.
#[derive(Debug, Default, Clone, Serialize)]
struct Kind {
    calls: u64,
    errors: u64,
    /// Code of the last error.
    last_error: Option<u32>,
    cpu_microseconds_total: f64,
    /// `None` where there was no call.
    cpu_microseconds_per_call: Option<f64>,
}

/// Times calls by kind.
#[derive(Debug, Default)]
struct Book(BTreeMap<&'static str, Kind>);

impl Book {
    fn time(&mut self, kind: &'static str, call: impl FnOnce() -> Result<(), u32>) {
        let before = thread_cpu_seconds();
        let outcome = call();
        let took = (thread_cpu_seconds() - before) * 1e6;
        let kind = self.0.entry(kind).or_default();
        kind.calls += 1;
        kind.cpu_microseconds_total += took;
        kind.cpu_microseconds_per_call = Some(kind.cpu_microseconds_total / kind.calls as f64);
        if let Err(code) = outcome {
            kind.errors += 1;
            kind.last_error = Some(code);
        }
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Outcome {
    pid: u32,
    gpus: usize,
    elapsed_seconds: f64,
    /// CPU of the loop, user and system, all threads; the driver's start is not in it.
    cpu_seconds: f64,
    /// CPU until the loop began: process start and `nvmlInit`.
    cpu_seconds_start: f64,
    core_percent: f64,
    calls: u64,
    errors: u64,
    by_kind: BTreeMap<&'static str, Kind>,
    /// `None` where the kernel does not say.
    rss_bytes: Option<u64>,
    rss_anon_bytes: Option<u64>,
    rss_peak_bytes: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slicewatch-overhead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let nvml = Nvml::open(&arguments.nvml_library)?;
    let mut devices = nvml.devices()?;
    let mut book = Book::default();

    let cpu_seconds_start = process_cpu_seconds();
    let begun = Instant::now();
    // On a schedule of its own, so that slow calls do not make it slower.
    let wait_for =
        |tick| thread::sleep((begun + TICK * tick).saturating_duration_since(Instant::now()));
    let ticks = arguments.seconds.saturating_mul(TICKS_A_SECOND);
    for tick in 0..ticks {
        wait_for(tick);
        for device in &mut devices {
            read(device, tick, &mut book);
        }
    }
    wait_for(ticks);
    let elapsed_seconds = begun.elapsed().as_secs_f64();
    let cpu_seconds = process_cpu_seconds() - cpu_seconds_start;

    let outcome = Outcome {
        pid: std::process::id(),
        gpus: devices.len(),
        elapsed_seconds,
        cpu_seconds,
        cpu_seconds_start,
        core_percent: 100.0 * cpu_seconds / elapsed_seconds,
        calls: book.0.values().map(|kind| kind.calls).sum(),
        errors: book.0.values().map(|kind| kind.errors).sum(),
        by_kind: book.0,
        rss_bytes: status_bytes("VmRSS"),
        rss_anon_bytes: status_bytes("RssAnon"),
        rss_peak_bytes: status_bytes("VmHWM"),
    };
    let text = serde_json::to_string_pretty(&outcome).context("cannot write the outcome")?;
    println!("{text}");
    Ok(())
}

/// One tick of one device. Memory is read at 10 Hz; once a second that reading is the one before
/// the process lists, and another follows them, so that a torn list can be told.
fn read(device: &mut Device<'_>, tick: u32, book: &mut Book) {
    book.time("memory", || device.memory());
    if tick.is_multiple_of(TICKS_A_SECOND) {
        book.time("processes_compute", || device.processes(List::Compute));
        book.time("processes_graphics", || device.processes(List::Graphics));
        book.time("processes_mps", || device.processes(List::Mps));
        book.time("memory", || device.memory());
        book.time("events", || device.events());
    }
    // Off the tick of the lists, so that one tick is not the dearest of all.
    if tick % TICKS_A_DRAIN == TICKS_A_DRAIN / 2 + 1 {
        book.time("process_utilization", || device.process_utilization());
        book.time("samples", || device.samples());
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn calls_errors_and_time_are_booked_by_kind() {
        let mut book = Book::default();
        book.time("memory", || Ok(()));
        book.time("memory", || Err(999));
        let kind = &book.0["memory"];
        assert_eq!(
            (kind.calls, kind.errors, kind.last_error),
            (2, 1, Some(999))
        );
        assert!(kind.cpu_microseconds_per_call.is_some());
    }
}

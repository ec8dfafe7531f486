//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::gpu::Wait;

/// How long a tenant rests between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gaps {
    /// Always the same.
    Fixed,
    /// Exponential, with the mean given: what independent users look like.
    Exponential,
}

/// A CUDA tenant with a known load.
///
/// Kernels of fixed work are launched in requests; what they take alone is known from a
/// calibration, so that "busy seconds" is the truth of this tenant's GPU time however the card is
/// shared. Exit status: 0 done, 1 failed, 2 wrong arguments, 3 the GPU is out of memory.
#[derive(Debug, Parser)]
#[command(name = "slicewatch-tenant", version)]
pub(crate) struct Arguments {
    /// Measure this card, which must be idle, print one JSON line with iterations_per_ms and end
    #[arg(long)]
    pub(crate) calibrate: bool,

    /// Launch no kernel: hold a context (and memory) alone
    #[arg(long, conflicts_with = "calibrate")]
    pub(crate) idle: bool,

    /// Turns of the kernel's loop in a millisecond, as --calibrate printed it
    #[arg(long, value_name = "N", value_parser = positive,
          required_unless_present_any = ["calibrate", "idle"])]
    pub(crate) iterations_per_ms: Option<f64>,

    /// Length of one kernel alone, in milliseconds
    #[arg(long, value_name = "MS", value_parser = positive, default_value = "1")]
    pub(crate) kernel_ms: f64,

    /// Kernels queued at once and waited for together
    #[arg(long, value_name = "K", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) kernels_per_request: u32,

    /// Rest between the end of a request and the next, in milliseconds
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value = "0")]
    pub(crate) gap_ms: f64,

    /// How the rests are spread
    #[arg(long, value_enum, default_value = "fixed")]
    pub(crate) gaps: Gaps,

    /// Requests come in bursts of this mean length, in milliseconds
    #[arg(long, value_name = "MS", value_parser = positive, requires = "burst_off_ms")]
    pub(crate) burst_on_ms: Option<f64>,

    /// Mean rest between bursts, in milliseconds
    #[arg(long, value_name = "MS", value_parser = positive, requires = "burst_on_ms")]
    pub(crate) burst_off_ms: Option<f64>,

    /// How the lengths of bursts and of the rests between them are spread
    #[arg(long, value_enum, default_value = "exponential")]
    pub(crate) bursts: Gaps,

    /// Seed of the random rests; the process id where not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Length of the load
    #[arg(long, value_name = "S", value_parser = positive, default_value = "10")]
    pub(crate) seconds: f64,

    /// How the host waits for the GPU
    #[arg(long, value_enum, default_value = "block")]
    pub(crate) wait: Wait,

    /// CUDA's index of the card
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device: u32,

    /// Blocks of a kernel: enough to fill the card
    #[arg(long, value_name = "N", default_value = "264",
          value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub(crate) blocks: u32,

    /// Threads of a block
    #[arg(long, value_name = "N", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: u32,

    /// Device memory held all the time, beside the context's own
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub(crate) memory_mib: u64,

    /// Device memory taken and given back over and over; 0 for none
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub(crate) step_mib: u64,

    /// How long each step is held
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value = "500")]
    pub(crate) step_hold_ms: f64,

    /// From one step's beginning to the next's
    #[arg(long, value_name = "MS", value_parser = positive, default_value = "1000")]
    pub(crate) step_period_ms: f64,

    /// Device memory taken once, for a short time; 0 for none
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub(crate) peak_mib: u64,

    /// When the peak begins, after the load
    #[arg(long, value_name = "S", value_parser = not_negative, default_value = "1")]
    pub(crate) peak_at_s: f64,

    /// How long the peak is held
    #[arg(long, value_name = "MS", value_parser = not_negative, default_value = "250")]
    pub(crate) peak_hold_ms: f64,

    /// Device memory that grows by this much again and again, and is kept; 0 for none. A step that
    /// does not fit is reported as refused and tried again
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub(crate) grow_mib: u64,

    /// When it begins to grow, after the load
    #[arg(long, value_name = "S", value_parser = not_negative, default_value = "1")]
    pub(crate) grow_at_s: f64,

    /// From one step of growth to the next
    #[arg(long, value_name = "MS", value_parser = positive, default_value = "100")]
    pub(crate) grow_every_ms: f64,

    /// Steps of growth in all [default: as many as fit, and then refusals]
    #[arg(long, value_name = "N")]
    pub(crate) grow_steps: Option<u64>,

    /// Make an illegal access this long after the load began, and end: the driver reports Xid 31
    #[arg(long, value_name = "S", value_parser = not_negative,
          conflicts_with_all = ["idle", "calibrate", "step_mib", "peak_mib", "grow_mib"])]
    pub(crate) fault_at_s: Option<f64>,

    /// Begin the load at this wall-clock time, so that several tenants begin together
    #[arg(long, value_name = "UNIX_SECONDS", value_parser = positive)]
    pub(crate) start_at: Option<f64>,

    /// Where the JSON lines go; - for the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) report: PathBuf,

    /// Write each request here, 24 bytes: when it was asked for and done, in nanoseconds of the
    /// host's CLOCK_MONOTONIC, and when its first kernel began, by the GPU's clock; little endian
    #[arg(long, value_name = "FILE", conflicts_with_all = ["idle", "calibrate"])]
    pub(crate) record: Option<PathBuf>,

    /// Print cumulative figures this often as well, in seconds
    #[arg(long, value_name = "S", value_parser = positive)]
    pub(crate) report_every: Option<f64>,
}

impl Arguments {
    /// Turns of one kernel's loop.
    pub(crate) fn turns(&self) -> Result<u32, String> {
        let turns = (self.kernel_ms * self.iterations_per_ms.unwrap_or(0.0)).round();
        if (1.0..=f64::from(u32::MAX)).contains(&turns) {
            Ok(turns as u32)
        } else {
            Err(format!(
                "a kernel of {} ms at {} iterations per millisecond would have {turns} turns: 1 to {} are possible",
                self.kernel_ms,
                self.iterations_per_ms.unwrap_or(0.0),
                u32::MAX
            ))
        }
    }
}

/// The longest time any option may name, in its own unit: keeps sums of durations in range.
const LONGEST: f64 = 1e12;

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=LONGEST).contains(&value) => Ok(value),
        _ => Err("a number of 0 or more is needed".into()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= LONGEST => Ok(value),
        _ => Err("a number above 0 is needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(
            std::iter::once("slicewatch-tenant").chain(arguments.iter().copied()),
        )
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_load_needs_the_calibration() {
        assert!(parse(&["--kernel-ms", "8"]).is_err());
        assert!(parse(&["--idle"]).is_ok());
        assert!(parse(&["--calibrate"]).is_ok());
        let load = parse(&["--kernel-ms", "8", "--iterations-per-ms", "50000"]).unwrap();
        assert_eq!(load.turns(), Ok(400_000));
    }

    #[test]
    fn what_cannot_go_together_is_refused() {
        let load = ["--iterations-per-ms", "1"];
        for bad in [
            &["--burst-on-ms", "5"][..],
            &["--idle", "--record", "x"],
            &["--idle", "--fault-at-s", "1"],
            &["--fault-at-s", "1", "--grow-mib", "1"],
        ] {
            assert!(parse(&[&load[..], bad].concat()).is_err(), "{bad:?}");
        }
        for good in [
            &["--burst-on-ms", "5", "--burst-off-ms", "5"][..],
            &["--record", "x", "--fault-at-s", "1"],
            &["--idle", "--grow-mib", "1", "--peak-mib", "5"],
        ] {
            assert!(parse(&[&load[..], good].concat()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for bad in ["-1", "nan", "inf", "1e30", "x", "0"] {
            assert!(parse(&["--idle", "--seconds", bad]).is_err(), "{bad}");
        }
        let load = parse(&["--kernel-ms", "1000000", "--iterations-per-ms", "50000"]).unwrap();
        assert!(load.turns().is_err());
    }
}

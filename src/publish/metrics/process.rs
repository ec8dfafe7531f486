//! The agent's own process, read from /proc at the moment of encoding.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::model::Bytes;

/// The kernel's clock tick as user space sees it: 100 a second on every architecture that has
/// NVIDIA's driver.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of the agent's own process; `None` where /proc did not tell.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct ProcessStats {
    /// User and system time since the start.
    pub cpu: Option<Duration>,
    pub resident: Option<Bytes>,
    pub virtual_memory: Option<Bytes>,
    /// Since 1970.
    pub started: Option<Duration>,
    pub open_fds: Option<u64>,
    /// The soft limit; `None` where there is none too.
    pub max_fds: Option<u64>,
    pub threads: Option<u64>,
}

impl ProcessStats {
    /// This process, now.
    pub fn read() -> Self {
        Self::read_from(Path::new("/proc"))
    }

    fn read_from(proc_root: &Path) -> Self {
        let own = proc_root.join("self");
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let stat = text(&own.join("stat"));
        let status = text(&own.join("status"));
        let limits = text(&own.join("limits"));
        let boot = text(&proc_root.join("stat"));
        let boot = field(&boot, "btime").and_then(|value| value.parse::<u64>().ok());
        Self {
            cpu: stat_field(&stat, 14)
                .zip(stat_field(&stat, 15))
                .map(|(user, system)| ticks(user.saturating_add(system))),
            resident: kib(&status, "VmRSS:"),
            virtual_memory: kib(&status, "VmSize:"),
            started: boot
                .zip(stat_field(&stat, 22))
                .map(|(boot, start)| Duration::from_secs(boot).saturating_add(ticks(start))),
            // The handle that lists them is one of them.
            open_fds: fs::read_dir(own.join("fd"))
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: limits
                .lines()
                .find_map(|line| line.strip_prefix("Max open files"))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok()),
            threads: field(&status, "Threads:").and_then(|value| value.parse().ok()),
        }
    }
}

fn ticks(count: u64) -> Duration {
    Duration::try_from_secs_f64(count as f64 / TICKS_PER_SECOND).unwrap_or_default()
}

/// Field `number` (from 1) of a stat line; the name before it may hold blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

/// The first word after `name` at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()
}

fn kib(status: &str, name: &str) -> Option<Bytes> {
    let kib: u64 = field(status, name)?.parse().ok()?;
    Some(Bytes(kib.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("self/fd")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        root
    }

    #[test]
    fn a_captured_tree_gives_every_figure() {
        let root = tree(&[
            (
                "self/stat",
                "42 (slice ) watch) S 1 42 42 0 -1 4194304 900 0 0 0 250 50 0 0 20 0 5 0 12345 20000 300 18446744073709551615",
            ),
            (
                "self/status",
                "Name:\tslicewatch\nVmSize:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t5\n",
            ),
            (
                "self/limits",
                "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 4096                 files\n",
            ),
            ("stat", "cpu  1 2 3\nbtime 1700000000\n"),
            ("self/fd/0", ""),
            ("self/fd/1", ""),
            ("self/fd/2", ""),
        ]);
        let stats = ProcessStats::read_from(root.path());
        assert_eq!(
            stats,
            ProcessStats {
                cpu: Some(Duration::from_secs(3)),
                resident: Some(Bytes::mib(10)),
                virtual_memory: Some(Bytes::mib(20)),
                started: Some(Duration::from_millis(1_700_000_123_450)),
                open_fds: Some(2),
                max_fds: Some(1024),
                threads: Some(5),
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        let root = tree(&[
            ("self/stat", "42 (x) S"),
            (
                "self/status",
                "VmRSS:\tmuch kB\nVmSize: 18446744073709551615 kB\n",
            ),
            (
                "self/limits",
                "Max open files            unlimited            unlimited            files\n",
            ),
        ]);
        let stats = ProcessStats::read_from(root.path());
        assert_eq!(
            stats,
            ProcessStats {
                open_fds: Some(0),
                ..ProcessStats::default()
            }
        );
        let nothing = ProcessStats::read_from(Path::new("/nonexistent"));
        assert_eq!(nothing, ProcessStats::default());
    }

    #[test]
    fn the_real_one_is_plausible() {
        let stats = ProcessStats::read();
        assert!(stats.resident.is_some_and(|bytes| bytes > Bytes::mib(1)));
        assert!(stats.threads.is_some_and(|count| count >= 1));
        assert!(stats.started.is_some_and(|at| at.as_secs() > 1_500_000_000));
        assert!(stats.cpu.is_some());
    }
}

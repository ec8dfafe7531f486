//! What this process costs, as the kernel says.
#![expect(unsafe_code, reason = "the kernel's clocks are read through libc")]

use std::{fs, mem};

/// CPU seconds of the calling thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing. The call cannot fail with this clock; if it did the
    // time would stay 0.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds of the whole process, user and system.
pub(crate) fn process_cpu_seconds() -> f64 {
    // SAFETY: plain integers: all zeroes are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` is valid for writing.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A field of `/proc/self/status` in bytes, `None` where it is not there.
pub(crate) fn status_bytes(field: &str) -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/status").ok()?, field)
}

fn field_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_in_bytes_and_by_its_whole_name() {
        let status = "Name:\tx\nVmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(field_bytes(status, "VmRSS"), Some(2048 * 1024));
        assert_eq!(field_bytes(status, "RssAnon"), Some(512 * 1024));
        assert_eq!(field_bytes(status, "Rss"), None);
        assert_eq!(field_bytes(status, "Name"), None);
    }

    #[test]
    fn this_process_has_used_some_cpu_and_memory() {
        assert!(process_cpu_seconds() > 0.0);
        assert!(thread_cpu_seconds() > 0.0);
        assert!(status_bytes("VmRSS") > Some(0));
    }
}

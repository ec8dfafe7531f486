//! What this process costs, as the kernel says.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;

/// CPU nanoseconds since each thread's start, summed over threads of one name. Finer than
/// `/proc/self/stat`, whose unit is 10 ms.
pub(crate) fn cpu_by_thread() -> anyhow::Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").context("cannot list this process's threads")? {
        let task = entry?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        let schedstat = fs::read_to_string(task.join("schedstat"))
            .context("this kernel does not tell the CPU time of threads")?;
        let nanos: u64 = schedstat
            .split_whitespace()
            .next()
            .context("an empty schedstat")?
            .parse()?;
        *sums.entry(name.trim_end().to_owned()).or_insert(0) += nanos;
    }
    Ok(sums)
}

/// A field of `/proc/self/status`, in bytes.
pub(crate) fn status_bytes(field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|line| line.trim().strip_suffix("kB"))
        .with_context(|| format!("this kernel does not tell {field}"))?
        .trim()
        .parse()?;
    Ok(kib * 1024)
}

//! What the host's files say of processes and pods, without the Kubernetes API.
//!
//! `/proc/PID/stat` gives a process its identity (PID and start time), `/proc/PID/cgroup` its
//! container and pod, `/var/log/pods` and `/var/log/containers` their names. Parsers are pure;
//! files are read through [`HostFiles`](crate::model::HostFiles), so a test puts any tree behind
//! them.

mod cgroup;
mod files;
mod names;
mod processes;
mod stat;

use std::io;

use crate::model::Cause;

pub(in crate::collect) use cgroup::{is_container_id, is_uid};
pub(in crate::collect) use names::{is_label, is_subdomain};

pub use cgroup::{CONTAINER_ID_LENGTH, parse_cgroup};
pub use files::{MAX_FILE_BYTES, MAX_NAMES, RealFiles};
pub use names::{MAX_ENTRIES, NameBook};
pub use processes::{INITIAL_PID_NAMESPACE, MAX_PROCESSES, ProcessTable, prove_pid_namespace};
pub use stat::{Stat, parse_stat};

/// The reason that an I/O error stands for.
fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::NotFound => Cause::NotFound,
        io::ErrorKind::PermissionDenied => Cause::PermissionDenied,
        io::ErrorKind::TimedOut => Cause::Timeout,
        io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => Cause::Malformed,
        _ => Cause::Other,
    }
}

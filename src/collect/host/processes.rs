//! Who a PID is.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use super::{cause_of, parse_cgroup, parse_stat};
use crate::model::{
    Cause, CgroupIdentity, HostFiles, HostPid, ProcessFacts, ProcessKey, Reading, StartTime,
};

/// The link `/proc/self/ns/pid` in the host's own PID namespace: the kernel gives the first
/// namespace this fixed number (`PROC_PID_INIT_INO`).
pub const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Processes held at once. The table is a cache: when full it is emptied, which costs reads only.
pub const MAX_PROCESSES: usize = 8192;

/// A cgroup that named no container is read again at every so many look-ups: a runtime moves a
/// process into its cgroup shortly after its start, and a process of the host stays where it is.
const LOOK_UPS_BETWEEN_CGROUP_READS: u8 = 10;

/// `ESRCH`: what reading a file of `/proc/PID` gives when the process ends between open and read.
const NO_SUCH_PROCESS: i32 = libc::ESRCH;

/// Proves that PIDs here are the host's: `self/ns/pid` below `proc_root` is the first PID
/// namespace. Value: they are. `Failed(PidNamespace)`: they are not; PIDs that the driver reports
/// would name other processes. `Failed` with another cause: the link could not be read.
pub fn prove_pid_namespace(files: &dyn HostFiles, proc_root: &str) -> Reading<()> {
    match files.read_link(&format!("{}/self/ns/pid", proc_root.trim_end_matches('/'))) {
        Ok(link) if link == INITIAL_PID_NAMESPACE => Reading::Value(()),
        Ok(_) => Reading::Failed(Cause::PidNamespace),
        Err(error) => Reading::Failed(cause_of(&error)),
    }
}

/// Facts of the processes a sampler sees, each read once in its life.
///
/// A look-up of a known process is one read, of its `stat`: the start time there tells it from
/// another process of the same PID.
pub struct ProcessTable {
    files: Arc<dyn HostFiles>,
    proc_root: String,
    namespace: Reading<()>,
    known: HashMap<HostPid, Known>,
    /// Kept for its memory.
    path: String,
}

struct Known {
    facts: Arc<ProcessFacts>,
    /// Since the cgroup was read.
    look_ups: u8,
}

impl ProcessTable {
    /// An empty table over these files; it proves the PID namespace itself.
    pub fn new(files: Arc<dyn HostFiles>, proc_root: &str) -> Self {
        let namespace = prove_pid_namespace(&*files, proc_root);
        Self::with_namespace(files, proc_root, namespace)
    }

    /// An empty table over these files, with the proof that PIDs are the host's (or the
    /// operator's word for it). Without it no file is ever read.
    pub fn with_namespace(
        files: Arc<dyn HostFiles>,
        proc_root: &str,
        pid_namespace: Reading<()>,
    ) -> Self {
        Self {
            files,
            proc_root: proc_root.trim_end_matches('/').to_owned(),
            namespace: pid_namespace,
            known: HashMap::new(),
            path: String::new(),
        }
    }

    /// Who `pid` is now.
    ///
    /// `Failed(PidNamespace)`: PIDs are not known to be the host's; nothing was read.
    /// `Failed(ProcessGone)`: there is no such process, or it ended while it was read. A `/proc`
    /// that hides processes (`hidepid`) looks the same, however often the driver lists the PID.
    /// `Failed(PermissionDenied)`: its files may not be read. `Failed(Malformed)`: a file was not
    /// of the kernel's form. Failures are not kept: the next look-up reads anew.
    pub fn look_up(&mut self, pid: HostPid) -> Reading<Arc<ProcessFacts>> {
        if self.namespace.value().is_none() {
            return Reading::Failed(Cause::PidNamespace);
        }
        match self.current(pid) {
            Ok(facts) => Reading::Value(facts),
            Err(cause) => {
                self.known.remove(&pid);
                Reading::Failed(cause)
            }
        }
    }

    /// Forgets every process whose PID is not among these.
    pub fn retain(&mut self, listed: impl Fn(HostPid) -> bool) {
        self.known.retain(|&pid, _| listed(pid));
    }

    fn current(&mut self, pid: HostPid) -> Result<Arc<ProcessFacts>, Cause> {
        let stat = self.read(pid, "stat").map_err(gone_if_missing)?;
        let stat = parse_stat(&stat).ok_or(Cause::Malformed)?;
        if let Some(known) = self.known.get_mut(&pid)
            && known.facts.key.started == stat.started
        {
            if known.facts.cgroup != CgroupIdentity::default() {
                return Ok(Arc::clone(&known.facts));
            }
            known.look_ups += 1;
            if known.look_ups < LOOK_UPS_BETWEEN_CGROUP_READS {
                return Ok(Arc::clone(&known.facts));
            }
        }
        let cgroup = self.cgroup_of(pid, stat.started)?;
        if stat.ended && cgroup == CgroupIdentity::default() {
            // cgroup v1 moves a process out as it ends: it is not known to be the host's own.
            return Err(Cause::ProcessGone);
        }
        let facts = Arc::new(ProcessFacts {
            key: ProcessKey {
                pid,
                started: stat.started,
            },
            name: stat.printable_name().into(),
            cgroup,
        });
        if self.known.len() >= MAX_PROCESSES && !self.known.contains_key(&pid) {
            self.known.clear();
        }
        self.known.insert(
            pid,
            Known {
                facts: Arc::clone(&facts),
                look_ups: 0,
            },
        );
        Ok(facts)
    }

    /// The cgroup of the process that started then: the start time is read again after it, as the
    /// PID may have gone to another process in between.
    fn cgroup_of(&mut self, pid: HostPid, started: StartTime) -> Result<CgroupIdentity, Cause> {
        let cgroup = self.read(pid, "cgroup");
        let again = self.read(pid, "stat").map_err(gone_if_missing)?;
        if parse_stat(&again).ok_or(Cause::Malformed)?.started != started {
            return Err(Cause::ProcessGone);
        }
        // The process is there, so a missing file is a kernel without cgroups.
        let cgroup = cgroup.map_err(|error| cause_of(&error))?;
        Ok(parse_cgroup(&String::from_utf8_lossy(&cgroup)))
    }

    fn read(&mut self, pid: HostPid, file: &str) -> io::Result<Vec<u8>> {
        let Self {
            proc_root, path, ..
        } = self;
        path.clear();
        // Writing to a String does not fail.
        let _ = write!(path, "{proc_root}/{pid}/{file}");
        self.files.read(&self.path)
    }
}

fn gone_if_missing(error: io::Error) -> Cause {
    if error.raw_os_error() == Some(NO_SUCH_PROCESS) {
        return Cause::ProcessGone;
    }
    match cause_of(&error) {
        Cause::NotFound => Cause::ProcessGone,
        other => other,
    }
}

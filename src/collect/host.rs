//! What the host files say of processes and pods.

use std::sync::Arc;

use crate::model::{HostFiles, HostPid, ProcessFacts, Reading};

/// Facts of the processes a sampler sees, each read once in its life.
pub struct ProcessTable {}

impl ProcessTable {
    /// An empty table over these files.
    pub fn new(files: Arc<dyn HostFiles>, proc_root: &str) -> Self {
        let _ = (files, proc_root);
        Self {}
    }

    /// Who `pid` is now.
    pub fn look_up(&mut self, pid: HostPid) -> Reading<Arc<ProcessFacts>> {
        let _ = pid;
        Reading::Unsupported
    }

    /// Forgets every process whose PID is not among these.
    pub fn retain(&mut self, listed: impl Fn(HostPid) -> bool) {
        let _ = listed;
    }
}

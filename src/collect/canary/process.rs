//! A worker as the agent holds it: a child process and the page shared with it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::Release;

use rustix::process::{Pid, Signal, kill_process};

use super::CanarySettings;
use super::raw::page::{MAGIC, Shared};
use crate::collect::host::parse_stat;
use crate::model::{GpuUuid, HostPid, ProcessKey, StartTime};

/// What of the agent's environment a worker gets: where libraries are, and nothing of the agent's
/// own.
const INHERITED: [&str; 2] = ["LD_LIBRARY_PATH", "CUDA_MPS_PIPE_DIRECTORY"];

#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    pub(super) page: Shared,
    /// Where its start time could be read.
    pub(super) key: Option<ProcessKey>,
}

impl Worker {
    /// Starts a worker on one device. It ends with the thread that calls this.
    ///
    /// # Errors
    /// The system's word.
    pub(super) fn start(settings: &CanarySettings, gpu: &GpuUuid) -> io::Result<Self> {
        let page = Shared::new()?;
        page.magic.store(MAGIC, Release);
        let mut command = Command::new(&settings.program);
        command
            .arg0("slicewatch")
            .args(["canary", "--parent", &std::process::id().to_string()])
            .stdin(Stdio::from(page.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::null())
            .env_clear()
            .env("CUDA_VISIBLE_DEVICES", gpu.as_str())
            // The kernel is a few lines, and the root file system is read-only.
            .env("CUDA_CACHE_DISABLE", "1")
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((*name, std::env::var_os(name)?))),
            );
        if let Some(library) = &settings.library {
            command.arg("--cuda-library").arg(library);
        }
        let child = command.spawn()?;
        let key = started(&settings.proc_root, child.id()).map(|started| ProcessKey {
            pid: HostPid(child.id()),
            started,
        });
        Ok(Self { child, page, key })
    }

    /// Its PID.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run until it has launched what is wanted.
    pub(super) fn go_on(&self) {
        // Its PID is its own until it is waited for, and then nothing is wanted of it.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Ends it, stopped or not; its context goes with it.
    pub(super) fn kill(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
    }

    /// True once it is no more. Never waits: a process in a hung call may take long to end.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// Start of a process in ticks after boot.
fn started(proc_root: &str, pid: u32) -> Option<StartTime> {
    let stat = std::fs::read(format!("{proc_root}/{pid}/stat")).ok()?;
    parse_stat(&stat).map(|stat| stat.started)
}

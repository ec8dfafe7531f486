//! The few edges behind which the world can be exchanged: the driver, the canaries and the host's
//! files.

use std::io;
use std::time::Duration;

use super::{
    CanaryWindow, CanaryWish, Cause, ContextKind, GpuIdentity, HostPid, Memory, MigProfile, Moment,
    Reading, RingRead, SourceHealth, XidEvent,
};

/// Why a driver call gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// This device or driver has no such figure: not an error to repeat.
    #[error("not supported by this device or driver")]
    Unsupported,
    #[error("the GPU is lost: it fell off the bus or must be reset")]
    Lost,
    #[error("the driver is not loaded, or was reloaded")]
    DriverNotLoaded,
    #[error("permission denied by the driver")]
    PermissionDenied,
    #[error("the driver's call timed out")]
    Timeout,
    /// The driver's return code.
    #[error("NVML error {0}")]
    Code(u32),
}

impl GpuError {
    /// The reason for readings and health series.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Lost => Cause::GpuLost,
            Self::DriverNotLoaded => Cause::DriverNotLoaded,
            Self::PermissionDenied => Cause::PermissionDenied,
            Self::Timeout => Cause::Timeout,
            Self::Unsupported | Self::Code(_) => Cause::Other,
        }
    }

    /// True where the handle is dead and the driver must be opened anew.
    pub const fn needs_reopen(self) -> bool {
        matches!(self, Self::Lost | Self::DriverNotLoaded)
    }
}

impl<T> From<GpuError> for Reading<T> {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::Unsupported => Self::Unsupported,
            other => Self::Failed(other.cause()),
        }
    }
}

/// One row of a process list, before the host was asked who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawProcess {
    pub pid: HostPid,
    pub kind: ContextKind,
    /// `Failed(NotAvailable)` where the driver says "not available".
    pub used: Reading<super::Bytes>,
}

/// One physical GPU as a driver shows it. Devices are numbered as [`GpuSource::devices`] lists
/// them: the card itself, or its MIG instances. Calls may block; each sampler thread owns one.
pub trait GpuSource: Send {
    /// The card.
    fn card(&self) -> &GpuIdentity;

    /// What can be scheduled on it: the card itself without MIG, its MIG instances with (maybe
    /// none). Asked again once a minute and after errors.
    ///
    /// # Errors
    /// [`GpuError`] of the first call that failed.
    fn devices(&mut self) -> Result<Vec<GpuIdentity>, GpuError>;

    /// Memory of device `index` now.
    ///
    /// # Errors
    /// [`GpuError`] of the call.
    fn memory(&mut self, index: usize) -> Result<Memory, GpuError>;

    /// Appends the processes of device `index` (compute, graphics, MPS clients; a process with
    /// two kinds of context comes twice) and says whether the list is complete.
    ///
    /// # Errors
    /// [`GpuError`] of the compute list; a kind that the driver lacks is no error.
    fn processes(&mut self, index: usize, into: &mut Vec<RawProcess>) -> Result<bool, GpuError>;

    /// The card's utilization ring newer than `after` (microseconds of the driver's clock, which
    /// is the wall clock), appended nowhere: one read.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] on cards without it and under MIG.
    fn ring(&mut self, after: Duration) -> Result<RingRead, GpuError>;

    /// XID events since the last call, without waiting.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] where the driver has no events.
    fn xids(&mut self) -> Result<Vec<XidEvent>, GpuError>;

    /// MIG profiles that the card offers, whether or not MIG is on.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] where card or driver cannot tell.
    fn mig_profiles(&mut self) -> Result<Vec<MigProfile>, GpuError>;
}

/// The latency canaries of a node, as the agent steers them. No call blocks.
pub trait CanarySource: Send {
    /// What each device's canary shall do from now on; a device that is not named has none.
    fn steer(&mut self, wishes: Vec<CanaryWish>);

    /// What came since the last call, device by device, and how the workers are doing.
    fn collect(&mut self, now: Moment) -> (Vec<CanaryWindow>, SourceHealth);
}

/// The host's files, read only. Paths are absolute paths of the host.
pub trait HostFiles: Send + Sync {
    /// A whole small file.
    ///
    /// # Errors
    /// As of [`std::fs::read`].
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As of [`std::fs::read_link`].
    fn read_link(&self, path: &str) -> io::Result<String>;

    /// Names in a folder, unsorted; names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// As of [`std::fs::read_dir`].
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
}

//! What was read, or why it was not. Unknown is never zero.

use serde::{Deserialize, Serialize};

/// Why a value is not known. The label is what `reason` says on health series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing was read yet.
    NotYet,
    /// The source refused: rights are missing.
    PermissionDenied,
    /// The file, socket, library or object is not there.
    NotFound,
    /// No answer within the time allowed.
    Timeout,
    /// A call into the driver has not returned.
    Hung,
    /// The GPU fell off the bus.
    GpuLost,
    /// The driver is not loaded, or was reloaded.
    DriverNotLoaded,
    /// Memory moved while the process list was read.
    Torn,
    /// The last good answer is too old to be shown.
    Stale,
    /// The process ended before it could be read.
    ProcessGone,
    /// The driver has the row but not its value.
    NotAvailable,
    /// The agent does not see the host's PIDs.
    PidNamespace,
    /// The answer was not understood.
    Malformed,
    /// Anything else; the log has the words.
    Other,
}

impl Cause {
    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotYet => "not_yet",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::Timeout => "timeout",
            Self::Hung => "hung",
            Self::GpuLost => "gpu_lost",
            Self::DriverNotLoaded => "driver_not_loaded",
            Self::Torn => "torn",
            Self::Stale => "stale",
            Self::ProcessGone => "process_gone",
            Self::NotAvailable => "not_available",
            Self::PidNamespace => "pid_namespace",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}

/// A value, or the reason there is none. In JSON: `{"value": 1}`, `"unsupported"` or
/// `{"failed": "gpu_lost"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// Read, and believed.
    Value(T),
    /// This device, driver or set-up cannot tell.
    Unsupported,
    /// It could be told, but was not, for this reason.
    Failed(Cause),
}

impl<T> Reading<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unsupported | Self::Failed(_) => None,
        }
    }

    /// A copy of the value, if there is one.
    pub fn copied(&self) -> Option<T>
    where
        T: Copy,
    {
        self.value().copied()
    }

    /// The same reading of something computed from the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Value(value) => Reading::Value(f(value)),
            Self::Unsupported => Reading::Unsupported,
            Self::Failed(cause) => Reading::Failed(cause),
        }
    }

    /// A reading that borrows.
    pub fn as_ref(&self) -> Reading<&T> {
        match self {
            Self::Value(value) => Reading::Value(value),
            Self::Unsupported => Reading::Unsupported,
            Self::Failed(cause) => Reading::Failed(*cause),
        }
    }
}

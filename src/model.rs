//! Plain data, no I/O: what the floors exchange. Imports nothing from above.

pub mod allocation;
pub mod canary;
pub mod contention;
pub mod event;
pub mod host;
pub mod ids;
pub mod reading;
pub mod sample;
pub mod seams;
pub mod setup;
pub mod snapshot;
pub mod time;
pub mod trial;
pub mod units;

pub use allocation::{Allocations, ContainerAllocation, DeviceRef, DraClaim, Grant};
pub use canary::{CanaryReason, CanaryState, CanaryWindow, CanaryWish, Probe};
pub use contention::{
    CanaryView, ContainerDelay, DELAY_BOUNDS, DelayHistogram, DelayPair, DelayRemainder,
    DelaySeconds, NativeBuckets, Quantiles, Weight,
};
pub use event::PodEvent;
pub use host::{
    CgroupIdentity, ContainerName, NodeFacts, PodName, PodNames, PodStatus, ProcessFacts, Workload,
};
pub use ids::{ContainerId, GpuUuid, HostPid, PodUid, ProcessKey, StartTime};
pub use reading::{Cause, Reading};
pub use sample::{
    ContextKind, DeviceWindow, Drain, DrainRow, GpuIdentity, GpuWindow, ListedProcess, Memory,
    MigInstance, MigProfile, NodeSample, ProcessList, Refusal, RingRead, RingRow, RingSample,
    XidEvent,
};
pub use seams::{CanarySource, GpuError, GpuSource, HostFiles, RawProcess};
pub use snapshot::{
    BuildInfo, ContainerView, Evidence, Finding, GpuView, Owner, ProcessView, Remainder, Severity,
    Sharing, Snapshot, Source, SourceHealth, WorkloadTotal,
};
pub use time::Moment;
pub use units::{Bytes, GpuSeconds, SignedBytes};

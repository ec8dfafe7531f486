//! Reads the world, one module a source.

pub mod canary;
pub mod clock;
pub mod cluster;
pub mod host;
pub mod kubelet;
pub mod nvml;
pub mod sampler;
pub mod setup;

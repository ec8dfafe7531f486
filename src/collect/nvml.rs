//! NVML: the driver, its GPUs, one sampler thread each.
//!
//! [`driver::start`] is what the agent uses. Below it, [`library::open`] finds and initialises the
//! driver's library, and [`gpu::NvmlGpu`] shows one card through [`crate::model::GpuSource`]. All
//! unsafe code is in `raw`.

pub mod driver;
pub mod gpu;
pub mod library;
mod raw;

pub use driver::{NvmlHandle, NvmlRound, NvmlSettings, start};
pub use raw::Session;

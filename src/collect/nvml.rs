//! NVML: the driver, its GPUs, one sampler thread each.
//!
//! [`driver::start`] is what the agent uses. Below it, [`library::open`] finds and initialises the
//! driver's library, and [`gpu::NvmlGpu`] shows one card through [`crate::model::GpuSource`]. All
//! unsafe code is in `raw`.

pub mod driver;
pub mod gpu;
pub mod library;
mod raw;

use std::path::Path;

use crate::model::GpuSource;

pub use driver::{NvmlHandle, NvmlRound, NvmlSettings, start};
pub use raw::Session;

/// UUIDs of what this process may use: of cards, and of the MIG instances of cards that have some.
///
/// # Errors
/// The library's or a call's words, with the mend.
pub fn visible_uuids(library: Option<&Path>) -> Result<Vec<String>, String> {
    let session = library::open(library).map_err(|error| error.to_string())?;
    let count = session.device_count().map_err(|error| error.to_string())?;
    let mut uuids = Vec::new();
    for index in 0..count {
        let devices = gpu::NvmlGpu::open(std::sync::Arc::clone(&session), index)
            .and_then(|mut card| card.devices())
            .map_err(|error| error.to_string())?;
        uuids.extend(devices.iter().map(|device| device.uuid.to_string()));
    }
    Ok(uuids)
}

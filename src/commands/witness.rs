//! `slicewatch witness`: what `check --functional` runs in its pods.

use std::path::PathBuf;

use clap::Args;

use super::agent::terminated;
use crate::collect::nvml::visible_uuids;
use crate::model::trial::Witness;

/// Flags of the witness.
#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// Path of libnvidia-ml.so.1
    #[arg(long, value_name = "PATH")]
    nvml_library: Option<PathBuf>,
}

/// Prints one line of JSON, and holds its GPUs until it is told to end.
///
/// # Errors
/// Nobody reads what it prints.
pub async fn run(args: WitnessArgs) -> anyhow::Result<()> {
    let (gpus, driver_error) = match visible_uuids(args.nvml_library.as_deref()) {
        Ok(gpus) => (gpus, None),
        Err(words) => (Vec::new(), Some(words)),
    };
    let witness = Witness {
        gpus,
        driver_error,
        visible_devices: std::env::var("NVIDIA_VISIBLE_DEVICES").ok(),
    };
    println!("{}", serde_json::to_string(&witness)?);
    terminated().await;
    Ok(())
}

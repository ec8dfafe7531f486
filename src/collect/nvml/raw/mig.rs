//! MIG: mode, instances, profiles.

use std::ptr;

use nvml_wrapper_sys::bindings as sys;

use super::{Device, INVALID_ARGUMENT, NOT_FOUND, Session, meaning, number, until_nul, version};
use crate::model::GpuError;

/// One MIG profile as the driver tells it.
#[derive(Debug, Clone)]
pub(in super::super) struct ProfileInfo {
    /// `MIG 1g.18gb`; `None` on drivers that do not name profiles.
    pub(in super::super) name: Option<String>,
    pub(in super::super) slices: u32,
    pub(in super::super) instances: u32,
    pub(in super::super) multiprocessors: u32,
    pub(in super::super) memory_mib: u64,
}

/// Size of a MIG device as its attributes tell it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Attributes {
    pub(in super::super) gpu_slices: u32,
    pub(in super::super) compute_slices: u32,
    pub(in super::super) memory_mib: u64,
}

/// Profile numbers that NVML knows, some more for those to come.
const PROFILES: u32 = 32;

impl Session {
    /// Whether MIG is on now; a change that waits for a reset does not count.
    pub(in super::super) fn mig_enabled(&self, card: Device) -> Result<bool, GpuError> {
        let mut current = 0;
        let mut pending = 0;
        call!(
            self.lib(),
            nvmlDeviceGetMigMode,
            card.0,
            &mut current,
            &mut pending
        )?;
        Ok(current == 1)
    }

    /// The card's MIG devices with their numbers on it.
    pub(in super::super) fn mig_devices(
        &self,
        card: Device,
    ) -> Result<Vec<(u32, Device)>, GpuError> {
        let slots =
            number(|count| call!(self.lib(), nvmlDeviceGetMaxMigDeviceCount, card.0, count))?;
        let mut devices = Vec::new();
        for slot in 0..slots.min(64) {
            let mut device = ptr::null_mut();
            match call!(
                self.lib(),
                nvmlDeviceGetMigDeviceHandleByIndex,
                card.0,
                slot,
                &mut device
            ) {
                Ok(()) => devices.push((slot, Device(device))),
                Err(NOT_FOUND | INVALID_ARGUMENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(devices)
    }

    pub(in super::super) fn gpu_instance(&self, device: Device) -> Result<u32, GpuError> {
        number(|id| call!(self.lib(), nvmlDeviceGetGpuInstanceId, device.0, id))
    }

    pub(in super::super) fn compute_instance(&self, device: Device) -> Result<u32, GpuError> {
        number(|id| call!(self.lib(), nvmlDeviceGetComputeInstanceId, device.0, id))
    }

    pub(in super::super) fn attributes(&self, device: Device) -> Result<Attributes, GpuError> {
        let mut info = sys::nvmlDeviceAttributes_t {
            multiprocessorCount: 0,
            sharedCopyEngineCount: 0,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: 0,
            computeInstanceSliceCount: 0,
            memorySizeMB: 0,
        };
        call!(self.lib(), nvmlDeviceGetAttributes_v2, device.0, &mut info)?;
        Ok(Attributes {
            gpu_slices: info.gpuInstanceSliceCount,
            compute_slices: info.computeInstanceSliceCount,
            memory_mib: info.memorySizeMB,
        })
    }

    /// The profiles that the card offers, with NVML's numbers for them.
    pub(in super::super) fn profiles(
        &self,
        card: Device,
    ) -> Result<Vec<(u32, ProfileInfo)>, GpuError> {
        let mut profiles = Vec::new();
        let mut failed = None;
        for number in 0..PROFILES {
            match self.profile(card, number) {
                Ok(info) => profiles.push((number, info)),
                // Not a profile of this card, or a number that this driver does not know.
                Err(GpuError::Unsupported | INVALID_ARGUMENT | NOT_FOUND) => {}
                Err(error) if error.needs_reopen() => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        if profiles.is_empty() {
            return Err(failed.unwrap_or(GpuError::Unsupported));
        }
        Ok(profiles)
    }

    fn profile(&self, card: Device, number: u32) -> Result<ProfileInfo, GpuError> {
        if self.lib().nvmlDeviceGetGpuInstanceProfileInfoV.is_err() {
            return self.old_profile(card, number);
        }
        let mut info = sys::nvmlGpuInstanceProfileInfo_v2_t {
            version: version::<sys::nvmlGpuInstanceProfileInfo_v2_t>(2),
            id: 0,
            isP2pSupported: 0,
            sliceCount: 0,
            instanceCount: 0,
            multiprocessorCount: 0,
            copyEngineCount: 0,
            decoderCount: 0,
            encoderCount: 0,
            jpegCount: 0,
            ofaCount: 0,
            memorySizeMB: 0,
            name: [0; 96],
        };
        call!(
            self.lib(),
            nvmlDeviceGetGpuInstanceProfileInfoV,
            card.0,
            number,
            &mut info
        )?;
        Ok(ProfileInfo {
            name: Some(until_nul(&info.name)).filter(|name| !name.is_empty()),
            slices: info.sliceCount,
            instances: info.instanceCount,
            multiprocessors: info.multiprocessorCount,
            memory_mib: info.memorySizeMB,
        })
    }

    fn old_profile(&self, card: Device, number: u32) -> Result<ProfileInfo, GpuError> {
        let mut info = sys::nvmlGpuInstanceProfileInfo_t {
            id: 0,
            isP2pSupported: 0,
            sliceCount: 0,
            instanceCount: 0,
            multiprocessorCount: 0,
            copyEngineCount: 0,
            decoderCount: 0,
            encoderCount: 0,
            jpegCount: 0,
            ofaCount: 0,
            memorySizeMB: 0,
        };
        call!(
            self.lib(),
            nvmlDeviceGetGpuInstanceProfileInfo,
            card.0,
            number,
            &mut info
        )?;
        Ok(ProfileInfo {
            name: None,
            slices: info.sliceCount,
            instances: info.instanceCount,
            multiprocessors: info.multiprocessorCount,
            memory_mib: info.memorySizeMB,
        })
    }
}

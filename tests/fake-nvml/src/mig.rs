//! NVML's C symbols: MIG.

#![expect(
    clippy::missing_safety_doc,
    reason = "they are NVML's names, and its contract is NVML's documentation"
)]

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlReturn_t};

use crate::script::Profile;
use crate::state::{
    INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, State, Target, device_call, write, write_text,
};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMigMode", device, |state, target| {
        let mig = state.gpu(target)?.mig.as_ref().ok_or(NOT_SUPPORTED)?;
        write(current, mig.enabled.into())?;
        write(pending, mig.enabled.into())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMaxMigDeviceCount", device, |_, _| {
        write(count, 7)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    mig_device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    device_call(
        "nvmlDeviceGetMigDeviceHandleByIndex",
        device,
        |state, target| {
            let mig = state.gpu(target)?.mig.as_ref().ok_or(NOT_SUPPORTED)?;
            let slot = index as usize;
            let there = mig.instances.get(slot).is_some_and(Option::is_some);
            if !mig.enabled || !there {
                return Err(NOT_FOUND);
            }
            let handle = Target {
                gpu: target.gpu,
                instance: Some(slot),
            };
            write(mig_device, handle.handle())
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(
    device: nvmlDevice_t,
    id: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetGpuInstanceId", device, |state, target| {
        let instance = state.instance(target)?.ok_or(INVALID_ARGUMENT)?;
        write(id, instance.gpu_instance)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(
    device: nvmlDevice_t,
    id: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetComputeInstanceId", device, |state, target| {
        let instance = state.instance(target)?.ok_or(INVALID_ARGUMENT)?;
        write(id, instance.compute_instance)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    attributes: *mut sys::nvmlDeviceAttributes_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetAttributes_v2", device, |state, target| {
        let instance = state.instance(target)?.ok_or(INVALID_ARGUMENT)?;
        let info = sys::nvmlDeviceAttributes_t {
            multiprocessorCount: 16 * instance.slices,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 1,
            sharedEncoderCount: 0,
            sharedJpegCount: 1,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: instance.slices,
            computeInstanceSliceCount: instance.slices,
            memorySizeMB: instance.memory.total >> 20,
        };
        write(attributes, info)
    })
}

fn profile(state: &State, target: Target, number: c_uint) -> Result<Profile, nvmlReturn_t> {
    let mig = state.gpu(target)?.mig.as_ref().ok_or(NOT_SUPPORTED)?;
    if number >= sys::NVML_GPU_INSTANCE_PROFILE_COUNT {
        return Err(INVALID_ARGUMENT);
    }
    let found = mig.profiles.iter().find(|profile| profile.number == number);
    found.cloned().ok_or(NOT_SUPPORTED)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfo(
    device: nvmlDevice_t,
    number: c_uint,
    info: *mut sys::nvmlGpuInstanceProfileInfo_t,
) -> nvmlReturn_t {
    device_call(
        "nvmlDeviceGetGpuInstanceProfileInfo",
        device,
        |state, target| {
            let profile = profile(state, target, number)?;
            let answer = sys::nvmlGpuInstanceProfileInfo_t {
                id: number,
                isP2pSupported: 0,
                sliceCount: profile.slices,
                instanceCount: profile.instances,
                multiprocessorCount: profile.multiprocessors,
                copyEngineCount: 1,
                decoderCount: 1,
                encoderCount: 0,
                jpegCount: 1,
                ofaCount: 0,
                memorySizeMB: profile.memory_mib,
            };
            write(info, answer)
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoV(
    device: nvmlDevice_t,
    number: c_uint,
    info: *mut sys::nvmlGpuInstanceProfileInfo_v2_t,
) -> nvmlReturn_t {
    device_call(
        "nvmlDeviceGetGpuInstanceProfileInfoV",
        device,
        |state, target| {
            let profile = profile(state, target, number)?;
            if info.is_null() {
                return Err(INVALID_ARGUMENT);
            }
            // SAFETY: not null, and the caller has set the version.
            let version = unsafe { (*info).version };
            if version != (size_of::<sys::nvmlGpuInstanceProfileInfo_v2_t>() as u32 | 2 << 24) {
                return Err(25);
            }
            let mut answer = sys::nvmlGpuInstanceProfileInfo_v2_t {
                version,
                id: number,
                isP2pSupported: 0,
                sliceCount: profile.slices,
                instanceCount: profile.instances,
                multiprocessorCount: profile.multiprocessors,
                copyEngineCount: 1,
                decoderCount: 1,
                encoderCount: 0,
                jpegCount: 1,
                ofaCount: 0,
                memorySizeMB: profile.memory_mib,
                name: [0; 96],
            };
            write_text(answer.name.as_mut_ptr(), 96, &profile.name)?;
            write(info, answer)
        },
    )
}

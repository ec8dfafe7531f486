//! NVML's C symbols: the library, cards, memory, events.

#![expect(
    clippy::missing_safety_doc,
    reason = "they are NVML's names, and its contract is NVML's documentation"
)]

use std::ffi::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlReturn_t};

use crate::state::{
    INVALID_ARGUMENT, State, TIMEOUT, Target, call, device_call, handle_call, write, write_text,
};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    call("nvmlInit_v2", |state| {
        state.opened += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    // Shuts down even where the driver is gone, else nothing would ever be closed.
    let mut closed = false;
    let code = call("nvmlShutdown", |state| {
        state.opened -= 1;
        closed = true;
        Ok(())
    });
    if !closed {
        crate::state::close();
    }
    code
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(
    version: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    call("nvmlSystemGetDriverVersion", |state| {
        write_text(version, length, &state.script.driver_version)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    call("nvmlDeviceGetCount_v2", |state| {
        write(count, state.script.gpus.len() as c_uint)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    handle_call("nvmlDeviceGetHandleByIndex_v2", index as usize, device)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    uuid: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetUUID", device, |state, target| {
        let text = match state.instance(target)? {
            Some(instance) => &instance.uuid,
            None => &state.gpu(target)?.uuid,
        };
        write_text(uuid, length, text)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    name: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetName", device, |state, target| {
        let text = match state.instance(target)? {
            Some(instance) => &instance.name,
            None => &state.gpu(target)?.name,
        };
        write_text(name, length, text)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(
    device: nvmlDevice_t,
    minor: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMinorNumber", device, |state, target| {
        write(minor, state.gpu(target)?.minor)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    pci: *mut sys::nvmlPciInfo_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetPciInfo_v3", device, |state, target| {
        let mut info = sys::nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        write_text(info.busId.as_mut_ptr(), 32, &state.gpu(target)?.pci_bus_id)?;
        write(pci, info)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeMode(
    device: nvmlDevice_t,
    mode: *mut sys::nvmlComputeMode_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetComputeMode", device, |state, target| {
        write(mode, state.gpu(target)?.compute_mode)
    })
}

fn memory_of(state: &State, target: Target) -> Result<crate::script::Memory, nvmlReturn_t> {
    Ok(match state.instance(target)? {
        Some(instance) => instance.memory,
        None => state.gpu(target)?.memory,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(
    device: nvmlDevice_t,
    memory: *mut sys::nvmlMemory_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMemoryInfo", device, |state, target| {
        let of = memory_of(state, target)?;
        // The first version counts the driver's reserve as used.
        let used = of.used + of.reserved;
        let info = sys::nvmlMemory_t {
            total: of.total,
            free: of.total - used,
            used,
        };
        write(memory, info)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: *mut sys::nvmlMemory_v2_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMemoryInfo_v2", device, |state, target| {
        if memory.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not null, and the caller has set the version.
        let version = unsafe { (*memory).version };
        if version != (size_of::<sys::nvmlMemory_v2_t>() as u32 | 2 << 24) {
            return Err(25);
        }
        let of = memory_of(state, target)?;
        let info = sys::nvmlMemory_v2_t {
            version,
            total: of.total,
            reserved: of.reserved,
            free: of.total - of.used - of.reserved,
            used: of.used,
        };
        write(memory, info)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut sys::nvmlEventSet_t) -> nvmlReturn_t {
    call("nvmlEventSetCreate", |state| {
        state.sets.push(None);
        write(set, state.sets.len() as sys::nvmlEventSet_t)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    _types: c_ulonglong,
    set: sys::nvmlEventSet_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceRegisterEvents", device, |state, target| {
        let number = (set as usize).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        *state.sets.get_mut(number).ok_or(INVALID_ARGUMENT)? = Some(target.gpu);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: sys::nvmlEventSet_t,
    data: *mut sys::nvmlEventData_t,
    _timeout: c_uint,
) -> nvmlReturn_t {
    call("nvmlEventSetWait_v2", |state| {
        let number = (set as usize).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        let card = state
            .sets
            .get(number)
            .ok_or(INVALID_ARGUMENT)?
            .ok_or(TIMEOUT)?;
        let waiting = state.xids.entry(card).or_default();
        let event = sys::nvmlEventData_t {
            device: Target {
                gpu: card,
                instance: None,
            }
            .handle(),
            eventType: sys::nvmlEventTypeXidCriticalError.into(),
            eventData: waiting.pop_front().ok_or(TIMEOUT)?,
            gpuInstanceId: u32::MAX,
            computeInstanceId: u32::MAX,
        };
        write(data, event)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetFree(_set: sys::nvmlEventSet_t) -> nvmlReturn_t {
    call("nvmlEventSetFree", |_| Ok(()))
}

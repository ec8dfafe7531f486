//! The calls into the driver's library, one C call each, and the only unsafe code of the program.
//!
//! The buffers outlive the calls and keep headroom, so that no list is asked for twice only to
//! learn its length. A symbol that an older library lacks is [`GpuError::Unsupported`].

#![expect(unsafe_code, reason = "the driver's library is C")]

use std::ffi::{c_char, c_uint};
use std::path::Path;
use std::ptr;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings as sys;
use sys::{NvmlLib, nvmlDevice_t, nvmlReturn_t};

use crate::model::{Bytes, GpuError, Memory, Reading};

/// NVML_ERROR_NOT_FOUND: nothing to tell.
pub(super) const NOT_FOUND: GpuError = GpuError::Code(6);
/// NVML_ERROR_INVALID_ARGUMENT, also said of a handle whose MIG instance is gone.
pub(super) const INVALID_ARGUMENT: GpuError = GpuError::Code(2);
/// NVML_ERROR_INSUFFICIENT_SIZE: the buffer was too short.
const INSUFFICIENT_SIZE: GpuError = GpuError::Code(7);

/// What a return code means for the agent.
pub(super) const fn meaning(code: nvmlReturn_t) -> Result<(), GpuError> {
    Err(match code {
        0 => return Ok(()),
        // Not supported, function not found, argument version mismatch, deprecated.
        3 | 13 | 25 | 26 => GpuError::Unsupported,
        4 => GpuError::PermissionDenied,
        // Uninitialised, driver not loaded, library and kernel module of different versions.
        1 | 9 | 18 => GpuError::DriverNotLoaded,
        10 => GpuError::Timeout,
        // Lost, reset required, not found where there was one.
        15 | 16 | 28 => GpuError::Lost,
        other => GpuError::Code(other),
    })
}

/// Calls `$symbol` where the library has it.
macro_rules! call {
    ($lib:expr, $symbol:ident $(, $argument:expr)*) => {
        match &$lib.$symbol {
            // SAFETY: the symbol has the C signature that its binding states. Handles come from
            // this library; pointers are to live values of the stated type, and buffers are as
            // long as the count passed with them. NVML keeps none of them after it returns.
            Ok(function) => meaning(unsafe { function($($argument),*) }),
            Err(_) => Err(GpuError::Unsupported),
        }
    };
}

mod events;
mod lists;
mod mig;
mod pages;

pub(super) use events::Events;
pub(super) use lists::Buffers;
pub(super) use mig::ProfileInfo;
pub(super) use pages::give_back_unwritten;

/// NVML, initialised. It is shut down and unloaded with the last reference, and since every
/// thread that calls holds one, never under a call.
pub struct Session {
    nvml: Nvml,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Loads the file, or searches the loader's paths for a name without a slash, and initialises.
    pub(super) fn open(path: &Path) -> Result<Self, NvmlError> {
        let nvml = Nvml::builder().lib_path(path.as_os_str()).init()?;
        let session = Self { nvml };
        match session.missing() {
            Some(symbol) => Err(NvmlError::FailedToLoadSymbol(symbol.to_owned())),
            None => Ok(session),
        }
    }

    /// The C functions.
    fn lib(&self) -> &NvmlLib {
        self.nvml.lib()
    }

    /// The first symbol missing that nothing can be done without.
    fn missing(&self) -> Option<&'static str> {
        let lib = self.lib();
        let needed = [
            ("nvmlDeviceGetCount_v2", lib.nvmlDeviceGetCount_v2.is_ok()),
            (
                "nvmlDeviceGetHandleByIndex_v2",
                lib.nvmlDeviceGetHandleByIndex_v2.is_ok(),
            ),
            ("nvmlDeviceGetUUID", lib.nvmlDeviceGetUUID.is_ok()),
            (
                "nvmlDeviceGetMemoryInfo",
                lib.nvmlDeviceGetMemoryInfo.is_ok(),
            ),
        ];
        needed
            .iter()
            .find(|(_, there)| !there)
            .map(|(name, _)| *name)
    }
}

/// A card or a MIG instance, good for the session it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device(nvmlDevice_t);

// SAFETY: an opaque handle; NVML is documented as thread-safe and its handles as valid in any
// thread of the process.
unsafe impl Send for Device {}

/// A set of events that the driver collects for us.
#[derive(Debug, Clone, Copy)]
struct EventSet(sys::nvmlEventSet_t);

// SAFETY: as of [`Device`].
unsafe impl Send for EventSet {}

fn until_nul(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|&char| char.cast_unsigned())
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text<const N: usize>(
    call: impl FnOnce(*mut c_char, c_uint) -> Result<(), GpuError>,
) -> Result<String, GpuError> {
    let mut buffer = [0; N];
    call(buffer.as_mut_ptr(), N as c_uint)?;
    Ok(until_nul(&buffer))
}

fn number(call: impl FnOnce(*mut c_uint) -> Result<(), GpuError>) -> Result<u32, GpuError> {
    let mut value = 0;
    call(&mut value)?;
    Ok(value)
}

/// The version word of a versioned struct.
const fn version<T>(version: u32) -> u32 {
    size_of::<T>() as u32 | version << 24
}

impl Session {
    /// GPUs that the driver shows.
    ///
    /// # Errors
    /// [`GpuError`] of the call.
    pub fn device_count(&self) -> Result<u32, GpuError> {
        number(|count| call!(self.lib(), nvmlDeviceGetCount_v2, count))
    }

    pub(super) fn driver_version(&self) -> Result<String, GpuError> {
        text::<80>(|at, len| call!(self.lib(), nvmlSystemGetDriverVersion, at, len))
    }

    pub(super) fn device(&self, index: u32) -> Result<Device, GpuError> {
        let mut device = ptr::null_mut();
        call!(
            self.lib(),
            nvmlDeviceGetHandleByIndex_v2,
            index,
            &mut device
        )?;
        Ok(Device(device))
    }

    pub(super) fn uuid(&self, device: Device) -> Result<String, GpuError> {
        text::<96>(|at, len| call!(self.lib(), nvmlDeviceGetUUID, device.0, at, len))
    }

    pub(super) fn name(&self, device: Device) -> Result<String, GpuError> {
        text::<96>(|at, len| call!(self.lib(), nvmlDeviceGetName, device.0, at, len))
    }

    pub(super) fn minor(&self, device: Device) -> Result<u32, GpuError> {
        number(|minor| call!(self.lib(), nvmlDeviceGetMinorNumber, device.0, minor))
    }

    pub(super) fn pci_bus_id(&self, device: Device) -> Result<String, GpuError> {
        let mut info = sys::nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        call!(self.lib(), nvmlDeviceGetPciInfo_v3, device.0, &mut info)?;
        Ok(until_nul(&info.busId))
    }

    pub(super) fn exclusive_process(&self, device: Device) -> Result<bool, GpuError> {
        let mode = number(|mode| call!(self.lib(), nvmlDeviceGetComputeMode, device.0, mode))?;
        Ok(mode == sys::nvmlComputeMode_enum_NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
    }

    /// Memory by the second version of the call, whose `used` is without the driver's reserve.
    pub(super) fn memory(&self, device: Device) -> Result<Memory, GpuError> {
        let mut info = sys::nvmlMemory_v2_t {
            version: version::<sys::nvmlMemory_v2_t>(2),
            total: 0,
            reserved: 0,
            free: 0,
            used: 0,
        };
        call!(self.lib(), nvmlDeviceGetMemoryInfo_v2, device.0, &mut info)?;
        Ok(Memory {
            total: Bytes(info.total),
            reserved: Reading::Value(Bytes(info.reserved)),
            used: Bytes(info.used),
            free: Bytes(info.free),
        })
    }

    /// Memory by the first version, whose `used` contains the reserve.
    pub(super) fn old_memory(&self, device: Device) -> Result<Memory, GpuError> {
        let mut info = sys::nvmlMemory_t {
            total: 0,
            free: 0,
            used: 0,
        };
        call!(self.lib(), nvmlDeviceGetMemoryInfo, device.0, &mut info)?;
        Ok(Memory {
            total: Bytes(info.total),
            reserved: Reading::Unsupported,
            used: Bytes(info.used),
            free: Bytes(info.free),
        })
    }
}

/// A sample's value as whole percent, by the type that the driver says it has.
fn percent(kind: sys::nvmlValueType_t, value: sys::nvmlValue_t) -> Result<u32, GpuError> {
    // SAFETY: the buffer was zeroed and the driver writes the member it names; every bit pattern
    // is a value of every member.
    let wide: u64 = unsafe {
        match kind {
            // Beyond u64 and below zero a cast saturates, NaN is 0.
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE => value.dVal.round() as u64,
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => value.uiVal.into(),
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG => value.ulVal,
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => value.ullVal,
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG => {
                value.sllVal.max(0).cast_unsigned()
            }
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT => {
                value.siVal.max(0).cast_unsigned().into()
            }
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT => value.usVal.into(),
            _ => return Err(GpuError::Unsupported),
        }
    };
    Ok(u32::try_from(wide).unwrap_or(u32::MAX))
}

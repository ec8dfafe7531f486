//! Raw NVML calls on one device, with buffers that are kept.
#![expect(unsafe_code, reason = "NVML is a C library")]

use std::mem;
use std::os::raw::c_uint;
use std::ptr;

use anyhow::{anyhow, bail};
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError,
    nvmlMemory_v2_t, nvmlProcessInfo_t, nvmlProcessUtilizationSample_t,
    nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as INSUFFICIENT_SIZE,
    nvmlReturn_enum_NVML_ERROR_NOT_FOUND as NOT_FOUND,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as NOT_SUPPORTED,
    nvmlReturn_enum_NVML_ERROR_TIMEOUT as TIMEOUT, nvmlReturn_enum_NVML_SUCCESS as SUCCESS,
    nvmlReturn_t, nvmlSample_t,
    nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES as GPU_UTILIZATION_SAMPLES,
};

/// Rows that every list holds from the start; a list grows where the driver has more.
const ROWS: usize = 256;

/// `NVML_STRUCT_VERSION(Memory, 2)` of nvml.h.
const MEMORY_V2: c_uint = mem::size_of::<nvmlMemory_v2_t>() as c_uint | (2 << 24);

/// An opened driver; never shut down, the process ends with it.
pub(crate) struct Nvml {
    lib: NvmlLib,
}

/// Which of the three process lists.
#[derive(Debug, Clone, Copy)]
pub(crate) enum List {
    Compute,
    Graphics,
    Mps,
}

impl Nvml {
    /// Loads and starts the library.
    pub(crate) fn open(path: &str) -> anyhow::Result<Self> {
        // SAFETY: loading runs the library's initialisers, which are the driver's own.
        let lib = unsafe { NvmlLib::new(path) }.map_err(|error| {
            anyhow!("cannot load {path}: {error}: install the NVIDIA driver, or name its library by --nvml-library")
        })?;
        // The bindings panic where a symbol that is called is not there: ask first.
        for (name, there) in [
            ("nvmlInit_v2", lib.nvmlInit_v2.is_ok()),
            ("nvmlDeviceGetCount_v2", lib.nvmlDeviceGetCount_v2.is_ok()),
            (
                "nvmlDeviceGetHandleByIndex_v2",
                lib.nvmlDeviceGetHandleByIndex_v2.is_ok(),
            ),
            (
                "nvmlDeviceGetMemoryInfo_v2",
                lib.nvmlDeviceGetMemoryInfo_v2.is_ok(),
            ),
            (
                "nvmlDeviceGetComputeRunningProcesses_v3",
                lib.nvmlDeviceGetComputeRunningProcesses_v3.is_ok(),
            ),
            (
                "nvmlDeviceGetGraphicsRunningProcesses_v3",
                lib.nvmlDeviceGetGraphicsRunningProcesses_v3.is_ok(),
            ),
            (
                "nvmlDeviceGetMPSComputeRunningProcesses_v3",
                lib.nvmlDeviceGetMPSComputeRunningProcesses_v3.is_ok(),
            ),
            (
                "nvmlDeviceGetProcessUtilization",
                lib.nvmlDeviceGetProcessUtilization.is_ok(),
            ),
            ("nvmlDeviceGetSamples", lib.nvmlDeviceGetSamples.is_ok()),
            ("nvmlEventSetCreate", lib.nvmlEventSetCreate.is_ok()),
            (
                "nvmlDeviceRegisterEvents",
                lib.nvmlDeviceRegisterEvents.is_ok(),
            ),
            ("nvmlEventSetWait_v2", lib.nvmlEventSetWait_v2.is_ok()),
        ] {
            if !there {
                bail!(
                    "{path} has no {name}: this yardstick needs a driver of the 535 branch or later"
                );
            }
        }
        // SAFETY: the symbol is there.
        let code = unsafe { lib.nvmlInit_v2() };
        if code != SUCCESS {
            bail!("nvmlInit_v2 gave NVML error {code}: is the driver loaded?");
        }
        Ok(Self { lib })
    }

    /// Every card.
    pub(crate) fn devices(&self) -> anyhow::Result<Vec<Device<'_>>> {
        let mut count: c_uint = 0;
        // SAFETY: the symbol is there and the library is initialised.
        let code = unsafe { self.lib.nvmlDeviceGetCount_v2(&mut count) };
        if code != SUCCESS {
            bail!("nvmlDeviceGetCount_v2 gave NVML error {code}");
        }
        if count == 0 {
            bail!("the driver sees no GPU");
        }
        (0..count).map(|index| self.device(index)).collect()
    }

    fn device(&self, index: c_uint) -> anyhow::Result<Device<'_>> {
        let mut handle: nvmlDevice_t = ptr::null_mut();
        // SAFETY: as above.
        let code = unsafe { self.lib.nvmlDeviceGetHandleByIndex_v2(index, &mut handle) };
        if code != SUCCESS {
            bail!("nvmlDeviceGetHandleByIndex_v2({index}) gave NVML error {code}");
        }
        let mut events: nvmlEventSet_t = ptr::null_mut();
        // SAFETY: as above; the set is never freed.
        let code = unsafe { self.lib.nvmlEventSetCreate(&mut events) };
        if code != SUCCESS {
            bail!("nvmlEventSetCreate gave NVML error {code}");
        }
        // SAFETY: handle and set are alive.
        let code = unsafe {
            self.lib
                .nvmlDeviceRegisterEvents(handle, nvmlEventTypeXidCriticalError.into(), events)
        };
        if code != SUCCESS {
            bail!("nvmlDeviceRegisterEvents({index}) gave NVML error {code}");
        }
        // SAFETY: plain integers, and a union of them: all zeroes are valid.
        let (process, row, sample) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        Ok(Device {
            lib: &self.lib,
            handle,
            events,
            processes: vec![process; ROWS],
            rows: vec![row; ROWS],
            samples: vec![sample; ROWS],
            watermark: 0,
        })
    }
}

/// One card and the buffers of its calls.
pub(crate) struct Device<'a> {
    lib: &'a NvmlLib,
    handle: nvmlDevice_t,
    events: nvmlEventSet_t,
    processes: Vec<nvmlProcessInfo_t>,
    rows: Vec<nvmlProcessUtilizationSample_t>,
    samples: Vec<nvmlSample_t>,
    /// Time of the newest sample of the card that was seen, on the driver's clock.
    watermark: u64,
}

impl Device<'_> {
    /// `nvmlDeviceGetMemoryInfo_v2`.
    pub(crate) fn memory(&mut self) -> Result<(), nvmlReturn_t> {
        let mut memory = nvmlMemory_v2_t {
            version: MEMORY_V2,
            total: 0,
            reserved: 0,
            free: 0,
            used: 0,
        };
        // SAFETY: the handle is alive and the struct names its version.
        checked(unsafe {
            self.lib
                .nvmlDeviceGetMemoryInfo_v2(self.handle, &mut memory)
        })
    }

    /// One process list, asked once more with room where it grew. A card without graphics or MPS
    /// says so, which is an answer.
    pub(crate) fn processes(&mut self, list: List) -> Result<(), nvmlReturn_t> {
        let Self {
            lib,
            handle,
            processes,
            ..
        } = self;
        let outcome = grown(processes, |count, buffer| {
            // SAFETY: `count` is the length of `buffer`.
            unsafe {
                match list {
                    List::Compute => {
                        lib.nvmlDeviceGetComputeRunningProcesses_v3(*handle, count, buffer)
                    }
                    List::Graphics => {
                        lib.nvmlDeviceGetGraphicsRunningProcesses_v3(*handle, count, buffer)
                    }
                    List::Mps => {
                        lib.nvmlDeviceGetMPSComputeRunningProcesses_v3(*handle, count, buffer)
                    }
                }
            }
        });
        match (list, outcome) {
            (_, Ok(_)) | (List::Graphics | List::Mps, Err(NOT_SUPPORTED)) => Ok(()),
            (_, Err(code)) => Err(code),
        }
    }

    /// `nvmlDeviceGetProcessUtilization` since the watermark. "Not found" is "no process ran".
    pub(crate) fn process_utilization(&mut self) -> Result<(), nvmlReturn_t> {
        let Self {
            lib,
            handle,
            rows,
            watermark,
            ..
        } = self;
        // SAFETY: `count` is the length of `buffer`.
        match grown(rows, |count, buffer| unsafe {
            lib.nvmlDeviceGetProcessUtilization(*handle, buffer, count, *watermark)
        }) {
            Ok(_) | Err(NOT_FOUND) => Ok(()),
            Err(code) => Err(code),
        }
    }

    /// `nvmlDeviceGetSamples` of the card's utilization since the watermark, which it moves.
    pub(crate) fn samples(&mut self) -> Result<(), nvmlReturn_t> {
        let Self {
            lib,
            handle,
            samples,
            watermark,
            ..
        } = self;
        let mut value_type = 0;
        // SAFETY: `count` is the length of `buffer`.
        let outcome = grown(samples, |count, buffer| unsafe {
            lib.nvmlDeviceGetSamples(
                *handle,
                GPU_UTILIZATION_SAMPLES,
                *watermark,
                &mut value_type,
                count,
                buffer,
            )
        });
        match outcome {
            Ok(count) => {
                let newest = samples[..count].iter().map(|sample| sample.timeStamp).max();
                *watermark = newest.unwrap_or(*watermark).max(*watermark);
                Ok(())
            }
            Err(NOT_FOUND) => Ok(()),
            Err(code) => Err(code),
        }
    }

    /// Every XID event that waits, without waiting for one: almost always one call.
    pub(crate) fn events(&mut self) -> Result<(), nvmlReturn_t> {
        // SAFETY: plain integers and a pointer: all zeroes are valid.
        let mut event: nvmlEventData_t = unsafe { mem::zeroed() };
        loop {
            // SAFETY: the set is alive.
            match unsafe { self.lib.nvmlEventSetWait_v2(self.events, &mut event, 0) } {
                SUCCESS => {}
                TIMEOUT => return Ok(()),
                code => return Err(code),
            }
        }
    }
}

fn checked(code: nvmlReturn_t) -> Result<(), nvmlReturn_t> {
    if code == SUCCESS { Ok(()) } else { Err(code) }
}

/// Calls with the buffer's whole length; where it is too short, once more with half as much again
/// as the driver says. Gives the number of rows.
fn grown<T: Copy>(
    buffer: &mut Vec<T>,
    mut call: impl FnMut(&mut c_uint, *mut T) -> nvmlReturn_t,
) -> Result<usize, nvmlReturn_t> {
    let mut count = c_uint::try_from(buffer.len()).unwrap_or(c_uint::MAX);
    let mut code = call(&mut count, buffer.as_mut_ptr());
    if code == INSUFFICIENT_SIZE
        && let Some(&blank) = buffer.first()
    {
        let room = (count as usize + count as usize / 2).max(buffer.len() * 2);
        buffer.resize(room, blank);
        count = c_uint::try_from(room).unwrap_or(c_uint::MAX);
        code = call(&mut count, buffer.as_mut_ptr());
    }
    checked(code)?;
    Ok((count as usize).min(buffer.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_once_and_stays_grown() {
        let mut buffer = vec![0_u32; 4];
        let mut lengths = Vec::new();
        let mut ask = |buffer: &mut Vec<u32>| {
            grown(buffer, |count, _| {
                lengths.push(*count);
                let enough = *count >= 10;
                *count = 10;
                if enough { SUCCESS } else { INSUFFICIENT_SIZE }
            })
        };
        assert_eq!(ask(&mut buffer), Ok(10));
        assert_eq!(ask(&mut buffer), Ok(10));
        assert_eq!(lengths, [4, 15, 15]);
    }

    #[test]
    fn an_error_is_handed_on() {
        let mut buffer = vec![0_u32; 4];
        assert_eq!(grown(&mut buffer, |_, _| NOT_FOUND), Err(NOT_FOUND));
        assert_eq!(
            grown(&mut buffer, |_, _| INSUFFICIENT_SIZE),
            Err(INSUFFICIENT_SIZE)
        );
    }

    #[test]
    fn the_version_of_the_memory_struct_is_that_of_nvml_h() {
        assert_eq!(MEMORY_V2, 40 | (2 << 24));
    }
}

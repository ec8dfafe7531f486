//! Calls that answer with a list, into buffers that are kept.

use std::ffi::c_uint;
use std::time::Duration;

use nvml_wrapper_sys::bindings as sys;

use super::{Device, INSUFFICIENT_SIZE, NOT_FOUND, Session, meaning, percent};
use crate::model::{
    Bytes, Cause, ContextKind, GpuError, HostPid, RawProcess, Reading, RingRow, RingSample,
};

/// A list longer than this is cut, whatever length the driver claims.
const ROWS_MAX: usize = 1 << 16;
/// No process has this id (PIDs end at 2^22): it marks rows the driver did not fill.
const NO_ROW: u32 = u32::MAX;

/// Buffers that live as long as the card's thread.
pub(in super::super) struct Buffers {
    processes: Vec<sys::nvmlProcessInfo_v2_t>,
    old_processes: Vec<sys::nvmlProcessInfo_v1_t>,
    rows: Vec<sys::nvmlProcessUtilizationSample_t>,
    samples: Vec<sys::nvmlSample_t>,
}

const BLANK_PROCESS: sys::nvmlProcessInfo_v2_t = sys::nvmlProcessInfo_v2_t {
    pid: NO_ROW,
    usedGpuMemory: 0,
    gpuInstanceId: 0,
    computeInstanceId: 0,
};
const BLANK_OLD_PROCESS: sys::nvmlProcessInfo_v1_t = sys::nvmlProcessInfo_v1_t {
    pid: NO_ROW,
    usedGpuMemory: 0,
};
const BLANK_ROW: sys::nvmlProcessUtilizationSample_t = sys::nvmlProcessUtilizationSample_t {
    pid: NO_ROW,
    timeStamp: 0,
    smUtil: 0,
    memUtil: 0,
    encUtil: 0,
    decUtil: 0,
};
const BLANK_SAMPLE: sys::nvmlSample_t = sys::nvmlSample_t {
    timeStamp: 0,
    sampleValue: sys::nvmlValue_t { ullVal: 0 },
};

impl Default for Buffers {
    fn default() -> Self {
        Self {
            processes: vec![BLANK_PROCESS; 64],
            old_processes: Vec::new(),
            rows: vec![BLANK_ROW; 64],
            // The ring holds 14 s at 5 a second.
            samples: vec![BLANK_SAMPLE; 160],
        }
    }
}

/// One call into a buffer, a second one where the driver says that it was too short. Gives the
/// number of rows that may be there and whether they are all.
fn fill<T: Copy>(
    buffer: &mut Vec<T>,
    blank: T,
    mut call: impl FnMut(*mut c_uint, *mut T) -> Result<(), GpuError>,
) -> Result<(usize, bool), GpuError> {
    if buffer.is_empty() {
        buffer.resize(64, blank);
    }
    for last in [false, true] {
        buffer.fill(blank);
        let room = buffer.len();
        let mut count = c_uint::try_from(room).unwrap_or(c_uint::MAX);
        let result = call(&mut count, buffer.as_mut_ptr());
        let said = usize::try_from(count).unwrap_or(usize::MAX);
        match result {
            Ok(()) => return Ok((said.min(room), said <= room)),
            Err(INSUFFICIENT_SIZE) if last => return Ok((room, false)),
            Err(INSUFFICIENT_SIZE) => {
                let wanted = said.clamp(room, ROWS_MAX);
                // Processes start while we ask: leave room for some more.
                buffer.resize(wanted + wanted / 4 + 16, blank);
            }
            Err(error) => return Err(error),
        }
    }
    Err(INSUFFICIENT_SIZE)
}

fn used(bytes: u64) -> Reading<Bytes> {
    // NVML_VALUE_NOT_AVAILABLE, all ones.
    if bytes == u64::MAX {
        Reading::Failed(Cause::NotAvailable)
    } else {
        Reading::Value(Bytes(bytes))
    }
}

impl Session {
    /// Appends one list and says whether it is whole. By the newest of the call's versions that
    /// the library has.
    pub(in super::super) fn processes(
        &self,
        device: Device,
        kind: ContextKind,
        buffers: &mut Buffers,
        into: &mut Vec<RawProcess>,
    ) -> Result<bool, GpuError> {
        let lib = self.lib();
        macro_rules! list {
            ($symbol:ident, $buffer:ident, $blank:expr) => {{
                let buffer = &mut buffers.$buffer;
                let (count, complete) = fill(buffer, $blank, |count, at| {
                    call!(lib, $symbol, device.0, count, at)
                })?;
                let filled = buffer[..count].iter().take_while(|row| row.pid != NO_ROW);
                into.extend(filled.map(|row| RawProcess {
                    pid: HostPid(row.pid),
                    kind,
                    used: used(row.usedGpuMemory),
                }));
                Ok(complete)
            }};
        }
        macro_rules! newest {
            ($v3:ident, $v2:ident, $v1:ident) => {
                if lib.$v3.is_ok() {
                    list!($v3, processes, BLANK_PROCESS)
                } else if lib.$v2.is_ok() {
                    list!($v2, processes, BLANK_PROCESS)
                } else {
                    list!($v1, old_processes, BLANK_OLD_PROCESS)
                }
            };
        }
        match kind {
            ContextKind::Compute => newest!(
                nvmlDeviceGetComputeRunningProcesses_v3,
                nvmlDeviceGetComputeRunningProcesses_v2,
                nvmlDeviceGetComputeRunningProcesses
            ),
            ContextKind::Graphics => newest!(
                nvmlDeviceGetGraphicsRunningProcesses_v3,
                nvmlDeviceGetGraphicsRunningProcesses_v2,
                nvmlDeviceGetGraphicsRunningProcesses
            ),
            ContextKind::Mps => newest!(
                nvmlDeviceGetMPSComputeRunningProcesses_v3,
                nvmlDeviceGetMPSComputeRunningProcesses_v2,
                nvmlDeviceGetMPSComputeRunningProcesses
            ),
        }
    }

    /// The ring's rows newer than `after` (microseconds since 1970). Half an answer is none: the
    /// shares of rows that are left out would go to somebody else.
    pub(in super::super) fn ring_rows(
        &self,
        device: Device,
        after: u64,
        buffers: &mut Buffers,
    ) -> Result<Vec<RingRow>, GpuError> {
        let got = fill(&mut buffers.rows, BLANK_ROW, |count, at| {
            call!(
                self.lib(),
                nvmlDeviceGetProcessUtilization,
                device.0,
                at,
                count,
                after
            )
        });
        let count = match got {
            Ok((count, true)) => count,
            Ok((_, false)) => return Err(INSUFFICIENT_SIZE),
            Err(NOT_FOUND) => 0,
            Err(error) => return Err(error),
        };
        let rows = buffers.rows[..count].iter();
        Ok(rows
            .take_while(|row| row.pid != NO_ROW)
            .map(|row| RingRow {
                pid: HostPid(row.pid),
                last_won: Duration::from_micros(row.timeStamp),
                sm_percent: row.smUtil,
            })
            .collect())
    }

    /// The card's own samples newer than `after` (microseconds since 1970), oldest first.
    pub(in super::super) fn ring_samples(
        &self,
        device: Device,
        after: u64,
        buffers: &mut Buffers,
    ) -> Result<Vec<RingSample>, GpuError> {
        let mut kind = 0;
        let got = fill(&mut buffers.samples, BLANK_SAMPLE, |count, at| {
            let what = sys::nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES;
            call!(
                self.lib(),
                nvmlDeviceGetSamples,
                device.0,
                what,
                after,
                &mut kind,
                count,
                at
            )
        });
        let count = match got {
            Ok((count, true)) => count,
            Ok((_, false)) => return Err(INSUFFICIENT_SIZE),
            Err(NOT_FOUND) => 0,
            Err(error) => return Err(error),
        };
        let mut samples = Vec::with_capacity(count);
        for sample in &buffers.samples[..count] {
            samples.push(RingSample {
                at: Duration::from_micros(sample.timeStamp),
                percent: percent(kind, sample.sampleValue)?,
            });
        }
        samples.sort_by_key(|sample| sample.at);
        Ok(samples)
    }
}

//! NVML's C symbols: process lists and the utilization ring.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;
use sys::{nvmlDevice_t, nvmlReturn_t};

use crate::script::{Gpu, Process, Row};
use crate::state::{
    INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, State, Target, device_call, write,
};

/// Writes rows into a buffer of `count` of them, as NVML does: too short a buffer gets the number
/// wanted and a code.
fn fill<T: Copy>(
    short: bool,
    rows: &[T],
    count: *mut c_uint,
    into: *mut T,
) -> Result<(), nvmlReturn_t> {
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and the caller's.
    let room = unsafe { *count } as usize;
    let fits = rows.len().min(room);
    for (i, row) in rows[..fits].iter().enumerate() {
        if into.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: within the room that the caller vouches for.
        unsafe { into.add(i).write(*row) };
    }
    let wanted = if short {
        rows.len().max(room + 1)
    } else {
        rows.len()
    };
    write(count, wanted as c_uint)?;
    if wanted > room {
        return Err(INSUFFICIENT_SIZE);
    }
    Ok(())
}

fn processes(
    state: &State,
    target: Target,
    of: impl Fn(&Gpu) -> &[Process],
) -> Result<Vec<Process>, nvmlReturn_t> {
    Ok(match state.instance(target)? {
        // What runs in instances is compute.
        Some(instance) => of(&Gpu {
            compute: instance.compute.clone(),
            ..Gpu::default()
        })
        .to_vec(),
        None => of(state.gpu(target)?).to_vec(),
    })
}

fn used(process: &Process) -> u64 {
    process.used.unwrap_or(u64::MAX)
}

macro_rules! list {
    ($($name:ident, $field:ident;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvmlDevice_t,
            count: *mut c_uint,
            infos: *mut sys::nvmlProcessInfo_t,
        ) -> nvmlReturn_t {
            device_call(stringify!($name), device, |state, target| {
                let short = state.short(stringify!($name), target);
                let rows = processes(state, target, |gpu| &gpu.$field)?;
                let rows: Vec<_> = rows
                    .iter()
                    .map(|process| sys::nvmlProcessInfo_t {
                        pid: process.pid,
                        usedGpuMemory: used(process),
                        gpuInstanceId: u32::MAX,
                        computeInstanceId: u32::MAX,
                    })
                    .collect();
                fill(short, &rows, count, infos)
            })
        }
    )*};
}

list! {
    nvmlDeviceGetComputeRunningProcesses_v3, compute;
    nvmlDeviceGetComputeRunningProcesses_v2, compute;
    nvmlDeviceGetGraphicsRunningProcesses_v3, graphics;
    nvmlDeviceGetGraphicsRunningProcesses_v2, graphics;
    nvmlDeviceGetMPSComputeRunningProcesses_v3, mps;
    nvmlDeviceGetMPSComputeRunningProcesses_v2, mps;
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses(
    device: nvmlDevice_t,
    count: *mut c_uint,
    infos: *mut sys::nvmlProcessInfo_v1_t,
) -> nvmlReturn_t {
    device_call(
        "nvmlDeviceGetComputeRunningProcesses",
        device,
        |state, target| {
            let rows = processes(state, target, |gpu| &gpu.compute)?;
            let rows: Vec<_> = rows
                .iter()
                .map(|process| sys::nvmlProcessInfo_v1_t {
                    pid: process.pid,
                    usedGpuMemory: used(process),
                })
                .collect();
            fill(false, &rows, count, infos)
        },
    )
}

/// A row for each process that lives and won a sample newer than `after`: the sum of what it won
/// over all samples newer than that and than its context, rounded up, and when it won its last.
fn ring_rows(gpu: &Gpu, after: u64) -> Vec<Row> {
    let newer: Vec<_> = gpu.samples(after).collect();
    let mut won: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for sample in &newer {
        if let Some(pid) = sample.winner
            && !gpu.exited.contains(&pid)
        {
            let (sum, at) = won.entry(pid).or_default();
            *sum += sample.percent;
            *at = sample.at.max(*at);
        }
    }
    let rows = won.into_iter().map(|(pid, (sum, at))| Row {
        pid,
        at,
        percent: {
            let began = gpu.began.get(&pid).copied().unwrap_or(0);
            sum.div_ceil(newer.iter().filter(|sample| sample.at > began).count() as u32)
        },
    });
    rows.chain(gpu.garbage.iter().copied()).collect()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: nvmlDevice_t,
    utilization: *mut sys::nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    after: c_ulonglong,
) -> nvmlReturn_t {
    device_call(
        "nvmlDeviceGetProcessUtilization",
        device,
        |state, target| {
            let short = state.short("nvmlDeviceGetProcessUtilization", target);
            let rows: Vec<_> = ring_rows(state.gpu(target)?, after)
                .into_iter()
                .map(|row| sys::nvmlProcessUtilizationSample_t {
                    pid: row.pid,
                    timeStamp: row.at,
                    smUtil: row.percent,
                    memUtil: 0,
                    encUtil: 0,
                    decUtil: 0,
                })
                .collect();
            if rows.is_empty() {
                return Err(NOT_FOUND);
            }
            fill(short, &rows, count, utilization)
        },
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSamples(
    device: nvmlDevice_t,
    kind: sys::nvmlSamplingType_t,
    after: c_ulonglong,
    value_type: *mut sys::nvmlValueType_t,
    count: *mut c_uint,
    samples: *mut sys::nvmlSample_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetSamples", device, |state, target| {
        if kind != sys::nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES {
            return Err(INVALID_ARGUMENT);
        }
        let short = state.short("nvmlDeviceGetSamples", target);
        let gpu = state.gpu(target)?;
        let rows: Vec<_> = gpu
            .samples(after)
            .map(|sample| sys::nvmlSample_t {
                timeStamp: sample.at,
                sampleValue: value(gpu.sample_type, sample.percent),
            })
            .collect();
        if rows.is_empty() {
            return Err(NOT_FOUND);
        }
        write(value_type, gpu.sample_type)?;
        fill(short, &rows, count, samples)
    })
}

fn value(kind: u32, percent: u32) -> sys::nvmlValue_t {
    match kind {
        sys::nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE => sys::nvmlValue_t {
            dVal: percent.into(),
        },
        sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => sys::nvmlValue_t { uiVal: percent },
        sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG => sys::nvmlValue_t {
            ulVal: percent.into(),
        },
        _ => sys::nvmlValue_t {
            ullVal: percent.into(),
        },
    }
}

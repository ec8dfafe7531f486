//! The few calls of the CUDA driver that a tenant needs, loaded at run time from `libcuda.so.1`.
#![expect(unsafe_code, reason = "the CUDA driver's API is C")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use clap::ValueEnum;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

/// The kernels, with the NUL that the driver expects.
const PTX: &str = concat!(include_str!("burn.ptx"), "\0");
const BURN: &CStr = c"burn";
const POKE: &CStr = c"poke";
/// Where the illegal access goes: no card maps its first page.
const NOWHERE: sys::CUdeviceptr = 16;

/// Why the GPU cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GpuError {
    #[error(
        "libcuda.so.1 cannot be loaded: install the NVIDIA driver, or mount it into the container"
    )]
    NoLibrary,
    #[error(
        "the driver sees {count} GPU(s), there is no device {index}: see --device and CUDA_VISIBLE_DEVICES"
    )]
    NoDevice { index: u32, count: i32 },
    /// The figure is what one call asked for; 0 where the driver needed memory for itself.
    #[error("the GPU is out of memory: {requested_bytes} bytes were asked for at once")]
    OutOfMemory { requested_bytes: u64 },
    #[error("{call}: {source}")]
    Call {
        call: &'static str,
        source: DriverError,
    },
}

/// Names the call that failed and sets "out of memory" apart.
fn named(call: &'static str, requested_bytes: u64) -> impl FnOnce(DriverError) -> GpuError {
    move |source| match source.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => GpuError::OutOfMemory { requested_bytes },
        _ => GpuError::Call { call, source },
    }
}

/// How the host waits for the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// A whole core, the least delay.
    Spin,
    /// A core that gives way to others.
    Yield,
    /// Sleeps until the interrupt.
    Block,
}

impl Wait {
    const fn flag(self) -> sys::CUctx_flags {
        match self {
            Self::Spin => sys::CUctx_flags::CU_CTX_SCHED_SPIN,
            Self::Yield => sys::CUctx_flags::CU_CTX_SCHED_YIELD,
            Self::Block => sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC,
        }
    }
}

/// One card with the process's primary context; the context lives as long as the process.
pub(crate) struct Gpu {
    context: sys::CUcontext,
    /// `GPU-<uuid>`, as NVML writes it.
    pub(crate) uuid: String,
    pub(crate) model: String,
}

// SAFETY: a CUDA context may be used from any thread that made it current ([`Gpu::bind`]), and
// the driver locks it by itself.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Opens the card and makes its context current on this thread.
    pub(crate) fn open(index: u32, wait: Wait) -> Result<Self, GpuError> {
        // SAFETY: loads a library by its well-known names; its initialisers are the driver's own.
        // Asked first because the bindings panic where the library is not there.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoLibrary);
        }
        result::init().map_err(named("cuInit", 0))?;
        let count = result::device::get_count().map_err(named("cuDeviceGetCount", 0))?;
        let ordinal = c_int::try_from(index).unwrap_or(c_int::MAX);
        if ordinal >= count {
            return Err(GpuError::NoDevice { index, count });
        }
        let device = result::device::get(ordinal).map_err(named("cuDeviceGet", 0))?;
        let model = result::device::get_name(device).map_err(named("cuDeviceGetName", 0))?;
        let uuid = result::device::get_uuid(device).map_err(named("cuDeviceGetUuid", 0))?;
        // SAFETY: `device` is a live device; the flags are set before the context exists, and the
        // reference that `retain` takes is kept for the life of the process.
        let context = unsafe {
            sys::cuDevicePrimaryCtxSetFlags_v2(device, wait.flag() as u32)
                .result()
                .map_err(named("cuDevicePrimaryCtxSetFlags", 0))?;
            result::primary_ctx::retain(device).map_err(named("cuDevicePrimaryCtxRetain", 0))?
        };
        let gpu = Self {
            context,
            uuid: uuid_text(uuid.bytes.map(|byte| byte as u8)),
            model,
        };
        gpu.bind()?;
        Ok(gpu)
    }

    /// Makes the context current on the calling thread.
    pub(crate) fn bind(&self) -> Result<(), GpuError> {
        // SAFETY: the context is alive for the life of the process.
        unsafe { result::ctx::set_current(self.context) }.map_err(named("cuCtxSetCurrent", 0))
    }

    /// Plain device memory, committed at once. This thread must be bound.
    pub(crate) fn allocate(&self, bytes: u64) -> Result<Allocation, GpuError> {
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: a context is current; the pointer is never read here, only freed once.
        let pointer = unsafe { result::malloc_sync(size) }.map_err(named("cuMemAlloc", bytes))?;
        Ok(Allocation { pointer })
    }
}

/// Device memory that is freed by [`Allocation::free`] or with the process.
pub(crate) struct Allocation {
    pointer: sys::CUdeviceptr,
}

impl Allocation {
    /// Gives the memory back; the driver waits for kernels of this process under way.
    pub(crate) fn free(self) -> Result<(), GpuError> {
        // SAFETY: the pointer came from `cuMemAlloc` and `self` is consumed, so it is freed once.
        unsafe { result::free_sync(self.pointer) }.map_err(named("cuMemFree", 0))
    }
}

/// A word of the host's memory that kernels write to.
#[derive(Clone, Copy)]
struct Stamp {
    host: *mut u64,
    device: sys::CUdeviceptr,
}

impl Stamp {
    fn new() -> Result<Self, GpuError> {
        const FLAGS: u32 = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: a context is current; the word is written before it is ever read, and is freed
        // with the process.
        unsafe {
            let host =
                result::malloc_host(size_of::<u64>(), FLAGS).map_err(named("cuMemHostAlloc", 0))?;
            host.cast::<u64>().write_volatile(0);
            let mut device = 0;
            sys::cuMemHostGetDevicePointer_v2(&mut device, host, 0)
                .result()
                .map_err(named("cuMemHostGetDevicePointer", 0))?;
            Ok(Self {
                host: host.cast(),
                device,
            })
        }
    }

    /// What was written since it was last taken, and 0 in its place.
    fn take(self) -> u64 {
        // SAFETY: the word lives as long as the process, and is aligned: pinned memory begins at
        // a page. No kernel is under way that writes it.
        unsafe {
            let value = self.host.read_volatile();
            self.host.write_volatile(0);
            value
        }
    }
}

/// Whether a kernel leaves the GPU's clock of its start behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamped {
    Yes,
    No,
}

/// The fixed-work kernel on a stream of its own, for one thread.
pub(crate) struct Burner {
    function: sys::CUfunction,
    poke: sys::CUfunction,
    stream: sys::CUstream,
    stamp: Stamp,
    /// Where the kernel would store its result; it never does.
    out: sys::CUdeviceptr,
    blocks: u32,
    threads: u32,
    begin: sys::CUevent,
    end: sys::CUevent,
}

impl Burner {
    /// Compiles the kernel and runs it once for no turn, so that nothing is left to load later.
    pub(crate) fn new(gpu: &Gpu, blocks: u32, threads: u32) -> Result<Self, GpuError> {
        let out = gpu.allocate(4)?.pointer;
        // SAFETY: PTX ends with NUL and outlives the call; the module is never unloaded, so its
        // functions stay valid.
        let module = unsafe { result::module::load_data(PTX.as_ptr().cast::<c_void>()) }
            .map_err(named("cuModuleLoadData", 0))?;
        let function = |entry: &CStr| {
            let mut function = ptr::null_mut();
            // SAFETY: the module is loaded, and the name ends with NUL.
            unsafe { sys::cuModuleGetFunction(&mut function, module, entry.as_ptr()) }
                .result()
                .map_err(named("cuModuleGetFunction", 0))?;
            Ok(function)
        };
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(named("cuStreamCreate", 0))?;
        let event = || {
            result::event::create(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC)
                .map_err(named("cuEventCreate", 0))
        };
        let burner = Self {
            function: function(BURN)?,
            poke: function(POKE)?,
            stream,
            stamp: Stamp::new()?,
            out,
            blocks,
            threads,
            begin: event()?,
            end: event()?,
        };
        burner.launch(0, Stamped::Yes)?;
        burner.wait()?;
        burner.started();
        Ok(burner)
    }

    /// Queues one kernel of so many turns.
    pub(crate) fn launch(&self, turns: u32, stamped: Stamped) -> Result<(), GpuError> {
        let (mut out, mut turns) = (self.out, turns);
        let mut stamp = match stamped {
            Stamped::Yes => self.stamp.device,
            Stamped::No => 0,
        };
        let mut parameters = [
            (&raw mut out).cast::<c_void>(),
            (&raw mut turns).cast::<c_void>(),
            (&raw mut stamp).cast::<c_void>(),
        ];
        // SAFETY: the function and the stream are alive; the parameters have the types of the
        // kernel's, in its order, and the driver copies them before it returns.
        unsafe {
            result::launch_kernel(
                self.function,
                (self.blocks, 1, 1),
                (self.threads, 1, 1),
                0,
                self.stream,
                &mut parameters,
            )
        }
        .map_err(named("cuLaunchKernel", 0))
    }

    /// Waits for every kernel queued.
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(self.stream) }.map_err(named("cuStreamSynchronize", 0))
    }

    /// When the stamped kernel began, in nanoseconds of the GPU's own clock; 0 where none ran since
    /// this was last asked. To be asked after the wait.
    pub(crate) fn started(&self) -> u64 {
        self.stamp.take()
    }

    /// Makes an illegal access, and waits for what the driver says of it. Nothing of this process
    /// works on the GPU afterwards. `None` where the driver saw nothing wrong.
    pub(crate) fn fault(&self) -> Result<Option<String>, GpuError> {
        let mut at = NOWHERE;
        let mut parameters = [(&raw mut at).cast::<c_void>()];
        // SAFETY: as in `launch`; the access is refused by the GPU's own memory management, which
        // knows no page there.
        unsafe {
            result::launch_kernel(
                self.poke,
                (1, 1, 1),
                (1, 1, 1),
                0,
                self.stream,
                &mut parameters,
            )
        }
        .map_err(named("cuLaunchKernel", 0))?;
        Ok(match self.wait() {
            Ok(()) => None,
            Err(GpuError::Call { source, .. }) => Some(format!("{:?}", source.0)),
            Err(error) => Some(error.to_string()),
        })
    }

    /// Milliseconds that one kernel of so many turns takes, by the GPU's own events. They are the
    /// kernel's alone only while nobody else is on the card.
    pub(crate) fn time(&self, turns: u32) -> Result<f64, GpuError> {
        // SAFETY: events and stream are alive, and both events were recorded before the wait.
        unsafe {
            result::event::record(self.begin, self.stream).map_err(named("cuEventRecord", 0))?;
            self.launch(turns, Stamped::No)?;
            result::event::record(self.end, self.stream).map_err(named("cuEventRecord", 0))?;
            self.wait()?;
            result::event::elapsed(self.begin, self.end)
                .map(f64::from)
                .map_err(named("cuEventElapsedTime", 0))
        }
    }
}

/// `GPU-8-4-4-4-12`, as NVML writes it.
fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::from("GPU-");
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_nvml_writes_it() {
        let bytes = [
            0x0a, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f, 0x60, 0x71, 0x82, 0x93, 0xa4, 0xb5, 0xc6, 0xd7,
            0xe8, 0xf9,
        ];
        assert_eq!(uuid_text(bytes), "GPU-0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
    }

    #[test]
    fn the_kernel_text_ends_with_one_nul() {
        assert_eq!(PTX.bytes().filter(|byte| *byte == 0).count(), 1);
        assert!(PTX.ends_with('\0'));
    }
}

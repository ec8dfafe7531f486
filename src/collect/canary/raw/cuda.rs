//! The few calls of CUDA's driver library that a probe needs, loaded at run time.

#![expect(unsafe_code, reason = "CUDA's driver library is C")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::page::{Page, Shared};

/// Our kernel: the time of its start, by the GPU's clock, into the host's memory. The driver
/// compiles it for its card.
const KERNEL: &CStr = c"
.version 6.0
.target sm_50
.address_size 64
.visible .entry stamp(.param .u64 into)
{
    .reg .b64 %now, %into;
    mov.u64 %now, %globaltimer;
    ld.param.u64 %into, [into];
    st.volatile.global.u64 [%into], %now;
    membar.sys;
    ret;
}
";

/// `CU_CTX_SCHED_BLOCKING_SYNC`: never spin for a completion.
const BLOCKING: c_uint = 4;
/// `CU_MEMHOSTREGISTER_DEVICEMAP`.
const DEVICE_MAP: c_uint = 2;
/// `CU_LIMIT_STACK_SIZE`, `CU_LIMIT_PRINTF_FIFO_SIZE`, `CU_LIMIT_MALLOC_HEAP_SIZE`: at 0 the
/// context takes 254 MiB of an H200's framebuffer instead of 518.
const LIMITS: [c_int; 3] = [0, 1, 2];

/// `CUDA_ERROR_OUT_OF_MEMORY`.
pub(in crate::collect::canary) const OUT_OF_MEMORY: i32 = 2;
/// `CUDA_ERROR_INVALID_DEVICE`: what is asked for no device where none is to be seen.
const INVALID_DEVICE: i32 = 101;

/// What went wrong, as far as the agent tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(in crate::collect::canary) enum Step {
    /// No library, or one that does not load.
    Library = 1,
    /// A call is not in it.
    Symbol = 2,
    Init = 3,
    Device = 4,
    Context = 5,
    Module = 6,
    Memory = 7,
    Launch = 8,
}

impl Step {
    /// The step of a number, if it is one.
    pub(in crate::collect::canary) fn of(number: u32) -> Option<Self> {
        [
            Self::Library,
            Self::Symbol,
            Self::Init,
            Self::Device,
            Self::Context,
            Self::Module,
            Self::Memory,
            Self::Launch,
        ]
        .into_iter()
        .find(|step| *step as u32 == number)
    }
}

/// A step that failed, with CUDA's code (0 without one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::collect::canary) struct Failure {
    pub(in crate::collect::canary) step: Step,
    pub(in crate::collect::canary) code: i32,
}

type Handle = *mut c_void;
type LaunchKernel = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;

/// A context on the one visible device, with the kernel and the page in it. It is never taken
/// down: its process ends.
#[derive(Debug)]
pub(in crate::collect::canary) struct Context {
    launch: LaunchKernel,
    kernel: Handle,
    /// Of the page, as the device sees it.
    page: u64,
    _library: Library,
}

fn check(step: Step, code: c_int) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        code => Err(Failure { step, code }),
    }
}

/// What compiles the kernel: libcuda loads it by this name, from the loader's own paths.
const COMPILER: &str = "libnvidia-ptxjitcompiler.so.1";

/// Loads the first of these files that loads, and the compiler beside it, which the loader would
/// not find in a folder that is none of its own.
///
/// # Errors
/// [`Step::Library`] where none does.
pub(in crate::collect::canary) fn load(paths: &[PathBuf]) -> Result<Library, Failure> {
    for path in paths {
        if let Some(library) = open(path) {
            if let Some(folder) = path.parent().filter(|folder| folder.is_absolute()) {
                // It stays loaded; where there is none, libcuda looks for itself.
                std::mem::forget(open(&folder.join(COMPILER)));
            }
            return Ok(library);
        }
    }
    Err(Failure {
        step: Step::Library,
        code: 0,
    })
}

fn open(path: &Path) -> Option<Library> {
    // SAFETY: NVIDIA's libraries, whose initialisers only set up their own state.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.ok()
}

/// A call of the library.
fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, Failure> {
    // SAFETY: the callers give each name the type that CUDA's header gives it.
    unsafe { library.get::<T>(name.to_bytes_with_nul()) }
        .map(|symbol| *symbol)
        .map_err(|_| Failure {
            step: Step::Symbol,
            code: 0,
        })
}

impl Context {
    /// A context on the first visible device, as small as it can be made.
    ///
    /// # Errors
    /// The first step that failed.
    pub(in crate::collect::canary) fn new(
        library: Library,
        page: &Shared,
    ) -> Result<Self, Failure> {
        type Init = unsafe extern "C" fn(c_uint) -> c_int;
        type DeviceGetCount = unsafe extern "C" fn(*mut c_int) -> c_int;
        type DeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
        type CtxCreate = unsafe extern "C" fn(*mut Handle, c_uint, c_int) -> c_int;
        type CtxSetLimit = unsafe extern "C" fn(c_int, usize) -> c_int;
        type ModuleLoadData = unsafe extern "C" fn(*mut Handle, *const c_char) -> c_int;
        type ModuleGetFunction = unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int;
        type HostRegister = unsafe extern "C" fn(*mut Page, usize, c_uint) -> c_int;
        type HostGetDevicePointer = unsafe extern "C" fn(*mut u64, *mut Page, c_uint) -> c_int;

        let init: Init = symbol(&library, c"cuInit")?;
        let count: DeviceGetCount = symbol(&library, c"cuDeviceGetCount")?;
        let get: DeviceGet = symbol(&library, c"cuDeviceGet")?;
        let create: CtxCreate = symbol(&library, c"cuCtxCreate_v2")?;
        let set_limit: CtxSetLimit = symbol(&library, c"cuCtxSetLimit")?;
        let load_data: ModuleLoadData = symbol(&library, c"cuModuleLoadData")?;
        let get_function: ModuleGetFunction = symbol(&library, c"cuModuleGetFunction")?;
        let register: HostRegister = symbol(&library, c"cuMemHostRegister_v2")?;
        let device_pointer: HostGetDevicePointer =
            symbol(&library, c"cuMemHostGetDevicePointer_v2")?;
        let launch: LaunchKernel = symbol(&library, c"cuLaunchKernel")?;

        let (mut devices, mut device) = (0, 0);
        let (mut context, mut module, mut kernel) = (null_mut(), null_mut(), null_mut());
        let mut mapped = 0;
        let (address, length) = page.range();
        // SAFETY: the signatures are those of cuda.h; every out-pointer is of a local that lives
        // through the call, the strings end in a zero, and the page stays mapped for as long as
        // the process lives, as the context does.
        unsafe {
            check(Step::Init, init(0))?;
            check(Step::Device, count(&mut devices))?;
            if devices < 1 {
                check(Step::Device, INVALID_DEVICE)?;
            }
            check(Step::Device, get(&mut device, 0))?;
            check(Step::Context, create(&mut context, BLOCKING, device))?;
            for limit in LIMITS {
                check(Step::Context, set_limit(limit, 0))?;
            }
            check(Step::Module, load_data(&mut module, KERNEL.as_ptr()))?;
            check(
                Step::Module,
                get_function(&mut kernel, module, c"stamp".as_ptr()),
            )?;
            check(Step::Memory, register(address, length, DEVICE_MAP))?;
            check(Step::Memory, device_pointer(&mut mapped, address, 0))?;
        }
        Ok(Self {
            launch,
            kernel,
            page: mapped,
            _library: library,
        })
    }

    /// Launches the kernel, which writes into the `started` of a slot. Does not wait for it.
    ///
    /// # Errors
    /// [`Step::Launch`], after which the context is of no use.
    pub(in crate::collect::canary) fn launch(&self, slot: usize) -> Result<(), Failure> {
        use std::mem::offset_of;

        use super::page::{SLOTS, Slot};
        let offset =
            offset_of!(Page, slots) + slot % SLOTS * size_of::<Slot>() + offset_of!(Slot, started);
        let mut into = self.page + offset as u64;
        let mut arguments = [(&raw mut into).cast::<c_void>()];
        // SAFETY: the kernel takes one 64-bit address, which lies in the page that the device has
        // mapped; CUDA copies the argument before it returns.
        let code = unsafe {
            (self.launch)(
                self.kernel,
                1,
                1,
                1,
                1,
                1,
                1,
                0,
                null_mut(),
                arguments.as_mut_ptr(),
                null::<*mut c_void>().cast_mut(),
            )
        };
        check(Step::Launch, code)
    }
}

//! The C symbols, with the signatures of cuda.h.

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::gpu::Gpu;
use crate::{Script, script_of};

/// The script beside the file that this code was loaded from.
pub(crate) fn script() -> Script {
    // SAFETY: `info` is written by dladdr before it is read, where it says so; its name is a
    // string of the loader's that lives as long as this library.
    let path = unsafe {
        let mut info = std::mem::zeroed::<libc::Dl_info>();
        if libc::dladdr(cuInit as *const c_void, &raw mut info) == 0 {
            return Script::default();
        }
        CStr::from_ptr(info.dli_fname)
    };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let text = std::fs::read(script_of(path)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What the script has for a call.
fn answer(name: &str) -> c_int {
    let script = script();
    if script.hangs.as_deref() == Some(name) {
        loop {
            std::thread::park();
        }
    }
    match script.fails {
        Some((call, code)) if call == name => code,
        _ => 0,
    }
}

macro_rules! plain {
    ($($name:ident($($argument:ident: $type:ty),*) $($out:ident = $value:expr)?;)+) => {$(
        /// # Safety
        /// As of the call of the same name in cuda.h.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            let code = answer(stringify!($name));
            $(if code == 0 {
                // SAFETY: the caller's pointer is to room for one value, as cuda.h wants it.
                unsafe { $out.write($value) };
            })?
            code
        }
    )+};
}

plain! {
    cuInit(_flags: c_uint);
    cuDeviceGetCount(count: *mut c_int) count = 1;
    cuDeviceGet(device: *mut c_int, _ordinal: c_int) device = 0;
    cuCtxCreate_v2(context: *mut usize, _flags: c_uint, _device: c_int) context = 1;
    cuCtxSetLimit(_limit: c_int, _value: usize);
    cuModuleLoadData(module: *mut usize, _image: *const c_char) module = 2;
    cuModuleGetFunction(function: *mut usize, _module: usize, _name: *const c_char) function = 3;
    cuMemHostRegister_v2(_start: *mut c_void, _bytes: usize, _flags: c_uint);
    cuMemHostGetDevicePointer_v2(pointer: *mut u64, host: *mut c_void, _flags: c_uint) pointer = host as u64;
}

/// Hands the kernel to the GPU.
///
/// # Safety
/// As of `cuLaunchKernel` in cuda.h: `arguments` points to a pointer to the kernel's one argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    _function: *mut c_void,
    _grid_x: c_uint,
    _grid_y: c_uint,
    _grid_z: c_uint,
    _block_x: c_uint,
    _block_y: c_uint,
    _block_z: c_uint,
    _shared: c_uint,
    _stream: *mut c_void,
    arguments: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> c_int {
    match answer("cuLaunchKernel") {
        0 => {}
        code => return code,
    }
    let script = script();
    if script.dies {
        std::process::abort();
    }
    // SAFETY: as the caller promises.
    let into = unsafe { *(*arguments).cast::<u64>() };
    Gpu::get().launch(into);
    0
}

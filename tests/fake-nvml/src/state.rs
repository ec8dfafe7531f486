//! The copy's own state, and the way into each call.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, c_char};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::control::SCRIPT_FILE;
use crate::script::{Fault, Gpu, Instance, Script, What};

pub(crate) const SUCCESS: nvmlReturn_t = 0;
pub(crate) const UNINITIALIZED: nvmlReturn_t = 1;
pub(crate) const INVALID_ARGUMENT: nvmlReturn_t = 2;
pub(crate) const NOT_SUPPORTED: nvmlReturn_t = 3;
pub(crate) const NOT_FOUND: nvmlReturn_t = 6;
pub(crate) const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
const DRIVER_NOT_LOADED: nvmlReturn_t = 9;
pub(crate) const TIMEOUT: nvmlReturn_t = 10;
const GPU_IS_LOST: nvmlReturn_t = 15;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) script: Script,
    /// `nvmlInit_v2` less `nvmlShutdown`.
    pub(crate) opened: u32,
    calls: HashMap<String, u64>,
    /// XIDs not yet delivered, by card.
    pub(crate) xids: HashMap<usize, VecDeque<u64>>,
    /// The card that each event set watches, by the set's number.
    pub(crate) sets: Vec<Option<usize>>,
    /// Which file the script was last read from: inode and time of change.
    file: Option<(u64, i64, i64)>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);
static CHANGED: Condvar = Condvar::new();
/// Where a script of another process lies; none where a test sets it by the exported setter.
static FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| env::var_os(SCRIPT_FILE).map(PathBuf::from));
/// Between two looks at that file by a call that hangs.
const LOOK: Duration = Duration::from_millis(20);

fn locked() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A card, or one of its MIG devices.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) gpu: usize,
    pub(crate) instance: Option<usize>,
}

impl Target {
    /// Handles are numbers: card + 1, and instance + 1 above.
    pub(crate) fn handle(self) -> nvmlDevice_t {
        let instance = self.instance.map_or(0, |instance| instance + 1);
        (instance << 8 | (self.gpu + 1)) as nvmlDevice_t
    }

    fn of(handle: nvmlDevice_t) -> Result<Self, nvmlReturn_t> {
        let number = handle as usize;
        let gpu = (number & 0xff).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        Ok(Self {
            gpu,
            instance: (number >> 8).checked_sub(1),
        })
    }
}

impl State {
    pub(crate) fn gpu(&self, target: Target) -> Result<&Gpu, nvmlReturn_t> {
        self.script.gpus.get(target.gpu).ok_or(INVALID_ARGUMENT)
    }

    /// The MIG device of this handle; `None` where it is a card's.
    pub(crate) fn instance(&self, target: Target) -> Result<Option<&Instance>, nvmlReturn_t> {
        let Some(slot) = target.instance else {
            return Ok(None);
        };
        let mig = self.gpu(target)?.mig.as_ref().ok_or(INVALID_ARGUMENT)?;
        let instance = mig.instances.get(slot).and_then(Option::as_ref);
        instance.ok_or(INVALID_ARGUMENT).map(Some)
    }

    /// True where this call shall say once more that its buffer is too short.
    pub(crate) fn short(&mut self, call: &str, target: Target) -> bool {
        let on = |fault: &&mut Fault| {
            fault.call == call && fault.gpu.is_none_or(|gpu| gpu == target.gpu)
        };
        for fault in self.script.faults.iter_mut().filter(on) {
            if let What::Short(times) = &mut fault.what
                && *times > 0
            {
                *times -= 1;
                return true;
            }
        }
        false
    }

    /// Shows this script from now on; its XIDs join those that wait.
    fn adopt(&mut self, script: Script) {
        for (card, gpu) in script.gpus.iter().enumerate() {
            self.xids.entry(card).or_default().extend(&gpu.xids);
        }
        self.script = script;
    }

    /// Reads the script's file again where it is another one.
    fn reload(&mut self) {
        let Some(path) = FILE.as_ref() else { return };
        let Ok(meta) = fs::metadata(path) else { return };
        let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec());
        if self.file == Some(stamp) {
            return;
        }
        if let Some(script) = fs::read(path)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
        {
            self.adopt(script);
            self.file = Some(stamp);
        }
    }

    fn fault(&self, call: &str, gpu: Option<usize>, hit: impl Fn(What) -> bool) -> Option<What> {
        let faults = self.script.faults.iter();
        faults
            .filter(|fault| fault.call == call && (fault.gpu.is_none() || fault.gpu == gpu))
            .map(|fault| fault.what)
            .find(|what| hit(*what))
    }
}

/// One call without a card.
pub(crate) fn call(
    name: &str,
    body: impl FnOnce(&mut State) -> Result<(), nvmlReturn_t>,
) -> nvmlReturn_t {
    enter(name, None, |state| body(state))
        .err()
        .unwrap_or(SUCCESS)
}

/// One call on a card or a MIG device.
pub(crate) fn device_call(
    name: &str,
    handle: nvmlDevice_t,
    body: impl FnOnce(&mut State, Target) -> Result<(), nvmlReturn_t>,
) -> nvmlReturn_t {
    let answer = Target::of(handle).and_then(|target| {
        enter(name, Some(target.gpu), |state| {
            if state.gpu(target)?.lost {
                return Err(GPU_IS_LOST);
            }
            state.instance(target)?;
            body(state, target)
        })
    });
    answer.err().unwrap_or(SUCCESS)
}

/// `nvmlDeviceGetHandleByIndex_v2`: on a card that may be lost, by its number.
pub(crate) fn handle_call(name: &str, index: usize, out: *mut nvmlDevice_t) -> nvmlReturn_t {
    let target = Target {
        gpu: index,
        instance: None,
    };
    device_call(name, target.handle(), |_, target| {
        write(out, target.handle())
    })
}

fn enter(
    name: &str,
    gpu: Option<usize>,
    body: impl FnOnce(&mut State) -> Result<(), nvmlReturn_t>,
) -> Result<(), nvmlReturn_t> {
    let mut state = locked();
    *state.calls.entry(name.to_owned()).or_default() += 1;
    state.reload();
    while state.fault(name, gpu, |what| what == What::Hang).is_some() {
        state = if FILE.is_some() {
            let waited = CHANGED.wait_timeout(state, LOOK);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner)
        };
        state.reload();
    }
    let slow = state.fault(name, gpu, |what| matches!(what, What::Slow(_)));
    if let Some(What::Slow(millis)) = slow {
        drop(state);
        std::thread::sleep(Duration::from_millis(millis));
        state = locked();
    }
    if state.script.unloaded {
        return Err(DRIVER_NOT_LOADED);
    }
    let fails = state.fault(name, gpu, |what| matches!(what, What::Code(_)));
    if let Some(What::Code(code)) = fails {
        return Err(code);
    }
    if state.opened == 0 && name != "nvmlInit_v2" {
        return Err(UNINITIALIZED);
    }
    body(&mut state)
}

/// `nvmlShutdown` under a fault.
pub(crate) fn close() {
    let mut state = locked();
    state.opened = state.opened.saturating_sub(1);
}

/// Writes through a pointer of the caller.
pub(crate) fn write<T>(to: *mut T, value: T) -> Result<(), nvmlReturn_t> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and the caller of a C function vouches for it.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes text with its NUL into a buffer of the caller.
pub(crate) fn write_text(to: *mut c_char, len: u32, text: &str) -> Result<(), nvmlReturn_t> {
    if to.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= len as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    for (i, byte) in text.bytes().chain([0]).enumerate() {
        // SAFETY: within `len`, for which the caller vouches.
        unsafe { to.add(i).write(byte as c_char) };
    }
    Ok(())
}

/// Replaces the script by this JSON; 0, or 1 where it is none. XIDs are added to those that wait.
///
/// # Safety
/// `json` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_nvml_set(json: *const c_char) -> u32 {
    // SAFETY: the caller's promise.
    let json = unsafe { CStr::from_ptr(json) };
    let Ok(script) = serde_json::from_slice::<Script>(json.to_bytes()) else {
        return 1;
    };
    locked().adopt(script);
    CHANGED.notify_all();
    0
}

/// How often the symbol was called.
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fake_nvml_calls(name: *const c_char) -> u64 {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let state = locked();
    let count = name.to_str().ok().and_then(|name| state.calls.get(name));
    count.copied().unwrap_or(0)
}

/// How often NVML is initialised and not shut down.
#[unsafe(no_mangle)]
pub extern "C" fn fake_nvml_opened() -> u64 {
    locked().opened.into()
}

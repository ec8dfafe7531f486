//! The GPU: a process that starts kernels, whatever becomes of the one that launches them.

use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Script;
use crate::exports::script;

/// Kernels that can wait.
const QUEUE: usize = 1024;
/// Between looks, while kernels come and while none does: no test waits for it, as a kernel's start is
/// told and not the time at which it is written.
const GLANCE: Duration = Duration::from_micros(100);
const LOOK: Duration = Duration::from_millis(1);
/// Looks of the first kind after a kernel.
const AWAKE: u32 = 50;

/// Shared by both processes; zeros at first.
#[repr(C)]
pub(crate) struct Gpu {
    launched: AtomicU64,
    /// Address that a kernel writes to, and when it was launched, in nanoseconds since 1970.
    queue: [(AtomicU64, AtomicU64); QUEUE],
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_nanos() as u64
}

impl Gpu {
    /// The GPU, switched on with the first launch.
    pub(crate) fn get() -> &'static Self {
        static GPU: OnceLock<&Gpu> = OnceLock::new();
        GPU.get_or_init(|| {
            // SAFETY: a fresh mapping that is never taken down, of a type for which zeros are
            // valid. The worker that loads this has one thread, so that its copy may do all that
            // it may.
            unsafe {
                let start = libc::mmap(
                    null_mut(),
                    size_of::<Self>(),
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                );
                assert_ne!(start, libc::MAP_FAILED, "no memory for the fake GPU");
                let gpu = &*start.cast::<Self>();
                let worker = libc::getpid();
                if libc::fork() == 0 {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::prctl(libc::PR_SET_NAME, c"fake-gpu".as_ptr());
                    gpu.run(worker);
                    libc::_exit(0);
                }
                gpu
            }
        })
    }

    pub(crate) fn launch(&self, into: u64) {
        let number = self.launched.load(Acquire);
        let (address, at) = &self.queue[number as usize % QUEUE];
        address.store(into, Release);
        at.store(now(), Release);
        self.launched.store(number + 1, Release);
    }

    fn run(&self, worker: libc::pid_t) {
        let (mut number, mut looks) = (0, 0);
        // SAFETY: it has no arguments.
        while unsafe { libc::getppid() } == worker {
            if self.launched.load(Acquire) == number {
                sleep(if looks < AWAKE { GLANCE } else { LOOK });
                looks += 1;
                continue;
            }
            looks = 0;
            let (address, at) = &self.queue[number as usize % QUEUE];
            let mut script = script();
            let mut start = at.load(Acquire) + script.delay(number);
            while script.stalled {
                sleep(LOOK);
                script = crate::exports::script();
                start = start.max(now());
            }
            while now() < start {
                sleep(GLANCE);
            }
            let into = address.load(Acquire) as *mut u64;
            // SAFETY: the address came from a launch, in a page that both processes have mapped.
            unsafe { std::ptr::write_volatile(into, script.clock(start)) };
            number += 1;
        }
    }
}

impl Script {
    /// Of a kernel, in nanoseconds.
    fn delay(&self, number: u64) -> u64 {
        match self.delays.len() {
            0 => 10_000,
            count => self.delays[number as usize % count] * 1000,
        }
    }

    /// What the GPU's clock shows at this time.
    fn clock(&self, at: u64) -> u64 {
        let drift = self.clock_drift * (at as f64 * 1e-9 % 1e6);
        at.wrapping_add_signed(self.clock_offset + drift as i64)
    }
}

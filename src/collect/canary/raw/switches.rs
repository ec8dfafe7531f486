//! Whether the host took a thread's core away.

#![expect(unsafe_code, reason = "a call of the system that has no safe wrapper")]

use std::mem::MaybeUninit;

/// How often the calling thread lost its core without giving it up, since it began.
pub(in crate::collect::canary) fn preemptions() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the place is of the right type, and zeros are valid where the call fails.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nivcsw
    }
}

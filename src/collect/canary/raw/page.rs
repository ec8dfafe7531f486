//! The page that the agent, its worker and the worker's kernels write: one word has one writer.

#![expect(unsafe_code, reason = "memory that other processes and a GPU write")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Probes that can be under way: CUDA's own queue takes about a thousand launches before a call
/// waits for room.
pub(in crate::collect::canary) const SLOTS: usize = 256;

/// Changes with the layout: a worker of another build is refused.
pub(in crate::collect::canary) const MAGIC: u64 = 0x736c_6963_6577_0002;

/// One probe. Host times are nanoseconds of CLOCK_MONOTONIC_RAW; none is 0.
#[derive(Debug)]
#[repr(C)]
pub(in crate::collect::canary) struct Slot {
    /// Before the launch call; by the worker.
    pub(in crate::collect::canary) before: AtomicU64,
    /// After it.
    pub(in crate::collect::canary) after: AtomicU64,
    /// 1 where the host took the worker's core away during the call.
    pub(in crate::collect::canary) preempted: AtomicU64,
    /// When the worker saw the start; 0 where it did not look that long.
    pub(in crate::collect::canary) seen: AtomicU64,
    /// When the kernel started, in nanoseconds of the GPU's clock; by the kernel. 0: not yet.
    pub(in crate::collect::canary) started: AtomicU64,
}

#[derive(Debug)]
#[repr(C)]
pub(in crate::collect::canary) struct Page {
    /// [`MAGIC`]; by the agent.
    pub(in crate::collect::canary) magic: AtomicU64,
    /// Launches that the agent wants, since the start; by the agent.
    pub(in crate::collect::canary) wanted: AtomicU64,
    /// How long the worker looks for a start, in nanoseconds; by the agent.
    pub(in crate::collect::canary) look: AtomicU64,
    /// Launches whose slot is whole; by the worker.
    pub(in crate::collect::canary) launched: AtomicU64,
    /// 0 starting, 1 ready, 2 failed; by the worker.
    pub(in crate::collect::canary) phase: AtomicU32,
    /// The step that failed, a [`super::super::worker::Step`].
    pub(in crate::collect::canary) step: AtomicU32,
    /// CUDA's code of it.
    pub(in crate::collect::canary) code: AtomicI32,
    /// Launch `n` has slot `n % SLOTS`.
    pub(in crate::collect::canary) slots: [Slot; SLOTS],
}

/// One mapping of a page. All of its words are atomic, so sharing it is sound whatever the other
/// side does.
#[derive(Debug)]
pub(in crate::collect::canary) struct Shared {
    page: NonNull<Page>,
    file: OwnedFd,
}

// SAFETY: the mapping is this value's own and lives as long as it; all words in it are atomic.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// A page of zeros that no other process has yet.
    ///
    /// # Errors
    /// The system's word.
    pub(in crate::collect::canary) fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("slicewatch-canary", flags)?;
        ftruncate(&file, size_of::<Page>() as u64)?;
        // A page cut short under the agent would be the end of it.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file)
    }

    /// The page behind a descriptor.
    ///
    /// # Errors
    /// The system's word, or `InvalidData` where it is no page of this build.
    pub(in crate::collect::canary) fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        if file.metadata()?.len() != size_of::<Page>() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::map(file.into())
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping of a file that is as long as it, at an address of the
        // kernel's choice.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                size_of::<Page>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let page = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { page, file })
    }

    /// Its address here, and its length: for CUDA to map.
    pub(super) fn range(&self) -> (*mut Page, usize) {
        (self.page.as_ptr(), size_of::<Page>())
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Deref for Shared {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: mapped, page-aligned, long enough, and of words of which any bits are valid.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping; nothing borrows from it any more. An error leaves it
        // mapped until the process ends.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), size_of::<Page>()) };
    }
}

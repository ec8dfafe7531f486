//! Pages of files that only the start needed.
//!
//! Loading and initialising the driver runs through megabytes of code, ours and the libraries',
//! once, and through the tables that the loader works from; the kernel counts each page of them as
//! resident for as long as the process lives. Given back, the pages that are still needed come back
//! from the page cache by themselves. NVML alone takes 21.8 MiB on an H200.

use std::ffi::c_void;

/// Takes this process's code and the loader's tables out of its resident set. Nothing is lost:
/// neither is ever written to.
pub(in crate::collect::nvml) fn give_back_unwritten() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for (start, length) in maps.lines().filter_map(unwritten) {
        // SAFETY: code, and the part of a file that begins at its ELF header, have no content of
        // their own: every page is the file's, and is read again when it is next touched. What the
        // loader writes and then makes read-only, by relocation, lies further on in the file.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Address and length of a line of `/proc/PID/maps`, where it is code of a file, or its read-only
/// beginning: headers, tables, constants.
fn unwritten(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let offset = fields.next()?;
    let path = fields.nth(2)?;
    let is_beginning = rights == "r--p" && offset.bytes().all(|digit| digit == b'0');
    if !(rights == "r-xp" || is_beginning) || !path.starts_with('/') {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_never_written_is_given_back() {
        let of = unwritten;
        assert_eq!(
            of("7f00-8f00 r--p 00000000 fd:00 123   /usr/lib/libc.so.6"),
            Some((0x7f00, 0x1000))
        );
        assert_eq!(
            of("7f00-8f00 r-xp 00028000 fd:00 123   /usr/lib/libc.so.6"),
            Some((0x7f00, 0x1000))
        );
        for line in [
            "7f00-8f00 r--p 00028000 fd:00 123   /usr/lib/libc.so.6",
            "7f00-8f00 rw-p 00028000 fd:00 123   /usr/lib/libc.so.6",
            "7f00-8f00 rwxp 00028000 fd:00 123   /usr/lib/jit.so",
            "7f00-8f00 r--p 00000000 00:00 0     [vvar]",
            "7f00-8f00 r-xp 00000000 00:00 0     [vdso]",
            "7f00-8f00 r-xp 00000000 00:00 0",
            "8f00-7f00 r-xp 00028000 fd:00 123   /usr/lib/libc.so.6",
            "nonsense",
            "",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn the_process_goes_on_without_its_code_in_memory() {
        give_back_unwritten();
        assert_eq!((1..=10).product::<u32>(), 3_628_800);
    }
}

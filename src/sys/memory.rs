//! What this process keeps in memory while it has nothing to do.

use std::ffi::c_void;
use std::fs;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise};

/// Lets go of this program's machine code: what is needed again is mapped again from the page cache, one page at a
/// time. Most of a supervisor's memory is the code that read the manifest and built the sandbox.
///
/// # Errors
/// As madvise(2); ENOENT when /proc shows no mapping with this function in it.
pub(crate) fn release_code() -> Result<(), Errno> {
    let here = release_code as *const () as usize;
    let maps = fs::read_to_string("/proc/self/maps").map_err(|_| Errno::ENOENT)?;
    let (start, end) = maps
        .lines()
        .filter_map(code)
        .find(|(start, end)| (*start..*end).contains(&here))
        .ok_or(Errno::ENOENT)?;
    let address = NonNull::new(start as *mut c_void).ok_or(Errno::ENOENT)?;
    // SAFETY: the range is one mapping of a file, private and never writable since the kernel mapped it for execve(2):
    // a static program has no relocation in its code. So no page of it differs from the file, and a page that is
    // dropped comes back as it was, this very function's included.
    unsafe { madvise(address, end - start, MmapAdvise::MADV_DONTNEED) }
}

/// The range of a line of /proc/PID/maps (proc(5)), when it is code from a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
    let number = |text| usize::from_str_radix(text, 16).ok();
    is_code.then_some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_from_a_file_is_told_from_the_rest() {
        let line = "7fa5dad80000-7fa5db33f000 r-xp 00180000 08:01 42  /usr/bin/ringfence";
        assert_eq!(code(line), Some((0x7fa5_dad8_0000, 0x7fa5_db33_f000)));
        assert_eq!(
            code("7fa5dad80000-7fa5db33f000 r--p 00180000 08:01 42  /usr/bin/ringfence"),
            None
        );
        assert_eq!(
            code("7fa5db410000-7fa5db412000 r-xp 00000000 00:00 0  [vdso]"),
            None
        );
        assert_eq!(
            code("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0"),
            None
        );
    }

    #[test]
    fn a_program_goes_on_after_its_code_was_released() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let rss = status.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        // Tests beside this one take memory meanwhile, so one time of many must do.
        let shrinks = || {
            let before = resident();
            release_code().unwrap();
            resident() < before
        };
        assert!((0..100).any(|_| shrinks()));
    }
}

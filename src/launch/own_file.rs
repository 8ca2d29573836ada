//! The launcher's own program file, which a job must not get hold of.
//!
//! The process that becomes the job still runs this program, and the kernel lets every process open its own
//! `/proc/self/exe`: a command or an image's `#!/proc/self/exe` starts the launcher inside the sandbox, and then the
//! job has a descriptor of the host's file (CVE-2019-5736). Root's runs lose nothing by that: no id inside is the
//! file's owner. An ordinary user's job has the caller's id, and could change the file's mode. Landlock refuses the
//! open; without it the launcher goes on as a sealed copy in memory, and that is all that the job can reach.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::unistd::{fexecve, geteuid};

use super::error::{LaunchError, io_words, words};
use crate::plan::{Plan, WorkloadStep};

const NAME: &std::ffi::CStr = c"ringfence";

/// Starts this program again from a sealed copy, when a job of `plan` could reach its file; else, and in the copy, returns.
///
/// # Errors
/// When the copy cannot be made or executed.
pub(crate) fn keep_from_job(plan: &Plan) -> Result<(), LaunchError> {
    let held = plan
        .workload
        .iter()
        .any(|step| matches!(step, WorkloadStep::Landlock(_)));
    if held || geteuid().is_root() {
        return Ok(());
    }
    let failed = |cause: String| LaunchError::setup("a copy of this program in memory", cause);
    let own = File::open("/proc/self/exe").map_err(|error| failed(io_words(&error)))?;
    if is_sealed(&own) {
        // The kernel has named this process after the descriptor.
        return prctl::set_name(NAME).map_err(|errno| failed(words(errno)));
    }
    let copy = sealed_copy(own).map_err(|error| failed(io_words(&error)))?;
    let strings = |texts: Vec<std::ffi::OsString>| -> Vec<CString> {
        // What came in through execve(2) holds no NUL.
        texts
            .into_iter()
            .filter_map(|text| CString::new(text.into_vec()).ok())
            .collect()
    };
    let args = strings(std::env::args_os().collect());
    let joined = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut line = name;
        line.push("=");
        line.push(value);
        line
    };
    let env = strings(std::env::vars_os().map(joined).collect());
    let Err(errno) = fexecve(copy, &args, &env);
    Err(failed(words(errno)))
}

fn is_sealed(file: &File) -> bool {
    // EINVAL: no file in memory.
    fcntl(file, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn sealed_copy(mut own: File) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = MFdFlags::from_bits_retain(nix::libc::MFD_EXEC);
    let memory = match memfd_create(NAME, flags | executable) {
        // Before Linux 6.3 every such file can be executed (memfd_create(2)).
        Err(Errno::EINVAL) => memfd_create(NAME, flags)?,
        made => made?,
    };
    let mut copy = File::from(memory);
    io::copy(&mut own, &mut copy)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_copy_is_whole_and_cannot_be_written() {
        let own = File::open("/proc/self/exe").unwrap();
        assert!(!is_sealed(&own));
        let length = own.metadata().unwrap().len();
        let mut copy = sealed_copy(own).unwrap();
        assert!(is_sealed(&copy));
        assert_eq!(copy.metadata().unwrap().len(), length);
        assert_eq!(
            copy.write(b"x").unwrap_err().raw_os_error(),
            Some(Errno::EPERM as i32)
        );
    }
}

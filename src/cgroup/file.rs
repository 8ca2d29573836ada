//! One file of a group: read and written whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;

use super::{Act, Error};

/// Reads a file of a group.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let invalid = |_| Error::File {
        act: Act::Read,
        path: shown(path),
        errno: Errno::EILSEQ,
    };
    bytes(path).and_then(|bytes| String::from_utf8(bytes).map_err(invalid))
}

/// Reads a file of the kernel's with as few calls as can be: their sizes read 0, so std's own reader starts with 32
/// bytes, and the kernel makes `/proc/self/mountinfo` up again for every piece.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let mut all = Vec::with_capacity(16 * 1024);
    // Through an adapter, because the method of a file itself asks for the size first.
    let read = File::open(path).and_then(|file| file.take(u64::MAX).read_to_end(&mut all));
    match read {
        Ok(_) => Ok(all),
        Err(e) => Err(error(Act::Read, path, &e)),
    }
}

/// Writes a value in one call, as the kernel wants it: a second write would be a second value.
pub(super) fn write(path: &Path, value: &str) -> Result<(), Error> {
    write_each(path, &[value])
}

/// Writes values to one file, one call each.
pub(super) fn write_each(path: &Path, values: &[impl AsRef<str>]) -> Result<(), Error> {
    let failed = |cause: &io::Error| error(Act::Write, path, cause);
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|e| failed(&e))?;
    for value in values {
        let value = value.as_ref().as_bytes();
        if file.write(value).map_err(|e| failed(&e))? != value.len() {
            return Err(failed(&Errno::EIO.into()));
        }
    }
    Ok(())
}

/// Removes a group's directory; one that is gone already is no error.
pub(super) fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(error(Act::Remove, dir, &e)),
    }
}

/// Names the file and the act beside the kernel's answer.
pub(super) fn error(act: Act, path: &Path, cause: &io::Error) -> Error {
    let errno = cause.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    Error::File {
        act,
        path: shown(path),
        errno,
    }
}

/// A path as messages show it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The value of `key` in a file of `key value` lines (`memory.events`, `cpu.stat`).
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_whole() {
        let text = "oom 1\noom_kill 2\noom_group_kill x\n";
        assert_eq!(keyed(text, "oom"), Some(1));
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom_group_kill"), None);
        assert_eq!(keyed(text, "max"), None);
    }

    #[test]
    fn an_error_names_the_act_the_file_and_the_cause() {
        let error = read(Path::new("/proc/self/no-such-file")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "read /proc/self/no-such-file: no such file or directory"
        );
    }
}

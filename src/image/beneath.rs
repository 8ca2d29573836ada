//! Folders below an open one. The kernel resolves their paths and follows no link (openat2(2)), whatever becomes of a
//! folder while it is walked.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Opens the folder at a path below `root`; the empty path is `root` itself.
///
/// # Errors
/// ELOOP where a link stands on the way, ENOTDIR where something else does.
pub(crate) fn folder(root: impl AsFd, path: &[u8]) -> nix::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(root, path, how)
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: impl AsFd) -> nix::Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut entries = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The path of a name in a folder.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"" => name.to_vec(),
        folder => [folder, b"/", name].concat(),
    }
}

//! Single files of an image as its layers show them together, read without mounting them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};

use super::Layer;
use super::accounts::{Accounts, LONGEST_FILE};
use super::store::{Store, StoreError};
use super::unpack::{is_opaque, is_whiteout};

/// The users and groups of an image.
pub(crate) fn accounts(store: &Store, layers: &[Layer]) -> Result<Accounts, StoreError> {
    let passwd = in_etc(store, layers, "passwd")?.unwrap_or_default();
    let group = in_etc(store, layers, "group")?.unwrap_or_default();
    Ok(Accounts::parse(&passwd, &group))
}

/// A small regular file of `/etc` in the topmost layer that has it. A link, a device, a pipe or a large file counts as
/// absent: none is followed, opened or read (CVE-2024-9676).
fn in_etc(store: &Store, layers: &[Layer], name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |source| store.io(format!("read etc/{name} of an image"), source);
    for layer in layers.iter().rev() {
        let root = store.open_layer(layer)?;
        let folder = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let etc = match openat(&root, "etc", folder, Mode::empty()) {
            Ok(etc) => etc,
            Err(Errno::ENOENT) if !root_is_opaque(store, layer)? => continue,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        match fstatat(&etc, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => return Ok(None),
            Ok(_) => return regular(&etc, name).map_err(failed),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if is_opaque(etc.as_fd()).map_err(failed)? || root_is_opaque(store, layer)? {
            return Ok(None);
        }
    }
    Ok(None)
}

fn root_is_opaque(store: &Store, layer: &Layer) -> Result<bool, StoreError> {
    Ok(store.layer(layer.diff_id)?.unwrap_or_default().root_opaque)
}

fn regular(folder: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    // Without O_NONBLOCK the opening of a pipe would wait for its writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::ELOOP | Errno::ENXIO | Errno::EACCES) => return Ok(None),
        opened => opened?,
    };
    let stat = fstat(&file)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_size as u64 > LONGEST_FILE {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(LONGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| super::store::errno(&error))?;
    Ok(Some(bytes))
}

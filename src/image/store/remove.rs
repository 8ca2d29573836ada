//! Removal of trees that others have filled: any depth, any mode, no link followed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The most folders that are held open while something is looked for that can go.
const MOST_OPEN: usize = 64;

/// Removes what stands at `name`, if anything does. `grave` is a name of the folder `graves` that is not in use; both
/// folders are on one file system.
///
/// A tree is first moved into `grave`, then every folder of it, however deep, is moved up there before it is emptied: so
/// neither the stack nor the number of open files grows with the depth.
pub(crate) fn remove(
    parent: BorrowedFd<'_>,
    name: &CStr,
    graves: BorrowedFd<'_>,
    grave: &CStr,
) -> Result<(), Errno> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => return Ok(()),
        Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EACCES) => {}
        Err(errno) => return Err(errno),
    }
    match mkdirat(graves, grave, Mode::S_IRWXU) {
        // A full disk has no room for the grave either, until something of the tree is gone.
        Err(Errno::ENOSPC | Errno::EDQUOT) => {
            make_room(parent, name)?;
            mkdirat(graves, grave, Mode::S_IRWXU)?;
        }
        made => made?,
    }
    let top = open(graves, grave)?;
    let mut next = 0u64;
    movable(parent, name)?;
    renameat(parent, name, &top, number(next).as_c_str())?;
    let mut done = 0;
    while done <= next {
        let folder_name = number(done);
        empty(top.as_fd(), &folder_name, &mut next)?;
        unlinkat(&top, folder_name.as_c_str(), UnlinkatFlags::RemoveDir)?;
        done += 1;
    }
    drop(top);
    unlinkat(graves, grave, UnlinkatFlags::RemoveDir)
}

/// Unlinks the files of the first folder of a tree in which there are any.
fn make_room(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let mut left = vec![open(parent, name)?];
    while let Some(folder) = left.pop() {
        let mut gone = false;
        let mut entries = Dir::openat(&folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        for entry in entries.iter() {
            let entry = entry?;
            let entry = entry.file_name();
            if matches!(entry.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlinkat(&folder, entry, UnlinkatFlags::NoRemoveDir) {
                Ok(()) => gone = true,
                Err(Errno::EISDIR | Errno::EPERM) if left.len() < MOST_OPEN => {
                    left.push(open(folder.as_fd(), entry)?);
                }
                Err(Errno::EISDIR | Errno::EPERM | Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        if gone {
            return Ok(());
        }
    }
    Err(Errno::ENOSPC)
}

/// Unlinks the files of a folder and moves its folders to the top under the next numbers.
fn empty(top: BorrowedFd<'_>, name: &CStr, next: &mut u64) -> Result<(), Errno> {
    let folder = open(top, name)?;
    loop {
        let mut seen = false;
        let mut entries = Dir::openat(&folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        for entry in entries.iter() {
            let entry = entry?;
            let entry = entry.file_name();
            if matches!(entry.to_bytes(), b"." | b"..") {
                continue;
            }
            seen = true;
            match unlinkat(&folder, entry, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::EISDIR | Errno::EPERM) => {}
                Err(errno) => return Err(errno),
            }
            movable(folder.as_fd(), entry)?;
            *next += 1;
            renameat(&folder, entry, top, number(*next).as_c_str())?;
        }
        // Entries may be missed while a folder changes under its reader: only an empty reading is the end.
        if !seen {
            return Ok(());
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    movable(parent, name)?;
    openat(
        parent,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// A folder can be emptied and moved (its `..` changes) when its owner may write it.
fn movable(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if stat.st_mode & nix::libc::S_IFMT != nix::libc::S_IFDIR || stat.st_mode & 0o700 == 0o700 {
        return Ok(());
    }
    // It is a folder of ours in a store that no one else may enter: it cannot become a link meanwhile.
    let readable = openat(
        parent,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    match readable {
        Ok(folder) => fchmod(&folder, Mode::S_IRWXU),
        Err(Errno::EACCES) => fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink),
        Err(errno) => Err(errno),
    }
}

fn number(number: u64) -> CString {
    CString::new(number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn deep_closed_and_linked_trees_go_and_nothing_else() {
        let base = std::env::temp_dir().join(format!("ringfence-remove-{}", std::process::id()));
        let outside = base.join("outside");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let tree = base.join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        std::fs::set_permissions(tree.join("a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
        std::fs::set_permissions(tree.join("a"), std::fs::Permissions::from_mode(0o555)).unwrap();
        let parent = OwnedFd::from(std::fs::File::open(&base).unwrap());
        let mut deep: OwnedFd = std::fs::File::open(&tree).unwrap().into();
        for _ in 0..5000 {
            mkdirat(&deep, c"d", Mode::S_IRWXU).unwrap();
            deep = open(deep.as_fd(), c"d").unwrap();
        }
        drop(deep);
        remove(parent.as_fd(), c"tree", parent.as_fd(), c"grave").unwrap();
        remove(parent.as_fd(), c"tree", parent.as_fd(), c"grave").unwrap();
        let left: Vec<_> = std::fs::read_dir(&base)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["outside"]);
        assert!(outside.join("kept").exists());
        std::fs::remove_dir_all(base).unwrap();
    }
}

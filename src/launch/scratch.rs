//! The upper layer of an ordinary user's writable root: a folder of the store that goes with its run.
//!
//! The files in it belong to whatever ids the job had, and overlay's own folder has no permission bits: only a root
//! of a user namespace can remove them.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{chown, getegid};

use super::error::{io_words, words};
use super::ids::Maps;
use crate::report::channel::{Channel, Received};
use crate::report::record::Record;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::process;

/// A folder of the store, locked for as long as its run lives. Removed when dropped; [`Scratch::remove`] says how that went.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    lock: Option<Flock<File>>,
}

impl Scratch {
    /// Makes the folder `name`, and removes those of runs that died.
    ///
    /// # Errors
    /// The folder and why it cannot be made.
    pub(super) fn make(store: &Path, name: &str) -> Result<Scratch, String> {
        let parent = store.join("scratch");
        let failed = |cause: &dyn Fn() -> String| format!("{}: {}", parent.display(), cause());
        let io_failed = |error: io::Error| failed(&|| io_words(&error));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&parent)
            .map_err(io_failed)?;
        let own = File::open(&parent).map_err(io_failed)?;
        // Until the new folder is locked itself, or another run would take it for a dead one's.
        let guard =
            Flock::lock(own, FlockArg::LockExclusive).map_err(|(_, errno)| failed(&|| words(errno)))?;
        for entry in fs::read_dir(&parent).map_err(io_failed)?.flatten() {
            if let Some(lock) = lock(&entry.path()) {
                let dead = Scratch {
                    path: entry.path(),
                    lock: Some(lock),
                };
                drop(dead);
            }
        }
        let path = parent.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(io_failed)?;
        // Else a folder above with the set-group-id bit would give its group to what the job makes (inode(7)), one that its
        // user namespace may not have.
        chown(&path, None, Some(getegid())).map_err(|errno| failed(&|| words(errno)))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(io_failed)?;
        let lock = lock(&path);
        drop(guard);
        Ok(Scratch { path, lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    ///
    /// # Errors
    /// What could not be removed and why; the next run tries again.
    pub(super) fn remove(mut self) -> Result<(), String> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), String> {
        match self.lock.take() {
            Some(_lock) => {
                remove_as_root(&self.path).map_err(|cause| format!("remove {}: {cause}", self.path.display()))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Reached on the way of another error, which is what is reported; the next run tries again.
        drop(self.take_down());
    }
}

/// The lock of a folder that nobody holds.
fn lock(path: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes a tree in a child that is root of a user namespace with all of the caller's ids.
fn remove_as_root(path: &Path) -> Result<(), String> {
    let maps = Maps::own().map_err(|error| error.to_string())?;
    let (here, there) = Channel::pair().map_err(words)?;
    match clone3(CloneFlags::CLONE_NEWUSER, None).map_err(words)? {
        Cloned::Child => {
            drop(here);
            let mapped = prctl::set_pdeathsig(Signal::SIGKILL).is_ok()
                && matches!(there.receive(), Ok(Received::Record(Record::Go, _)));
            let removed = if mapped {
                remove_tree(path)
            } else {
                Err(Errno::EINTR.into())
            };
            let errno = removed
                .err()
                .map_or(0, |error| error.raw_os_error().unwrap_or(nix::libc::EIO));
            process::exit_now(errno);
        }
        Cloned::Parent(child, _) => {
            drop(there);
            let go = maps
                .write(child)
                .and_then(|()| here.send(Record::Go, &[]).map_err(words));
            // Without its maps the child sees an end of the channel.
            drop(here);
            let status = process::wait(child).map_err(words)?.status;
            go?;
            match status {
                0 => Ok(()),
                code if code & 0xff == 0 => Err(words(Errno::from_raw(code >> 8))),
                _ => Err("killed".to_owned()),
            }
        }
    }
}

/// How many levels are entered, each with an open directory, before what is below is lifted to the top. Paths of so
/// many of the longest names are shorter than PATH_MAX.
const LEVELS: u32 = 8;

/// Removes a tree of any depth. The library's way opens every level at once, and the job decides how many there are.
fn remove_tree(top: &Path) -> io::Result<()> {
    let mut number = 0;
    loop {
        clear(top, LEVELS, top, &mut number)?;
        match fs::remove_dir(top) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            removed => return removed,
        }
    }
}

/// Removes what is in `dir`; what is deeper than `levels` is moved to `top`, for the next round.
fn clear(dir: &Path, levels: u32, top: &Path, number: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            fs::remove_file(path)?;
        } else if levels == 0 {
            lift(&path, top, number)?;
        } else {
            clear(&path, levels - 1, top, number)?;
            match fs::remove_dir(path) {
                // A listing may miss what is there while names go (readdir(3)); the next round finds it.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

/// Moves a directory to a free name in `top`; an earlier attempt at the same tree may have left names there.
fn lift(from: &Path, top: &Path, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        match fs::rename(from, top.join(number.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            moved => return moved,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_upper_layer_has_the_callers_group() {
        use std::os::unix::fs::MetadataExt;

        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root has a group to hand down that is not its own");
            return;
        }
        let base = std::env::temp_dir().join(format!("ringfence-scratch-group-{}", std::process::id()));
        fs::create_dir(&base).unwrap();
        chown(&base, None, Some(1.into())).unwrap();
        fs::set_permissions(&base, Permissions::from_mode(0o2700)).unwrap();
        let mut scratch = Scratch::make(&base, "run").unwrap();
        let seen = fs::metadata(scratch.path()).unwrap();
        assert_eq!((seen.gid(), seen.mode() & 0o7777), (getegid().as_raw(), 0o700));
        // Its removal is for a root of a user namespace, and there is nothing to remove.
        scratch.lock = None;
        drop(scratch);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_tree_is_removed_and_what_its_links_name_is_not() {
        let base = std::env::temp_dir().join(format!("ringfence-scratch-{}", std::process::id()));
        let top = base.join("top");
        // Names that the removal itself would choose, and a file beside each directory.
        for path in ["1/1/1/2", "2/a/b", "up/1", &"up/".repeat(40), &"2/".repeat(40)] {
            fs::create_dir_all(top.join(path)).unwrap();
            fs::write(top.join(path).join("file"), "").unwrap();
        }
        fs::create_dir_all(base.join("kept/inner")).unwrap();
        symlink(base.join("kept"), top.join("up/link")).unwrap();
        symlink("nowhere", top.join("link")).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        assert!(base.join("kept/inner").exists());
        fs::remove_dir_all(base).unwrap();
    }
}

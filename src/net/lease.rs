//! A job's number on a network, and the book of what was made for it: one file each, locked for the run's life.
//!
//! The lock ends with its holder however that ends (flock(2)), so a number is free again at once. A file that is not
//! empty and not locked is a dead run's, and says what may be left of it: it is written before anything is made, and
//! emptied when all of it is gone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::subnet::{JOBS, Number};

/// What a lease's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Entry {
    /// The job's name: on a named network others find it by that.
    pub(crate) job: String,
    /// The link on the host's side.
    pub(crate) link: String,
}

/// A number that nobody else has while this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    file: File,
    /// The number.
    pub(crate) number: Number,
}

impl Lease {
    /// Takes a number of the network whose leases are in `folder`, and writes what `entry` makes of it. The search starts at
    /// a different one in each process. What a dead run has left under that number is removed first, by `clear`.
    ///
    /// # Errors
    /// When all are in use, or a file cannot be used.
    pub(super) fn take(
        folder: &Path,
        entry: impl Fn(Number) -> Entry,
        mut clear: impl FnMut(Entry) -> Result<(), String>,
    ) -> Result<Lease, String> {
        let count = JOBS.count();
        let spread = std::process::id() as usize;
        let mut in_order = JOBS.cycle().skip(spread % count).take(count);
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        let lease = loop {
            let Some(number) = in_order.next() else {
                return Err(format!("all {count} addresses are in use by jobs that run"));
            };
            if let Some(lease) = Lease::open(folder, number, true).map_err(failed)? {
                break lease;
            }
        };
        let mut lease = lease;
        if let Some(old) = lease.read().map_err(failed)? {
            clear(old)?;
        }
        lease.write(&entry(lease.number)).map_err(failed)?;
        Ok(lease)
    }

    /// The leases of runs that have died without emptying them.
    pub(super) fn dead(folder: &Path) -> impl Iterator<Item = (Lease, Entry)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(move |file| {
            // Those of runs that have ended well are empty.
            if file.metadata().ok()?.len() == 0 {
                return None;
            }
            let number = file.file_name().to_str()?.parse().ok()?;
            let mut lease = Lease::open(file.path().parent()?, number, false).ok()??;
            let entry = lease.read().ok()??;
            Some((lease, entry))
        })
    }

    /// Empties the file: everything it spoke of is gone.
    ///
    /// # Errors
    /// That of the file.
    pub(super) fn empty(self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// The file of a number, locked; none when somebody else has it.
    fn open(folder: &Path, number: Number, create: bool) -> io::Result<Option<Lease>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(folder.join(number.to_string()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lease { file, number })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What it says; none when it is empty, or was cut short by its writer's end, who had then made nothing.
    fn read(&mut self) -> io::Result<Option<Entry>> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text).ok())
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let text = serde_json::to_string(entry)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The jobs that run on the network whose leases are in `folder`, by number.
pub(crate) fn living(folder: &Path) -> Vec<(Number, Entry)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let living = |file: fs::DirEntry| {
        let number = file.file_name().to_str()?.parse().ok()?;
        let mut file = File::open(file.path()).ok()?;
        // A lock that can be had is nobody's. Who wants this number in the same moment takes another one.
        if file.try_lock_shared().is_ok() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Some((number, serde_json::from_str(&text).ok()?))
    };
    entries.filter_map(living).collect()
}

/// Makes a folder of leases where it is missing.
///
/// # Errors
/// That of the folder.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: Number) -> Entry {
        Entry {
            job: "web".to_owned(),
            link: format!("rf-{number}"),
        }
    }

    #[test]
    fn a_number_is_had_once_and_a_dead_run_is_remembered() {
        let path = std::env::temp_dir().join(format!("ringfence-lease-{}", std::process::id()));
        folder(&path).unwrap();
        let never = |_| panic!("nobody has died");
        let one = Lease::take(&path, entry, never).unwrap();
        let two = Lease::take(&path, entry, never).unwrap();
        assert_ne!(one.number, two.number);
        assert_eq!(living(&path).len(), 2);
        assert_eq!(Lease::dead(&path).count(), 0);

        let number = one.number;
        drop(one);
        assert_eq!(
            Lease::dead(&path)
                .map(|(lease, entry)| (lease.number, entry))
                .collect::<Vec<_>>(),
            [(number, entry(number))]
        );
        let mut cleared = Vec::new();
        let again = Lease::take(&path, entry, |old| {
            cleared.push(old);
            Ok(())
        });
        assert_eq!(
            (again.as_ref().unwrap().number, cleared),
            (number, vec![entry(number)])
        );
        again.unwrap().empty().unwrap();
        two.empty().unwrap();
        assert_eq!((living(&path).len(), Lease::dead(&path).count()), (0, 0));

        let all: Vec<Lease> = JOBS.map(|_| Lease::take(&path, entry, never).unwrap()).collect();
        assert_eq!(
            Lease::take(&path, entry, never).unwrap_err(),
            "all 253 addresses are in use by jobs that run"
        );
        drop(all);
        fs::remove_dir_all(path).unwrap();
    }
}

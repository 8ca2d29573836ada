//! The answers of a trial, kept until the host changes: a trial takes milliseconds, a start must not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use serde::{Deserialize, Serialize};

use super::paths::Seen;
use super::process::Process;
use super::trial::{self, Tried};
use super::{Context, text};
use crate::host::facts::{Caller, FACTS_VERSION};

/// The file's name in the folder of the run state.
const NAME: &str = "facts-cache";

/// A file that is larger is not ours.
const MOST: u64 = 256 * 1024;

/// Settings that decide whether user namespaces can be made. Those that bound other namespaces are left out:
/// at 0 they are met by a run all the same, and each costs a start as much as a file.
const SYSCTLS: [&str; 3] = [
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/unprivileged_userns_clone",
    "user/max_user_namespaces",
];

/// Files whose change may change what newuidmap(1) maps.
const FILES: [&str; 4] = [
    "/etc/subuid",
    "/etc/subgid",
    "/usr/bin/newuidmap",
    "/usr/bin/newgidmap",
];

#[derive(Serialize, Deserialize)]
struct Kept {
    key: Key,
    tried: Tried,
}

/// Answers hold as long as all of this stays the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    program: String,
    /// The boot's own number, and with it the kernel.
    boot: String,
    /// User, group, capabilities.
    caller: (u32, u32, u64),
    no_new_privileges: bool,
    filtered: bool,
    /// The security module's label, which an AppArmor profile for this program changes.
    label: String,
    /// The user and mount namespaces that the caller is in.
    namespaces: [String; 2],
    store: String,
    /// The device of the file system that the store is on.
    store_device: u64,
    first_id: u32,
    /// Times of the last change, in nanoseconds; 0 for none.
    files: [i64; 4],
    sysctls: [String; 3],
}

impl Key {
    fn now(context: &Context<'_>, process: &Process) -> Key {
        let link = |path: &str| {
            fs::read_link(path)
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let changed = |path: &str| {
            fs::metadata(path).map_or(0, |about| about.ctime() * 1_000_000_000 + about.ctime_nsec())
        };
        let place = context.store.ancestors().find_map(|path| fs::metadata(path).ok());
        Key {
            program: format!("{} {FACTS_VERSION}", env!("CARGO_PKG_VERSION")),
            boot: text("/proc/sys/kernel/random/boot_id"),
            caller: (process.uid, process.gid, process.capabilities),
            no_new_privileges: process.no_new_privileges,
            filtered: process.filtered,
            label: text("/proc/self/attr/current"),
            namespaces: ["/proc/self/ns/user", "/proc/self/ns/mnt"].map(link),
            store: context.store.to_string_lossy().into_owned(),
            store_device: place.map_or(0, |about| about.dev()),
            first_id: context.first_id,
            files: FILES.map(changed),
            sysctls: SYSCTLS.map(|name| text(&format!("/proc/sys/{name}"))),
        }
    }
}

/// The answers for this caller: those that were kept, when they still hold and know every file system in `seen`,
/// else new ones, which are then kept.
pub(super) fn tried(seen: &[(String, Seen)], context: &Context<'_>, process: &Process) -> Tried {
    let key = Key::now(context, process);
    let file = context.run.map(|folder| folder.join(NAME));
    let kept = file
        .as_ref()
        .and_then(|file| read(file, process.uid))
        .filter(|kept| kept.key == key)
        .map(|kept| kept.tried);
    let mut known = kept
        .as_ref()
        .map(|tried| tried.idmapped.clone())
        .unwrap_or_default();
    let mut wanted = BTreeMap::new();
    if process.caller() == Caller::Root {
        for (_, seen) in seen {
            if let Some(below) = seen.below.as_deref().filter(|below| !known.contains_key(*below)) {
                wanted.insert(below, seen.real.as_path());
            }
        }
    }
    match kept {
        Some(tried) if wanted.is_empty() => tried,
        _ => {
            let (mut tried, lasting) = trial::run(context, process, &wanted);
            known.append(&mut tried.idmapped);
            tried.idmapped = known;
            match file {
                Some(file) if lasting => {
                    let kept = Kept { key, tried };
                    // Only time is lost where it cannot be written: the next start tries again.
                    write(&file, &kept).ok();
                    kept.tried
                }
                _ => tried,
            }
        }
    }
}

/// What was kept; none when the file is missing, broken, or not the caller's own and closed to others.
fn read(path: &Path, uid: u32) -> Option<Kept> {
    let file = File::options()
        .read(true)
        // Neither a link of somebody else's nor a FIFO that never answers.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    let about = file.metadata().ok()?;
    if !about.is_file() || about.uid() != uid || about.mode() & 0o077 != 0 || about.len() > MOST {
        return None;
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// By rename, so that another start reads the old file or the new one. What a start that was killed left of the new
/// one is written over; while one writes, others leave it alone.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let new = path.with_file_name(format!("{NAME}.new"));
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&new)?;
    if file.try_lock().is_err() {
        return Ok(());
    }
    file.set_len(0)?;
    let written = serde_json::to_vec(kept)
        .map_err(io::Error::from)
        .and_then(|bytes| file.write_all(&bytes))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one to tell; the leftover is a small file in the caller's own folder.
        fs::remove_file(&new).ok();
    }
    written
}

//! What a run may leave behind: nothing but the files of its locks.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Groups;

/// What was there before a run.
pub(crate) struct Before {
    folder: PathBuf,
    mounts: BTreeSet<String>,
    store: Vec<String>,
}

impl Before {
    /// Looks at the machine.
    pub(super) fn look(folder: &Path) -> Before {
        Before {
            folder: folder.to_owned(),
            mounts: mounts(folder),
            store: lasting(&folder.join("store")),
        }
    }

    /// Compares with now. A run that `pulls` may have put an image into the store.
    #[track_caller]
    pub(crate) fn compare(&self, groups: Option<&Groups>, pulls: bool, run: &str) {
        if let Some(groups) = groups {
            assert_eq!(groups.processes(), [0; 0], "processes left behind: {run}");
            assert_eq!(
                groups.runs(),
                Vec::<PathBuf>::new(),
                "control groups left behind: {run}"
            );
        }
        assert_eq!(mounts(&self.folder), self.mounts, "mounts left behind: {run}");
        let loops = loop_devices(&self.folder);
        assert!(loops.is_empty(), "loop devices left behind: {loops:?}: {run}");
        // A lock's file may stay: an unlocked one means nothing. So may what is only remembered.
        let state = files(&self.folder.join("run"));
        let strange: Vec<_> = state
            .iter()
            .filter(|name| !name.starts_with("ids/") && *name != "facts-cache")
            // Those of a network go with a process that outlives the run; tests/network looks for what is left of that.
            .filter(|name| !name.starts_with("network/"))
            .collect();
        assert!(strange.is_empty(), "run state left behind: {strange:?}: {run}");
        let store = self.folder.join("store");
        if pulls {
            assert_eq!(
                entries(&store.join("staging")),
                [""; 0],
                "left behind in the store: {run}"
            );
        } else {
            assert_eq!(lasting(&store), self.store, "the store is another: {run}");
        }
    }
}

/// Everything of a store but the folder in which throw-away layers stand, when it is empty.
fn lasting(store: &Path) -> Vec<String> {
    let mut entries = entries(store);
    let scratch = |name: &String| name.starts_with("/scratch ") || name.starts_with("/scratch/");
    if entries.iter().filter(|name| scratch(name)).count() == 1 {
        entries.retain(|name| !scratch(name));
    }
    entries
}

/// Everything below a folder: name, kind and mode, owner, digest of the content.
fn entries(folder: &Path) -> Vec<String> {
    fn collect(path: &Path, name: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().expect("no one else is here"));
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            let content = match meta.is_file() {
                // Unreadable for one who is not root: then its size must do.
                true => fs::read(&path).map_or_else(|_| meta.len().to_string(), |bytes| digest(&bytes)),
                false => String::new(),
            };
            found.push(format!(
                "{name} {:o} {}:{} {content}",
                meta.mode(),
                meta.uid(),
                meta.gid()
            ));
            if meta.is_dir() {
                collect(&path, &name, found);
            }
        }
    }
    let mut found = Vec::new();
    collect(folder, "", &mut found);
    found.sort();
    found
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Mounts that name the folder, and those on `/tmp`, where a root file system is built.
fn mounts(folder: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("proc");
    let folder = folder.display().to_string();
    text.lines()
        .filter(|line| line.contains(&folder) || line.split(' ').nth(4) == Some("/tmp"))
        .map(str::to_owned)
        .collect()
}

/// Loop devices whose file stood in the folder.
fn loop_devices(folder: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files
        .filter(|file| Path::new(file.trim()).starts_with(folder))
        .collect()
}

/// All files below a folder, by their names there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let inner = files(&entry.path());
            found.extend(inner.into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found
}

//! Removes what dead runs left behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::group::{LAUNCHER, PREFIX};
use super::kill::{Backoff, kill_all};
use super::{Error, Site, Version, file};

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Names of the groups that were removed, those of several hierarchies once.
    pub(crate) removed: BTreeSet<String>,
    /// What could not be removed, and why.
    pub(crate) left: Vec<Error>,
}

/// A group this young may not be locked yet by the launcher that is making it.
const YOUNG: Duration = Duration::from_secs(5);

/// Removes the groups of dead runs, and kills what still runs in them.
///
/// A live launcher holds a lock on the directories of its run, which ends with it however it ends. No list of runs on
/// disk is asked: it may be another user's or another folder's.
pub(crate) fn sweep(site: &Site) -> Swept {
    sweep_older(site, YOUNG)
}

fn sweep_older(site: &Site, age: Duration) -> Swept {
    let mut swept = Swept::default();
    let v1 = site.v1.values().map(|dir| (Version::V1, dir));
    let v2 = site.v2.iter().map(|unified| (Version::V2, &unified.parent));
    for (version, parent) in v1.chain(v2).collect::<BTreeSet<_>>() {
        for dir in dead(parent, age) {
            match clear(version, &dir) {
                Ok(()) => swept
                    .removed
                    .extend(dir.file_name().and_then(|name| Some(name.to_str()?.to_owned()))),
                Err(error) => swept.left.push(error),
            }
        }
    }
    swept
}

fn clear(version: Version, dir: &Path) -> Result<(), Error> {
    // A launcher that could not step back stands in its own leaf: that one is removed when it is empty, never killed.
    if !dir.to_string_lossy().ends_with(LAUNCHER) {
        kill_all(version, dir)?;
    }
    let mut backoff = Backoff::new();
    loop {
        match file::remove(dir) {
            Err(Error::File {
                errno: nix::errno::Errno::EBUSY,
                ..
            }) if backoff.wait() => {}
            done => return done,
        }
    }
}

/// The groups directly below `parent` that nobody holds locked.
fn dead(parent: &Path, age: Duration) -> Vec<PathBuf> {
    // Two links are the directory's own, the others its groups', one each (kernfs_refresh_inode, fs/kernfs/inode.c).
    if fs::metadata(parent).is_ok_and(|about| about.nlink() == 2) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
        })
        .map(|entry| entry.path())
        .filter(|dir| is_dead(dir, age))
        .collect()
}

fn is_dead(dir: &Path, least: Duration) -> bool {
    let Ok(file) = File::open(dir) else { return false };
    let age = file
        .metadata()
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age >= least) && file.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::super::{Controller, Group, Limits};
    use super::*;

    /// A directory of its own to sweep, so that no other test's groups are seen.
    fn private(name: &str) -> Option<(Site, PathBuf)> {
        let mut site = Site::find();
        let parent = site
            .v1
            .remove(&Controller::Pids)
            .or_else(|| Some(site.v2.as_ref()?.parent.clone()));
        let Some(parent) = parent.map(|dir| dir.join(format!("{name}-{}", std::process::id()))) else {
            assert!(
                std::env::var("RINGFENCE_TESTS").as_deref() != Ok("require"),
                "no group can be made here"
            );
            eprintln!("skipped: no group can be made here");
            return None;
        };
        fs::create_dir(&parent).unwrap();
        let v1 = parent.join("tasks").exists();
        site.v1 = BTreeMap::new();
        match (v1, &mut site.v2) {
            (true, v2) => {
                *v2 = None;
                site.v1.insert(Controller::Pids, parent.clone());
            }
            (false, Some(unified)) => unified.parent = parent.clone(),
            (false, None) => unreachable!("the directory came from there"),
        }
        Some((site, parent))
    }

    #[test]
    fn groups_of_dead_runs_are_removed_and_those_of_live_ones_stay() {
        let Some((site, parent)) = private("sweep") else {
            return;
        };
        let count = if site.v1.is_empty() {
            Controller::CpuAcct
        } else {
            Controller::Pids
        };
        let limits = Limits {
            count: [count].into(),
            ..Limits::default()
        };
        let live = Group::create(&site, "ringfence-live", &limits).unwrap();
        for name in ["ringfence-dead", "ringfence-populated", "another"] {
            fs::create_dir(parent.join(name)).unwrap();
        }
        let script = "echo 0 > \"$1\" && exec sleep 60";
        let procs = parent.join("ringfence-populated/cgroup.procs");
        let mut sleeper = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&procs)
            .spawn()
            .unwrap();
        while fs::read_to_string(&procs).unwrap().is_empty() {
            assert!(sleeper.try_wait().unwrap().is_none(), "could not join");
            std::thread::sleep(Duration::from_millis(1));
        }

        let young = sweep(&site);
        assert_eq!(
            (young.removed.len(), young.left.len()),
            (0, 0),
            "what was just made may not be locked yet"
        );
        let swept = sweep_older(&site, Duration::ZERO);

        assert!(swept.left.is_empty(), "{:?}", swept.left);
        assert_eq!(
            swept.removed,
            ["ringfence-dead", "ringfence-populated"]
                .map(str::to_owned)
                .into()
        );
        assert!(parent.join("ringfence-live").exists());
        assert!(!sleeper.wait().unwrap().success());
        live.remove().unwrap();
        fs::remove_dir(parent.join("another")).unwrap();
        fs::remove_dir(parent).unwrap();
    }
}

//! The groups of one run: one directory in every hierarchy that its limits need.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::counters::CpuUsage;
use super::delegation::Unified;
use super::kill::{Backoff, kill_all};
use super::limits::Holder;
use super::{Act, Controller, Counters, Enforced, Error, Limits, Site, Version, file};

/// What the name of every group begins with.
pub(crate) const PREFIX: &str = "ringfence-";

/// What is added to the name of the leaf that a launcher stepped aside into.
pub(super) const LAUNCHER: &str = ".launcher";

/// The groups of one run. Removed when dropped; [`Group::remove`] says how that went.
///
/// While it lives, every directory is locked (flock(2)), so that [`super::sweep`] knows it from one that a dead
/// launcher left behind.
#[derive(Debug)]
pub(crate) struct Group {
    parts: Vec<Part>,
    aside: Option<Aside>,
    usage: Option<CpuUsage>,
    enforced: Vec<Enforced>,
}

/// One directory.
#[derive(Debug)]
struct Part {
    version: Version,
    controllers: BTreeSet<Controller>,
    dir: PathBuf,
    locked: File,
    tasks: Option<File>,
}

/// The leaf that the caller moved into, out of a group that must not hold processes.
#[derive(Debug)]
struct Aside {
    own: PathBuf,
    leaf: PathBuf,
    enabled: BTreeSet<Controller>,
    _locked: File,
}

impl Group {
    /// Makes the groups, writes the limits and reads every value back.
    ///
    /// `name` is [`PREFIX`] and the run's id. What was made is removed again when a step fails.
    ///
    /// # Errors
    /// A controller that is missing, a file that the kernel refuses, a value that it does not hold.
    pub(crate) fn create(site: &Site, name: &str, limits: &Limits) -> Result<Group, Error> {
        let id = name.strip_prefix(PREFIX).unwrap_or_default();
        if id.is_empty()
            || !id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Err(Error::Name(name.to_owned()));
        }
        let controllers = limits.controllers();
        site.require(&controllers)?;
        let mut group = Group {
            parts: Vec::new(),
            aside: None,
            usage: None,
            enforced: Vec::new(),
        };
        match group.build(site, name, limits, &controllers) {
            Ok(()) => Ok(group),
            Err(first) => Err(match group.take_down() {
                Ok(()) => first,
                Err(then) => first.then(then),
            }),
        }
    }

    fn build(
        &mut self,
        site: &Site,
        name: &str,
        limits: &Limits,
        all: &BTreeSet<Controller>,
    ) -> Result<(), Error> {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = all
            .iter()
            .partition(|controller| site.v1.contains_key(controller));
        let mut dirs: Vec<(PathBuf, BTreeSet<Controller>)> = Vec::new();
        for controller in old {
            let dir = site.v1[&controller].join(name);
            match dirs.iter_mut().find(|(other, _)| *other == dir) {
                // `cpu,cpuacct`: one hierarchy for several.
                Some((_, controllers)) => drop(controllers.insert(controller)),
                None => dirs.push((dir, [controller].into())),
            }
        }
        for (dir, controllers) in dirs {
            self.part(Version::V1, dir, controllers, limits)?;
        }
        if let (Some(unified), false) = (&site.v2, new.is_empty()) {
            self.enable(unified, name, &new)?;
            self.part(Version::V2, unified.parent.join(name), new, limits)?;
        }
        if let Some(part) = self
            .parts
            .iter()
            .find(|part| part.controllers.contains(&Controller::CpuAcct))
        {
            let usage = CpuUsage::open(part.version, &part.dir);
            self.usage = Some(usage.map_err(|e| file::error(Act::Open, &part.dir, &e))?);
        }
        Ok(())
    }

    /// Hands the controllers down to the groups of the unified hierarchy's directory.
    fn enable(&mut self, unified: &Unified, name: &str, wanted: &BTreeSet<Controller>) -> Result<(), Error> {
        let missing: BTreeSet<Controller> = wanted.intersection(&unified.disabled).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        if unified.aside {
            let leaf = unified.parent.join(format!("{name}{LAUNCHER}"));
            fs::create_dir(&leaf).map_err(|e| file::error(Act::Make, &leaf, &e))?;
            let locked = lock(&leaf).map_err(|error| undone(error, &leaf))?;
            self.aside = Some(Aside {
                own: unified.parent.clone(),
                leaf: leaf.clone(),
                enabled: BTreeSet::new(),
                _locked: locked,
            });
            file::write(&leaf.join("cgroup.procs"), "0")?;
        }
        file::write(
            &unified.parent.join("cgroup.subtree_control"),
            &signed('+', &missing),
        )?;
        if let Some(aside) = &mut self.aside {
            aside.enabled = missing;
        }
        Ok(())
    }

    fn part(
        &mut self,
        version: Version,
        dir: PathBuf,
        controllers: BTreeSet<Controller>,
        limits: &Limits,
    ) -> Result<(), Error> {
        fs::create_dir(&dir).map_err(|e| file::error(Act::Make, &dir, &e))?;
        let locked = lock(&dir).map_err(|error| undone(error, &dir))?;
        self.parts.push(Part {
            version,
            controllers: controllers.clone(),
            dir: dir.clone(),
            locked,
            tasks: None,
        });
        for &controller in &controllers {
            Holder {
                controller,
                version,
                dir: &dir,
                enforced: &mut self.enforced,
            }
            .hold(limits)?;
        }
        match version {
            // A lone thread that writes 0 here joins at once; through cgroup.procs it would wait for a grace period.
            Version::V1 => {
                let tasks = dir.join("tasks");
                let file = OpenOptions::new()
                    .write(true)
                    .open(&tasks)
                    .map_err(|e| file::error(Act::Open, &tasks, &e))?;
                if let Some(part) = self.parts.last_mut() {
                    part.tasks = Some(file);
                }
                Ok(())
            }
            Version::V2 => {
                let controller = controllers.first().copied().unwrap_or(Controller::CpuAcct);
                Holder {
                    controller,
                    version,
                    dir: &dir,
                    enforced: &mut self.enforced,
                }
                .leaf()
            }
        }
    }

    /// The `tasks` files of the v1 groups, open for writing and close-on-exec. A process with one thread joins all
    /// groups by writing `0` to each, before it changes its ids.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.parts
            .iter()
            .filter_map(|part| Some(part.tasks.as_ref()?.as_fd()))
    }

    /// The directory of the v2 group, for `CLONE_INTO_CGROUP` of clone3(2); none where no v2 group is needed.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.parts
            .iter()
            .find(|part| part.version == Version::V2)
            .map(|part| part.locked.as_fd())
    }

    /// Every value that was written, as the kernel gave it back.
    pub(crate) fn enforced(&self) -> &[Enforced] {
        &self.enforced
    }

    /// What the kernel counted so far. To be read before [`Group::remove`].
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for part in &self.parts {
            for &controller in &part.controllers {
                counters.add(controller, part.version, &part.dir);
            }
        }
        counters
    }

    /// Processor time used so far, in microseconds; one system call. None when [`Controller::CpuAcct`] is not counted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn cpu_usage_us(&self) -> Result<Option<u64>, Error> {
        let read = self.usage.as_ref().map(CpuUsage::read).transpose();
        read.map_err(|e| file::error(Act::Read, Path::new("processor time"), &e))
    }

    /// Kills everything in the group: at once on v2; on v1 one by one, for at most a second.
    ///
    /// # Errors
    /// When a process may not be killed or outlives the time.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        // All parts hold the same processes, and v2, where it is used, kills best.
        let part = self.parts.iter().max_by_key(|part| part.version);
        part.map_or(Ok(()), |part| kill_all(part.version, &part.dir))
    }

    /// Removes the groups. A group is busy until the last of its processes is gone: tried again for at most a second.
    ///
    /// # Errors
    /// What could not be removed; [`super::sweep`] finds it later.
    pub(crate) fn remove(mut self) -> Result<(), Error> {
        self.take_down()
    }

    /// Undoes everything, goes on after an error, and leaves nothing to do for another call.
    fn take_down(&mut self) -> Result<(), Error> {
        let mut backoff = Backoff::new();
        let mut result = Ok(());
        for part in std::mem::take(&mut self.parts).into_iter().rev() {
            result = both(result, remove(&part.dir, &mut backoff));
        }
        if let Some(aside) = self.aside.take() {
            result = both(result, aside.back(&mut backoff));
        }
        result
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reached only when `remove` was not: the run failed on its way, with an error of its own. A group that stays
        // is not locked any more, and the next sweep takes it.
        if !self.parts.is_empty() {
            drop(self.kill());
        }
        drop(self.take_down());
    }
}

impl Aside {
    /// Takes the controllers back and returns to the group where the caller came from.
    fn back(self, backoff: &mut Backoff) -> Result<(), Error> {
        if !self.enabled.is_empty() {
            file::write(
                &self.own.join("cgroup.subtree_control"),
                &signed('-', &self.enabled),
            )?;
        }
        file::write(&self.own.join("cgroup.procs"), "0")?;
        remove(&self.leaf, backoff)
    }
}

/// `+memory +pids`, in one write: all or none.
fn signed(sign: char, controllers: &BTreeSet<Controller>) -> String {
    controllers
        .iter()
        .map(|controller| format!("{sign}{controller}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn remove(dir: &Path, backoff: &mut Backoff) -> Result<(), Error> {
    loop {
        match file::remove(dir) {
            Err(Error::File {
                errno: Errno::EBUSY, ..
            }) if backoff.wait() => {}
            done => return done,
        }
    }
}

/// Opens and locks a directory that was just made.
fn lock(dir: &Path) -> Result<File, Error> {
    let file = File::open(dir).map_err(|e| file::error(Act::Open, dir, &e))?;
    file.try_lock()
        .map_err(|e| file::error(Act::Lock, dir, &e.into()))?;
    Ok(file)
}

/// Removes a directory that no part stands for yet.
fn undone(first: Error, dir: &Path) -> Error {
    match file::remove(dir) {
        Ok(()) => first,
        Err(then) => first.then(then),
    }
}

fn both(first: Result<(), Error>, then: Result<(), Error>) -> Result<(), Error> {
    match (first, then) {
        (Err(first), Err(then)) => Err(first.then(then)),
        (first, then) => first.and(then),
    }
}

#[cfg(test)]
mod tests;

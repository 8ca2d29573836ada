//! Control groups for one run: what a session manager would hand over to the caller.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::{Gid, Uid, chown};

use super::Caller;

/// What the names of the tests' groups begin with.
const PREFIX: &str = "rf-test-";

/// The groups that a launcher is started in, one in each hierarchy. Removed when dropped, with what stands in them.
pub(crate) struct Groups {
    parts: Vec<Part>,
}

struct Part {
    /// The group that is handed over.
    top: PathBuf,
    /// The one that the launcher stands in: on v2 a leaf below the former.
    shell: PathBuf,
    v2: bool,
}

impl Groups {
    /// Makes them below the groups of this process (v2: beside its own one), and gives them to `caller`.
    pub(crate) fn make(caller: Caller) -> Result<Groups, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut groups = Groups { parts: Vec::new() };
        for (own, mount, v2) in own_groups() {
            groups
                .part(&own, &mount, v2, &name, caller)
                .map_err(|error| format!("no control group below {} to hand over: {error}", own.display()))?;
        }
        Ok(groups)
    }

    fn part(
        &mut self,
        own: &Path,
        mount: &Path,
        v2: bool,
        name: &str,
        caller: Caller,
    ) -> std::io::Result<()> {
        // Below a v2 group with processes none can have controllers.
        let below = if v2 && own != mount {
            own.parent().unwrap_or(own)
        } else {
            own
        };
        let top = below.join(name);
        fs::create_dir(&top)?;
        let shell = if v2 { top.join("shell") } else { top.clone() };
        self.parts.push(Part {
            top: top.clone(),
            shell: shell.clone(),
            v2,
        });
        if v2 {
            let controllers = fs::read_to_string(top.join("cgroup.controllers"))?;
            let all: Vec<_> = controllers
                .split_whitespace()
                .map(|name| format!("+{name}"))
                .collect();
            fs::write(top.join("cgroup.subtree_control"), all.join(" "))?;
            fs::create_dir(&shell)?;
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !v2 && top.join(file).exists() {
                fs::write(top.join(file), fs::read_to_string(below.join(file))?)?;
            }
        }
        if caller.uid() != nix::unistd::geteuid().as_raw() {
            let (user, group) = (Uid::from_raw(caller.uid()), Gid::from_raw(caller.gid()));
            let files = [
                "",
                "cgroup.procs",
                "cgroup.subtree_control",
                "cgroup.threads",
                "tasks",
            ];
            for dir in [&top, &shell] {
                for path in files
                    .map(|file| dir.join(file))
                    .into_iter()
                    .filter(|path| path.exists())
                {
                    chown(&path, Some(user), Some(group))?;
                }
            }
        }
        Ok(())
    }

    /// The files to write `0` to, to stand in the groups.
    pub(super) fn doors(&self) -> Vec<PathBuf> {
        // `tasks` takes a lone thread without the grace period that `cgroup.procs` of v1 waits for.
        let door = |part: &Part| part.shell.join(if part.v2 { "cgroup.procs" } else { "tasks" });
        self.parts.iter().map(door).collect()
    }

    /// The groups of runs that stand in them.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let ours = |path: &PathBuf| {
            self.parts
                .iter()
                .any(|part| *path == part.top || *path == part.shell)
        };
        self.directories()
            .into_iter()
            .filter(|path| !ours(path))
            .collect()
    }

    /// Every process that stands in them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        members(self.directories())
    }

    /// Every process that stands in a group of a run: PID 1 and what is below it.
    pub(crate) fn processes_of_runs(&self) -> Vec<i32> {
        members(self.runs())
    }

    /// All directories, inner ones first.
    fn directories(&self) -> Vec<PathBuf> {
        fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    collect(&entry.path(), found);
                }
            }
            found.push(dir.to_owned());
        }
        let mut found = Vec::new();
        self.parts.iter().for_each(|part| collect(&part.top, &mut found));
        found
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // What is left was started by this test, which has failed and said so.
        for _ in 0..200 {
            for process in self.processes().into_iter().filter(|process| *process > 0) {
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(process),
                    nix::sys::signal::Signal::SIGKILL,
                )
                .ok();
            }
            if self.directories().iter().all(|dir| fs::remove_dir(dir).is_ok()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn members(groups: Vec<PathBuf>) -> Vec<i32> {
    let mut found: Vec<i32> = Vec::new();
    for dir in groups {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// This process's own group in each mounted hierarchy with controllers, with the hierarchy's mount point.
fn own_groups() -> Vec<(PathBuf, PathBuf, bool)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        if controllers.starts_with("name=") {
            continue;
        }
        let v2 = controllers.is_empty();
        let mount = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (root, point) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let kind = right.next()?;
            let options = right.nth(1)?;
            let is_it = match v2 {
                true => kind == "cgroup2",
                false => {
                    kind == "cgroup"
                        && controllers
                            .split(',')
                            .all(|name| options.split(',').any(|one| one == name))
                }
            };
            is_it.then(|| (root.to_owned(), PathBuf::from(point)))
        });
        if let Some((root, point)) = mount {
            let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
            found.push((point.join(below.trim_start_matches('/')), point, v2));
        }
    }
    found
}

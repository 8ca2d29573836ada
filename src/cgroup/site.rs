//! Where the caller may make groups: the directory of every controller, or the reason why there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{self, CGROUP_SUPER_MAGIC};
use serde::Serialize;

use super::delegation::{self, Unified, unwritable};
use super::survey::{Own, Survey, survey};
use super::{Controller, Error, Version, cause, file};

/// Whether the caller can use a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Availability {
    /// It can.
    Usable {
        /// The interface that it is reached through.
        version: Version,
    },
    /// It cannot.
    Missing {
        /// The reason and, after a semicolon, the mend.
        reason: String,
    },
}

/// The directories below which the caller may make groups. Found once; nothing is changed by finding it.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(super) v1: BTreeMap<Controller, PathBuf>,
    pub(super) v2: Option<Unified>,
    missing: BTreeMap<Controller, String>,
    /// Whether swap can be counted, and so be bounded, apart from memory.
    pub(crate) swap_accounting: bool,
}

impl Site {
    /// Looks at the caller's own group in every hierarchy.
    pub(crate) fn find() -> Site {
        Site::find_for(&Controller::ALL.into())
    }

    /// Looks only where these controllers are; the others are as though the kernel had none.
    pub(crate) fn find_for(wanted: &BTreeSet<Controller>) -> Site {
        let systemd = Path::new("/run/systemd/system").is_dir();
        let texts = file::bytes(Path::new("/proc/self/cgroup"))
            .and_then(|cgroup| Ok((cgroup, file::bytes(Path::new("/proc/self/mountinfo"))?)));
        match texts {
            Ok((cgroup, mountinfo)) => Site::from_survey(&survey(&cgroup, &mountinfo), wanted, systemd),
            Err(error) => {
                let missing = wanted
                    .iter()
                    .map(|controller| (*controller, error.to_string()))
                    .collect();
                Site {
                    v1: BTreeMap::new(),
                    v2: None,
                    missing,
                    swap_accounting: false,
                }
            }
        }
    }

    fn from_survey(survey: &Survey, wanted: &BTreeSet<Controller>, systemd: bool) -> Site {
        let uid = nix::unistd::geteuid().as_raw();
        let unified = match &survey.v2 {
            // Nothing is asked of it where every controller has a hierarchy of its own.
            Some(_)
                if wanted
                    .iter()
                    .all(|it| *it != Controller::CpuAcct && survey.v1.contains_key(it)) =>
            {
                Err("nothing is asked of it".to_owned())
            }
            Some(Own::At { dir, top }) => delegation::find(dir, top, systemd, uid),
            Some(own) => Err(absent(own)),
            None => Err("the kernel has no unified hierarchy".to_owned()),
        };
        let mut site = Site {
            v1: BTreeMap::new(),
            v2: None,
            missing: BTreeMap::new(),
            swap_accounting: false,
        };
        for &controller in wanted {
            let found = match (survey.v1.get(&controller), &unified) {
                // v2 counts processor time in every group, finer than v1 and without another hierarchy to join.
                (_, Ok(_)) if controller == Controller::CpuAcct => continue,
                (Some(own), _) => old(controller, own, uid).map(|dir| Some((controller, dir))),
                (None, unified) => new(controller, survey, unified).map(|()| None),
            };
            match found {
                Ok(place) => site.v1.extend(place),
                Err(reason) => drop(site.missing.insert(controller, reason)),
            }
        }
        site.v2 = unified.ok();
        site.swap_accounting = site.counts_swap();
        site
    }

    /// What the caller can use, by controller.
    pub(crate) fn availability(&self) -> BTreeMap<Controller, Availability> {
        Controller::ALL
            .map(|controller| (controller, self.available(controller)))
            .into()
    }

    fn available(&self, controller: Controller) -> Availability {
        match self.missing.get(&controller) {
            Some(reason) => Availability::Missing {
                reason: reason.clone(),
            },
            None if self.v1.contains_key(&controller) => Availability::Usable { version: Version::V1 },
            None => Availability::Usable { version: Version::V2 },
        }
    }

    /// Refuses what [`Site::availability`] calls missing.
    pub(super) fn require(&self, controllers: &BTreeSet<Controller>) -> Result<(), Error> {
        match self
            .missing
            .iter()
            .find(|(controller, _)| controllers.contains(controller))
        {
            Some((&controller, reason)) => Err(Error::Missing {
                controller,
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    fn counts_swap(&self) -> bool {
        match (self.v1.get(&Controller::Memory), &self.v2) {
            (Some(dir), _) => dir.join("memory.memsw.limit_in_bytes").exists(),
            // The root has no such file, and a group that has one is not made yet: v2 always counts swap where the
            // kernel has swap at all.
            (None, Some(unified)) => {
                unified.controllers.contains(&Controller::Memory) && Path::new("/proc/swaps").exists()
            }
            (None, None) => false,
        }
    }
}

/// Whether a controller without a hierarchy of its own can be had from the unified one.
fn new(controller: Controller, survey: &Survey, unified: &Result<Unified, String>) -> Result<(), String> {
    if controller == Controller::Devices {
        return Err("cgroup v2 has no devices controller; in a user namespace device nodes cannot be made, and mounts ignore them".to_owned());
    }
    let unified = match unified {
        Ok(unified) => unified,
        Err(_) if survey.v2.is_none() => return Err(format!("the kernel has no {controller} controller")),
        Err(reason) => return Err(reason.clone()),
    };
    match (&unified.refused, unified.controllers.contains(&controller)) {
        (_, true) => Ok(()),
        (Some(reason), _) => Err(reason.clone()),
        (None, _) if controller == Controller::CpuAcct => Ok(()),
        (None, _) => {
            let dir = unified.parent.display();
            Err(format!(
                "{dir}/cgroup.controllers does not list {controller}; enable it in the group above, or boot a kernel that has it"
            ))
        }
    }
}

/// The directory of a v1 hierarchy below which groups go: the caller's own group; for an ordinary user who may not
/// write there, a directory directly below it that was handed over to that user.
fn old(controller: Controller, own: &Own, uid: u32) -> Result<PathBuf, String> {
    let name = controller.name(Version::V1);
    let Own::At { dir, .. } = own else {
        return Err(format!("{name}: {}", absent(own)));
    };
    let kind = statfs::statfs(dir).map_err(|errno| format!("{}: {}", dir.display(), cause(errno)))?;
    if kind.filesystem_type() != CGROUP_SUPER_MAGIC {
        return Err(format!("{} is not a cgroup file system", dir.display()));
    }
    let dir = match unwritable(dir) {
        None => dir.clone(),
        Some(reason) => handed_over(dir, uid).ok_or_else(|| format!("{reason}; {}", mend(dir, uid)))?,
    };
    match controller {
        // Rules take effect for root of the initial user namespace alone (devcgroup_update_access, security/device_cgroup.c).
        Controller::Devices if uid != 0 => {
            Err("only root may write device rules; in a user namespace device nodes cannot be made, and mounts ignore them".to_owned())
        }
        // Nobody can join a group without processors and memory nodes, and a new one takes them from its parent.
        Controller::Cpuset => match ["cpuset.cpus", "cpuset.mems"].map(|name| dir.join(name)).into_iter().find(|file| is_empty(file)) {
            Some(file) => Err(format!("{0} is empty; as root, write into it what {1} may use", file.display(), dir.display())),
            None => Ok(dir),
        },
        _ => Ok(dir),
    }
}

fn is_empty(path: &Path) -> bool {
    file::read(path).is_ok_and(|text| text.trim().is_empty())
}

fn handed_over(dir: &Path, uid: u32) -> Option<PathBuf> {
    if uid == 0 {
        return None;
    }
    let mut owned: Vec<PathBuf> = fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid))
        .filter(|path| unwritable(path).is_none())
        .collect();
    owned.sort();
    owned.into_iter().next()
}

fn mend(dir: &Path, uid: u32) -> String {
    let dir = dir.display();
    match uid {
        0 => format!("mount it writable: `mount -o remount,rw {dir}`"),
        uid => format!("as root: `mkdir {dir}/user-{uid} && chown -R {uid} {dir}/user-{uid}`"),
    }
}

fn absent(own: &Own) -> String {
    match own {
        Own::At { dir, .. } => format!("{} is there", dir.display()),
        Own::NotMounted => "its hierarchy is not mounted".to_owned(),
        Own::Outside => {
            "the caller's own group lies outside the part of the hierarchy that is mounted here".to_owned()
        }
        Own::Removed => "the caller's own group was removed while it stood in it".to_owned(),
    }
}

//! Where groups may be made in the unified hierarchy.
//!
//! A v2 group that holds processes cannot hand controllers to groups below it ("no internal processes", see
//! cgroups(7) and the kernel's admin-guide/cgroup-v2.rst); the root alone is exempt. So a new group stands
//! - below the caller's own group, where that is the root;
//! - else beside it, where the parent is the caller's to write and the own group carries no limit that would be escaped;
//! - else below it, where nobody but the caller stands in it: the caller then steps aside into a leaf.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::statfs::{self, CGROUP2_SUPER_MAGIC};
use nix::unistd::AccessFlags;

use super::{Controller, Version, cause, file};
use crate::sys;

/// A directory of the unified hierarchy below which groups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unified {
    /// The directory.
    pub(super) parent: PathBuf,
    /// Whether the caller stands in it and must step aside before controllers can be enabled.
    pub(super) aside: bool,
    /// Controllers that groups below it can have.
    pub(super) controllers: BTreeSet<Controller>,
    /// Those of them that must be enabled first.
    pub(super) disabled: BTreeSet<Controller>,
    /// Why groups get no controllers here although they can be made; the reason and the mend.
    pub(super) refused: Option<String>,
}

/// What can be seen of a group, as far as the choice depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    dir: PathBuf,
    /// The hierarchy's root, not a namespace's or a mount's.
    root: bool,
    /// `cgroup.type`: a threaded group has no room for whole processes.
    domain: bool,
    controllers: BTreeSet<Controller>,
    enabled: BTreeSet<Controller>,
    stand: Stand,
    /// Why groups cannot be made and controllers be enabled in it.
    closed: Option<String>,
    /// A limit that it carries: the file's name and value.
    limit: Option<(String, String)>,
    /// Its systemd unit, where systemd itself writes there (the unit is not delegated).
    unit: Option<String>,
}

/// Who stands in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Nobody,
    CallerAlone,
    Others,
}

/// Chooses by what stands in the file system.
pub(super) fn find(own: &Path, top: &Path, systemd: bool, uid: u32) -> Result<Unified, String> {
    let kind = statfs::statfs(own).map_err(|errno| format!("{}: {}", own.display(), cause(errno)))?;
    if kind.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(format!("{} is not a cgroup2 file system", own.display()));
    }
    let parent = own.parent().filter(|_| own != top);
    choose(
        &look(own, systemd, uid),
        parent.map(|parent| look(parent, systemd, uid)).as_ref(),
        &mend(own, systemd, uid),
    )
}

/// Chooses the directory. Without one for controllers, groups below the own one still count processor time and
/// can be killed at once, if only it can be written.
fn choose(own: &Seen, parent: Option<&Seen>, mend: &str) -> Result<Unified, String> {
    if own.root {
        return match &own.closed {
            None => Ok(unified(own, false, own.controllers.clone())),
            Some(closed) => Err(format!("{closed}; {mend}")),
        };
    }
    let beside = beside(own, parent);
    let refused = match (&beside, below(own)) {
        (Ok(unified), _) => return Ok(unified.clone()),
        (_, Ok(unified)) => return Ok(unified),
        (Err(beside), Err(below)) if beside == &below => format!("{below}; {mend}"),
        (Err(beside), Err(below)) => format!("{below}, and {beside}; {mend}"),
    };
    match own.closed.is_none() && own.domain && own.unit.is_none() {
        true => Ok(Unified {
            refused: Some(refused),
            ..unified(own, false, BTreeSet::new())
        }),
        false => Err(refused),
    }
}

fn beside(own: &Seen, parent: Option<&Seen>) -> Result<Unified, String> {
    let Some(parent) = parent else {
        return Err("no group above it is visible".to_owned());
    };
    let dir = parent.dir.display();
    if let Some(unit) = &parent.unit {
        return Err(format!("{dir} is systemd's own ({unit})"));
    }
    if let Some(closed) = &parent.closed {
        return Err(closed.clone());
    }
    if !parent.domain {
        return Err(format!("{dir} is a threaded group"));
    }
    if let Some((name, value)) = &own.limit {
        let own = own.dir.display();
        return Err(format!("a group beside {own} would escape its {name} of {value}"));
    }
    // Processes in the parent bar new controllers, not the enabled ones.
    let free = parent.root || parent.stand == Stand::Nobody;
    let controllers = if free {
        &parent.controllers
    } else {
        &parent.enabled
    };
    if controllers.is_empty() {
        return Err(format!("{dir} hands no controllers down"));
    }
    Ok(unified(parent, false, controllers.clone()))
}

fn below(own: &Seen) -> Result<Unified, String> {
    let dir = own.dir.display();
    if let Some(unit) = &own.unit {
        return Err(format!("{dir} is systemd's own ({unit} without Delegate=yes)"));
    }
    if let Some(closed) = &own.closed {
        return Err(closed.clone());
    }
    if !own.domain {
        return Err(format!("{dir} is a threaded group"));
    }
    if own.stand == Stand::Others {
        return Err(format!(
            "{dir} holds other processes, so it can hand no controllers down"
        ));
    }
    if own.controllers.is_empty() {
        return Err(format!("{dir} has no controllers"));
    }
    Ok(unified(
        own,
        own.stand == Stand::CallerAlone,
        own.controllers.clone(),
    ))
}

fn unified(parent: &Seen, aside: bool, controllers: BTreeSet<Controller>) -> Unified {
    let disabled = controllers.difference(&parent.enabled).copied().collect();
    Unified {
        parent: parent.dir.clone(),
        aside,
        controllers,
        disabled,
        refused: None,
    }
}

/// How a person gets a group to make others in.
fn mend(own: &Path, systemd: bool, uid: u32) -> String {
    let own = own.display();
    match (systemd, uid) {
        (true, 0) => "start it with `systemd-run --scope -p Delegate=yes ringfence …`".to_owned(),
        (true, _) => "start it with `systemd-run --user --scope -p Delegate=yes ringfence …`".to_owned(),
        (false, 0) => format!("move every process of {own} into a group below it"),
        (false, _) => format!(
            "as root, make a group, hand it over with everything in it (`chown -R {uid}`), and start the caller in a group below it"
        ),
    }
}

/// Reads what the choice depends on. What cannot be read counts against the group.
fn look(dir: &Path, systemd: bool, uid: u32) -> Seen {
    let list = |name: &str| -> BTreeSet<Controller> {
        let text = file::read(&dir.join(name)).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|name| Controller::from_name(name, Version::V2))
            .collect()
    };
    // The root has neither a type nor events: it can be neither threaded nor empty.
    let kind = file::read(&dir.join("cgroup.type")).ok();
    let root = kind.is_none() && !dir.join("cgroup.events").exists();
    Seen {
        root,
        domain: root || kind.is_some_and(|kind| kind.trim() == "domain"),
        controllers: list("cgroup.controllers"),
        enabled: list("cgroup.subtree_control"),
        stand: if root { Stand::Others } else { stand(dir) },
        closed: closed(dir),
        limit: if root { None } else { limit(dir) },
        unit: if systemd { unit(dir, marked, uid) } else { None },
        dir: dir.to_owned(),
    }
}

/// Why the caller cannot make groups in `dir`, enable controllers there, or move processes below it.
///
/// Moving needs the `cgroup.procs` of the common ancestor (admin-guide/cgroup-v2.rst, "Delegation Containment").
fn closed(dir: &Path) -> Option<String> {
    ["", "cgroup.procs", "cgroup.subtree_control"]
        .into_iter()
        .find_map(|name| {
            let path = if name.is_empty() {
                dir.to_owned()
            } else {
                dir.join(name)
            };
            unwritable(&path)
        })
}

/// The reason why the caller may not write to `path`.
pub(super) fn unwritable(path: &Path) -> Option<String> {
    let access = nix::unistd::faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS);
    access
        .err()
        .map(|errno| format!("{} is not writable: {}", path.display(), cause(errno)))
}

fn stand(dir: &Path) -> Stand {
    let Ok(text) = file::read(&dir.join("cgroup.procs")) else {
        return Stand::Others;
    };
    let own = std::process::id().to_string();
    match text
        .lines()
        .try_fold(Stand::Nobody, |_, pid| (pid == own).then_some(Stand::CallerAlone))
    {
        Some(stand) => stand,
        None => Stand::Others,
    }
}

/// The first limit that a group carries; a group beside it would escape it.
fn limit(dir: &Path) -> Option<(String, String)> {
    const LIMITS: [&str; 8] = [
        "memory.max",
        "memory.high",
        "memory.swap.max",
        "pids.max",
        "cpu.max",
        "io.max",
        "cpuset.cpus",
        "cpuset.mems",
    ];
    LIMITS.into_iter().find_map(|name| {
        let text = file::read(&dir.join(name)).ok()?;
        let value = text.trim();
        let free = value.is_empty() || value.split_whitespace().next() == Some("max");
        (!free).then(|| (name.to_owned(), value.replace('\n', ", ")))
    })
}

/// The unit that `dir` is, where systemd keeps the right to write there.
///
/// A slice is always systemd's. A scope or service is its processes' when it is marked as delegated; what they make
/// below it is theirs anyway. systemd may take controllers back from what it holds for its own, and the limits with
/// them (systemd.io/CGROUP_DELEGATION, the single-writer rule).
fn unit(dir: &Path, marked: impl Fn(&Path) -> bool, uid: u32) -> Option<String> {
    let name = dir.file_name()?.to_str()?;
    let held = match name.rsplit_once('.')?.1 {
        "slice" => true,
        // Root can read the mark of every version. A user sees those of newer ones, which mark user@UID.service too:
        // without that mark nothing can be told, and the unit counts as delegated.
        "scope" | "service" => !marked(dir) && (uid == 0 || dir.ancestors().skip(1).any(&marked)),
        _ => false,
    };
    held.then(|| name.to_owned())
}

/// Whether systemd marked a unit's group as delegated.
fn marked(dir: &Path) -> bool {
    let Ok(path) = CString::new(dir.as_os_str().as_bytes()) else {
        return false;
    };
    let mut buffer = [0; 8];
    let names = [c"user.delegate", c"trusted.delegate"];
    names
        .into_iter()
        .any(|name| sys::xattr::get_at(&path, name, &mut buffer).is_ok_and(|value| value == b"1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(dir: &str) -> Seen {
        Seen {
            dir: dir.into(),
            root: false,
            domain: true,
            controllers: [Controller::Memory, Controller::Pids].into(),
            enabled: BTreeSet::new(),
            stand: Stand::Others,
            closed: None,
            limit: None,
            unit: None,
        }
    }

    fn chosen(own: &Seen, parent: Option<&Seen>) -> (PathBuf, bool, usize, usize) {
        let unified = choose(own, parent, "mend").unwrap();
        assert_eq!(unified.refused, None);
        (
            unified.parent,
            unified.aside,
            unified.controllers.len(),
            unified.disabled.len(),
        )
    }

    fn refused(own: &Seen, parent: Option<&Seen>) -> String {
        match choose(own, parent, "mend") {
            Ok(unified) => unified.refused.unwrap(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn at_the_root_groups_go_below_it() {
        let own = Seen {
            root: true,
            ..group("/cg")
        };
        assert_eq!(chosen(&own, None), ("/cg".into(), false, 2, 2));
        let own = Seen {
            closed: Some("/cg is not writable: read-only file system".into()),
            ..own
        };
        assert_eq!(
            choose(&own, None, "mend").unwrap_err(),
            "/cg is not writable: read-only file system; mend"
        );
    }

    #[test]
    fn in_a_delegated_subtree_groups_go_beside_the_own_one() {
        let own = group("/cg/user/shell");
        let parent = Seen {
            stand: Stand::Nobody,
            enabled: [Controller::Memory].into(),
            ..group("/cg/user")
        };
        assert_eq!(chosen(&own, Some(&parent)), ("/cg/user".into(), false, 2, 1));
        // Processes in the parent bar what is not enabled yet.
        let parent = Seen {
            stand: Stand::Others,
            ..parent
        };
        assert_eq!(chosen(&own, Some(&parent)), ("/cg/user".into(), false, 1, 0));
    }

    #[test]
    fn a_limit_of_the_own_group_is_not_escaped() {
        let parent = Seen {
            stand: Stand::Nobody,
            ..group("/cg/user")
        };
        let own = Seen {
            limit: Some(("memory.max".into(), "1048576".into())),
            ..group("/cg/user/shell")
        };
        assert_eq!(
            refused(&own, Some(&parent)),
            "/cg/user/shell holds other processes, so it can hand no controllers down, \
             and a group beside /cg/user/shell would escape its memory.max of 1048576; mend"
        );
        let own = Seen {
            stand: Stand::CallerAlone,
            ..own
        };
        assert_eq!(chosen(&own, Some(&parent)), ("/cg/user/shell".into(), true, 2, 2));
    }

    #[test]
    fn alone_in_a_delegated_scope_the_caller_steps_aside() {
        let own = Seen {
            stand: Stand::CallerAlone,
            ..group("/cg/app.slice/run-u7.scope")
        };
        let parent = Seen {
            unit: Some("app.slice".into()),
            ..group("/cg/app.slice")
        };
        assert_eq!(
            chosen(&own, Some(&parent)),
            ("/cg/app.slice/run-u7.scope".into(), true, 2, 2)
        );
    }

    #[test]
    fn without_delegation_the_reason_names_the_group_and_the_cause() {
        let shut = |dir: &str| Seen {
            closed: Some(format!("{dir} is not writable: permission denied")),
            ..group(dir)
        };
        assert_eq!(
            refused(&shut("/cg/a/b"), Some(&shut("/cg/a"))),
            "/cg/a/b is not writable: permission denied, and /cg/a is not writable: permission denied; mend"
        );
        let own = Seen {
            unit: Some("session-2.scope".into()),
            ..group("/cg/user-0.slice/session-2.scope")
        };
        let parent = Seen {
            unit: Some("user-0.slice".into()),
            ..group("/cg/user-0.slice")
        };
        assert_eq!(
            refused(&own, Some(&parent)),
            "/cg/user-0.slice/session-2.scope is systemd's own (session-2.scope without Delegate=yes), \
             and /cg/user-0.slice is systemd's own (user-0.slice); mend"
        );
    }

    #[test]
    fn inside_a_container_nothing_above_is_visible() {
        assert_eq!(
            refused(&group("/sys/fs/cgroup"), None),
            "/sys/fs/cgroup holds other processes, so it can hand no controllers down, \
             and no group above it is visible; mend"
        );
    }

    #[test]
    fn without_controllers_groups_can_still_be_made_below_the_own_one() {
        let unified = choose(&group("/cg/a"), None, "mend").unwrap();
        assert_eq!(
            (unified.parent, unified.aside, unified.controllers),
            ("/cg/a".into(), false, BTreeSet::new())
        );
        let threaded = Seen {
            domain: false,
            ..group("/cg/a")
        };
        assert_eq!(
            choose(&threaded, None, "mend").unwrap_err(),
            "/cg/a is a threaded group, and no group above it is visible; mend"
        );
    }
    #[test]
    fn what_systemd_holds_for_its_own_is_known_by_name_and_mark() {
        let scope = Path::new("/cg/user.slice/user@7.service/app.slice/run-1.scope");
        let service = Path::new("/cg/user.slice/user@7.service");
        let nobody = |_: &Path| false;
        let held = |name: &str| Some(name.to_owned());
        assert_eq!(unit(Path::new("/cg/user.slice"), |_| true, 7), held("user.slice"));
        assert_eq!(unit(scope, |dir| dir == scope, 0), None);
        assert_eq!(unit(scope, nobody, 0), held("run-1.scope"));
        assert_eq!(unit(scope, |dir| dir == scope || dir == service, 7), None);
        assert_eq!(unit(scope, |dir| dir == service, 7), held("run-1.scope"));
        assert_eq!(
            unit(scope, nobody, 7),
            None,
            "systemd before 251 shows users no mark"
        );
        assert_eq!(unit(&scope.join("shell"), nobody, 0), None);
        assert_eq!(unit(Path::new("/"), nobody, 0), None);
    }
}

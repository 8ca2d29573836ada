//! What must be tried to be known: each thing a run would do inside its namespaces, done once in a child.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, chdir, mkdir, setresgid, setresuid, unlinkat};
use serde::{Deserialize, Serialize};

use super::process::Process;
use super::userns::{Held, Reporter, UNSHARE};
use super::{Context, ids, why};
use crate::host::facts::{Caller, Feature, Ids, StoreFacts, Support};
use crate::host::{names, reason};
use crate::sys::{self, userns};

/// Answers that were tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tried {
    pub(super) features: BTreeMap<Feature, Support>,
    pub(super) ids: Ids,
    pub(super) store: StoreFacts,
    /// Whether paths with these file systems at and below them take idmapped mounts.
    pub(super) idmapped: BTreeMap<String, bool>,
}

/// What the child does, in this order; each is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Step {
    /// A user namespace.
    Unshare = UNSHARE,
    /// Its ids mapped, and becoming user 0 in it.
    Ids,
    /// A mount namespace in it.
    Mounts,
    /// A tmpfs.
    Tmpfs,
    /// A `user.*` attribute on it.
    TmpfsXattr,
    /// An overlay of two of its folders.
    Overlay,
    /// An overlay with its upper layer in the store, in which a folder of the lower one is removed and remade.
    Upper,
    /// A child in a pid namespace, by clone3(2).
    Clone,
    /// A fresh proc there.
    Proc,
    /// A time namespace.
    Time,
    /// A control group namespace.
    Cgroup,
}

impl Step {
    const ALL: [Step; 11] = [
        Step::Unshare,
        Step::Ids,
        Step::Mounts,
        Step::Tmpfs,
        Step::TmpfsXattr,
        Step::Overlay,
        Step::Upper,
        Step::Clone,
        Step::Proc,
        Step::Time,
        Step::Cgroup,
    ];
}

/// How the steps went that were reached.
pub(super) type Answers = BTreeMap<Step, Result<(), Errno>>;

/// Tries everything; `idmapped` are paths by the file systems at and below them. Also says whether the answers
/// will hold until the next boot.
pub(super) fn run(
    context: &Context<'_>,
    process: &Process,
    idmapped: &BTreeMap<&str, &Path>,
) -> (Tried, bool) {
    if process.uid == 0 && process.caller() == Caller::User {
        return (refused(reason::POWERLESS_ROOT.into()), true);
    }
    let scratch = Scratch::make(context.store, process, context.first_id);
    let upper = scratch.as_ref().map(|scratch| scratch.inside.as_c_str());
    let before = || {
        // Where it fails, the step that needs the folder fails, and says so.
        upper.map(chdir);
    };
    let held = match Held::start(before, |reporter| try_all(reporter, upper.is_some())) {
        Ok(held) => held,
        Err(Errno::EBUSY) => return (refused("not tried: the caller has several threads".into()), false),
        Err(Errno::EAGAIN) => return (refused("fork: a limit of processes is reached".into()), false),
        Err(errno) => return (refused(format!("fork: {}", why::text(errno))), false),
    };
    let mut tried = Tried::default();
    let mut answers = Answers::new();
    let hear = |answers: &mut Answers| {
        let (step, result) = held.next()?;
        answers.insert(*Step::ALL.get(usize::from(step))?, result);
        Some(result)
    };
    if hear(&mut answers) == Some(Ok(())) {
        match ids::map(held.pid, process, context.first_id) {
            Ok(ids) => {
                tried.ids = ids;
                if process.caller() == Caller::Root {
                    let takes = |path: &Path| takes_idmap(&held, path).is_ok();
                    tried.idmapped = idmapped
                        .iter()
                        .map(|(key, path)| ((*key).to_owned(), takes(path)))
                        .collect();
                    tried.store.idmapped_mounts =
                        scratch.as_ref().is_some_and(|scratch| takes(&scratch.path));
                }
                if held.go().is_ok() {
                    while hear(&mut answers).is_some() {}
                }
            }
            Err(error) => {
                answers.insert(Step::Ids, Err(ids::errno(&error)));
            }
        }
    }
    drop(held);
    let lasting = answers.len() >= Step::ALL.len() - usize::from(upper.is_none())
        && !answers.values().any(|result| result.is_err_and(why::may_pass));
    tried.store.overlay_upper = answers.get(&Step::Upper) == Some(&Ok(()));
    tried.store.image_file = process.caller() == Caller::Root && holds_image_files();
    tried.features = why::features(&answers, process, context.first_id, &super::text);
    if let Some(Support::No(reason)) = tried.features.get(&Feature::UserNamespace) {
        let reason = format!("{}: {reason}", reason::NEEDS_USER_NAMESPACE);
        tried.ids = Ids {
            reason,
            ..Ids::default()
        };
    }
    (tried, lasting)
}

/// Everything is refused for one reason.
fn refused(reason: String) -> Tried {
    let features = why::all_refused(&reason, &super::text);
    let ids = Ids {
        reason: format!("{}: {reason}", reason::NEEDS_USER_NAMESPACE),
        ..Ids::default()
    };
    Tried {
        features,
        ids,
        ..Tried::default()
    }
}

/// The child's steps. Mounts made here reach nobody else: a mount namespace that belongs to another user
/// namespace is a slave of the one it was copied from (see mount_namespaces(7)).
fn try_all(reporter: &Reporter, upper: bool) {
    let say = |step: Step, result: Result<(), Errno>| {
        reporter.say(step as u8, result);
        result
    };
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    let become_root = || setresgid(root.1, root.1, root.1).and_then(|()| setresuid(root.0, root.0, root.0));
    let needed = say(Step::Ids, become_root())
        .and_then(|()| say(Step::Mounts, unshare(CloneFlags::CLONE_NEWNS)))
        .and_then(|()| say(Step::Tmpfs, try_tmpfs()));
    if needed.is_err() {
        return;
    }
    say(
        Step::TmpfsXattr,
        sys::xattr::set_at(c"/usr/a", c"user.ringfence", b"y"),
    )
    .ok();
    let options = c"lowerdir=/usr/a:/usr/b,userxattr";
    say(Step::Overlay, mount_new(c"overlay", c"/usr/c", Some(options))).ok();
    if upper {
        say(Step::Upper, try_upper()).ok();
    }
    match sys::clone::clone3(CloneFlags::CLONE_NEWPID, None) {
        Ok(sys::clone::Cloned::Parent(child, _)) => {
            say(Step::Clone, Ok(())).ok();
            // It reports for itself; a report that is missing counts as a failure.
            sys::process::wait(child).ok();
        }
        Ok(sys::clone::Cloned::Child) => {
            say(Step::Proc, mount_new(c"proc", c"/usr/d", None)).ok();
            sys::process::exit_now(0);
        }
        Err(errno) => {
            say(Step::Clone, Err(errno)).ok();
        }
    }
    // CLONE_NEWTIME, which nix's flags lack: the time namespace is for later children (see time_namespaces(7)).
    say(Step::Time, unshare(CloneFlags::from_bits_retain(0x80))).ok();
    say(Step::Cgroup, unshare(CloneFlags::CLONE_NEWCGROUP)).ok();
}

/// A tmpfs over `/usr`, which every root has, with empty folders in it.
fn try_tmpfs() -> Result<(), Errno> {
    mount_new(c"tmpfs", c"/usr", Some(c"mode=0755,size=1m"))?;
    for folder in [c"/usr/a", c"/usr/b", c"/usr/c", c"/usr/d"] {
        mkdir(folder, Mode::S_IRWXU)?;
    }
    Ok(())
}

/// In the current folder, a [`Scratch`]. `volatile` (Linux 5.10): else the end of the mount waits for the disk,
/// a tenth of a second (see the kernel's overlayfs document, "Volatile mount").
fn try_upper() -> Result<(), Errno> {
    let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr,volatile";
    mount_new(c"overlay", c"merged", Some(options))?;
    // Without user attributes the mount succeeds all the same, and only this fails.
    unlinkat(nix::fcntl::AT_FDCWD, c"merged/folder", UnlinkatFlags::RemoveDir)?;
    mkdir(c"merged/folder", Mode::S_IRWXU)
}

fn mount_new(kind: &CStr, target: &CStr, options: Option<&CStr>) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(kind), target, Some(kind), flags, options)
}

/// Whether the tree of mounts at `path` takes the ids of the child's user namespace.
fn takes_idmap(held: &Held, path: &Path) -> io::Result<()> {
    let namespace = userns::of_process(held.pid)?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let root = File::open("/")?;
    let tree = sys::mount::open_tree(root.as_fd(), &path)?;
    Ok(sys::mount::idmap(tree.as_fd(), namespace.as_fd())?)
}

/// Whether a file can be made a disk: the loop driver's control device opens, and mkfs.ext4 is there.
fn holds_image_files() -> bool {
    let control = File::options().read(true).write(true).open("/dev/loop-control");
    control.is_ok() && names::program("mkfs.ext4").is_some()
}

/// A folder on the store's file system, with the parts of an overlay; removed when dropped.
struct Scratch {
    path: PathBuf,
    inside: CString,
}

impl Scratch {
    /// In the store, or where it will be made. None where the caller may not write there.
    fn make(store: &Path, process: &Process, first_id: u32) -> Option<Scratch> {
        let place = store.ancestors().find(|path| path.is_dir())?;
        remove_those_of_the_dead(place);
        let path = place.join(format!("{SCRATCH}{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).ok()?;
        let inside = CString::new(path.as_os_str().as_bytes()).ok()?;
        let scratch = Scratch { path, inside };
        scratch.fill(process, first_id).ok()?;
        Some(scratch)
    }

    fn fill(&self, process: &Process, first_id: u32) -> io::Result<()> {
        for folder in FOLDERS {
            let folder = self.path.join(folder);
            if !folder.exists() {
                fs::create_dir(&folder)?;
            }
            if process.caller() == Caller::Root {
                chown(&folder, Some(first_id), Some(first_id))?;
            }
        }
        Ok(())
    }
}

/// It and what is in it, outer folders first.
const FOLDERS: [&str; 6] = ["", "lower", "lower/folder", "upper", "work", "merged"];

/// What the names of these folders begin with; a process id follows.
const SCRATCH: &str = ".ringfence-probe-";

/// Removes what probes that were killed have left behind.
fn remove_those_of_the_dead(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(SCRATCH)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    // Empty when nothing could be tried; for want of descriptors perhaps, and these calls need none.
    for folder in FOLDERS.into_iter().rev() {
        fs::remove_dir(path.join(folder)).ok();
    }
    // The last use of the overlay's folders is a matter of the kernel's own time, after its last process has gone.
    for _ in 0..20 {
        // overlay makes these without any permission; even their owner looks into them only when that is changed.
        for folder in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
            fs::set_permissions(path.join(folder), Permissions::from_mode(0o700)).ok();
        }
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(5))
            }
            _ => return,
        }
    }
    // What stays behind is an empty tree of a few folders; a later probe removes it.
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

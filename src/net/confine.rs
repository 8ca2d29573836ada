//! A process of ours that serves a job: it reads bytes that the job, or anybody, makes, so it has nothing worth having.

use std::os::fd::BorrowedFd;

use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::sys::{capability, process};

/// The user and group of nobody, and of nothing.
const NOBODY: u32 = 65534;

/// Moves this child into a job's user namespace, and into its network namespace where that is given, and gives up
/// everything but the descriptors `kept` and the `capabilities` that it has there. It sees no file.
///
/// # Errors
/// EPERM for namespaces of another owner; EACCES where the kernel's Landlock does not work.
pub(super) fn confine(
    user: BorrowedFd<'_>,
    net: Option<BorrowedFd<'_>>,
    kept: &[BorrowedFd<'_>],
    capabilities: u64,
) -> Result<(), Errno> {
    let root = Uid::effective().is_root();
    setns(user, CloneFlags::CLONE_NEWUSER)?;
    if let Some(net) = net {
        setns(net, CloneFlags::CLONE_NEWNET)?;
    }
    process::keep_only(kept)?;
    // Root's own files would be this process's otherwise, whatever it may do. Everybody else has no more than the caller.
    if root {
        setgroups(&[])?;
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    capability::bound(0)?;
    capability::set(capabilities, 0)?;
    prctl::set_no_new_privs()?;
    // A second wall: what the kernel has of it. No rule, so no file.
    let nothing = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V3))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.restrict_self());
    nothing.map_err(|_| Errno::EACCES)?;
    // The change of ids has cleared it. Who serves also ends at the end of its channel to the launcher.
    prctl::set_pdeathsig(Signal::SIGKILL)
}

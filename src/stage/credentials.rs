//! Ids and capabilities of the job.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::profile::Capability;
use crate::sys::capability::{LOCKED_SECUREBITS, ambient, bound, read_securebits, securebits, set};

/// SECBIT_NO_SETUID_FIXUP: a change of user id leaves the capability sets alone, so that the order below is ours.
const NO_SETUID_FIXUP: u64 = 0x4;

/// Who the job is and what it may.
pub(super) struct Credentials<'a> {
    /// The user.
    pub(super) user: u32,
    /// The group.
    pub(super) group: u32,
    /// Supplementary groups; none where setgroups(2) is denied.
    pub(super) groups: Option<&'a [u32]>,
    /// Capabilities that stay in the bounding set, as bits.
    pub(super) capabilities: u64,
    /// A user that is not 0 keeps them as well.
    pub(super) ambient: bool,
}

impl Credentials<'_> {
    /// Becomes this user with these capabilities in all five sets, for good.
    pub(super) fn take(&self) -> Result<(), Errno> {
        bound(self.capabilities)?;
        securebits(NO_SETUID_FIXUP)?;
        if let Some(groups) = self.groups {
            let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups)?;
        }
        let (group, user) = (Gid::from_raw(self.group), Uid::from_raw(self.user));
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
        let (permitted, inheritable, bits) = self.sets();
        // The securebits need CAP_SETPCAP for one more call.
        set(permitted | Capability::Setpcap.bit(), inheritable)?;
        ambient(inheritable)?;
        securebits(bits)?;
        if read_securebits()? != bits {
            return Err(Errno::ENOTRECOVERABLE);
        }
        set(permitted, inheritable)
    }

    /// Permitted set, inheritable set (and ambient, the same) and securebits at the end.
    pub(super) fn sets(&self) -> (u64, u64, u64) {
        match (self.user, self.ambient) {
            _ if self.capabilities == 0 => (0, 0, LOCKED_SECUREBITS),
            (0, _) => (self.capabilities, 0, 0),
            (_, true) => (self.capabilities, self.capabilities, LOCKED_SECUREBITS),
            (_, false) => (0, 0, 0),
        }
    }
}

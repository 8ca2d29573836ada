//! Landlock: the second wall, built for exactly the version that the plan names.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::place::Places;
use crate::plan::{LandlockAccess, LandlockRules};

/// Restricts this process; every rule must take whole.
///
/// # Errors
/// EOPNOTSUPP when the kernel enforced less than asked, else the kernel's.
pub(super) fn restrict(rules: &LandlockRules, places: &Places) -> Result<(), Errno> {
    let abi = abi(rules.abi)?;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(refused)?;
    if rules.connect_tcp.is_some() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp).map_err(refused)?;
    }
    if rules.bind_tcp.is_some() {
        ruleset = ruleset.handle_access(AccessNet::BindTcp).map_err(refused)?;
    }
    if rules.scoped {
        ruleset = ruleset
            .scope(Scope::AbstractUnixSocket | Scope::Signal)
            .map_err(refused)?;
    }
    let mut created = ruleset.create().map_err(refused)?;
    for (path, access) in &rules.paths {
        let place = match places.open(path) {
            // A path of the manifest that this image lacks gives no right to anything.
            Err(Errno::ENOENT) => continue,
            found => found?,
        };
        let directory = nix::sys::stat::fstat(&place)?.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
        let rights = rights(*access, abi);
        let rights = if directory {
            rights
        } else {
            rights & AccessFs::from_file(abi)
        };
        created = created
            .add_rule(PathBeneath::new(place, rights))
            .map_err(refused)?;
    }
    for port in rules.connect_tcp.iter().flatten() {
        created = created
            .add_rule(NetPort::new(*port, AccessNet::ConnectTcp))
            .map_err(refused)?;
    }
    for port in rules.bind_tcp.iter().flatten() {
        created = created
            .add_rule(NetPort::new(*port, AccessNet::BindTcp))
            .map_err(refused)?;
    }
    let status = created.restrict_self().map_err(refused)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Err(Errno::EOPNOTSUPP),
    }
}

/// Opens a file system that no rule can name; only Landlock forbids it.
///
/// # Errors
/// ENOTRECOVERABLE when it opens.
pub(super) fn is_refused(beyond_rules: OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(&beyond_rules, ".", flags, Mode::empty()) {
        Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::ENOTRECOVERABLE),
    }
}

fn rights(access: LandlockAccess, abi: ABI) -> landlock::BitFlags<AccessFs> {
    let mut rights = AccessFs::from_read(abi) & !AccessFs::Execute;
    if access.write {
        rights |= AccessFs::from_write(abi);
    }
    if access.execute {
        rights |= AccessFs::Execute;
    }
    rights
}

fn abi(version: u32) -> Result<ABI, Errno> {
    Ok(match version {
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        _ => return Err(Errno::EINVAL),
    })
}

/// The kernel's error number at the bottom of the crate's nested errors.
fn refused(error: impl std::error::Error + 'static) -> Errno {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(io) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return Errno::from_raw(io);
        }
        cause = error.source();
    }
    Errno::EOPNOTSUPP
}

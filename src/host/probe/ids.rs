//! Mapping the ids of a child's user namespace (see user_namespaces(7)), as a run would map them.

use std::fs::read_to_string;
use std::io;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::process::Process;
use crate::host::facts::{Caller, Ids};
use crate::host::names;
use crate::host::reason;
use crate::sys::userns::{
    IdKind, IdMap, MapError, SubordinateIds, deny_setgroups, helper, map_by_helper, subordinate_ids,
    write_map,
};

/// How many ids one job of root gets (config.toml, `[ids]`).
pub(super) const RANGE: u32 = 65536;

/// Maps ids for `child`: root a range from `first_id`, a user its own id and its subordinate ones.
///
/// # Errors
/// The kernel's, when not even the caller's own id could be mapped.
pub(super) fn map(child: Pid, process: &Process, first_id: u32) -> io::Result<Ids> {
    let (users, groups) = (IdKind::User, IdKind::Group);
    let line = |outside, count| IdMap {
        inside: 0,
        outside,
        count,
    };
    if process.caller() == Caller::Root {
        write_map(child, users, &[line(first_id, RANGE)])?;
        write_map(child, groups, &[line(first_id, RANGE)])?;
        return Ok(Ids::default());
    }
    let by_helper = |ids, own, ranges: &[SubordinateIds]| {
        let maps = own_and(own, ranges);
        let count = ranges
            .iter()
            .map(|range| range.count)
            .fold(0, u32::saturating_add);
        let said = |error: MapError| error.to_string().lines().next().unwrap_or_default().to_owned();
        map_by_helper(child, ids, &maps).map_err(said).map(|()| count)
    };
    let (of_users, of_groups) = match subordinate(process) {
        Ok((uids, gids)) => (
            by_helper(users, process.uid, &uids),
            by_helper(groups, process.gid, &gids),
        ),
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    if of_users.is_err() {
        write_map(child, users, &[line(process.uid, 1)])?;
    }
    if of_groups.is_err() {
        deny_setgroups(child)?;
        write_map(child, groups, &[line(process.gid, 1)])?;
    }
    // Users without groups help no image, nor the other way round: both or none.
    let both = of_users.and_then(|users| of_groups.map(|groups| (users, groups)));
    Ok(match both {
        Ok((subordinate_uids, subordinate_gids)) => Ids {
            subordinate_uids,
            subordinate_gids,
            reason: String::new(),
        },
        Err(reason) => Ids {
            reason,
            ..Ids::default()
        },
    })
}

/// The map of `own` to 0 and of `ranges` behind it.
fn own_and(own: u32, ranges: &[SubordinateIds]) -> Vec<IdMap> {
    let mut maps = vec![IdMap {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside: u32 = 1;
    for range in ranges {
        maps.push(IdMap {
            inside,
            outside: range.first,
            count: range.count,
        });
        // Beyond 32 bits the kernel refuses the map, and says so.
        inside = inside.saturating_add(range.count);
    }
    maps
}

/// The caller's subordinate users and groups.
///
/// # Errors
/// What is missing.
fn subordinate(process: &Process) -> Result<(Vec<SubordinateIds>, Vec<SubordinateIds>), String> {
    if process.no_new_privileges {
        return Err(reason::NO_NEW_PRIVILEGES.into());
    }
    if helper(IdKind::User).is_none() || helper(IdKind::Group).is_none() {
        return Err(reason::NO_NEWUIDMAP.into());
    }
    let number = process.uid.to_string();
    let passwd = read_to_string("/etc/passwd").unwrap_or_default();
    let name = names::user_name(&passwd, process.uid).unwrap_or(&number);
    let ranges = |kind: IdKind| {
        // A file that cannot be read gives nobody anything.
        let found = subordinate_ids(kind, process.uid).unwrap_or_default();
        if found.is_empty() {
            Err(format!(
                "{} {name} in {}",
                reason::NO_SUBORDINATE_IDS,
                kind.grants()
            ))
        } else {
            Ok(found)
        }
    };
    Ok((ranges(IdKind::User)?, ranges(IdKind::Group)?))
}

/// An error as the number that the kernel gave.
pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

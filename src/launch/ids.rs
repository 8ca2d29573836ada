//! Ids of the host for a user namespace.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Pid, getegid, geteuid};
use serde::Deserialize;

use super::error::{LaunchError, io_words};
use super::run_dir::RunDir;
use crate::plan::{Id, IdMapping};
use crate::sys::userns::{
    IdKind, IdMap, MapError, SubordinateIds, consecutive, deny_setgroups, map_by_helper, subordinate_ids,
    without_process, write_map,
};

/// Ids inside: 0 to 65535, what every distribution and every image uses.
pub(crate) const SPAN: u32 = 65536;

/// Ranges for user namespaces of root's runs (config.toml, `[ids]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RangeConfig {
    /// The first id; outside what `/etc/subuid` gives away.
    pub(crate) base: u32,
    /// How many ranges of 65536.
    pub(crate) count: u32,
}

impl Default for RangeConfig {
    /// The contract's values.
    fn default() -> RangeConfig {
        RangeConfig {
            base: 2_000_000_000,
            count: 1024,
        }
    }
}

/// The maps of one run, with what keeps their ids from other runs.
#[derive(Debug)]
pub(super) struct Maps {
    users: Vec<IdMap>,
    groups: Vec<IdMap>,
    by: Writer,
    /// The host id of id 0 inside, for a range.
    pub(super) base: Option<u32>,
    _lock: Option<Flock<File>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Root writes any map.
    Root,
    /// newuidmap(1) and newgidmap(1).
    Helper,
    /// The caller maps only itself.
    Caller,
}

impl Maps {
    /// Computes the maps of a plan; a range is locked against every other run.
    ///
    /// # Errors
    /// When every range is in use, or the subordinate ids have gone since the host was asked.
    pub(super) fn reserve(
        mapping: &IdMapping,
        run_dir: &RunDir,
        config: RangeConfig,
    ) -> Result<Maps, LaunchError> {
        match mapping {
            IdMapping::Range => {
                let (base, lock) = exclusive(run_dir, config)?;
                Ok(Maps::range(base, lock))
            }
            // Number 0 is never handed out alone, so that images unpacked for it keep their owners.
            IdMapping::SharedRange => {
                let lock = lock(run_dir, 0, FlockArg::LockSharedNonblock)?;
                let lock = lock.ok_or_else(|| {
                    LaunchError::setup("shared range of ids", "in use by another run alone")
                })?;
                Ok(Maps::range(config.base, lock))
            }
            IdMapping::Stored => {
                let own = caller();
                Ok(Maps::by_helper(
                    stored(own.0, &subordinate(IdKind::User)?)?,
                    stored(own.1, &subordinate(IdKind::Group)?)?,
                ))
            }
            IdMapping::Subordinate { user, group } => {
                let own = caller();
                Ok(Maps::by_helper(
                    around(number(*user, own.0), own.0, &subordinate(IdKind::User)?)?,
                    around(number(*group, own.1), own.1, &subordinate(IdKind::Group)?)?,
                ))
            }
            IdMapping::Single { user, group } => {
                let own = caller();
                let line = |inside, outside| {
                    vec![IdMap {
                        inside,
                        outside,
                        count: 1,
                    }]
                };
                let (users, groups) = (
                    line(number(*user, own.0), own.0),
                    line(number(*group, own.1), own.1),
                );
                Ok(Maps {
                    users,
                    groups,
                    by: Writer::Caller,
                    base: None,
                    _lock: None,
                })
            }
        }
    }

    /// All ids that an ordinary user may map; 0 inside is the user.
    ///
    /// # Errors
    /// When the files of subordinate ids cannot be read.
    pub(super) fn own() -> Result<Maps, LaunchError> {
        let own = caller();
        let (users, groups) = (subordinate(IdKind::User)?, subordinate(IdKind::Group)?);
        let by = match users.is_empty() || groups.is_empty() {
            true => Writer::Caller,
            false => Writer::Helper,
        };
        let all = |own, ranges: &[SubordinateIds]| {
            let mut maps = vec![IdMap {
                inside: 0,
                outside: own,
                count: 1,
            }];
            let granted = consecutive(ranges, u32::MAX - 1);
            maps.extend(
                granted
                    .into_iter()
                    .filter(|_| by == Writer::Helper)
                    .map(|map| IdMap {
                        inside: map.inside + 1,
                        ..map
                    }),
            );
            maps
        };
        Ok(Maps {
            users: all(own.0, &users),
            groups: all(own.1, &groups),
            by,
            base: None,
            _lock: None,
        })
    }

    fn by_helper(users: Vec<IdMap>, groups: Vec<IdMap>) -> Maps {
        Maps {
            users,
            groups,
            by: Writer::Helper,
            base: None,
            _lock: None,
        }
    }

    fn range(base: u32, lock: Flock<File>) -> Maps {
        let line = vec![IdMap {
            inside: 0,
            outside: base,
            count: SPAN,
        }];
        Maps {
            users: line.clone(),
            groups: line,
            by: Writer::Root,
            base: Some(base),
            _lock: Some(lock),
        }
    }

    /// Whether setgroups(2) is allowed in the namespace.
    pub(super) fn setgroups(&self) -> bool {
        self.by != Writer::Caller
    }

    /// Writes the maps of the namespace of `pid`.
    ///
    /// # Errors
    /// The kernel's or the helper's words.
    pub(super) fn write(&self, pid: Pid) -> Result<(), String> {
        let written = match self.by {
            Writer::Root => write_map(pid, IdKind::User, &self.users)
                .and_then(|()| write_map(pid, IdKind::Group, &self.groups)),
            Writer::Helper => map_by_helper(pid, IdKind::User, &self.users)
                .and_then(|()| map_by_helper(pid, IdKind::Group, &self.groups)),
            Writer::Caller => deny_setgroups(pid)
                .and_then(|()| write_map(pid, IdKind::User, &self.users))
                .and_then(|()| write_map(pid, IdKind::Group, &self.groups)),
        };
        written.map_err(|error: MapError| error.to_string())
    }
}

/// The caller's own user and group.
pub(super) fn caller() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

fn number(id: Id, own: u32) -> u32 {
    match id {
        Id::Number(number) => number,
        Id::Caller => own,
    }
}

/// A range that no other run has; the search starts at a different one in each process.
fn exclusive(run_dir: &RunDir, config: RangeConfig) -> Result<(u32, Flock<File>), LaunchError> {
    let spread = std::process::id();
    for step in 0..config.count.saturating_sub(1) {
        let index = 1 + spread.wrapping_add(step) % (config.count - 1);
        if let Some(lock) = lock(run_dir, index, FlockArg::LockExclusiveNonblock)? {
            return Ok((config.base + index * SPAN, lock));
        }
    }
    Err(LaunchError::setup(
        "range of ids",
        format!(
            "all {} are in use; raise `count` in `[ids]` of config.toml",
            config.count
        ),
    ))
}

fn lock(run_dir: &RunDir, index: u32, how: FlockArg) -> Result<Option<Flock<File>>, LaunchError> {
    let failed = |cause: String| {
        LaunchError::setup(
            format!("range {index} of ids in {}", run_dir.path().display()),
            cause,
        )
    };
    let file = run_dir
        .lock_file("ids", &index.to_string())
        .map_err(|error| failed(io_words(&error)))?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(super::error::words(errno))),
    }
}

/// The caller's subordinate ids, in the order of the file.
fn subordinate(kind: IdKind) -> Result<Vec<SubordinateIds>, LaunchError> {
    subordinate_ids(kind, geteuid().as_raw())
        .map_err(|error| LaunchError::setup(kind.grants(), io_words(&error)))
}

/// The map in which each id up to 65535 is the subordinate id that images were unpacked with. What the launcher makes for
/// the run belongs to the caller, `own` outside: it is 65536.
fn stored(own: u32, ranges: &[SubordinateIds]) -> Result<Vec<IdMap>, LaunchError> {
    let mut maps = consecutive(ranges, SPAN);
    enough(maps.iter().map(|map| map.count).sum())?;
    maps.push(IdMap {
        inside: SPAN,
        outside: own,
        count: 1,
    });
    Ok(maps)
}

fn enough(granted: u32) -> Result<(), LaunchError> {
    match granted < SPAN {
        true => Err(LaunchError::setup(
            "subordinate ids",
            format!("{granted} of the {SPAN} that the plan needs"),
        )),
        false => Ok(()),
    }
}

/// The map in which `user` inside is `own` outside and all others up to 65535 are subordinate ids, each `id` the
/// `id`th of them: the same owners as those that images were unpacked with.
///
/// The files that an image gives to `user` itself would then belong to no id at all, and without one not even root inside
/// can write a folder (user_namespaces(7), "Privileges over inodes"): so they belong to 65536.
fn around(user: u32, own: u32, ranges: &[SubordinateIds]) -> Result<Vec<IdMap>, LaunchError> {
    let mut maps = vec![IdMap {
        inside: user,
        outside: own,
        count: 1,
    }];
    let mut first: u32 = 0;
    for range in ranges {
        let end = first.saturating_add(range.count).min(SPAN);
        for (from, to) in [(first, end.min(user)), (first.max(user.saturating_add(1)), end)] {
            if from < to {
                maps.push(IdMap {
                    inside: from,
                    outside: range.first + (from - first),
                    count: to - from,
                });
            }
        }
        if (first..end).contains(&user) {
            maps.push(IdMap {
                inside: SPAN,
                outside: range.first + (user - first),
                count: 1,
            });
        }
        first = end;
    }
    enough(first)?;
    maps.sort_by_key(|map| map.inside);
    Ok(maps)
}

/// The namespace in which the owner of the tree `root` is the job's user, for an idmapped bind mount.
pub(super) fn owner_namespace(
    root: impl AsFd,
    base: u32,
    user: u32,
    group: u32,
) -> Result<std::os::fd::OwnedFd, String> {
    let seen = nix::sys::stat::fstat(root.as_fd()).map_err(super::error::words)?;
    let line = |owner, id| {
        [IdMap {
            inside: owner,
            outside: base + id,
            count: 1,
        }]
    };
    without_process(&line(seen.st_uid, user), &line(seen.st_gid, group)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_is_the_caller_and_the_others_keep_their_place() {
        let ranges = [SubordinateIds {
            first: 100_000,
            count: 65536,
        }];
        let line = |inside, outside, count| IdMap {
            inside,
            outside,
            count,
        };
        assert_eq!(
            around(65532, 1000, &ranges).unwrap(),
            [
                line(0, 100_000, 65532),
                line(65532, 1000, 1),
                line(65533, 165_533, 3),
                line(65536, 165_532, 1)
            ]
        );
        assert_eq!(
            around(0, 1000, &ranges).unwrap(),
            [line(0, 1000, 1), line(1, 100_001, 65535), line(65536, 100_000, 1)]
        );
        assert_eq!(
            stored(1000, &ranges).unwrap(),
            [line(0, 100_000, 65536), line(65536, 1000, 1)]
        );
        let split = [
            SubordinateIds {
                first: 500_000,
                count: 1000,
            },
            SubordinateIds {
                first: 700_000,
                count: 64536,
            },
        ];
        assert_eq!(
            around(5, 1000, &split).unwrap(),
            [
                line(0, 500_000, 5),
                line(5, 1000, 1),
                line(6, 500_006, 994),
                line(1000, 700_000, 64536),
                line(65536, 500_005, 1)
            ]
        );
        let few = [SubordinateIds {
            first: 100_000,
            count: 1000,
        }];
        assert_eq!(
            around(0, 1000, &few).unwrap_err().to_string(),
            "subordinate ids: 1000 of the 65536 that the plan needs"
        );
    }
}

//! User namespaces: id maps, written directly or by the setuid programs of the uidmap package (user_namespaces(7)).

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid, pause};

use super::clone::{Cloned, clone3};
use super::process;

/// `count` ids from `inside` on of a user namespace are those from `outside` on of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    /// The first id inside.
    pub(crate) inside: u32,
    /// The first id outside.
    pub(crate) outside: u32,
    /// How many.
    pub(crate) count: u32,
}

/// Which of the two maps of a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdKind {
    /// Users: `uid_map`, newuidmap(1), `/etc/subuid`.
    User,
    /// Groups: `gid_map`, newgidmap(1), `/etc/subgid`.
    Group,
}

/// A run of subordinate ids (subuid(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubordinateIds {
    /// The first id.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
}

/// Why an id map was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    /// The kernel's file did not take it.
    #[error("{file}: {source}")]
    Write {
        /// `/proc/PID/uid_map` or its like.
        file: String,
        /// The cause.
        source: io::Error,
    },
    /// The setuid program is not there.
    #[error("{0} is not installed (package uidmap)")]
    NoHelper(&'static str),
    /// The setuid program did not do it.
    #[error("{program}: {reason}")]
    Helper {
        /// Its path.
        program: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl From<MapError> for io::Error {
    /// The kernel's own error where there is one.
    fn from(error: MapError) -> io::Error {
        match error {
            MapError::Write { source, .. } => source,
            other => io::Error::other(other),
        }
    }
}

impl IdKind {
    fn map_file(self) -> &'static str {
        match self {
            IdKind::User => "uid_map",
            IdKind::Group => "gid_map",
        }
    }

    /// The program that maps subordinate ids.
    pub(crate) fn helper(self) -> &'static str {
        match self {
            IdKind::User => "newuidmap",
            IdKind::Group => "newgidmap",
        }
    }

    /// The file that grants subordinate ids.
    pub(crate) fn grants(self) -> &'static str {
        match self {
            IdKind::User => "/etc/subuid",
            IdKind::Group => "/etc/subgid",
        }
    }
}

/// Writes a map directly: with CAP_SETUID (CAP_SETGID) over the parent namespace any, without it one id, the caller's own.
///
/// # Errors
/// The kernel's; EPERM as well when the map is already written.
pub(crate) fn write_map(process: Pid, kind: IdKind, map: &[IdMap]) -> Result<(), MapError> {
    let text: String = map
        .iter()
        .map(|run| format!("{} {} {}\n", run.inside, run.outside, run.count))
        .collect();
    // One write(2) call must hold the whole map (user_namespaces(7)); fs::write would also try to create the file.
    write_once(&format!("/proc/{process}/{}", kind.map_file()), &text)
}

/// Forbids setgroups(2) in a process's user namespace: without it an ordinary user may not write `gid_map`.
///
/// # Errors
/// The kernel's.
pub(crate) fn deny_setgroups(process: Pid) -> Result<(), MapError> {
    write_once(&format!("/proc/{process}/setgroups"), "deny")
}

fn write_once(file: &str, text: &str) -> Result<(), MapError> {
    let failed = |source| MapError::Write {
        file: file.to_owned(),
        source,
    };
    let mut opened = fs::OpenOptions::new().write(true).open(file).map_err(failed)?;
    match opened.write(text.as_bytes()).map_err(failed)? {
        written if written == text.len() => Ok(()),
        _ => Err(failed(io::ErrorKind::WriteZero.into())),
    }
}

/// Has newuidmap(1) or newgidmap(1) write a map: runs of subordinate ids, and the caller's own id.
///
/// The program is taken from a fixed folder, and only when root alone can change it; its environment is empty.
///
/// # Errors
/// When it is not installed, or refuses.
pub(crate) fn map_by_helper(process: Pid, kind: IdKind, map: &[IdMap]) -> Result<(), MapError> {
    let program = helper(kind).ok_or(MapError::NoHelper(kind.helper()))?;
    let failed = |reason: String| MapError::Helper {
        program: program.clone(),
        reason,
    };
    let mut command = Command::new(&program);
    command.arg(process.to_string());
    for run in map {
        command.args([
            run.inside.to_string(),
            run.outside.to_string(),
            run.count.to_string(),
        ]);
    }
    let output = command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said
        .trim()
        .chars()
        .take(300)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let prefix = format!("{}: ", kind.helper());
    Err(failed(match said.strip_prefix(&prefix).unwrap_or(&said) {
        "" => output.status.to_string(),
        said => said.to_owned(),
    }))
}

/// The installed program for a kind of ids, if it can be trusted.
pub(crate) fn helper(kind: IdKind) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(kind.helper()))
        .find(|program| {
            fs::metadata(program)
                .is_ok_and(|meta| meta.is_file() && meta.uid() == 0 && meta.mode() & 0o022 == 0)
        })
}

/// The subordinate ids of a user, by its id and by its name in `/etc/passwd`, in the file's order.
///
/// # Errors
/// When `/etc/subuid` (`/etc/subgid`) is there and cannot be read. A missing file grants nothing.
pub(crate) fn subordinate_ids(kind: IdKind, uid: u32) -> io::Result<Vec<SubordinateIds>> {
    let file = match read_bounded(kind.grants()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    // A machine whose users are not in the file still has their ids; what is unknown has no name.
    let passwd = read_bounded("/etc/passwd").unwrap_or_default();
    Ok(granted(&file, uid, name_of(&passwd, uid)))
}

fn read_bounded(file: &str) -> io::Result<String> {
    let mut text = Vec::new();
    fs::File::open(file)?.take(16 << 20).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn granted(file: &str, uid: u32, name: Option<&str>) -> Vec<SubordinateIds> {
    let run = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner.parse() != Ok(uid) {
            return None;
        }
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0 && first.checked_add(count).is_some()).then_some(SubordinateIds { first, count })
    };
    file.lines().filter_map(run).collect()
}

/// The map of a namespace that holds the first `most` ids inside from runs of subordinate ids.
pub(crate) fn consecutive(runs: &[SubordinateIds], most: u32) -> Vec<IdMap> {
    let mut map = Vec::new();
    let mut inside = 0;
    for run in runs {
        let count = run.count.min(most - inside);
        if count > 0 {
            map.push(IdMap {
                inside,
                outside: run.first,
                count,
            });
            inside += count;
        }
    }
    map
}

/// A user namespace that no process lives in, only to give an idmapped mount its ids.
///
/// # Errors
/// As clone3(2) and the writing of the maps.
pub(crate) fn without_process(users: &[IdMap], groups: &[IdMap]) -> Result<OwnedFd, MapError> {
    let failed = |errno: Errno| MapError::Write {
        file: "a user namespace for a mount".to_owned(),
        source: errno.into(),
    };
    let parent = getpid();
    match clone3(CloneFlags::CLONE_NEWUSER, None).map_err(failed)? {
        Cloned::Child => {
            // It must not outlive a launcher that dies before the kill below: its copies of the launcher's channels would
            // keep a PID 1 waiting for ever. The signal says nothing about a parent that was gone before it was asked for.
            if prctl::set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != parent {
                process::exit_now(1);
            }
            loop {
                pause();
            }
        }
        Cloned::Parent(pid, pidfd) => {
            let made = write_map(pid, IdKind::User, users)
                .and_then(|()| write_map(pid, IdKind::Group, groups))
                .and_then(|()| of_process(pid));
            match process::signal(pidfd.as_fd(), Signal::SIGKILL as i32) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(failed(errno)),
            }
            process::wait(pid).map_err(failed)?;
            made
        }
    }
}

/// The user namespace of a process.
///
/// # Errors
/// ENOENT when it has ended.
pub(crate) fn of_process(pid: Pid) -> Result<OwnedFd, MapError> {
    let file = format!("/proc/{pid}/ns/user");
    match fs::File::open(&file) {
        Ok(opened) => Ok(opened.into()),
        Err(source) => Err(MapError::Write { file, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_go_by_name_and_by_id() {
        let file =
            "web:100000:65536\n1000:300000:10\nother:1:5\n# web:1:1\nweb:4294967295:2\nweb:7:0\nweb:x:1\n";
        let runs = granted(file, 1000, Some("web"));
        assert_eq!(
            runs,
            [
                SubordinateIds {
                    first: 100_000,
                    count: 65536
                },
                SubordinateIds {
                    first: 300_000,
                    count: 10
                }
            ]
        );
        assert_eq!(
            granted(file, 1000, None),
            [SubordinateIds {
                first: 300_000,
                count: 10
            }]
        );
        assert_eq!(
            name_of("root:x:0:0::/:\nweb:x:1000:1000::/:\n", 1000),
            Some("web")
        );
    }

    #[test]
    fn runs_follow_each_other_inside() {
        let runs = [
            SubordinateIds {
                first: 100,
                count: 10,
            },
            SubordinateIds {
                first: 500,
                count: 10,
            },
        ];
        let map = |inside, outside, count| IdMap {
            inside,
            outside,
            count,
        };
        assert_eq!(consecutive(&runs, 15), [map(0, 100, 10), map(10, 500, 5)]);
        assert_eq!(consecutive(&runs, 10), [map(0, 100, 10)]);
        assert_eq!(consecutive(&[], 10), []);
    }
}

//! The process that pulls: the caller stays without a thread, a socket or a credential.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::describe::Resolved;
use super::export::{Export, Exported, export};
use super::import::{Import, import, look_into};
use super::pull::{Event, PullError, Report, Request, look_up, pull};
use super::source::Source;
use super::store::{Damage, Ownership, Store, Swept};
use super::unpack::Owners;
use crate::sys::fork;
use crate::sys::process::Ended;
use crate::sys::userns::{
    IdKind, IdMap, consecutive, deny_setgroups, map_by_helper, subordinate_ids, write_map,
};

/// Ids that an image can name: those of a run's user namespace.
const IDS: u32 = 65536;
/// The shortest time between two reports of one layer's progress.
const PROGRESS: Duration = Duration::from_millis(50);
/// The longest line that the child sends, in bytes: a report with all accounts of an image.
const LONGEST_LINE: u64 = 32 << 20;

/// What the child sends, one JSON text a line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<T> {
    /// It is in its user namespace and waits for its maps.
    NeedsMaps,
    Event(Event),
    Done(T),
    Failed(String),
}

/// Pulls an image into the store at `path`, which is made if need be, in a process of its own.
///
/// # Errors
/// The whole message of what went wrong; the store then holds what it held before.
pub fn pull_in_child(
    path: &Path,
    ownership: Ownership,
    request: &Request,
    on_event: impl FnMut(Event),
) -> Result<Report, PullError> {
    let reference = request.reference.to_string();
    // Ids are mapped for this ownership alone.
    let outside = (ownership == Ownership::Subordinate).then(|| request.credentials.outside());
    let outside = outside.transpose().map_err(|errno| PullError::Process {
        reference: reference.clone(),
        step: "start the process of credential helpers",
        reason: errno.to_string(),
    })?;
    let mut request = request.clone();
    let _helpers = outside.map(|(credentials, child)| {
        request.credentials = credentials;
        child
    });
    let work =
        |store: &Store, owners, on_event: &(dyn Fn(Event) + Sync)| pull(store, &request, owners, on_event);
    into_store(path, ownership, Reads::Opened, reference, work, on_event)
}

/// Brings a layout's or an archive's image into the store at `path`, as [`pull_in_child`] does from a registry.
///
/// # Errors
/// The whole message of what went wrong; the store then holds what it held before.
pub fn import_in_child(
    path: &Path,
    ownership: Ownership,
    from: &Import,
    on_event: impl FnMut(Event),
) -> Result<Report, PullError> {
    let work =
        |store: &Store, owners, on_event: &(dyn Fn(Event) + Sync)| import(store, from, owners, on_event);
    let reads = Reads::of(&from.source);
    into_store(path, ownership, reads, from.source.to_string(), work, on_event)
}

/// Says what a layout or an archive means, for every platform, in a process of its own.
///
/// # Errors
/// The whole message of what went wrong.
pub fn look_into_in_child(path: &Path, ownership: Ownership, from: &Import) -> Result<Resolved, PullError> {
    let store = Store::create(path, ownership)?;
    in_a_child(from.source.to_string(), None, |_| look_into(&store, from), |_| {})
}

/// Writes an image of the store at `path` where it is to go, in a process of its own: it may open sockets.
///
/// # Errors
/// The whole message of what went wrong; a target that is a file or a folder is then what it was before.
pub fn export_in_child(path: &Path, what: &Export) -> Result<Exported, PullError> {
    let store = Store::open(path)?.ok_or_else(|| PullError::Export {
        reference: what.image.to_string(),
        reason: "it is not in the store".to_owned(),
    })?;
    let maps = match what.target {
        Source::Dir(_) => Maps::of(store.ownership(), Reads::All),
        _ => Ok(None),
    };
    let maps = maps.map_err(|reason| PullError::Export {
        reference: what.image.to_string(),
        reason: format!("map ids: {reason}"),
    })?;
    in_a_child(what.image.to_string(), maps, |_| export(&store, what), |_| {})
}

/// Takes out of the store at `path` what no image needs. Layers may belong to subordinate ids, so a process of their user
/// namespace does it.
///
/// # Errors
/// The whole message of what went wrong.
pub fn sweep_in_child(path: &Path) -> Result<Swept, PullError> {
    let Some(store) = Store::open(path)? else {
        return Ok(Swept::default());
    };
    let work = |store: &Store, _, _: &(dyn Fn(Event) + Sync)| Ok(store.sweep()?);
    let nothing = "nothing".to_owned();
    into_store(path, store.ownership(), Reads::Opened, nothing, work, |_| {})
}

/// Reads all of the store at `path` again, in a process that may read all its files, and takes out what is damaged.
///
/// # Errors
/// The whole message of what went wrong. Damage is no error but the answer.
pub fn verify_in_child(path: &Path) -> Result<Vec<Damage>, PullError> {
    let Some(store) = Store::open(path)? else {
        return Ok(Vec::new());
    };
    let work = |store: &Store, _, _: &(dyn Fn(Event) + Sync)| Ok(store.verify()?);
    let nothing = "nothing".to_owned();
    into_store(path, store.ownership(), Reads::Opened, nothing, work, |_| {})
}

/// Which of the caller's files a process must be able to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// Those that are open to it.
    Opened,
    /// All, also those whose mode keeps their owner out: as root does, for whom images are made.
    All,
}

impl Reads {
    fn of(source: &Source) -> Reads {
        match source {
            Source::Dir(_) => Reads::All,
            _ => Reads::Opened,
        }
    }
}

/// Works on a store in a process that may set the owners of its files.
fn into_store<T: Serialize + DeserializeOwned>(
    path: &Path,
    ownership: Ownership,
    reads: Reads,
    reference: String,
    work: impl FnOnce(&Store, Owners, &(dyn Fn(Event) + Sync)) -> Result<T, PullError>,
    on_event: impl FnMut(Event),
) -> Result<T, PullError> {
    let store = Store::create(path, ownership)?;
    let maps = Maps::of(ownership, reads).map_err(|reason| PullError::Process {
        reference: reference.clone(),
        step: "map ids",
        reason,
    })?;
    let owners = Owners {
        ownership,
        count: maps.as_ref().map_or(IDS, |maps| maps.count),
    };
    in_a_child(
        reference,
        maps,
        |on_event| work(&store, owners, on_event),
        on_event,
    )
}

/// Asks what a reference means now, for every platform, in a process of its own. Nothing comes into a store.
///
/// # Errors
/// The whole message of what went wrong.
pub fn resolve_in_child(request: &Request) -> Result<Resolved, PullError> {
    in_a_child(request.reference.to_string(), None, |_| look_up(request), |_| {})
}

/// Works in a process of its own, in a user namespace with the ids of `maps` if there are any.
fn in_a_child<T: Serialize + DeserializeOwned>(
    reference: String,
    maps: Option<Maps>,
    work: impl FnOnce(&(dyn Fn(Event) + Sync)) -> Result<T, PullError>,
    mut on_event: impl FnMut(Event),
) -> Result<T, PullError> {
    let process = |step: &'static str, reason: String| PullError::Process {
        reference: reference.clone(),
        step,
        reason,
    };
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
    let (from_child, to_parent) = pipe().map_err(|errno| process("make a pipe", errno.to_string()))?;
    let (from_parent, to_child) = pipe().map_err(|errno| process("make a pipe", errno.to_string()))?;
    let (mut from_child, mut to_child) = (Some(from_child), Some(to_child));
    let body = || {
        // The child's copies of the parent's ends: with them it would never see that the parent gave up.
        drop((from_child.take(), to_child.take()));
        in_child(&reference, maps.is_some(), work, &to_parent, &from_parent)
    };
    let child = fork::run(body).map_err(|errno| process("start its process", errno.to_string()))?;
    drop((to_parent, from_parent));
    let outcome = listen(child.pid(), from_child, to_child, maps.as_ref(), &mut on_event);
    let status = how(child.wait());
    match outcome {
        Ok(Some(Line::Done(report))) => Ok(report),
        Ok(Some(Line::Failed(text))) => Err(PullError::Reported(text)),
        Ok(_) => Err(process("its process ended early", status)),
        Err(reason) => Err(process("its process", reason)),
    }
}

/// Reads what the child sends, to the end.
fn listen<T: DeserializeOwned>(
    child: Pid,
    from_child: Option<OwnedFd>,
    mut to_child: Option<OwnedFd>,
    maps: Option<&Maps>,
    on_event: &mut impl FnMut(Event),
) -> Result<Option<Line<T>>, String> {
    let Some(from_child) = from_child else {
        return Ok(None);
    };
    let mut lines = BufReader::new(File::from(from_child));
    loop {
        let mut text = Vec::new();
        let read = (&mut lines)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut text)
            .map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(None);
        }
        match serde_json::from_slice(&text).map_err(|error| error.to_string())? {
            Line::NeedsMaps => {
                // When the maps fail the child reads the end of its pipe, and ends.
                let to_child = to_child.take().ok_or("it asked for its ids twice")?;
                if let Some(maps) = maps {
                    maps.write(child)?;
                }
                nix::unistd::write(&to_child, b"x").map_err(|errno| errno.to_string())?;
            }
            Line::Event(event) => on_event(event),
            end => return Ok(Some(end)),
        }
    }
}

/// How it ended, in words.
fn how(ended: Result<Ended, Errno>) -> String {
    let ended = match ended {
        Ok(ended) => ExitStatus::from_raw(ended.status),
        Err(errno) => return errno.to_string(),
    };
    match (ended.signal().map(Signal::try_from), ended.code()) {
        (Some(Ok(signal)), _) => format!("by {signal}"),
        (_, Some(code)) => format!("with status {code}"),
        (..) => ended.to_string(),
    }
}

fn in_child<T: Serialize>(
    reference: &str,
    needs_maps: bool,
    work: impl FnOnce(&(dyn Fn(Event) + Sync)) -> Result<T, PullError>,
    to_parent: &OwnedFd,
    from_parent: &OwnedFd,
) -> u8 {
    let sender = Sender {
        file: Mutex::new((to_parent, Vec::new())),
    };
    let line = match enter(needs_maps, &sender, from_parent) {
        Err(reason) => Line::Failed(format!("pull {reference}: {reason}")),
        Ok(()) => match work(&|event| sender.event(event)) {
            Ok(answer) => Line::Done(answer),
            Err(error) => Line::Failed(error.to_string()),
        },
    };
    match sender.send(&line) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

/// Enters a user namespace in which the caller keeps its own id and has all capabilities over the subordinate ones.
fn enter(needs_maps: bool, sender: &Sender<'_>, from_parent: &OwnedFd) -> Result<(), String> {
    if !needs_maps {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| format!("make a user namespace: {errno}"))?;
    sender
        .send(&Line::<()>::NeedsMaps)
        .map_err(|error| error.to_string())?;
    let mut answer = [0];
    match nix::unistd::read(from_parent, &mut answer) {
        Ok(1) => Ok(()),
        _ => Err("its ids could not be mapped".to_owned()),
    }
}

/// The ids of the namespace in which an ordinary user's process works.
struct Maps {
    users: Vec<IdMap>,
    groups: Vec<IdMap>,
    /// Ids from 0 on that are there for both; none where the caller is alone.
    count: u32,
}

impl Maps {
    /// The maps that a process needs for a store with this ownership; none where it needs no namespace.
    fn of(ownership: Ownership, reads: Reads) -> Result<Option<Maps>, String> {
        match (ownership, reads) {
            (Ownership::Subordinate, _) => Maps::of_caller().map(Some),
            (Ownership::Single, Reads::All) if !nix::unistd::geteuid().is_root() => Ok(Some(Maps::alone())),
            _ => Ok(None),
        }
    }

    /// The caller, and no one else: over its own files it has all rights in a namespace of its own
    /// (user_namespaces(7), "Interaction of user namespaces and other types of namespaces").
    fn alone() -> Maps {
        let map = |own: u32| {
            vec![IdMap {
                inside: IDS,
                outside: own,
                count: 1,
            }]
        };
        Maps {
            users: map(nix::unistd::geteuid().as_raw()),
            groups: map(nix::unistd::getegid().as_raw()),
            count: 0,
        }
    }

    /// Ids from 0 on are the caller's subordinate ids; the one after the last id of any image is the caller.
    fn of_caller() -> Result<Maps, String> {
        let uid = nix::unistd::getuid().as_raw();
        let gid = nix::unistd::getgid().as_raw();
        let map = |kind: IdKind, own: u32| {
            let runs = subordinate_ids(kind, uid).map_err(|error| format!("{}: {error}", kind.grants()))?;
            let mut map = consecutive(&runs, IDS);
            let count: u32 = map.iter().map(|run| run.count).sum();
            if count == 0 {
                return Err(format!("{} grants user {uid} no ids", kind.grants()));
            }
            map.push(IdMap {
                inside: IDS,
                outside: own,
                count: 1,
            });
            Ok((map, count))
        };
        let (users, user_count) = map(IdKind::User, uid)?;
        let (groups, group_count) = map(IdKind::Group, gid)?;
        Ok(Maps {
            users,
            groups,
            count: user_count.min(group_count),
        })
    }

    fn write(&self, child: Pid) -> Result<(), String> {
        if self.count == 0 {
            let written = deny_setgroups(child)
                .and_then(|()| write_map(child, IdKind::User, &self.users))
                .and_then(|()| write_map(child, IdKind::Group, &self.groups));
            return written.map_err(|error| error.to_string());
        }
        map_by_helper(child, IdKind::User, &self.users).map_err(|error| error.to_string())?;
        map_by_helper(child, IdKind::Group, &self.groups).map_err(|error| error.to_string())
    }
}

/// Writes lines; progress not more often than anyone can see.
struct Sender<'a> {
    file: Mutex<(&'a OwnedFd, Vec<(usize, Instant)>)>,
}

impl Sender<'_> {
    fn event(&self, event: Event) {
        if let Event::Progress { layer, .. } = event {
            let now = Instant::now();
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            match file.1.iter_mut().find(|(known, _)| *known == layer) {
                Some((_, last)) if now.duration_since(*last) < PROGRESS => return,
                Some((_, last)) => *last = now,
                None => file.1.push((layer, now)),
            }
        }
        // The parent's death ends this process by itself; no one is left to tell.
        self.send(&Line::<()>::Event(event)).ok();
    }

    fn send(&self, line: &Line<impl Serialize>) -> Result<(), Errno> {
        let mut text = serde_json::to_vec(line).map_err(|_| Errno::EINVAL)?;
        text.push(b'\n');
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = &text[..];
        while !rest.is_empty() {
            match nix::unistd::write(file.0, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

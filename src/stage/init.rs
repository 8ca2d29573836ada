//! PID 1: waits for its id maps, runs its steps, among them the fork of the job's process, then reaps.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Gid, Pid, Uid, setgroups, sethostname, setresgid, setresuid, write};

use super::place::Places;
use super::root::Detached;
use super::{Bound, Child, Source, mounts, reaper, root, second_look, workload};
use crate::plan::{InitStep, Mounted, Tree, WorkloadStep};
use crate::profile::{Namespace, TimeOffsets};
use crate::report::channel::{Channel, Received};
use crate::report::record::{Record, Stage};
use crate::sys;
use crate::units::Bytes;

/// The exit code of a child that could not be set up; the launcher does not read it, the records say it.
const SETUP_FAILED: i32 = 125;

/// What the steps hand on to each other.
struct Progress<'a> {
    child: Child<'a>,
    /// File systems that must be made while those of the host are still in sight.
    detached: Detached,
    /// The root file system, once it is entered.
    places: Option<Places>,
    /// Writable layers, to ask at the end whether one was full.
    layers: Vec<OwnedFd>,
    /// The places of optional binds whose source is missing.
    left_out: Vec<String>,
}

/// What a process is once all steps of PID 1 are behind it.
enum Role {
    /// PID 1, with the job's process, which waits for the word on the channel.
    Init(Pid, Channel),
    /// The process that becomes the job; with an init it waits for the end of PID 1's steps.
    Job(Option<Channel>),
}

/// Runs as PID 1 of the new namespaces and never returns.
pub(crate) fn run(child: Child<'_>) -> ! {
    let mut progress = Progress {
        child,
        detached: Detached::default(),
        places: None,
        layers: Vec::new(),
        left_out: Vec::new(),
    };
    match build(&mut progress) {
        Ok(Role::Init(job, to_job)) => supervise(progress, job, to_job),
        Ok(Role::Job(from_init)) => become_job(progress, from_init),
        Err(failure) => fail(&progress.child.report, failure),
    }
}

type Failure = (Stage, u16, Errno);

fn fail(report: &Channel, (stage, index, errno): Failure) -> ! {
    // Without a reader there is nobody to tell, and nothing has started.
    report.send(Record::Failed(stage, index, errno), &[]).ok();
    sys::process::exit_now(SETUP_FAILED)
}

/// The steps of PID 1. Returns twice where one of them forks.
fn build(progress: &mut Progress<'_>) -> Result<Role, Failure> {
    let at_start = |errno| (Stage::Start, 0, errno);
    let plan = progress.child.plan;
    let alone = plan.alone();
    let mut role = Role::Job(None);
    for (index, step) in plan.init.iter().enumerate() {
        if index == alone {
            wait_for_go(progress, alone > 0).map_err(at_start)?;
        }
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let failed = |errno| (Stage::Init, index, errno);
        if *step == InitStep::Fork {
            role = fork_job().map_err(failed)?;
            if let Role::Job(_) = role {
                return Ok(role);
            }
        } else {
            act(step, progress).map_err(failed)?;
        }
    }
    if progress.child.bound.receipt {
        look_again(progress)?;
    }
    // Cleared by the change of ids, so it comes after the steps; it says nothing when the launcher died
    // before this line, which the loop's watch on the status channel notices (PR_SET_PDEATHSIG(2const)).
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at_start)?;
    Ok(role)
}

fn fork_job() -> Result<Role, Errno> {
    let (to_job, from_init) = Channel::pair()?;
    Ok(match sys::fork::fork()? {
        Some(job) => {
            sys::affinity::start_apart(job);
            Role::Init(job, to_job)
        }
        None => Role::Job(Some(from_init)),
    })
}

/// Checks what the receipt will say of the steps, and prepares what the job's process will check.
///
/// An end of a mount, such as that of the file system made here, waits for the kernel; a run without a receipt does not pay it.
fn look_again(progress: &mut Progress<'_>) -> Result<(), Failure> {
    let places = progress
        .places
        .as_ref()
        .ok_or((Stage::Start, 0, Errno::ENOTDIR))?;
    let plan = progress.child.plan;
    for (index, step) in plan.init.iter().enumerate() {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        second_look::holds(step, places, &progress.left_out).map_err(|errno| (Stage::Init, index, errno))?;
    }
    let landlock = |step: &WorkloadStep| matches!(step, WorkloadStep::Landlock(_));
    if let Some(index) = plan.workload.iter().position(landlock) {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let made = root::memory(Some(Bytes(4096)), 0o555, root::PLAIN);
        progress.child.beyond_rules = Some(made.map_err(|errno| (Stage::Workload, index, errno))?);
    }
    Ok(())
}

/// Until here PID 1 needs nothing of the launcher, which waits to hear that its own namespaces are made.
fn wait_for_go(progress: &mut Progress<'_>, unshared: bool) -> Result<(), Errno> {
    if unshared {
        progress.child.report.send(Record::Unshared, &[])?;
    }
    progress.detached.overlay = wait_for(progress, Record::Go)?.pop();
    sys::process::umask(0o022);
    Ok(())
}

/// The descriptors that come with the launcher's next record.
fn wait_for(progress: &Progress<'_>, expected: Record) -> Result<Vec<OwnedFd>, Errno> {
    match progress.child.report.receive()? {
        Received::Record(record, descriptors) if record == expected => Ok(descriptors),
        // The launcher died before it had done its part.
        Received::Record(..) | Received::Eof => sys::process::exit_now(SETUP_FAILED),
    }
}

/// One step; the order is the plan's.
fn act(step: &InitStep, progress: &mut Progress<'_>) -> Result<(), Errno> {
    let bound = progress.child.bound;
    match step {
        InitStep::JoinCgroup => {
            // "0" is the writing thread itself: unlike a pid it needs no search and, for a lone thread, no
            // grace period of the kernel (Documentation/admin-guide/cgroup-v1/cgroups.rst).
            for tasks in wait_for(progress, Record::Cgroup)? {
                write(tasks, b"0")?;
            }
            Ok(())
        }
        InitStep::Unshare(namespace) => unshare(match namespace {
            Namespace::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
            Namespace::Uts => CloneFlags::CLONE_NEWUTS,
            Namespace::Net => CloneFlags::CLONE_NEWNET,
            // These exist since the clone, or have a step of their own.
            Namespace::User | Namespace::Mount | Namespace::Pid | Namespace::Time => {
                return Err(Errno::EINVAL);
            }
        }),
        InitStep::Time(offsets) => time_namespace(*offsets),
        InitStep::TakeTree(tree) => {
            let taken = take(tree, bound)?;
            progress.child.trees.insert(tree.clone(), taken);
            Ok(())
        }
        InitStep::BecomeRoot => {
            if bound.setgroups {
                setgroups(&[])?;
            }
            setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
            setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
        }
        // The loop over the steps forks by itself.
        InitStep::Fork => Err(Errno::EINVAL),
        InitStep::NotDumpable => prctl::set_dumpable(false),
        InitStep::SessionKeyring => sys::keyring::join_new_session(),
        InitStep::PrivateMounts => root::make_private(),
        InitStep::Hostname(name) => sethostname(name.as_str()),
        InitStep::Loopback => sys::process::loopback_up(),
        InitStep::Network => wait_for(progress, Record::Network).map(drop),
        InitStep::Root(kind) => {
            let detached = &mut progress.detached;
            let trees = &mut progress.child.trees;
            let layer_file = progress.child.layer_file.take();
            let entered = root::enter(
                kind,
                progress.child.plan,
                trees,
                layer_file,
                &bound.files,
                detached,
            )?;
            progress.layers.extend(entered.layer);
            progress.places = Some(entered.places);
            Ok(())
        }
        InitStep::Mount { at, what } => {
            let places = progress.places.as_ref().ok_or(Errno::ENOTDIR)?;
            let trees = &mut progress.child.trees;
            if let Mounted::Bind { tree, .. } = what
                && trees.get(tree).is_some_and(Vec::is_empty)
            {
                progress.left_out.push(at.clone());
            }
            let layer = mounts::mount(places, at, what, trees, &mut progress.detached, bound)?;
            progress.layers.extend(layer);
            Ok(())
        }
        InitStep::Sysctl { name, value } => {
            let places = progress.places.as_ref().ok_or(Errno::ENOTDIR)?;
            mounts::sysctl(places, name, value)
        }
        InitStep::Mask(paths) => {
            let places = progress.places.as_ref().ok_or(Errno::ENOTDIR)?;
            mounts::mask(places, paths, &mut progress.detached)
        }
        InitStep::ReadOnly(paths) => {
            let places = progress.places.as_ref().ok_or(Errno::ENOTDIR)?;
            mounts::read_only(places, paths)
        }
        InitStep::RootReadOnly => {
            let places = progress.places.as_ref().ok_or(Errno::ENOTDIR)?;
            sys::mount::set_own_attributes(places.root(), sys::mount::Attributes::READ_ONLY)
        }
    }
}

/// Opens the sources of a tree again, in this mount namespace, and detaches a copy of each.
///
/// A descriptor of the launcher's own namespace would not do: open_tree(2) refuses mounts of another one.
fn take(tree: &Tree, bound: &Bound) -> Result<Vec<OwnedFd>, Errno> {
    let sources = bound.sources.get(tree).map_or(&[][..], Vec::as_slice);
    sources.iter().map(take_source).collect()
}

fn take_source(source: &Source) -> Result<OwnedFd, Errno> {
    let place = open(
        source.path.as_c_str(),
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let seen = fstat(&place)?;
    if (seen.st_dev, seen.st_ino) != source.identity {
        // It was exchanged between the launcher's look and this one.
        return Err(Errno::ESTALE);
    }
    sys::mount::open_tree(place.as_fd(), c"")
}

/// Makes the time namespace of the children; this process stays in the old one.
///
/// Offsets can be set only until the first child exists (time_namespaces(7)).
fn time_namespace(offsets: TimeOffsets) -> Result<(), Errno> {
    // CLONE_NEWTIME of <linux/sched.h>; nix has no name for it.
    unshare(CloneFlags::from_bits_retain(0x80))?;
    let line = |clock: &str, millis: i64| {
        format!(
            "{clock} {} {}\n",
            millis.div_euclid(1000),
            millis.rem_euclid(1000) * 1_000_000
        )
    };
    let text = line("monotonic", offsets.monotonic_ms) + &line("boottime", offsets.boottime_ms);
    let mut file = File::options()
        .write(true)
        .open("/proc/self/timens_offsets")
        .map_err(from_io)?;
    file.write_all(text.as_bytes()).map_err(from_io)
}

/// The kernel's error number of a standard library error.
pub(super) fn from_io(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

/// Lets the job's process go on, and reaps until it ends.
fn supervise(progress: Progress<'_>, job: Pid, to_job: Channel) -> ! {
    let Progress { child, layers, .. } = progress;
    // The launcher reads "running" from the end of the report channel, so no copy may stay here.
    let Child {
        plan,
        status,
        report,
        stdio,
        beyond_rules,
        ..
    } = child;
    let beyond_rules: Vec<_> = beyond_rules.iter().map(AsFd::as_fd).collect();
    match to_job.send(Record::Go, &beyond_rules) {
        // A process that is gone has said why.
        Ok(()) | Err(Errno::EPIPE) => {}
        Err(errno) => fail(&report, (Stage::Start, 1, errno)),
    }
    drop(report);
    drop(stdio);
    reaper::run(job, status.into(), layers, &plan.watch)
}

/// Takes the steps of the job's process.
fn become_job(progress: Progress<'_>, from_init: Option<Channel>) -> ! {
    let Progress {
        child,
        places,
        detached,
        layers,
        ..
    } = progress;
    let Some(places) = places else {
        fail(&child.report, (Stage::Start, 0, Errno::ENOTDIR))
    };
    drop((detached, layers));
    workload::run(child, places, from_init)
}

/// Gives `fd` the number `wanted`, close-on-exec.
pub(super) fn renumber(fd: OwnedFd, wanted: i32) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() == wanted {
        return Ok(fd);
    }
    sys::process::duplicate_to(fd.as_fd(), wanted)
}

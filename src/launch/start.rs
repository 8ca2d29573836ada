//! The clone, the steps that need the child, and the wait until it runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::error::{LaunchError, words};
use super::ids;
use super::network::Reach;
use super::prepare::{Prepared, make_group};
use super::stdio::{self, Pump, RawMode, Streams};
use super::wall_timer::WallTimer;
use super::{Ended, Exit, overlay, signals};
use crate::cgroup::{self, Group};
use crate::net::agent::Namespaces;
use crate::net::bridge::Kept;
use crate::plan::{ChildStep, Id, InitStep, Tree, TreeOwner};
use crate::profile::Namespace;
use crate::report::channel::{Channel, Received};
use crate::report::record::Record;
use crate::stage::{self, Child};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::userns::of_process;
use crate::sys::{affinity, fork, mount};

/// A job that runs, and everything that must be undone after it.
pub(crate) struct Running {
    pub(super) prepared: Prepared,
    pub(super) init: Pid,
    pub(super) init_fd: OwnedFd,
    pub(super) status: Channel,
    pub(super) pumps: Vec<Pump>,
    pub(super) master: Option<OwnedFd>,
    pub(super) raw_mode: Option<RawMode>,
    pub(super) started: (SystemTime, Instant),
    /// Holds the wall limit of a job without an init while this process is stopped.
    pub(super) wall_timer: Option<WallTimer>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) verified: bool,
    /// Why it was ended before it was waited for, if it was.
    pub(super) ended: Ended,
    /// Answers to what is asked instead of running the job.
    pub(super) answers: Vec<i32>,
    /// What went wrong so far that does not fail the run, in words for its end.
    pub(super) troubles: Vec<String>,
    /// What there is of a network.
    pub(super) reach: Reach,
}

impl Prepared {
    /// Clones PID 1, lets it build the sandbox, and returns when the job's program is executed.
    ///
    /// # Errors
    /// The step that failed and why; nothing is left of the sandbox.
    pub(crate) fn start(mut self) -> Result<Running, LaunchError> {
        one_thread()?;
        let output = self.plan.watch.output.map(|bytes| bytes.0);
        let Streams { job: stdio, pumps } = stdio::connect(self.streams.take(), self.bound.tty, output)?;
        let channels = Channel::pair().and_then(|report| Ok((report, Channel::pair()?)));
        let ((report, child_report), (status, child_status)) =
            channels.map_err(|errno| LaunchError::setup("channels to PID 1", words(errno)))?;
        let started = (SystemTime::now(), Instant::now());
        let wall_timer = match self.plan.exec.init {
            true => Ok(None),
            false => WallTimer::start(&self.plan.watch),
        };
        let wall_timer =
            wall_timer.map_err(|errno| LaunchError::setup("limits.wall: timer", words(errno)))?;
        let v2 = self.group.as_ref().and_then(|group| group.directory());
        let cloned = clone3(self.clone_flags(), v2).map_err(|errno| self.clone_failed(errno))?;
        let (init, init_fd) = match cloned {
            Cloned::Parent(init, init_fd) => (init, init_fd),
            Cloned::Child => {
                drop((report, status, pumps));
                let Prepared {
                    plan,
                    bound,
                    trees,
                    layer_file,
                    signals,
                    ..
                } = self;
                drop(signals);
                stage::run(Child {
                    plan: &plan,
                    bound: &bound,
                    trees,
                    layer_file,
                    report: child_report,
                    status: child_status,
                    stdio,
                    beyond_rules: None,
                })
            }
        };
        affinity::start_apart(init);
        drop((child_report, child_status, stdio));
        let mut running = Running {
            prepared: self,
            init,
            init_fd,
            status,
            pumps,
            master: None,
            raw_mode: None,
            started,
            wall_timer,
            namespaces: Vec::new(),
            verified: false,
            ended: Ended::Itself,
            answers: Vec::new(),
            troubles: Vec::new(),
            reach: Reach::default(),
        };
        match running.set_up(&report) {
            Ok(()) => Ok(running),
            Err(error) => Err(running.abandon(error)),
        }
    }

    /// What clone3(2) can make; PID 1 makes the rest (house decision 5).
    fn clone_flags(&self) -> CloneFlags {
        let later = |namespace| self.plan.init.contains(&InitStep::Unshare(namespace));
        let flag = |namespace: &Namespace| match namespace {
            _ if later(*namespace) => CloneFlags::empty(),
            Namespace::User => CloneFlags::CLONE_NEWUSER,
            Namespace::Mount => CloneFlags::CLONE_NEWNS,
            Namespace::Pid => CloneFlags::CLONE_NEWPID,
            Namespace::Net => CloneFlags::CLONE_NEWNET,
            Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
            Namespace::Uts => CloneFlags::CLONE_NEWUTS,
            Namespace::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            // Its offsets are frozen for a task that is cloned into it (time_namespaces(7)).
            Namespace::Time => CloneFlags::empty(),
        };
        self.plan.namespaces.iter().map(flag).collect()
    }

    fn clone_failed(&self, errno: Errno) -> LaunchError {
        let cause = match errno {
            Errno::EPERM => "not permitted; this host forbids user namespaces to the caller, `ringfence doctor` says how to mend it".to_owned(),
            Errno::ENOSPC => "a limit of namespaces is reached (user.max_user_namespaces and its like, see namespaces(7))".to_owned(),
            Errno::EAGAIN => "a limit of processes is reached".to_owned(),
            _ => words(errno),
        };
        LaunchError::setup("clone PID 1", cause)
    }
}

impl Running {
    /// The steps that need the child, and the child's own, until its program runs.
    fn set_up(&mut self, report: &Channel) -> Result<(), LaunchError> {
        let Prepared { plan, bound, .. } = &self.prepared;
        // To name its namespaces in a receipt, or to connect the network, they must be there.
        let looks_at_them = bound.receipt || !plan.network.is_empty();
        let makes_some_alone = plan.alone() > 0;
        if makes_some_alone && looks_at_them {
            self.wait_until_unshared(report)?;
        }
        if self.prepared.bound.receipt {
            self.namespaces = namespaces_of(self.init);
        }
        // Before PID 1 closes itself to others.
        let namespaces = match self.prepared.plan.network.is_empty() {
            true => None,
            false => Some(
                Namespaces::of(self.init)
                    .map_err(|errno| LaunchError::setup("namespaces of PID 1", words(errno)))?,
            ),
        };
        let is_group = |step: &ChildStep| matches!(step, ChildStep::Cgroup(_));
        let steps = &self.prepared.plan.with_child;
        let total = steps.len();
        let before_go = steps.iter().position(is_group).unwrap_or(total);
        let mut overlay = None;
        for index in 0..before_go {
            overlay = self.act_on(index)?.or(overlay);
        }
        let overlay: Vec<_> = overlay.iter().map(AsFd::as_fd).collect();
        send(report, Record::Go, &overlay)?;
        // The ways to v1 groups lead through sysfs, which PID 1's new network is being entered in meanwhile: the two
        // would wait for each other, asleep (kernfs_rwsem, fs/kernfs/dir.c).
        if makes_some_alone && !looks_at_them {
            self.wait_until_unshared(report)?;
        }
        // Before a group is made, since then there is often none, and nothing to look through.
        self.sweep();
        for index in before_go..total {
            self.act_on(index)?;
        }
        let tasks: Vec<_> = self.prepared.group.iter().flat_map(Group::tasks).collect();
        if !tasks.is_empty() {
            send(report, Record::Cgroup, &tasks)?;
        }
        if let Some(namespaces) = namespaces {
            self.connect(&namespaces, report)?;
        }
        self.wait_until_running(report)
    }

    /// Removes what dead runs have left, addresses that this one may get among it: while PID 1 builds the root, and not once
    /// the job runs, since this process may be woken on the job's processor and hold it up.
    fn sweep(&mut self) {
        if let Some(site) = &self.prepared.site {
            let left = cgroup::sweep(site).left;
            self.troubles.extend(left.iter().map(ToString::to_string));
        }
        self.troubles.extend(self.prepared.networks.sweep(Kept::Stays));
    }

    /// Does one of the steps with the child; the root's overlay, if this one has mounted it.
    fn act_on(&mut self, index: usize) -> Result<Option<OwnedFd>, LaunchError> {
        let step = self.prepared.plan.with_child[index].clone();
        let total = self.prepared.plan.with_child.len();
        self.act(&step)
            .map_err(|cause| LaunchError::step("child", index, total, &step, cause))
    }

    fn act(&mut self, step: &ChildStep) -> Result<Option<OwnedFd>, String> {
        match step {
            ChildStep::Cgroup(_) => {
                let prepared = &mut self.prepared;
                let site = prepared.site.as_ref().ok_or("no place for a group")?;
                prepared.group = Some(make_group(site, &prepared.group_limits)?);
            }
            ChildStep::MapIds(_) => self.prepared.maps.write(self.init)?,
            ChildStep::IdmapTree { tree, owner } => self.idmap(tree, owner)?,
            ChildStep::MountOverlay { size } => {
                let layers = self.prepared.trees.remove(&Tree::Layers).unwrap_or_default();
                return overlay::mount(layers, *size).map(Some).map_err(words);
            }
        }
        Ok(None)
    }

    fn idmap(&self, tree: &Tree, owner: &TreeOwner) -> Result<(), String> {
        for taken in self.prepared.trees.get(tree).map_or(&[][..], Vec::as_slice) {
            let namespace = match owner {
                TreeOwner::Same => of_process(self.init).map_err(|error| error.to_string())?,
                TreeOwner::Job { user, group } => {
                    let base = self
                        .prepared
                        .maps
                        .base
                        .ok_or("an idmapped mount needs a range of ids")?;
                    let caller = self.prepared.bound.caller;
                    let number = |id: &Id, own| match id {
                        Id::Number(number) => *number,
                        Id::Caller => own,
                    };
                    ids::owner_namespace(taken, base, number(user, caller.0), number(group, caller.1))?
                }
            };
            mount::idmap(taken.as_fd(), namespace.as_fd()).map_err(|errno| match errno {
                Errno::EINVAL => "a file system below it takes no idmapped mounts".to_owned(),
                errno => words(errno),
            })?;
        }
        Ok(())
    }

    /// Waits until PID 1 has made its own namespaces; its other steps wait for this process.
    fn wait_until_unshared(&self, report: &Channel) -> Result<(), LaunchError> {
        self.wait_for(&[report.as_fd()])?;
        match self.receive(report)? {
            Received::Record(Record::Unshared, _) => Ok(()),
            Received::Record(..) => Err(LaunchError::setup("report of PID 1", "an unexpected record")),
            Received::Eof => Err(died()),
        }
    }

    /// Reads the child's records until its program is executed.
    fn wait_until_running(&mut self, report: &Channel) -> Result<(), LaunchError> {
        let mut ready = false;
        let output = self.prepared.plan.watch.output.map(|bytes| bytes.0);
        loop {
            // Once it is ready nothing holds it up any more: a signal that comes now is the job's.
            if !ready || !self.prepared.bound.probes.is_empty() {
                self.wait_for(&[report.as_fd()])?;
            }
            match self.receive(report)? {
                Received::Record(Record::Terminal, mut master) => {
                    let master = master.pop().ok_or_else(died)?;
                    let pumps = stdio::connect_terminal(&master, output);
                    self.pumps =
                        pumps.map_err(|errno| LaunchError::setup("terminal of the job", words(errno)))?;
                    self.raw_mode = RawMode::set();
                    self.master = Some(master);
                }
                Received::Record(Record::Ready, _) => ready = true,
                Received::Record(Record::Verified, _) => self.verified = true,
                Received::Record(Record::Answer(_, value), _) => self.answers.push(value),
                Received::Record(..) => {
                    return Err(LaunchError::setup("report of PID 1", "an unexpected record"));
                }
                // The last copy went with execve(2), which closes it.
                Received::Eof if ready && self.verified => return Ok(()),
                // On a machine so slow that the wall limit came first: the job's end is told as any other's.
                Received::Eof if self.ended_at_wall() => return Ok(()),
                Received::Eof => return Err(died()),
            }
        }
    }

    /// Whether PID 1 has ended, or will without a job, and did so for the wall limit.
    fn ended_at_wall(&mut self) -> bool {
        if matches!(self.status.receive(), Ok(Received::Record(Record::Wall, _))) {
            self.ended = Ended::Wall;
        }
        self.ended == Ended::Wall
    }

    /// The next record; a failure of PID 1's or the job's is this process's own.
    fn receive(&self, report: &Channel) -> Result<Received, LaunchError> {
        let received = report
            .receive()
            .map_err(|errno| LaunchError::setup("report of PID 1", words(errno)))?;
        let Received::Record(Record::Failed(stage, index, errno), _) = received else {
            return Ok(received);
        };
        // In the plan's words: a variable's value may be a secret.
        let plan = &self.prepared.plan;
        let program = plan.exec.argv.first();
        let program = program.map_or_else(String::new, |word| {
            word.as_literal().map_or_else(|| word.to_string(), str::to_owned)
        });
        Err(LaunchError::from_record(plan, &program, stage, index, errno))
    }

    /// Waits for an answer, and says by which of these it comes; an interrupt of the caller ends the set-up.
    pub(super) fn wait_for(&self, answers: &[BorrowedFd<'_>]) -> Result<usize, LaunchError> {
        loop {
            let watched = std::iter::once(self.prepared.signals.as_fd()).chain(answers.iter().copied());
            let mut watched: Vec<_> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut watched, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(LaunchError::setup("wait for PID 1", words(errno))),
                Ok(_) => {}
            }
            let happened = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            if let Some(index) = watched[1..].iter().position(happened) {
                return Ok(index);
            }
            while let Ok(Some(info)) = self.prepared.signals.read_signal() {
                if signals::ends(info.ssi_signo.cast_signed()) {
                    return Err(LaunchError::setup("set-up", "interrupted"));
                }
            }
        }
    }

    /// Ends what there is of a sandbox whose set-up failed.
    fn abandon(self, error: LaunchError) -> LaunchError {
        let Exit { undo, .. } = self.end_and_collect(None);
        if undo.is_empty() {
            return error;
        }
        LaunchError::Undo {
            first: Box::new(error),
            undo: undo.join("; "),
        }
    }
}

/// Sends PID 1 a record with descriptors.
pub(super) fn send(
    report: &Channel,
    record: Record,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), LaunchError> {
    match report.send(record, descriptors) {
        // A PID 1 that is gone has said why, or its end says enough: what is read next tells.
        Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(errno) => Err(LaunchError::setup("start PID 1", words(errno))),
    }
}

fn died() -> LaunchError {
    LaunchError::setup(
        "set-up",
        "PID 1 or the job was killed before the job's program ran",
    )
}

/// A child is a copy of one thread; a lock that another one holds would stay locked in it for ever.
fn one_thread() -> Result<(), LaunchError> {
    match fork::threads() {
        Ok(1) => Ok(()),
        Ok(more) => Err(LaunchError::setup(
            "clone PID 1",
            format!("the launcher has {more} threads"),
        )),
        Err(errno) => Err(LaunchError::setup("/proc/self/task", words(errno))),
    }
}

/// The namespaces of `pid` that differ from this process's; read while PID 1 waits and can still be looked at.
fn namespaces_of(pid: Pid) -> Vec<Namespace> {
    const NAMES: [(&str, Namespace); 7] = [
        ("user", Namespace::User),
        ("mnt", Namespace::Mount),
        ("pid", Namespace::Pid),
        ("net", Namespace::Net),
        ("ipc", Namespace::Ipc),
        ("uts", Namespace::Uts),
        ("cgroup", Namespace::Cgroup),
    ];
    let link = |of: &str, name: &str| std::fs::read_link(format!("/proc/{of}/ns/{name}")).ok();
    let child = pid.to_string();
    let differs = |name: &str| match (link("self", name), link(&child, name)) {
        (Some(own), Some(other)) => own != other,
        _ => false,
    };
    NAMES
        .into_iter()
        .filter(|(name, _)| differs(name))
        .map(|(_, namespace)| namespace)
        .collect()
}

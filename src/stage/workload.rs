//! The process that becomes the job: gives up what it does not need, in the plan's order, then executes.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, execve, getcwd, setsid};

use super::place::{Kind, Places};
use super::{Bound, Child, credentials, landlock, probe, rlimits, verify};
use crate::plan::WorkloadStep;
use crate::report::channel::{Channel, Received};
use crate::report::record::{Record, Stage};
use crate::seccomp::{self, Arch, Program};
use crate::sys;

/// Runs the steps and executes the command; never returns.
pub(super) fn run(child: Child<'_>, places: Places, from_init: Option<Channel>) -> ! {
    let Child {
        plan,
        bound,
        report,
        stdio,
        status,
        trees,
        beyond_rules,
        ..
    } = child;
    drop((status, trees));
    let failed = |report: &Channel, stage, index, errno| -> ! {
        report.send(Record::Failed(stage, index, errno), &[]).ok();
        sys::process::exit_now(125)
    };
    // Here, and not in the launcher: with an init this process has nothing else to do while PID 1 mounts.
    let filters = match filters(&plan.workload, bound.arch) {
        Ok(filters) => filters,
        Err((index, errno)) => failed(&report, Stage::Workload, index, errno),
    };
    let mut workload = Workload {
        bound,
        filters,
        places: Some(places),
        report,
        from_init,
        terminal: None,
        beyond_rules,
        status_file: None,
    };
    if let Err(errno) = workload.standard_streams(stdio) {
        failed(&workload.report, Stage::Start, 2, errno);
    }
    for (index, step) in plan.workload.iter().enumerate() {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        if let Err(errno) = workload.act(step, plan.workload.as_slice()) {
            failed(&workload.report, Stage::Workload, index, errno);
        }
    }
    if !bound.probes.is_empty() {
        probe::run(&bound.probes, &workload.report);
    }
    let errno = execute(bound);
    failed(&workload.report, Stage::Exec, 0, errno)
}

struct Workload<'a> {
    bound: &'a Bound,
    /// What holds the policy, in the order in which it is installed.
    filters: Vec<Program>,
    /// The root; given up with the other descriptors.
    places: Option<Places>,
    report: Channel,
    /// Says that PID 1 has taken its steps; none where this process is PID 1.
    from_init: Option<Channel>,
    /// What Landlock must keep this process from, where that is looked at.
    beyond_rules: Option<OwnedFd>,
    /// The job's own terminal, to become its controlling one.
    terminal: Option<OwnedFd>,
    /// This process's status, opened while any file can be.
    status_file: Option<verify::Status>,
}

impl Workload<'_> {
    /// Puts the job's streams at 0, 1 and 2; without given ones it gets a terminal of the sandbox's own devpts.
    fn standard_streams(&mut self, stdio: Option<[OwnedFd; 3]>) -> Result<(), Errno> {
        if let Some(streams) = stdio {
            for (number, stream) in (0..).zip(&streams) {
                sys::process::duplicate_to_standard(stream.as_fd(), number)?;
            }
            return Ok(());
        }
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let master = open("/dev/pts/ptmx", flags, Mode::empty())?;
        let peer = sys::terminal::open_peer(master.as_fd())?;
        // Mounted over by nobody else, and unlike a path the peer cannot be another terminal (TIOCGPTPEER).
        nix::sys::stat::fchmod(&peer, Mode::from_bits_truncate(0o620))?;
        self.report.send(Record::Terminal, &[master.as_fd()])?;
        for number in 0..3 {
            sys::process::duplicate_to_standard(peer.as_fd(), number)?;
        }
        self.terminal = Some(peer);
        Ok(())
    }

    /// One step; the order is the plan's.
    fn act(&mut self, step: &WorkloadStep, steps: &[WorkloadStep]) -> Result<(), Errno> {
        match step {
            WorkloadStep::Session => {
                setsid()?;
                match &self.terminal {
                    Some(terminal) => sys::terminal::set_controlling(terminal.as_fd()),
                    None => Ok(()),
                }
            }
            WorkloadStep::Rlimits(limits) => limits
                .iter()
                .try_for_each(|(kind, value)| rlimits::set(*kind, *value)),
            WorkloadStep::Credentials {
                user,
                group,
                groups,
                capabilities,
                ambient,
            } => {
                let wanted = credentials::Credentials {
                    user: self.bound.user(*user),
                    group: self.bound.group(*group),
                    groups: self.bound.setgroups.then_some(groups.as_slice()),
                    capabilities: capabilities
                        .iter()
                        .fold(0, |set, capability| set | capability.bit()),
                    ambient: *ambient,
                };
                if let Some(terminal) = &self.terminal {
                    let (user, group) = (wanted.user.into(), None);
                    nix::unistd::fchown(terminal, Some(user), group)?;
                }
                wanted.take()?;
                // The change of ids has cleared it (PR_SET_PDEATHSIG(2const)). With an init this process's parent is
                // PID 1, which ends with the launcher; without one it is the launcher.
                prctl::set_pdeathsig(Signal::SIGKILL)
            }
            WorkloadStep::NoNewPrivileges => prctl::set_no_new_privs(),
            WorkloadStep::WaitForInit => self.wait_for_init(),
            WorkloadStep::Workdir(_) => self.workdir(),
            WorkloadStep::Landlock(rules) => {
                landlock::restrict(rules, self.places()?)?;
                self.beyond_rules.take().map_or(Ok(()), landlock::is_refused)
            }
            WorkloadStep::CloseDescriptors => {
                self.close_descriptors()?;
                // Every plan has this step, and has it right before the filters, which may forbid what follows here.
                clean_signals()?;
                self.report.send(Record::Ready, &[])
            }
            WorkloadStep::Seccomp(_) => {
                for filter in &self.filters {
                    seccompiler::apply_filter(filter.instructions()).map_err(seccomp_error)?;
                }
                Ok(())
            }
            WorkloadStep::Verify => {
                let status = self.status_file.take().ok_or(Errno::EBADF)?;
                status.verify(steps, self.filters.len(), self.bound)?;
                self.report.send(Record::Verified, &[])
            }
        }
    }

    fn wait_for_init(&mut self) -> Result<(), Errno> {
        match self.from_init.take().ok_or(Errno::EBADF)?.receive()? {
            Received::Record(Record::Go, mut beyond_rules) => {
                self.beyond_rules = beyond_rules.pop();
                Ok(())
            }
            // PID 1 says itself why.
            Received::Record(..) | Received::Eof => sys::process::exit_now(125),
        }
    }

    fn places(&self) -> Result<&Places, Errno> {
        self.places.as_ref().ok_or(Errno::EBADF)
    }

    /// The working directory: inside the root, made where that is possible, with a name.
    fn workdir(&self) -> Result<(), Errno> {
        let path = self.bound.workdir.as_str();
        let places = self.places()?;
        if matches!(places.open(path), Err(Errno::ENOENT)) {
            places.mount_point(path, Kind::Directory, false)?;
        }
        chdir(path)?;
        // CVE-2024-21626: a directory outside the root has no absolute name here (getcwd(3)).
        let name = getcwd()?;
        if name.is_absolute() {
            Ok(())
        } else {
            Err(Errno::EXDEV)
        }
    }

    /// Closes everything but the standard streams, the report channel and this process's status file.
    ///
    /// Closed and not only marked: a descriptor that is open while the working directory or a path of the job
    /// is used is the hole of CVE-2024-21626.
    fn close_descriptors(&mut self) -> Result<(), Errno> {
        let file = open(
            "/proc/self/status",
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        // What owns a low number is dropped before that number is given away.
        self.report = Channel::from_fd(sys::process::duplicate_above(self.report.as_fd(), 5)?);
        let status = sys::process::duplicate_above(file.as_fd(), 5)?;
        drop((file, self.places.take(), self.terminal.take()));
        self.report = Channel::from_fd(sys::process::duplicate_to(self.report.as_fd(), 3)?);
        self.status_file = Some(verify::Status::new(sys::process::duplicate_to(
            status.as_fd(),
            4,
        )?)?);
        drop(status);
        sys::process::close_from(5)
    }
}

/// The filters of the policy among `steps`, if there is one; what the planner has checked compiles.
fn filters(steps: &[WorkloadStep], arch: Arch) -> Result<Vec<Program>, (u16, Errno)> {
    for (index, step) in (0..).zip(steps) {
        if let WorkloadStep::Seccomp(policy) = step {
            return seccomp::compile(policy, arch).map_err(|_| (index, Errno::EINVAL));
        }
    }
    Ok(Vec::new())
}

/// The job starts with no signal blocked and none ignored, whatever the caller had (execve(2) keeps both).
fn clean_signals() -> Result<(), Errno> {
    sys::signal::default_all()?;
    SigSet::empty().thread_set_mask()
}

fn seccomp_error(error: seccompiler::Error) -> Errno {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => super::init::from_io(error),
        _ => Errno::EINVAL,
    }
}

/// Tries each file for the command; the error that says most (execvp(3)).
fn execute(bound: &Bound) -> Errno {
    let mut answer = Errno::ENOENT;
    for program in &bound.programs {
        let Err(errno) = execve(program, &bound.argv, &bound.env);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // Another directory of PATH may hold one that can be executed.
            Errno::EACCES => answer = errno,
            _ => return errno,
        }
    }
    answer
}

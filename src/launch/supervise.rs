//! The launcher's loop while the job runs: streams, signals, limits of time; then the end of everything.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::error::words;
use super::start::Running;
use super::stdio::Pump;
use super::{Ended, Exit, signals, stdio};
use crate::cgroup::{Counters, Group};
use crate::plan::{Plan, WorkloadStep};
use crate::profile::{Rlimit, RlimitValue};
use crate::report::channel::Received;
use crate::report::record::Record;
use crate::stage::rlimits::effective;
use crate::sys::{memory, process};

/// How often the processor time is looked at, at the most: an overrun of one look is 1 % of a second.
const CPU_LOOK: Duration = Duration::from_millis(10);

/// A job that lives this long is waited for with less memory; a shorter one does not pay for it.
const SETTLED: Duration = Duration::from_millis(100);

/// How long the output of a job that was ended may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the loop has learnt so far.
struct Watch {
    ended: Ended,
    interrupts: u32,
    layer_full: bool,
    /// The stop signal was sent at the wall limit; kill at this moment.
    kill_at: Option<Instant>,
    next_cpu_look: Option<Instant>,
    /// When to let go of what only the set-up needed.
    settle_at: Option<Instant>,
}

impl Running {
    /// Watches the job until it ends, then undoes everything.
    pub(crate) fn wait(mut self) -> Exit {
        let start = self.started.1;
        let wall = self
            .prepared
            .plan
            .watch
            .wall_ms
            .map(|wall| start + wall.duration());
        let mut watch = Watch {
            ended: self.ended,
            interrupts: 0,
            layer_full: false,
            kill_at: None,
            next_cpu_look: self.prepared.plan.watch.cpu_time_ms.map(|_| start + CPU_LOOK),
            settle_at: Some(start + SETTLED),
        };
        let status = loop {
            let deadline = [watch.kill_at.or(wall), watch.next_cpu_look, watch.settle_at]
                .into_iter()
                .flatten()
                .min();
            let events = self.poll(Some(self.end()), deadline);
            if events.end && !self.prepared.plan.exec.init {
                break None;
            }
            if events.end {
                match self.status.receive() {
                    Ok(Received::Record(Record::Ended(raw), _)) => break Some(raw),
                    Ok(Received::Record(Record::LayerFull, _)) => watch.layer_full = true,
                    Ok(Received::Record(Record::Wall, _)) => watch.ended = Ended::Wall,
                    Ok(Received::Record(..)) => {}
                    Ok(Received::Eof) | Err(_) => break None,
                }
            }
            if events.signal {
                self.forward(&mut watch);
            }
            if let Some(unheld) = events.unheld {
                self.kill(&mut watch, Ended::Unheld);
                // Found again until its end comes; said once.
                if !self.troubles.contains(&unheld) {
                    self.troubles.push(unheld);
                }
            }
            for index in events.pumps {
                if self.pumps[index].pass() {
                    self.kill(&mut watch, Ended::Output);
                }
            }
            let now = Instant::now();
            if watch.kill_at.is_some_and(|at| at <= now) {
                self.kill(&mut watch, Ended::Wall);
            } else if watch.kill_at.is_none() && wall.is_some_and(|at| at <= now) {
                self.at_wall(&mut watch, now);
            }
            if watch.next_cpu_look.is_some_and(|at| at <= now) {
                self.look_at_cpu(&mut watch, now);
            }
            if watch.settle_at.is_some_and(|at| at <= now) {
                // It saves memory and changes nothing else, so that a kernel that refuses is no trouble.
                memory::release_code().ok();
                watch.settle_at = None;
            }
        };
        self.wall_timer = None;
        // What ended at a limit does not wait for a reader that may never come.
        self.drain((watch.ended != Ended::Itself).then(|| Instant::now() + LAST_WORDS));
        let has_init = self.prepared.plan.exec.init;
        // A job that has ended by itself is counted while PID 1 ends, which takes the kernel as long; one that is ended is
        // counted when all of it is dead.
        let counted = status.and(self.prepared.group.as_ref()).map(Group::counters);
        let counted = counted.filter(|_| watch.ended == Ended::Itself);
        let mut exit = self.end_and_collect(counted);
        // How PID 1 ended is how the job did only where they are one: an init that ends without a record has failed.
        if has_init {
            exit.status = status;
        }
        exit.ended = watch.ended;
        exit.layer_full = watch.layer_full;
        exit
    }

    /// What says that it is over: the status channel, or without an init, which would send a record, PID 1 itself.
    fn end(&self) -> BorrowedFd<'_> {
        if self.prepared.plan.exec.init {
            self.status.as_fd()
        } else {
            self.init_fd.as_fd()
        }
    }

    /// Waits until something happens: to `end`, a signal or a stream; at the latest at `deadline`.
    fn poll(&self, end: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Events {
        let mut watched = vec![PollFd::new(self.prepared.signals.as_fd(), PollFlags::POLLIN)];
        let mut numbers = Vec::new();
        for (number, pump) in self.pumps.iter().enumerate() {
            if let Some(interest) = pump.interest() {
                watched.push(interest);
                numbers.push(number);
            }
        }
        let reach = self.reach.watched();
        watched.extend(reach.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
        watched.extend(end.map(|end| PollFd::new(end, PollFlags::POLLIN)));
        // One more millisecond than is left, or the loop would turn in place during the last one.
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let looked = poll(&mut watched, timeout).is_ok();
        if !looked {
            // EINTR, ENOMEM and EINVAL have no better answer than to look again.
            std::thread::sleep(Duration::from_millis(1));
        }
        let happened = |index: usize| watched[index].revents().is_some_and(|events| !events.is_empty());
        let mut unheld = None;
        if (0..reach.len()).any(|place| happened(1 + numbers.len() + place)) {
            unheld = self.reach.heed().err();
        }
        let pumps = numbers
            .iter()
            .enumerate()
            .filter(|(place, _)| happened(place + 1))
            .map(|(_, number)| *number);
        Events {
            looked,
            unheld,
            end: end.is_some() && happened(watched.len() - 1),
            signal: happened(0),
            pumps: pumps.collect(),
        }
    }

    /// Passes signals on to PID 1, which passes them to the job; a second interrupt kills.
    fn forward(&self, watch: &mut Watch) {
        while let Ok(Some(info)) = self.prepared.signals.read_signal() {
            let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) else {
                continue;
            };
            match (signal, &self.master) {
                (Signal::SIGWINCH, Some(master)) => {
                    stdio::resize(master);
                    continue;
                }
                (Signal::SIGINT, _) => {
                    watch.interrupts += 1;
                    if watch.interrupts > 1 {
                        self.kill(watch, Ended::Interrupt);
                        continue;
                    }
                }
                _ => {}
            }
            // ESRCH: PID 1 has ended, which the status channel says next.
            process::signal(self.init_fd.as_fd(), signal as i32).ok();
        }
    }

    fn at_wall(&self, watch: &mut Watch, now: Instant) {
        let grace = self.prepared.plan.watch.grace_ms.duration();
        watch.ended = Ended::Wall;
        if grace.is_zero() {
            self.kill(watch, Ended::Wall);
        } else {
            process::signal(self.init_fd.as_fd(), self.prepared.plan.watch.stop_signal).ok();
        }
        watch.kill_at = Some(now + grace);
    }

    fn look_at_cpu(&self, watch: &mut Watch, now: Instant) {
        let Some(limit) = self.prepared.plan.watch.cpu_time_ms else {
            return;
        };
        let Some(group) = &self.prepared.group else { return };
        let left = match group.cpu_usage_us() {
            Ok(used) => Duration::from_micros(limit.0.saturating_mul(1000).saturating_sub(used.unwrap_or(0))),
            // ENFILE passes: what cannot be read now is looked at again soon.
            Err(_) => CPU_LOOK,
        };
        if left.is_zero() {
            self.kill(watch, Ended::Cpu);
        }
        // Processors can use the rest up together, so half of it is let pass before the next look.
        watch.next_cpu_look =
            (!left.is_zero()).then(|| now + (left / 2).clamp(CPU_LOOK, Duration::from_secs(1)));
    }

    /// Ends PID 1, with which the kernel ends everything in its namespace (pid_namespaces(7)).
    fn kill(&self, watch: &mut Watch, why: Ended) {
        if watch.ended == Ended::Itself {
            watch.ended = why;
        }
        process::signal(self.init_fd.as_fd(), Signal::SIGKILL as i32).ok();
    }

    /// Passes on what the job has written before its end.
    ///
    /// With PID 1 all of its namespace has ended, and what it wrote is in the pipes. A stream that has nothing more to
    /// read is done, even when somebody outside, to whom the job has sent it, holds it open.
    fn drain(&mut self, until: Option<Instant>) {
        self.pumps.retain(|pump| pump.stream > 0);
        let mut over = false;
        while self.pumps.iter().any(|pump| !pump.is_done()) {
            let last_look = over && self.pumps.iter().any(Pump::is_reading);
            let end = (!over).then(|| self.init_fd.as_fd());
            let events = self.poll(end, if last_look { Some(Instant::now()) } else { until });
            for (index, pump) in self.pumps.iter_mut().enumerate() {
                if events.pumps.contains(&index) {
                    pump.pass();
                } else if over && events.looked && pump.is_reading() {
                    pump.close();
                }
            }
            over |= events.end;
            // A caller that neither reads nor goes away may still interrupt.
            if events.signal && self.is_interrupted() || until.is_some_and(|until| until <= Instant::now()) {
                break;
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        let mut interrupted = false;
        while let Ok(Some(info)) = self.prepared.signals.read_signal() {
            interrupted |= signals::ends(info.ssi_signo.cast_signed());
        }
        interrupted
    }

    /// Ends PID 1 if it lives, reads the counters unless that was done, and removes what was made.
    pub(super) fn end_and_collect(mut self, counted: Option<Counters>) -> Exit {
        let mut undo = std::mem::take(&mut self.troubles);
        match process::signal(self.init_fd.as_fd(), Signal::SIGKILL as i32) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => undo.push(format!("end PID 1: {}", words(errno))),
        }
        let waited = process::wait(self.init);
        let wall = self.started.1.elapsed();
        self.raw_mode = None;
        let output = self.prepared.plan.watch.output.map(|_| {
            let carried = |stream| {
                self.pumps
                    .iter()
                    .filter(|pump| pump.stream == stream)
                    .map(|pump| pump.carried)
                    .sum()
            };
            [carried(1), carried(2)]
        });
        let (mut counters, mut limits) = (Counters::default(), Vec::new());
        if let Some(group) = self.prepared.group.take() {
            counters = counted.unwrap_or_else(|| group.counters());
            limits = group.enforced().to_vec();
            if let Err(error) = group.remove() {
                undo.push(error.to_string());
            }
        }
        if let Some(scratch) = self.prepared.scratch.take() {
            undo.extend(scratch.remove().err());
        }
        let published = self.published().to_vec();
        let wanted = self
            .prepared
            .plan
            .egress()
            .filter(|_| self.prepared.wants_connections);
        let connections = wanted.and_then(|egress| match self.reach.connections(&egress) {
            Ok(connections) => connections,
            Err(cause) => {
                undo.push(cause);
                None
            }
        });
        undo.extend(self.reach.leave());
        let (status, cpu_us, max_rss) = match waited {
            Ok(ended) => (
                Some(ended.status),
                (ended.user_us, ended.system_us),
                ended.max_rss,
            ),
            Err(errno) => {
                undo.push(format!("wait for PID 1: {}", words(errno)));
                (None, (0, 0), 0)
            }
        };
        Exit {
            status,
            ended: Ended::Itself,
            counters,
            cpu_us,
            max_rss,
            output,
            layer_full: false,
            started: self.started.0,
            wall,
            limits,
            rlimits: rlimits(&self.prepared.plan),
            namespaces: self.namespaces,
            verified: self.verified,
            answers: self.answers,
            published,
            connections,
            undo,
        }
    }
}

/// What the job's limits became: its process had this one's before, and has checked each that it set.
fn rlimits(plan: &Plan) -> BTreeMap<Rlimit, RlimitValue> {
    let wanted = plan.workload.iter().find_map(|step| match step {
        WorkloadStep::Rlimits(limits) => Some(limits),
        _ => None,
    });
    let held = |(kind, value): (&Rlimit, &RlimitValue)| Some((*kind, effective(*kind, *value).ok()?));
    wanted.into_iter().flatten().filter_map(held).collect()
}

/// What one call of poll(2) has found.
struct Events {
    /// The call did not fail, so what is not here has not happened.
    looked: bool,
    /// Why the job is not held any longer.
    unheld: Option<String>,
    end: bool,
    signal: bool,
    pumps: Vec<usize>,
}

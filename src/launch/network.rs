//! The plan's network steps: those of the host by this process, those inside by an agent, while PID 1 works.

use std::os::fd::OwnedFd;

use super::error::{LaunchError, words};
use super::start::Running;
use crate::net::agent::{Act, Agent, Namespaces};
use crate::net::bridge::Member;
use crate::plan::NetworkStep;
use crate::report::channel::Channel;
use crate::report::record::Record;
use crate::sys::fork;

/// What a run has of a network.
#[derive(Default)]
pub(super) struct Reach {
    /// As root: its place on a network of the host.
    member: Option<Member>,
    /// Sockets of the job's network namespace, in the order of the steps that opened them.
    sockets: Vec<OwnedFd>,
}

impl Running {
    /// Takes the network steps, then lets PID 1 go on.
    ///
    /// # Errors
    /// The step that failed and why.
    pub(super) fn connect(&mut self, namespaces: &Namespaces, report: &Channel) -> Result<(), LaunchError> {
        let steps = self.prepared.plan.network.clone();
        let failed = |index: usize, cause: String| {
            LaunchError::step("network", index, steps.len(), &steps[index], cause)
        };
        let mut inside = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let act = self
                .act_on_host(step, namespaces)
                .map_err(|cause| failed(index, cause))?;
            inside.extend(act.map(|act| (index, act)));
        }
        let (numbers, acts): (Vec<usize>, Vec<Act>) = inside.into_iter().unzip();
        let agent = Agent::start(namespaces, &acts)
            .map_err(|errno| LaunchError::setup("enter the job's network", words(errno)))?;
        self.wait_for(&agent)?;
        self.reach.sockets = agent.finish().map_err(|failure| match failure.act {
            Some(act) => failed(numbers[act], failure.cause),
            None => LaunchError::setup("in the job's network", failure.cause),
        })?;
        match report.send(Record::Network, &[]) {
            // A PID 1 that is gone has said why, or its end says enough.
            Ok(()) | Err(nix::errno::Errno::EPIPE | nix::errno::Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(LaunchError::setup("start PID 1", words(errno))),
        }
    }

    /// Takes a step of the host's side; one of the inside is what the agent is to do.
    fn act_on_host(&mut self, step: &NetworkStep, namespaces: &Namespaces) -> Result<Option<Act>, String> {
        match step {
            NetworkStep::Join { name } => {
                let job = &self.prepared.plan.job;
                self.reach.member = Some(self.prepared.networks.join(name.as_deref(), job)?);
                Ok(None)
            }
            NetworkStep::Port { alone } => self.member()?.plug(namespaces.net(), *alone).map(|()| None),
            NetworkStep::Loopback => Ok(Some(Act::Loopback)),
            NetworkStep::Addresses => {
                let member = self.member()?;
                Ok(Some(Act::Interface(member.subnet(), member.number())))
            }
        }
    }

    fn member(&self) -> Result<&Member, String> {
        self.reach
            .member
            .as_ref()
            .ok_or_else(|| "no network was joined".to_owned())
    }
}

impl Reach {
    /// Leaves the network, by a process that outlives this one: the kernel takes its time to remove a link, and nobody has
    /// to wait for that. What it cannot remove, or is killed over, a later command does.
    ///
    /// # Errors
    /// When that process cannot be made.
    pub(super) fn leave(self) -> Result<(), String> {
        let Reach { member, sockets } = self;
        // They keep the network namespace.
        drop(sockets);
        let Some(member) = member else { return Ok(()) };
        let left = fork::outlive(|| {
            // There is nobody to tell any more; the next sweep tries again, and tells.
            member.leave().ok();
        });
        left.map_err(|errno| format!("leave the network: {}", words(errno)))
    }
}

//! The plan's network steps: those of the host by this process, those inside by an agent, while PID 1 works.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use super::error::{LaunchError, words};
use super::names;
use super::start::{Running, send};
use crate::egress::{Around, Egress, Policy, rules};
use crate::manifest::grammar::sockets;
use crate::net::agent::{Act, Agent, Interface, Ipv6, Namespaces};
use crate::net::connections::Connections;
use crate::net::gained::Gained;
use crate::net::member::Member;
use crate::net::nft;
use crate::net::pasta::{self, Pasta};
use crate::net::publish::{Door, Porter};
use crate::net::resolver::{self, Jobs, Resolver};
use crate::net::ruleset::Dropping;
use crate::net::ways::Ways;
use crate::plan::NetworkStep;
use crate::profile::Protocol;
use crate::report::channel::Channel;
use crate::report::record::Record;
use crate::sys::{fork, process};

/// What a run has of a network.
#[derive(Default)]
pub(super) struct Reach {
    interface: Option<Interface>,
    /// As root: its place on a network of the host.
    member: Option<Member>,
    /// As an ordinary user: what stands between the job and the host.
    pasta: Option<Pasta>,
    ways: Option<Ways>,
    /// Sockets of the host, until their porter has them.
    doors: Vec<Door>,
    porter: Option<Porter>,
    notices: Vec<String>,
    /// Ports of the host that lead inside.
    published: Vec<Published>,
    /// The addresses around the job.
    around: Around,
    /// Who hears of addresses that the host gains.
    gained: Option<Gained>,
    /// Who answers its questions for names.
    resolver: Option<Resolver>,
}

/// A port of the host that leads inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// Its address and port.
    pub(crate) at: std::net::SocketAddr,
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// The port inside.
    pub(crate) to: u16,
    /// The port is one that was free: the manifest names none.
    pub(crate) chosen: bool,
}

/// A plan that nobody has planned.
const NO_RULES: &str = "the plan has no rules";

/// The number that a job has which is alone with its addresses.
const ALONE: u8 = 2;

impl Running {
    /// Takes the network steps, then lets PID 1 go on.
    ///
    /// # Errors
    /// The step that failed and why.
    pub(super) fn connect(&mut self, namespaces: &Namespaces, report: &Channel) -> Result<(), LaunchError> {
        let plan = Rc::clone(&self.prepared.plan);
        let (steps, egress) = (&plan.network, plan.egress());
        let failed = |index: usize, cause: String| {
            LaunchError::step("network", index, steps.len(), &steps[index], cause)
        };
        let mut inside = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let act = self.act_on_host(step, namespaces);
            inside.extend(act.map_err(|cause| failed(index, cause))?.map(|act| (index, act)));
        }
        let (numbers, acts): (Vec<usize>, Vec<Act>) = inside.into_iter().unzip();
        let agent = Agent::start(namespaces, &acts);
        let agent = agent.map_err(|cause| LaunchError::setup("in the job's network", cause))?;
        let by_pasta = steps.iter().position(|step| *step == NetworkStep::Pasta);
        if let Some(joined) = steps
            .iter()
            .position(|step| matches!(step, NetworkStep::Join { .. }))
        {
            let finished = self.reach.finish_bridge(egress.as_ref());
            finished.map_err(|cause| failed(joined, cause))?;
        }
        if let (Some(interface), Some(by_pasta)) = (self.reach.interface, by_pasta) {
            let link = self.reach.ways.as_ref().and_then(Ways::link);
            let pasta = Pasta::start(&agent, &interface, link);
            self.reach.pasta = Some(pasta.map_err(|cause| failed(by_pasta, cause))?);
        }
        let waits: Vec<BorrowedFd<'_>> = std::iter::once(agent.as_fd())
            .chain(self.reach.pasta.iter().map(AsFd::as_fd))
            .collect();
        if self.wait_for(&waits)? == 1 {
            // The agent waits for an interface that does not come any more.
            let cause = self.reach.pasta.as_mut().map(Pasta::last_words);
            return Err(failed(by_pasta.unwrap_or_default(), cause.unwrap_or_default()));
        }
        let sockets = agent.finish().map_err(|failure| match failure.act {
            Some(act) => failed(numbers[act], failure.cause),
            None => LaunchError::setup("in the job's network", failure.cause),
        })?;
        if let Some(index) = steps.iter().position(|step| *step == NetworkStep::Resolver) {
            let jobs = match steps.contains(&NetworkStep::Port { alone: false }) {
                true => Jobs::Named,
                false => Jobs::Alone,
            };
            let egress = egress
                .as_ref()
                .ok_or_else(|| failed(index, NO_RULES.to_owned()))?;
            let resolver = names::resolver(egress, &self.reach.around, jobs, sockets, namespaces);
            self.reach.resolver = Some(resolver.map_err(|cause| failed(index, cause))?);
        }
        let doors = std::mem::take(&mut self.reach.doors);
        if let (Some(interface), false) = (self.reach.interface, doors.is_empty()) {
            let addresses = interface.addresses(interface.number);
            let addresses: Vec<IpAddr> = addresses.map(|(address, _)| address).collect();
            let porter = Porter::start(namespaces, doors, &addresses);
            self.reach.porter = Some(porter.map_err(|cause| LaunchError::setup("published ports", cause))?);
        }
        send(report, Record::Network, &[])
    }

    /// Takes a step of the host's side; one of the inside is what the agent is to do.
    fn act_on_host(&mut self, step: &NetworkStep, namespaces: &Namespaces) -> Result<Option<Act>, String> {
        let ipv6 = self
            .prepared
            .plan
            .network
            .contains(&NetworkStep::Addresses { ipv6: true });
        let reach = &mut self.reach;
        match step {
            NetworkStep::Join { name } => {
                let member = self
                    .prepared
                    .networks
                    .join(name.as_deref(), &self.prepared.plan.job)?;
                reach.interface = Some(Interface {
                    subnet: member.subnet(),
                    number: member.number(),
                    tap: None,
                    ipv6: if ipv6 { Ipv6::On } else { Ipv6::Off },
                });
                reach.member = Some(member);
            }
            NetworkStep::Port { alone } => {
                let member = reach.member.as_ref().ok_or("no network was joined")?;
                member.plug(namespaces.net(), *alone)?;
            }
            NetworkStep::Pasta => {
                let (subnet, ways) = self.prepared.networks.apart()?;
                reach.interface = Some(Interface {
                    subnet,
                    number: ALONE,
                    tap: Some(pasta::MTU),
                    ipv6: match (ipv6, ways.ipv6) {
                        (false, _) => Ipv6::Off,
                        (true, false) => Ipv6::Apart,
                        (true, true) => Ipv6::On,
                    },
                });
                reach.ways = Some(ways);
            }
            NetworkStep::Publish { at, to, protocol } => reach.publish(at, *to, *protocol)?,
            NetworkStep::Loopback => return Ok(Some(Act::Loopback)),
            NetworkStep::Rules { .. } => {
                let interface = reach.interface.ok_or("there is no interface")?;
                let others = NetworkStep::Port { alone: false };
                let alone = !self.prepared.plan.network.contains(&others);
                // First, so that none comes in between.
                reach.gained = Some(Gained::watch().map_err(words)?);
                reach.around = self.prepared.networks.around(&interface, alone)?;
                let nft = nft::program().ok_or(nft::MISSING)?;
                let egress = self.prepared.plan.egress().ok_or(NO_RULES)?;
                return Ok(Some(Act::Rules(nft, rules::text(&egress, &reach.around))));
            }
            // A part of the rules, which are loaded at once.
            NetworkStep::Allow(_) => {}
            NetworkStep::Resolver => return Ok(Some(Act::Open(resolver::open))),
            NetworkStep::Addresses { .. } => {
                let interface = reach.interface.ok_or("there is no interface")?;
                return Ok(Some(Act::Interface(interface)));
            }
        }
        Ok(None)
    }

    /// What the user should know of the network.
    pub(crate) fn network_notices(&self) -> &[String] {
        &self.reach.notices
    }

    /// The ports of the host that lead inside.
    pub(crate) fn published(&self) -> &[Published] {
        &self.reach.published
    }
}

impl Reach {
    /// Finishes the bridge, and says what the user should know of it.
    fn finish_bridge(&mut self, egress: Option<&Egress<'_>>) -> Result<(), String> {
        let Some(member) = &mut self.member else {
            return Ok(());
        };
        member.finish()?;
        if let Some(Egress::Listed(listed)) = egress {
            member.open(listed, &self.around.closed)?;
        }
        if let Some(Dropping { chain, .. }) = &member.dropping {
            self.notices.push(format!(
                "another firewall, chain {chain}, drops what this host forwards, the job's packets too; `ringfence \
                 doctor` says how to let them pass"
            ));
        }
        Ok(())
    }

    /// Readable when there is something to [`Self::heed`].
    pub(super) fn watched(&self) -> Vec<BorrowedFd<'_>> {
        let question = self
            .resolver
            .as_ref()
            .map(|resolver| resolver.directory().as_fd());
        question
            .into_iter()
            .chain(self.gained.iter().map(AsFd::as_fd))
            .collect()
    }

    /// Answers what the resolver asks, and closes to the job what the host has gained.
    ///
    /// # Errors
    /// What is open to the job that should not be, so that it is to be ended.
    pub(super) fn heed(&self) -> Result<(), String> {
        self.tell();
        let (Some(gained), Some(resolver)) = (&self.gained, &self.resolver) else {
            return Ok(());
        };
        let closed = gained.look().and_then(|new| resolver.close(&new));
        closed.map_err(|errno| {
            let cause = words(errno);
            format!(
                "it was ended, as an address that this host has gained could not be closed to it: {cause}"
            )
        })
    }

    /// Tells the resolver where the jobs of a name are.
    fn tell(&self) {
        let (Some(member), Some(interface), Some(resolver)) = (&self.member, self.interface, &self.resolver)
        else {
            return;
        };
        resolver.directory().answer(|name| {
            let called = member.jobs().into_iter().filter(|(_, entry)| entry.job == name);
            let addresses = called.flat_map(|(number, _)| interface.addresses(number));
            addresses.map(|(address, _)| address).collect()
        });
    }

    /// What the job has tried to reach; none for a job without rules. Its resolver ends.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub(super) fn connections(&mut self, egress: &Egress<'_>) -> Result<Option<Connections>, String> {
        let Some(resolver) = self.resolver.take() else {
            return Ok(None);
        };
        let (tried, lookups) = resolver
            .finish()
            .map_err(|errno| format!("read what the job tried to reach: {}", words(errno)))?;
        Ok(Some(Connections::new(
            tried,
            &lookups,
            &Policy::new(egress, &self.around),
        )))
    }

    /// Opens the sockets of the host that `at` names, for the ports inside from `to` on.
    fn publish(&mut self, at: &str, to: u16, protocol: Protocol) -> Result<(), String> {
        let sockets = sockets(at).ok_or("not an address and port of the host")?;
        for (socket, number) in sockets.into_iter().zip(0..) {
            let to = to
                .checked_add(number)
                .ok_or("there are not as many ports inside")?;
            let open = match protocol {
                Protocol::Tcp => Door::tcp,
                Protocol::Udp => Door::udp,
            };
            let door =
                open(socket, to).map_err(|errno| format!("port {}: {}", socket.port(), words(errno)))?;
            self.published.push(Published {
                at: door.at,
                protocol,
                to,
                chosen: socket.port() == 0,
            });
            self.doors.push(door);
        }
        Ok(())
    }

    /// Ends what serves the job, and leaves the network by a process that outlives this one: the kernel takes its time to
    /// remove a link, and nobody has to wait for that. What that cannot remove, or is killed over, a later command does.
    ///
    /// # Errors
    /// What could not be ended.
    pub(super) fn leave(self) -> Vec<String> {
        // These keep the network namespace.
        drop((self.resolver, self.doors));
        let porter = self.porter.map_or(Ok(()), Porter::end);
        let porter = porter.map_err(|cause| format!("published ports: {cause}"));
        drop(self.pasta);
        let left = self.member.map_or(Ok(()), |member| {
            let mut member = Some(member);
            let apart = fork::outlive(|| {
                // There is nobody to tell any more; the next sweep tries again, and tells.
                if let Some(member) = member
                    .take()
                    .filter(|member| process::keep_only(&member.held()).is_ok())
                {
                    drop(member.leave());
                }
            });
            match (apart, member) {
                // Where there can be no other process it has to be done here.
                (Err(_), Some(member)) => member.leave(),
                _ => Ok(()),
            }
        });
        let left = left.map_err(|cause| format!("leave the network: {cause}"));
        porter.err().into_iter().chain(left.err()).collect()
    }
}

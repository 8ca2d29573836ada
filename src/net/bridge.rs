//! A network of the host: a bridge with a table of rules, made by the first job on it and removed after the last.
//!
//! Beside the leases of [`super::lease`] locks in the run state keep this whole, flock(2) all of them, so each ends with
//! whoever holds it: `lock` of all networks, alone by who makes or removes a bridge; and the network's own. Links, addresses, rules and settings are made only by who has a lease, so any later command
//! finds by the leases that nobody holds what dead runs have left.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use netlink_packet_route::AddressFamily;
use nix::errno::Errno;
use sha2::{Digest, Sha256};

use super::agent::INTERFACE;
use super::forwarding::Needed;
use super::lease::{self, Entry, Lease};
use super::link::{self, Link, Peer};
use super::netlink::Netlink;
use super::pool::Pool;
use super::subnet::{GATEWAY, Number, Subnet};
use super::words;
use super::{around, forwarding, host_rules, nft, route, sysctl};
use crate::egress::Around;

/// The largest packet of a network whose host has no way out.
const MTU: u32 = 1500;

/// How long a bridge stays without a job. To make one and to remove one take the kernel 10 and 80 ms: who runs one job after
/// the other waits for neither.
const KEPT: Duration = Duration::from_secs(1);

/// The locks of a network: held by each job on it, with others; and by who keeps its bridge for the next one, alone.
const JOBS: &str = "jobs";
const KEEPER: &str = "keeper";

/// What becomes of a bridge that is kept for the next job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Its keeper removes it.
    Stays,
    /// It is removed like any other.
    Goes,
}

/// Where the networks of one folder of run state are kept.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    folder: PathBuf,
    pool: Pool,
}

/// A job's membership of a network: a number there, and a bridge that stays while this lives.
#[derive(Debug)]
pub(crate) struct Member {
    networks: Networks,
    bridge: Link,
    subnet: Subnet,
    lease: Lease,
    port: String,
    alias: String,
    /// Held with others.
    jobs_lock: File,
}

impl Networks {
    /// Those of the folder of run state `run`; new ones take their addresses from `pool`.
    pub(crate) fn of(run: &Path, pool: Pool) -> Networks {
        Networks {
            folder: run.join("network"),
            pool,
        }
    }

    /// Makes `job` a member of the network of this name; none is the one of all jobs that name none.
    ///
    /// # Errors
    /// Which object could not be made, and why.
    pub(crate) fn join(&self, name: Option<&str>, job: &str) -> Result<Member, String> {
        let bridge = self.bridge_name(name.unwrap_or_default());
        let folder = self.folder.join(&bridge);
        let at = |error: io::Error| format!("{}: {error}", folder.display());
        let mut netlink = Netlink::open().map_err(words)?;
        lease::folder(&self.folder).map_err(at)?;
        let all = lock_file(&self.folder.join("lock")).map_err(at)?;
        // Under a lock of all networks: the last job of this one may be removing its folder right now.
        let lock_jobs = || {
            lease::folder(&folder)?;
            let jobs = lock_file(&folder.join(JOBS))?;
            jobs.lock_shared().map(|()| jobs)
        };

        all.lock_shared().map_err(at)?;
        let mut jobs = lock_jobs().map_err(at)?;
        // A bridge is brought up when all that belongs to it is there.
        let mut found = link::find(&mut netlink, &bridge)
            .map_err(words)?
            .filter(|link| link.up);
        if found.is_none() {
            // To wait for the other lock with this one held would be to wait for each other.
            drop(jobs);
            all.unlock().and_then(|()| all.lock()).map_err(at)?;
            jobs = lock_jobs().map_err(at)?;
            found = link::find(&mut netlink, &bridge)
                .map_err(words)?
                .filter(|link| link.up);
        }
        let entry = |number| Entry {
            job: job.to_owned(),
            link: port_name(&bridge, number),
        };
        let lease = Lease::take(&folder, entry, |old| delete(&mut netlink, &old.link))?;
        let (link, subnet) = match found {
            Some(link) => {
                let address = route::addresses(&mut netlink, link.index).map_err(words)?;
                let subnet = address.first().map(|address| Subnet::of(*address));
                (
                    link,
                    subnet.ok_or_else(|| format!("bridge {bridge}: it has lost its address"))?,
                )
            }
            None => self.make(&mut netlink, &bridge, name.is_none())?,
        };
        Ok(Member {
            networks: self.clone(),
            bridge: link,
            subnet,
            port: port_name(&bridge, lease.number),
            lease,
            alias: format!("ringfence: job {job}"),
            jobs_lock: jobs,
        })
    }

    /// Addresses for a job that is on no network of the host, and whether IPv6 leads anywhere from here.
    ///
    /// # Errors
    /// When the pool has none that this host does not use.
    pub(crate) fn apart(&self) -> Result<(Subnet, bool), String> {
        let mut netlink = Netlink::open().map_err(words)?;
        let ipv4 = route::routes(&mut netlink, AddressFamily::Inet).map_err(words)?;
        let subnet = self.free_subnet(&self.bridge_name(""), &ipv4)?;
        let ipv6 = match route::has_ipv6() {
            true => route::routes(&mut netlink, AddressFamily::Inet6).map_err(words)?,
            false => Vec::new(),
        };
        Ok((subnet, !ways_out(&mut netlink, &ipv6)?.is_empty()))
    }

    /// What stands around a job on `subnet`, `alone` or with the other jobs there.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn around(&self, subnet: Subnet, number: Number, alone: bool) -> Result<Around, String> {
        around::look(subnet, number, self.pool, alone).map_err(words)
    }

    /// Removes what dead runs have left, and bridges without a job; what could not be removed is said.
    pub(crate) fn sweep(&self, kept: Kept) -> Vec<String> {
        let mut left = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = folder.file_name();
            if let Some(bridge) = name.to_str().filter(|name| name.starts_with(host_rules::PREFIX)) {
                let cleared = clear(&folder.path()).and_then(|()| self.remove_unused(bridge, kept));
                left.extend(cleared.err());
            }
        }
        left
    }

    /// Removes a bridge that no job is on.
    fn remove_unused(&self, bridge: &str, kept: Kept) -> Result<(), String> {
        let folder = self.folder.join(bridge);
        let at = |error: io::Error| format!("{}: {error}", folder.display());
        if is_held(&folder, JOBS).map_err(at)?
            || kept == Kept::Stays && is_held(&folder, KEEPER).map_err(at)?
        {
            return Ok(());
        }
        // In the order of those that join: one may have come in between, or another that removes.
        let all = lock_file(&self.folder.join("lock")).map_err(at)?;
        all.lock().map_err(at)?;
        if is_held(&folder, JOBS).map_err(at)? {
            return Ok(());
        }
        delete(&mut Netlink::open().map_err(words)?, bridge)?;
        nft::load(&host_rules::no_table(bridge))?;
        // The folder's removal is the record of it.
        fs::remove_dir_all(&folder).map_err(at)?;
        let others = fs::read_dir(&self.folder).map_err(at)?.flatten();
        if others.filter(|entry| entry.path().is_dir()).count() == 0 {
            forwarding::turn_off(&self.forwarding()).map_err(at)?;
        }
        Ok(())
    }

    /// Keeps an unused bridge for a while, then removes it. One process does that for all that have left meanwhile.
    fn keep(&self, bridge: &str) -> Result<(), String> {
        let folder = self.folder.join(bridge);
        let at = |error: io::Error| format!("{}: {error}", folder.display());
        let keeper = lock_file(&folder.join(KEEPER)).map_err(at)?;
        let left = SystemTime::now();
        keeper.set_modified(left).map_err(at)?;
        match keeper.try_lock() {
            Ok(()) => {}
            // Its look at the jobs comes after it gives up this lock, and that after this job has left.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(at(error)),
        }
        let mut since = left;
        loop {
            std::thread::sleep(KEPT);
            let last = keeper.metadata().and_then(|seen| seen.modified()).map_err(at)?;
            if last <= since {
                break;
            }
            since = last;
        }
        drop(keeper);
        self.remove_unused(bridge, Kept::Stays)
    }

    /// Makes a bridge, with everything that belongs to it. What a dead run has left of one is removed first.
    fn make(&self, netlink: &mut Netlink, bridge: &str, alone: bool) -> Result<(Link, Subnet), String> {
        delete(netlink, bridge)?;
        let of = |errno: Errno| format!("bridge {bridge}: {}", words(errno));
        let ipv4 = route::routes(netlink, AddressFamily::Inet).map_err(words)?;
        let subnet = self.free_subnet(bridge, &ipv4)?;
        let uplinks = ways_out(netlink, &ipv4)?;
        let ipv6 = match route::has_ipv6() {
            true => route::routes(netlink, AddressFamily::Inet6).map_err(words)?,
            false => Vec::new(),
        };
        let uplinks_v6 = ways_out(netlink, &ipv6)?;
        let mtu = uplinks.iter().chain(&uplinks_v6).map(|link| link.mtu).min();

        let names: Vec<String> = uplinks.into_iter().map(|link| link.name).collect();
        let forwarding = Needed::look(&self.forwarding(), &names, !uplinks_v6.is_empty());
        let table = host_rules::table(bridge, subnet, alone, &forwarding.only_ours());
        let rules = nft::start(nft::program().ok_or(nft::MISSING)?, &table)?;
        link::make_bridge(netlink, bridge, mtu.unwrap_or(MTU)).map_err(of)?;
        let link = link::find(netlink, bridge)
            .map_err(of)?
            .ok_or_else(|| of(Errno::ENODEV))?;
        let setting = |error: io::Error| error.to_string();
        sysctl::set(&format!("ipv4/conf/{bridge}/forwarding"), "1").map_err(setting)?;
        if route::has_ipv6() {
            sysctl::only_given_ipv6(bridge).map_err(setting)?;
        }
        for (address, length) in subnet.addresses(GATEWAY) {
            if address.is_ipv4() || route::has_ipv6() {
                route::add_address(netlink, link.index, address, length).map_err(of)?;
            }
        }
        // Nothing is forwarded before the rules say what.
        rules.finish()?;
        forwarding.turn_on(&self.forwarding()).map_err(setting)?;
        link::up(netlink, bridge).map_err(of)?;
        Ok((link, subnet))
    }

    /// A network of the pool that meets no route of the host: its links' addresses are among those.
    fn free_subnet(&self, bridge: &str, routes: &[route::Route]) -> Result<Subnet, String> {
        let met = |subnet: &Subnet| {
            let meets = |route: &&route::Route| route.length > 0 && subnet.meets(route.to, route.length);
            routes.iter().find(meets)
        };
        let digits = bridge.trim_start_matches(host_rules::PREFIX);
        let spread = u32::from_str_radix(digits, 16).unwrap_or_default();
        let mut last = None;
        for subnet in self.pool.subnets(spread) {
            match met(&subnet) {
                None => return Ok(subnet),
                Some(route) => last = Some(format!("{}/{}", route.to, route.length)),
            }
        }
        Err(format!(
            "all of the pool {} is in use on this host, for one by its route to {}; set another `pool` in `[network]` of config.toml",
            self.pool,
            last.unwrap_or_default()
        ))
    }

    /// What forwarding was before we turned it on.
    fn forwarding(&self) -> PathBuf {
        self.folder.join("forwarding")
    }

    /// The name of a network's bridge: as long as a link's may be, and another one for another folder of run state.
    fn bridge_name(&self, network: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(self.folder.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(network);
        let digest = digest.finalize();
        let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{}{digits}", host_rules::PREFIX)
    }
}

impl Member {
    /// Makes the job's interface in its network namespace, the other end of a port of the bridge; `alone` keeps it from the
    /// bridge's other ports that are alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn plug(&self, namespace: BorrowedFd<'_>, alone: bool) -> Result<(), String> {
        let mut netlink = Netlink::open().map_err(words)?;
        let peer = Peer {
            name: INTERFACE,
            mac: self.subnet.mac(self.lease.number),
            namespace,
        };
        let of = |errno| format!("{}: {}", self.port, words(errno));
        link::make_pair(&mut netlink, &self.port, &self.bridge, &peer).map_err(of)?;
        if route::has_ipv6() {
            // The host is reached by its bridge alone.
            let none = sysctl::set(&format!("ipv6/conf/{}/disable_ipv6", self.port), "1");
            none.map_err(|error| error.to_string())?;
        }
        link::open_port(&mut netlink, &self.port, alone, &self.alias).map_err(of)
    }

    /// The network's addresses.
    pub(crate) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The job's number among them.
    pub(crate) fn number(&self) -> Number {
        self.lease.number
    }

    /// The jobs on this network now, this one among them.
    pub(crate) fn jobs(&self) -> Vec<(Number, Entry)> {
        lease::living(&self.networks.folder.join(&self.bridge.name))
    }

    /// What a process that is to leave in this one's place must hold.
    pub(crate) fn held(&self) -> [BorrowedFd<'_>; 2] {
        [self.lease.as_fd(), self.jobs_lock.as_fd()]
    }

    /// Removes the job's port; the bridge too if no job needs it in the next second.
    ///
    /// # Errors
    /// What could not be removed; a sweep finds it later.
    pub(crate) fn leave(self) -> Result<(), String> {
        delete(&mut Netlink::open().map_err(words)?, &self.port)?;
        self.lease.empty().map_err(|error| error.to_string())?;
        drop(self.jobs_lock);
        self.networks.keep(&self.bridge.name)
    }
}

/// Removes what the dead runs of a network have left.
fn clear(folder: &Path) -> Result<(), String> {
    let mut netlink = Netlink::open().map_err(words)?;
    for (lease, entry) in Lease::dead(folder) {
        delete(&mut netlink, &entry.link)?;
        lease
            .empty()
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

/// The links by which packets for anywhere leave.
fn ways_out(netlink: &mut Netlink, routes: &[route::Route]) -> Result<Vec<Link>, String> {
    let mut links = Vec::new();
    for index in routes
        .iter()
        .filter(|route| route.length == 0)
        .filter_map(|route| route.link)
    {
        links.extend(link::number(netlink, index).map_err(words)?);
    }
    links.dedup();
    Ok(links)
}

/// Removes a link; one that is not there is no trouble.
fn delete(netlink: &mut Netlink, name: &str) -> Result<(), String> {
    match link::delete(netlink, name) {
        Ok(()) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(format!("remove link {name}: {}", words(errno))),
    }
}

/// The host's end of a pair: 15 characters are the most that a link's name has.
fn port_name(bridge: &str, number: Number) -> String {
    format!("{}-{number}", bridge.replacen(host_rules::PREFIX, "rf", 1))
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

/// Whether somebody holds a lock of the network of this folder; a folder that somebody has removed counts as well.
fn is_held(folder: &Path, name: &str) -> io::Result<bool> {
    let file = match lock_file(&folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

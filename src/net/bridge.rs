//! A network of the host: a bridge with a table of rules, made by the first job on it and removed after the last.
//!
//! Beside the leases of [`super::lease`] locks in the run state keep this whole, each of which ends with whoever holds it:
//! `lock` of all networks, alone by who makes or removes a bridge; and the network's own. Links, addresses, rules and
//! settings are made only by who has a lease, so any later command finds by the leases that nobody holds what dead runs
//! have left.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use netlink_packet_route::AddressFamily;
use nix::errno::Errno;
use sha2::{Digest, Sha256};

use super::agent::Interface;
use super::forwarding::Needed;
use super::host_rules::PREFIX;
use super::lease::{self, Entry, Lease};
use super::link::{self, Link};
use super::locks::{is_held, lock_file};
use super::member::{Member, port_name};
use super::netlink::Netlink;
use super::nft::Loading;
use super::pool::Pool;
use super::ruleset::{self, Dropping, Ruleset};
use super::subnet::{GATEWAY, Subnet};
use super::ways::Ways;
use super::words;
use super::{around, forwarding, host_rules, listed, nft, route, sysctl};
use crate::egress::Around;

/// How long a bridge stays without a job. To make one and to remove one take the kernel 10 and 80 ms: who runs one job after
/// the other waits for neither.
const KEPT: Duration = Duration::from_secs(1);

/// The locks of a network: held by each job on it, with others; and by who keeps its bridge for the next one, alone.
const JOBS: &str = "jobs";
const KEEPER: &str = "keeper";

/// What the rules of a network were when they were loaded.
const RULES: &str = "rules";

/// What becomes of a bridge that is kept for the next job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Its keeper removes it.
    Stays,
    /// It is removed like any other.
    Goes,
}

/// A bridge that is made, down until its rules are loaded.
#[derive(Debug)]
pub(super) struct Making {
    rules: Loading,
    forwarding: Needed,
    /// The lock of all networks: others wait for the bridge.
    _all: File,
}

/// A bridge that a job has joined.
struct Joined {
    link: Link,
    subnet: Subnet,
    /// Another firewall that drops what the host forwards.
    dropping: Option<Dropping>,
    /// What is to be loaded yet, without the lock.
    rules: Option<(Loading, Needed)>,
}

/// Where the networks of one folder of run state are kept.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    folder: PathBuf,
    pool: Pool,
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
        let alone = name.is_none();
        let joined = match found {
            Some(link) => self.look_at_rules(&mut netlink, &link, alone),
            None => self.make(&mut netlink, &bridge, alone),
        };
        // The job that had this number before may have been killed.
        let joined = joined.and_then(|joined| match joined.rules {
            Some(_) => Ok(joined),
            None => listed::close((&folder, &bridge), lease.number).map(|()| joined),
        });
        let Joined {
            link,
            subnet,
            dropping,
            rules,
        } = match joined {
            Ok(joined) => joined,
            Err(cause) => {
                // Nobody else is on a bridge that was not there.
                drop((lease.empty(), jobs));
                let undone = match all.try_lock() {
                    Ok(()) => self.remove(&bridge),
                    // Others are at work: it is theirs.
                    Err(_) => Ok(()),
                };
                let undone = undone.err().map(|undo| format!("; and while undoing: {undo}"));
                return Err(cause + &undone.unwrap_or_default());
            }
        };
        Ok(Member {
            networks: self.clone(),
            bridge: link,
            subnet,
            port: port_name(&bridge, lease.number),
            lease,
            alias: format!("ringfence: job {job}"),
            jobs_lock: jobs,
            dropping,
            making: rules.map(|(rules, forwarding)| Making {
                rules,
                forwarding,
                _all: all,
            }),
        })
    }

    /// Brings a bridge up whose rules are loaded; another firewall that drops what the host forwards.
    ///
    /// # Errors
    /// Which object could not be made, and why.
    pub(super) fn finish(&self, bridge: &Link, making: Making) -> Result<Option<Dropping>, String> {
        let Making {
            rules,
            forwarding,
            _all,
        } = making;
        // Nothing is forwarded before the rules say what.
        rules.finish()?;
        forwarding
            .turn_on(&self.forwarding())
            .map_err(|error| error.to_string())?;
        let dropping = self.remember_rules(&bridge.name)?;
        let mut netlink = Netlink::open().map_err(words)?;
        link::up(&mut netlink, &bridge.name)
            .map_err(|errno| format!("bridge {}: {}", bridge.name, words(errno)))?;
        Ok(dropping)
    }

    /// The folder of a network.
    pub(super) fn folder_of(&self, bridge: &str) -> PathBuf {
        self.folder.join(bridge)
    }

    /// Addresses for a job that is on no network of the host, and the host's ways out.
    ///
    /// # Errors
    /// When the pool has none that this host does not use.
    pub(crate) fn apart(&self) -> Result<(Subnet, Ways), String> {
        let ways = Ways::look(&mut Netlink::open().map_err(words)?)?;
        let subnet = self.free_subnet(&self.bridge_name(""), &ways.ipv4)?;
        Ok((subnet, ways))
    }

    /// What stands around a job with this interface, `alone` or with the other jobs there.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn around(&self, interface: &Interface, alone: bool) -> Result<Around, String> {
        around::look(interface, self.pool, alone).map_err(words)
    }

    /// Removes what dead runs have left, and bridges without a job; what could not be removed is said.
    pub(crate) fn sweep(&self, kept: Kept) -> Vec<String> {
        let mut left = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = folder.file_name();
            if let Some(bridge) = name.to_str().filter(|name| name.starts_with(PREFIX)) {
                let cleared = clear(&folder.path(), bridge).and_then(|()| self.remove_unused(bridge, kept));
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
        let all = lock_file(&self.folder.join("lock")).map_err(at)?;
        match kept {
            Kept::Goes => all.lock().map_err(at)?,
            // Who is at work now need not be waited for: the next command looks again.
            Kept::Stays => match all.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(at(error)),
                Ok(()) => {}
            },
        }
        self.remove(bridge)
    }

    /// Removes a bridge that no job is on; the lock of all networks is held.
    fn remove(&self, bridge: &str) -> Result<(), String> {
        let folder = self.folder.join(bridge);
        let at = |error: io::Error| format!("{}: {error}", folder.display());
        // In the order of those that join: one may have come in between, or another that removes.
        if is_held(&folder, JOBS).map_err(at)? {
            return Ok(());
        }
        delete(&mut Netlink::open().map_err(words)?, bridge)?;
        nft::load(&host_rules::no_table(bridge))?;
        // The folder's removal is the record of it.
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        let others = fs::read_dir(&self.folder).map_err(at)?.flatten();
        if others.filter(|entry| entry.path().is_dir()).count() == 0 {
            forwarding::turn_off(&self.forwarding()).map_err(at)?;
        }
        Ok(())
    }

    /// Keeps an unused bridge for a while, then removes it. One process does that for all that have left meanwhile.
    pub(super) fn keep(&self, bridge: &str) -> Result<(), String> {
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
        self.remove_unused(bridge, Kept::Goes)
    }

    /// Makes a bridge, with everything that belongs to it but its rules, whose loading has begun. What a dead run has left of one
    /// is removed first.
    fn make(&self, netlink: &mut Netlink, bridge: &str, alone: bool) -> Result<Joined, String> {
        delete(netlink, bridge)?;
        let of = |errno: Errno| format!("bridge {bridge}: {}", words(errno));
        let setting = |error: io::Error| error.to_string();
        let ways = Ways::look(netlink)?;
        let subnet = self.free_subnet(bridge, &ways.ipv4)?;
        let forwarding = self.needed(&ways)?;
        let mut table = host_rules::table(bridge, subnet, alone, &forwarding.only_ours());
        if ruleset::look(bridge).map_err(words)?.table.is_some() {
            table.insert_str(0, &host_rules::no_table(bridge));
        }
        let rules = nft::start(nft::program().ok_or(nft::MISSING)?, &table)?;
        link::make_bridge(netlink, bridge, ways.mtu(), subnet.mac(GATEWAY)).map_err(of)?;
        let link = link::find(netlink, bridge)
            .map_err(of)?
            .ok_or_else(|| of(Errno::ENODEV))?;
        sysctl::set(&format!("ipv4/conf/{bridge}/forwarding"), "1").map_err(setting)?;
        if route::has_ipv6() {
            sysctl::only_given_ipv6(bridge).map_err(setting)?;
        }
        for (address, length) in subnet.addresses(GATEWAY) {
            if address.is_ipv4() || route::has_ipv6() {
                route::add_address(netlink, link.index, address, length).map_err(of)?;
            }
        }
        Ok(Joined {
            link,
            subnet,
            dropping: None,
            rules: Some((rules, forwarding)),
        })
    }

    /// Looks at the rules of a bridge that is there, and loads them anew where somebody has thrown them away or changed them.
    fn look_at_rules(&self, netlink: &mut Netlink, link: &Link, alone: bool) -> Result<Joined, String> {
        let bridge = &link.name;
        let address = route::addresses(netlink, link.index).map_err(words)?;
        let subnet = address.first().map(|address| Subnet::of(*address));
        let subnet = subnet.ok_or_else(|| format!("bridge {bridge}: it has lost its address"))?;
        let (seen, mut dropping) = self.rules_now(bridge)?;
        // One that cannot be read is none.
        let known = fs::read_to_string(self.folder_of(bridge).join(RULES)).unwrap_or_default();
        if seen.is_none_or(|seen| seen != known) {
            let forwarding = self.needed(&Ways::look(netlink)?)?;
            let table = host_rules::table(bridge, subnet, alone, &forwarding.only_ours());
            nft::load(&(host_rules::no_table(bridge) + &table))?;
            forwarding
                .turn_on(&self.forwarding())
                .map_err(|error| error.to_string())?;
            dropping = self.remember_rules(bridge)?;
        }
        Ok(Joined {
            link: link.clone(),
            subnet,
            dropping,
            rules: None,
        })
    }

    /// Writes down what the rules of a bridge are, so that a change is seen.
    fn remember_rules(&self, bridge: &str) -> Result<Option<Dropping>, String> {
        let (seen, dropping) = self.rules_now(bridge)?;
        let file = self.folder_of(bridge).join(RULES);
        let written = fs::write(&file, seen.unwrap_or_default());
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(dropping)
    }

    /// The rules of a bridge in a few letters, with what they depend on; none where there are none. And who else drops what the
    /// host forwards.
    fn rules_now(&self, bridge: &str) -> Result<(Option<String>, Option<Dropping>), String> {
        let Ruleset { table, dropping } = ruleset::look(bridge).map_err(words)?;
        let only_ours = forwarding::only_ours(&self.forwarding()).map_err(|error| error.to_string())?;
        let seen = table.map(|digest| format!("{digest} {}", only_ours.join(" ")));
        Ok((seen, dropping))
    }

    /// What is to be forwarded.
    fn needed(&self, ways: &Ways) -> Result<Needed, String> {
        Needed::look(&self.forwarding(), &ways.links, ways.ipv6).map_err(|error| error.to_string())
    }

    /// A network of the pool that meets no route of the host: its links' addresses are among those.
    fn free_subnet(&self, bridge: &str, routes: &[route::Route]) -> Result<Subnet, String> {
        let met = |subnet: &Subnet| {
            let meets = |route: &&route::Route| {
                !route.is_out(AddressFamily::Inet) && subnet.meets(route.to, route.length)
            };
            routes.iter().find(meets)
        };
        let digits = bridge.trim_start_matches(PREFIX);
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
        format!("{}{digits}", PREFIX)
    }
}

/// Removes what the dead runs of a network have left.
fn clear(folder: &Path, bridge: &str) -> Result<(), String> {
    let mut netlink = Netlink::open().map_err(words)?;
    for (lease, entry) in Lease::dead(folder) {
        delete(&mut netlink, &entry.link)?;
        listed::close((folder, bridge), lease.number)?;
        lease
            .empty()
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

/// Removes a link; one that is not there is no trouble.
pub(super) fn delete(netlink: &mut Netlink, name: &str) -> Result<(), String> {
    match link::delete(netlink, name) {
        Ok(()) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(format!("remove link {name}: {}", words(errno))),
    }
}

//! Networks of jobs: links, addresses, rules. It knows nothing of plans.
//!
//! What a job may reach is held in its own network namespace, made there by [`agent`] before the job starts, the same for
//! root and for everybody else. The host's side is [`bridge`], for root.

pub(crate) mod agent;
pub(crate) mod around;
pub(crate) mod bridge;
mod confine;
pub(crate) mod connections;
pub(crate) mod directory;
mod forwarding;
pub(crate) mod gained;
mod host_rules;
mod lease;
mod link;
mod listed;
mod locks;
pub(crate) mod lookups;
pub(crate) mod member;
mod neighbour;
mod netlink;
mod nfnetlink;
pub(crate) mod nft;
pub(crate) mod pasta;
mod pool;
pub(crate) mod publish;
pub(crate) mod resolver;
pub(crate) mod route;
pub(crate) mod ruleset;
pub(crate) mod sets;
mod subnet;
mod sysctl;
mod trusted;
pub(crate) mod ways;

use nix::errno::Errno;

pub(crate) use self::pool::Pool;

/// The kernel's error as messages say it.
fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

//! A run's resolver, with the host's servers behind it.

use std::os::fd::OwnedFd;
use std::{fs, io};

use super::error::{io_words, words};
use crate::egress::{Around, Egress, Policy};
use crate::net::agent::Namespaces;
use crate::net::resolver::{Jobs, Resolver, Upstream};

/// Which servers the host asks for names (resolv.conf(5)).
const RESOLV: &str = "/etc/resolv.conf";

/// Starts the resolver of a job, on its sockets inside.
pub(super) fn resolver(
    egress: &Egress<'_>,
    around: &Around,
    jobs: Jobs,
    sockets: Vec<OwnedFd>,
    namespaces: &Namespaces,
) -> Result<Resolver, String> {
    let servers = match fs::read_to_string(RESOLV) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| format!("{RESOLV}: {}", io_words(&error)))?,
    };
    let upstream = Upstream::from_resolv_conf(&servers);
    let policy = || Policy::new(egress, around);
    Resolver::start(sockets, namespaces.user(), policy, upstream, jobs).map_err(words)
}

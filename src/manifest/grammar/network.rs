//! Host names, addresses, networks and sockets.

use std::net::SocketAddr;

use super::Wrong;
use crate::egress::{Hosts, HostsError};
use crate::problem::codes;

/// What a job may reach: a host name, all names below one, an address, or a network with its length.
pub(crate) fn hosts(text: &str) -> Result<(), Wrong> {
    match text.parse::<Hosts>() {
        Ok(_) => Ok(()),
        Err(HostsError { wrong, right }) => Err(Wrong::new(codes::BAD_NAME, wrong, right)),
    }
}

/// An address of the host with a port or a range of them; port 0 is any that is free.
pub(crate) fn socket(text: &str) -> Result<(), Wrong> {
    match sockets(text) {
        Some(_) => Ok(()),
        None => Err(Wrong::new(
            codes::BAD_NAME,
            "is not an address and port of the host",
            match text.parse::<u16>() {
                Ok(port) => {
                    format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` for the whole network")
                }
                _ => "such as `127.0.0.1:8080`, `[::1]:8080` or `127.0.0.1:8000-8010`".to_owned(),
            },
        )),
    }
}

/// What [`socket`] means: each of the sockets, in order.
pub(crate) fn sockets(text: &str) -> Option<Vec<SocketAddr>> {
    if let Ok(socket) = text.parse() {
        return Some(vec![socket]);
    }
    let (rest, last) = text.rsplit_once('-')?;
    let first: SocketAddr = rest.parse().ok()?;
    let last: u16 = last.parse().ok()?;
    let in_order = first.port() != 0 && first.port() <= last;
    in_order.then(|| {
        (first.port()..=last)
            .map(|port| SocketAddr::new(first.ip(), port))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::assert_form;
    use super::*;

    #[test]
    fn sockets() {
        let wrong = "is not an address and port of the host";
        assert_form(
            socket,
            &[
                "127.0.0.1:8080",
                "[::1]:80",
                "127.0.0.1:0",
                "0.0.0.0:8000-8010",
                "[::1]:7-7",
            ],
            &[
                ("8080", wrong),
                ("localhost:80", wrong),
                ("127.0.0.1:9-8", wrong),
                ("127.0.0.1:0-8", wrong),
                ("127.0.0.1:70000", wrong),
            ],
        );
    }
}

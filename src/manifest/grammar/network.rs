//! Host names, addresses, networks and sockets.

use std::net::SocketAddr;

use super::Wrong;
use crate::hosts::{Hosts, HostsError};
use crate::problem::codes;

/// What a job may reach: a host name, all names below one, an address, or a network with its length.
pub(crate) fn hosts(text: &str) -> Result<(), Wrong> {
    match text.parse::<Hosts>() {
        Ok(_) => Ok(()),
        Err(HostsError { wrong, right }) => Err(Wrong::new(codes::BAD_NAME, wrong, right)),
    }
}

/// An address and port of the host.
pub(crate) fn socket(text: &str) -> Result<(), Wrong> {
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok(()),
        _ => Err(Wrong::new(
            codes::BAD_NAME,
            "is not an address and port of the host",
            match text.parse::<u16>() {
                Ok(port) if port != 0 => {
                    format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` for the whole network")
                }
                _ => "such as `127.0.0.1:8080` or `[::1]:8080`".to_owned(),
            },
        )),
    }
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
            &["127.0.0.1:8080", "[::1]:80"],
            &[
                ("8080", wrong),
                ("localhost:80", wrong),
                ("127.0.0.1:0", wrong),
                ("127.0.0.1:70000", wrong),
            ],
        );
    }
}

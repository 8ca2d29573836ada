//! Host names, addresses, networks and sockets.

use std::net::{IpAddr, SocketAddr};

use super::Wrong;
use crate::problem::codes;

/// What a job may reach: a DNS name, an address, or a network with its length.
pub(crate) fn peer(text: &str) -> Result<(), Wrong> {
    let bad = |wrong: &str, right: &str| Err(Wrong::new(codes::BAD_NAME, wrong, right));
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if let Some((address, length)) = text.split_once('/') {
        return match (address.parse::<IpAddr>(), length.parse::<u8>()) {
            (Ok(IpAddr::V4(_)), Ok(0..=32)) | (Ok(IpAddr::V6(_)), Ok(0..=128)) => Ok(()),
            _ => bad(
                "is not a network",
                "write an address and a length, such as `10.0.0.0/8`",
            ),
        };
    }
    if text.contains('*') {
        return bad(
            "has a `*`: the names behind it are not known when the firewall is made",
            "list the names, or a network such as `10.0.0.0/8`",
        );
    }
    if text.contains(':') {
        return bad(
            "is not an address",
            "write ports in the entry: `{ ports = [443] }`",
        );
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    // A last label of digits alone would be a mistyped address, never a name (RFC 3696).
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.parse::<u64>().is_ok());
    if text.len() <= 253 && text.split('.').all(label) && !last_is_number {
        return Ok(());
    }
    bad(
        "is neither a host name nor an address nor a network",
        "such as `index.example.org`, `192.0.2.7` or `10.0.0.0/8`",
    )
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
    fn peers_and_sockets() {
        let neither = "is neither a host name nor an address nor a network";
        assert_form(
            peer,
            &[
                "index.example.org",
                "localhost",
                "192.0.2.7",
                "::1",
                "10.0.0.0/8",
                "2001:db8::/32",
            ],
            &[
                ("", neither),
                ("a b", neither),
                ("1.2.3", neither),
                ("-x.org", neither),
                ("10.0.0.0/33", "is not a network"),
                ("example.org:443", "is not an address"),
                (
                    "*.example.org",
                    "has a `*`: the names behind it are not known when the firewall is made",
                ),
            ],
        );
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

//! Where a URL leads: its host and port, and whether that is an address inside.

use std::net::IpAddr;

/// Whether an address is encrypted, and its host and port; none with a user name or another scheme.
pub(super) fn authority(url: &str) -> Option<(bool, &str)> {
    let (https, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    (!authority.is_empty() && !authority.contains(['@', '\\'])).then_some((https, authority))
}

/// Host, without the brackets of an IPv6 address, and port.
pub(super) fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or((rest, "")),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    (host, rest.strip_prefix(':'))
}

/// The address that an authority itself names.
pub(super) fn address_of(authority: &str) -> Option<IpAddr> {
    match host_and_port(authority).0 {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        host => host.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

/// Whether a host is an address of a private network, this machine, or the link.
pub(super) fn is_inner(authority: &str) -> bool {
    match address_of(authority) {
        Some(IpAddr::V4(address)) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Some(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
        None => false,
    }
}

/// Whether a host is an address of the link: clouds keep their metadata services there.
pub(super) fn is_link_local(authority: &str) -> bool {
    match address_of(authority) {
        Some(IpAddr::V4(address)) => address.is_link_local(),
        Some(IpAddr::V6(address)) => address.is_unicast_link_local(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_a_client_reads_them() {
        assert_eq!(
            authority("https://a.example:444/x?y#z"),
            Some((true, "a.example:444"))
        );
        assert_eq!(authority("http://a?@b"), Some((false, "a")));
        for url in ["https://u@a/", "ftp://a/", "https:///x", "https://a\\@b/", ""] {
            assert_eq!(authority(url), None, "{url}");
        }
        for inner in [
            "127.0.0.1",
            "10.1.2.3:80",
            "192.168.0.1",
            "169.254.169.254",
            "[::1]:5000",
            "[fd00::1]",
            "localhost:1",
            "0.0.0.0",
        ] {
            assert!(is_inner(inner), "{inner}");
        }
        for outer in ["8.8.8.8", "[2001:db8::1]", "localhost.example", "10.example"] {
            assert!(!is_inner(outer), "{outer}");
        }
    }
}

//! What an expectation can be about.

use super::Wrong;
use crate::manifest::nearest::nearest;
use crate::problem::codes;
use crate::profile::{Capability, NoPeer, Peer};

/// The longest name of a Unix socket: `sun_path` less its NUL (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// A regular expression is compiled for every run; the bound is on its text, and regex-lite bounds what it grows to.
const LONGEST_PATTERN: usize = 1024;

/// A place inside that is the same for the process that looks and for the job.
///
/// The one that looks has not executed the job's program yet, so what `/proc` shows of it is its own.
pub(crate) fn probed_path(text: &str) -> Result<(), Wrong> {
    super::path(text)?;
    let mut parts = text.split('/').skip(1);
    let of_a_process =
        |part: &str| matches!(part, "self" | "thread-self") || part.starts_with(|c: char| c.is_ascii_digit());
    if parts.next() == Some("proc") && parts.next().is_some_and(of_a_process) {
        return Err(Wrong::form(
            "is of one process, and the one that looks is not yet the job's program",
            "let the job look itself, and write `output-matches`",
        ));
    }
    Ok(())
}

/// Where a connection goes: an address or a name with a port, or the path of a socket.
pub(crate) fn destination(text: &str) -> Result<(), Wrong> {
    if text.starts_with('/') {
        super::path(text)?;
        return match text.len() <= LONGEST_SOCKET {
            true => Ok(()),
            false => Err(Wrong::form(
                format!("is longer than the path of a socket may be ({LONGEST_SOCKET} bytes)"),
                "",
            )),
        };
    }
    text.parse::<Peer>().map(drop).map_err(|NoPeer| {
        Wrong::form(
            "is neither an address nor a name with a port, nor the path of a socket",
            "such as \"192.0.2.7:443\", \"index.example.org:443\", \"192.0.2.7:53/udp\" or \"/run/app.sock\"",
        )
    })
}

/// Any capability of the kernel, whether or not a job could be given it.
pub(crate) fn known_capability(text: &str) -> Result<(), Wrong> {
    if Capability::from_name(text).is_some() {
        return Ok(());
    }
    let upper = text.to_ascii_uppercase();
    let names = Capability::ALL.iter().map(|capability| capability.name());
    let right = match nearest(upper.strip_prefix("CAP_").unwrap_or(&upper), names) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => "see capabilities(7) for the names".to_owned(),
    };
    Err(Wrong::new(codes::UNKNOWN_WORD, "is not a capability", right))
}

/// A regular expression.
pub(crate) fn pattern(text: &str) -> Result<(), Wrong> {
    if text.len() > LONGEST_PATTERN {
        return Err(Wrong::form(
            format!("is longer than a regular expression may be ({LONGEST_PATTERN} bytes)"),
            "",
        ));
    }
    match regex_lite::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Wrong::form(
            format!("is not a regular expression: {error}"),
            "a `\\` before a character takes it as it stands; in TOML write the string in single quotes",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_form;
    use super::*;

    #[test]
    fn a_probe_looks_at_places_that_are_not_its_own() {
        let own = "is of one process, and the one that looks is not yet the job's program";
        assert_form(
            probed_path,
            &[
                "/",
                "/etc/shadow",
                "/proc/kcore",
                "/proc",
                "/proc/sys/kernel/hostname",
                "/self",
            ],
            &[
                ("/proc/self/environ", own),
                ("/proc/1/root", own),
                ("/proc/thread-self", own),
                ("etc", "is not absolute"),
            ],
        );
    }

    #[test]
    fn a_destination_is_an_address_or_a_socket() {
        let wrong = "is neither an address nor a name with a port, nor the path of a socket";
        assert_form(
            destination,
            &["192.0.2.7:443", "[::1]:80/udp", "example.org:443", "/run/x.sock"],
            &[
                ("example.org", wrong),
                ("192.0.2.7", wrong),
                ("192.0.2.7:0", wrong),
                ("", wrong),
                (
                    &format!("/{}", "a".repeat(107)),
                    "is longer than the path of a socket may be (107 bytes)",
                ),
            ],
        );
    }

    #[test]
    fn patterns_and_capabilities_are_known() {
        assert_form(
            known_capability,
            &["SYS_ADMIN", "cap_net_raw"],
            &[("ROOT", "is not a capability")],
        );
        assert_form(pattern, &["^ok$", ""], &[]);
        assert!(
            pattern("(")
                .expect_err("open")
                .wrong
                .starts_with("is not a regular expression: ")
        );
    }
}

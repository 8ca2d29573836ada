//! Signals by name, for an image's StopSignal.

/// The kernel's numbers on x86_64 and aarch64 (signal(7)), from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// SIGTERM, which asks a program to end.
pub(super) const TERM: i32 = 15;

/// SIGRTMIN as the C library counts it: it keeps the kernel's first two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub(super) fn number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let from = |base: i32, rest: &str, sign: char| match rest {
        "" => Some(base),
        rest => rest
            .strip_prefix(sign)
            .and_then(|n| n.parse::<u8>().ok())
            .map(i32::from),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        from(0, rest, '+').map(|n| RTMIN + n)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        from(0, rest, '-').map(|n| RTMAX - n)
    } else if upper.bytes().all(|byte| byte.is_ascii_digit()) {
        upper.parse().ok()
    } else {
        NAMES
            .iter()
            .position(|known| *known == name)
            .and_then(|at| i32::try_from(at + 1).ok())
    };
    number.filter(|number| (1..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGWINCH", Some(28)),
            ("SYS", Some(31)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN", Some(34)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("SIG", None),
            ("", None),
            ("SIG15", None),
            ("RTMIN+99", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}

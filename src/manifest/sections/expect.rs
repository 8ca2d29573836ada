//! `[[job.NAME.expect]]`: what a job's author claims of its sandbox.

use super::super::grammar as is;
use super::super::schema::{Kind, Section};
use super::key;

/// One expectation: one of these keys.
pub(crate) static EXPECT: Section = Section {
    keys: &[
        key("can-read", PLACE, "A file or directory that the job can read."),
        key(
            "cannot-read",
            PLACE,
            "One that it cannot read: absent, forbidden, or with nothing in it.",
        ),
        key(
            "can-write",
            PLACE,
            "A file that the job can open to write, or a directory in which it can make one.",
        ),
        key("cannot-write", PLACE, "One that it cannot."),
        key(
            "can-connect",
            PEER,
            "An address or name with a port, or the path of a socket, that the job can connect to; with `/udp`, that a datagram to it is not refused.",
        ),
        key("cannot-connect", PEER, "One that it cannot."),
        key("uid", ID, "The job's user id inside."),
        key("gid", ID, "The job's group id inside."),
        key(
            "lacks-capability",
            Kind::Text(is::known_capability),
            "A capability that is in none of the job's five sets.",
        ),
        key(
            "processes",
            Kind::Integer(1, 4_194_304),
            "How many processes are seen in /proc, the job's first one and its init among them.",
        ),
        key(
            "exit-code",
            Kind::Integer(0, 255),
            "The exit code of `ringfence run`.",
        ),
        key(
            "verdict",
            // The words of the receipt, less those of a job that never started.
            Kind::Word(&[
                "wall", "output", "oom", "cpu", "seccomp", "disk", "pids", "signal", "exit",
            ]),
            "How the job ends, in the receipt's word.",
        ),
        key(
            "output-matches",
            Kind::Text(is::pattern),
            "A regular expression that standard output has a match of.",
        ),
        key(
            "errors-match",
            Kind::Text(is::pattern),
            "A regular expression that standard error has a match of.",
        ),
    ],
    kinds: &[
        "can-read",
        "cannot-read",
        "can-write",
        "cannot-write",
        "can-connect",
        "cannot-connect",
        "uid",
        "gid",
        "lacks-capability",
        "processes",
        "exit-code",
        "verdict",
        "output-matches",
        "errors-match",
    ],
    rivals: &[],
};

const PLACE: Kind = Kind::Text(is::probed_path);
const PEER: Kind = Kind::Text(is::destination);
const ID: Kind = Kind::Integer(0, 4_294_967_294);

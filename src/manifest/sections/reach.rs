//! `network` and `mounts`: what a job can reach and see.

use super::super::grammar as is;
use super::super::schema::{Entries, Kind, Section};
use super::{BYTES, PORT, key};

pub(super) static NETWORK: Section = Section {
    keys: &[
        key(
            "mode",
            Kind::Word(&["null", "bridge", "host"]),
            "Nothing but loopback, an interface behind a bridge, or the host's own network.",
        ),
        key(
            "name",
            Kind::Text(is::name),
            "Jobs on one named network see each other.",
        ),
        key(
            "egress",
            Kind::Word(&["open"]),
            "Opens again what a parent's `allow` table closed.",
        ),
        key(
            "allow",
            Kind::Entries(&ALLOW),
            "With this table, even an empty one, what is not listed is refused.",
        ),
        key(
            "publish",
            Kind::Entries(&PUBLISH),
            "Ports of the host that lead inside.",
        ),
    ],
    kinds: &[],
    rivals: &["egress", "allow"],
};

static ALLOW: Entries = Entries {
    noun: "a host name, an address or a network",
    name: is::hosts,
    value: Kind::Either(&[
        Kind::Table(&Section::of(&[
            key(
                "ports",
                Kind::List(&PORT),
                "Ports; none listed means all but that of DNS, 53.",
            ),
            key(
                "protocol",
                Kind::Word(&["tcp", "udp"]),
                "One protocol; not written means both.",
            ),
        ])),
        Kind::Removed,
    ]),
};

static PUBLISH: Entries = Entries {
    noun: "an address and port of the host",
    name: is::socket,
    value: Kind::Either(&[
        Kind::Table(&Section::of(&[
            key("to", PORT, "The port inside."),
            key(
                "protocol",
                Kind::Word(&["tcp", "udp"]),
                "The protocol; `tcp` when not written.",
            ),
        ])),
        Kind::Removed,
    ]),
};

pub(super) static MOUNTS: Entries = Entries {
    noun: "a place inside",
    name: is::mount_place,
    value: Kind::Either(&[Kind::Table(&MOUNT), Kind::Removed]),
};

static MOUNT: Section = Section {
    keys: &[
        key(
            "bind",
            Kind::Template(is::bind_source),
            "A file or directory of the host; relative to the manifest's folder.",
        ),
        key(
            "access",
            Kind::Word(&["ro", "rw", "copy"]),
            "Read, read and write, or write to a throw-away layer; `ro` when not written.",
        ),
        key(
            "optional",
            Kind::Bool,
            "Whether a source that is missing is skipped.",
        ),
        key("tmpfs", BYTES, "A file system in memory of this size."),
        key(
            "exec",
            Kind::Bool,
            "Whether programs in a tmpfs may be run; `true` when not written.",
        ),
    ],
    kinds: &["bind", "tmpfs"],
    rivals: &[],
};

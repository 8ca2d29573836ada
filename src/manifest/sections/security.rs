//! `security` and `sysctls`: filters, rights and kernel settings.

use super::super::grammar as is;
use super::super::schema::{Entries, Kind, Section};
use super::{ENFORCE, ENFORCE_DOC, PORT, key};

pub(super) static SECURITY: Section = Section::of(&[
    key(
        "capabilities",
        Kind::List(&Kind::Text(is::capability)),
        "Capabilities inside the user namespace; outside there are none, ever.",
    ),
    key(
        "seccomp",
        Kind::Either(&[
            Kind::Short("policy", &POLICY, &SECCOMP),
            Kind::AlwaysOn(
                "every job has a filter; `seccomp.enforce = \"optional\"` puts up with a host that has none",
            ),
        ]),
        "System calls.",
    ),
    key(
        "landlock",
        Kind::Either(&[Kind::Table(&LANDLOCK), Kind::Removed]),
        "Paths and ports by Landlock.",
    ),
    key(
        "no-new-privileges",
        Kind::AlwaysOn("the kernel takes a seccomp filter of an unprivileged process only with it"),
        "Whether no program gains rights by being run, see prctl(2).",
    ),
    key("masked-paths", Kind::List(&PATH), "Paths that show nothing."),
    key(
        "read-only-paths",
        Kind::List(&PATH),
        "Paths that cannot be written.",
    ),
]);

const PATH: Kind = Kind::Text(is::path);
const POLICY: Kind = Kind::Word(&["default", "no-ptrace"]);
const SYSCALLS: Kind = Kind::List(&Kind::Text(is::syscall));

static SECCOMP: Section = Section::of(&[
    key("policy", POLICY, "The named policy that the lists change."),
    key("allow", SYSCALLS, "System calls allowed besides."),
    key("deny", SYSCALLS, "System calls refused besides."),
    key("enforce", ENFORCE, ENFORCE_DOC),
]);

static LANDLOCK: Section = Section::of(&[
    key(
        "read",
        Kind::List(&PATH),
        "Files may be read and directories listed below these paths.",
    ),
    key("write", Kind::List(&PATH), "Also written, made and removed."),
    key("execute", Kind::List(&PATH), "Also executed."),
    key(
        "connect-tcp",
        Kind::List(&PORT),
        "TCP ports that may be connected to.",
    ),
    key("bind-tcp", Kind::List(&PORT), "TCP ports that may be bound."),
    key("enforce", ENFORCE, ENFORCE_DOC),
]);

pub(super) static SYSCTLS: Entries = Entries {
    noun: "a kernel setting",
    name: is::sysctl_name,
    value: Kind::Either(&[
        Kind::Text(is::sysctl_value),
        Kind::Integer(i64::MIN, i64::MAX),
        Kind::Removed,
    ]),
};

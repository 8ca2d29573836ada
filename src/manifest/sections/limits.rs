//! `limits` and `rlimits`: what bounds a job, and each of its processes.

use super::super::grammar as is;
use super::super::schema::{Entries, Kind, Section, Unit};
use super::{BYTES, ENFORCE, ENFORCE_DOC, TIME, key};

/// A limit: its bare value, or `{ max, enforce }`, or `false`.
macro_rules! limit {
    ($kind:expr) => {
        limit!($kind, ENFORCE)
    };
    ($kind:expr, $enforce:expr) => {
        Kind::Either(&[
            Kind::Short(
                "max",
                &$kind,
                &Section::of(&[
                    key("max", $kind, "The most that is allowed."),
                    key("enforce", $enforce, ENFORCE_DOC),
                ]),
            ),
            Kind::Removed,
        ])
    };
}

const NEVER_OPTIONAL: Kind =
    Kind::Refused("this limit needs nothing that a host could lack, so it is always held");

pub(super) static LIMITS: Section = Section::of(&[
    key(
        "enforce",
        ENFORCE,
        "For every limit that control groups or the disk hold and that says nothing itself.",
    ),
    key(
        "memory",
        limit!(BYTES),
        "Memory, without swap; file systems in memory count.",
    ),
    // The kernel's own ceiling of pid_max (PID_MAX_LIMIT, proc_sys_kernel(5)).
    key(
        "pids",
        limit!(Kind::Integer(1, 4_194_304)),
        "Processes and threads at once.",
    ),
    key("cpus", limit!(Kind::Cpus), "A share of processors."),
    key(
        "cpuset",
        limit!(Kind::Text(is::cpuset)),
        "Processors it may run on, such as `0-2,4`.",
    ),
    key(
        "cpu-time",
        limit!(TIME),
        "Processor time of all its processes together.",
    ),
    key(
        "io",
        Kind::Entries(&IO),
        "Bandwidth and operations by block device.",
    ),
    key("wall", limit!(TIME, NEVER_OPTIONAL), "Time from its start."),
    key(
        "grace",
        Kind::Either(&[TIME, Kind::Removed]),
        "How long after the stop signal the wall limit kills.",
    ),
    key("disk", limit!(BYTES), "The writable layer."),
    key(
        "output",
        limit!(BYTES, NEVER_OPTIONAL),
        "Standard output and standard error, each.",
    ),
]);

static IO: Entries = Entries {
    noun: "a block device",
    name: is::device,
    value: Kind::Either(&[
        Kind::Table(&Section::of(&[
            key("read", BYTES, "Bytes read per second."),
            key("write", BYTES, "Bytes written per second."),
            key(
                "read-ops",
                Kind::Integer(1, i64::MAX),
                "Read operations per second.",
            ),
            key(
                "write-ops",
                Kind::Integer(1, i64::MAX),
                "Write operations per second.",
            ),
            key("enforce", ENFORCE, ENFORCE_DOC),
        ])),
        Kind::Removed,
    ]),
};

/// A limit of each process: one value for soft and hard, or `{ soft, hard }`, or `false`.
macro_rules! rlimit {
    ($kind:expr) => {
        Kind::Either(&[
            $kind,
            Kind::Unlimited,
            Kind::Table(&Section::of(&[
                key(
                    "soft",
                    Kind::Either(&[$kind, Kind::Unlimited]),
                    "What holds until the process raises it.",
                ),
                key(
                    "hard",
                    Kind::Either(&[$kind, Kind::Unlimited]),
                    "What it may raise it to.",
                ),
            ])),
            Kind::Removed,
        ])
    };
}

const RLIMIT_BYTES: Kind = Kind::Quantity(Unit::BytesOrZero);
const RLIMIT_COUNT: Kind = Kind::Integer(0, i64::MAX);

pub(super) static RLIMITS: Section = Section::of(&[
    key("as", rlimit!(RLIMIT_BYTES), "Address space."),
    key("core", rlimit!(RLIMIT_BYTES), "Core dumps."),
    key(
        "cpu",
        rlimit!(TIME),
        "Processor time of one process, in whole seconds.",
    ),
    key("data", rlimit!(RLIMIT_BYTES), "Data segment."),
    key("fsize", rlimit!(RLIMIT_BYTES), "Size of a file that it writes."),
    key("locks", rlimit!(RLIMIT_COUNT), "File locks."),
    key("memlock", rlimit!(RLIMIT_BYTES), "Locked memory."),
    key("msgqueue", rlimit!(RLIMIT_BYTES), "POSIX message queues."),
    key(
        "nice",
        rlimit!(Kind::Integer(0, 40)),
        "How far the nice value may fall: 20 less this number.",
    ),
    key("nofile", rlimit!(RLIMIT_COUNT), "Open files."),
    key(
        "nproc",
        rlimit!(RLIMIT_COUNT),
        "Processes of the same user; `limits.pids` bounds a job.",
    ),
    key(
        "rss",
        rlimit!(RLIMIT_BYTES),
        "Resident memory; the kernel ignores it.",
    ),
    key("rtprio", rlimit!(Kind::Integer(0, 99)), "Real-time priority."),
    key(
        "rttime",
        rlimit!(TIME),
        "Real-time processor time without a pause.",
    ),
    key("sigpending", rlimit!(RLIMIT_COUNT), "Queued signals."),
    key("stack", rlimit!(RLIMIT_BYTES), "Stack."),
]);

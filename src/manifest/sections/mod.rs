//! Everything that a manifest can hold: sections, keys, types and what they mean.
//!
//! The decoder, the search for the nearest key, merging and the JSON schema all read these tables;
//! a key that is not here does not exist.

mod expect;
mod limits;
mod reach;
mod security;

pub(crate) use self::expect::EXPECT;
use self::limits::{LIMITS, RLIMITS};
use self::reach::{MOUNTS, NETWORK};
use self::security::{SECURITY, SYSCTLS};
use super::grammar as is;
use super::schema::{Entries, Key, Kind, Section, Unit};

const BYTES: Kind = Kind::Quantity(Unit::Bytes);
const TIME: Kind = Kind::Quantity(Unit::Time);
const PORT: Kind = Kind::Integer(1, 65_535);
const ENFORCE: Kind = Kind::Word(&["required", "optional"]);
const ENFORCE_DOC: &str =
    "Whether a host that cannot hold it is refused (required) or accepted and reported (optional).";

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, doc }
}

/// The whole manifest.
pub(crate) static ROOT: Section = Section::of(&[
    key("schema", Kind::Integer(1, 1), "The version of this format: 1."),
    key("job", Kind::Entries(&JOBS), "What runs."),
    key("profile", Kind::Entries(&PROFILES), "How it is held."),
    key("variables", Kind::Entries(&VARIABLES), "Texts used as `${NAME}`."),
    key(
        "matrix",
        Kind::Table(&MATRIX),
        "What `plan --all` plans each job with.",
    ),
]);

static JOBS: Entries = Entries {
    noun: "a job",
    name: is::name,
    value: Kind::Table(&JOB),
};

static PROFILES: Entries = Entries {
    noun: "a profile",
    name: is::name,
    value: Kind::Table(&PROFILE),
};

static MATRIX: Section = Section::of(&[
    key(
        "jobs",
        Kind::List(&Kind::Text(is::name)),
        "The jobs that it is about; every one when not written.",
    ),
    key(
        "images",
        Kind::List(&Kind::Template(is::image)),
        "Each takes the place of `image`.",
    ),
    key(
        "profiles",
        Kind::List(&Kind::Text(is::name)),
        "Each takes the place of `profile`.",
    ),
    key(
        "platforms",
        Kind::List(&Kind::Word(&["linux/amd64", "linux/arm64"])),
        "Each takes the place of the host's own: the image is the one that the lock has for it.",
    ),
    key(
        "hosts",
        Kind::List(&Kind::Text(is::argument)),
        "Files that `ringfence facts` wrote, relative to the manifest's folder.",
    ),
]);

/// `[variables]`.
pub(crate) static VARIABLES: Entries = Entries {
    noun: "a variable",
    name: is::variable_name,
    value: Kind::Either(&[Kind::Text(is::variable_text), Kind::Table(&VARIABLE)]),
};

static VARIABLE: Section = Section::of(&[
    key(
        "env",
        Kind::Text(is::environment_name),
        "The environment variable that it is read from.",
    ),
    key(
        "default",
        Kind::Text(is::variable_text),
        "Its value where that variable is not set.",
    ),
    key(
        "secret",
        Kind::Bool,
        "Whether its value is kept out of everything that is printed.",
    ),
]);

/// `[profile.NAME]` without `inherits`; `[job.NAME]` holds the same keys.
macro_rules! with_hold {
    ($($first:expr,)*) => {
        Section::of(&[
            $($first,)*
            key(
                "user",
                Kind::Short("name", &Kind::Text(is::user), &USER),
                "Who the job is inside: a name or number, with or without `:GROUP`.",
            ),
            key("namespaces", Kind::Table(&NAMESPACES), "What the kernel keeps apart."),
            key("hostname", Kind::Text(is::hostname), "The host name inside."),
            key("init", Kind::Bool, "Whether PID 1 is ours: it forwards signals, reaps, and ends with the job's status."),
            key("root", Kind::Word(&["read-only", "tmpfs", "disk"]), "Whether the root file system can be written, and where the writes go."),
            key("sys", Kind::Word(&["absent", "read-only"]), "Whether the kernel's /sys is there; with the host's network it never is."),
            key("limits", Kind::Table(&LIMITS), "What bounds the job as a whole."),
            key("rlimits", Kind::Table(&RLIMITS), "Limits of each process, by setrlimit(2)."),
            key("network", Kind::Table(&NETWORK), "What the job can reach."),
            key("mounts", Kind::Entries(&MOUNTS), "What it sees besides its image, by place inside."),
            key("security", Kind::Table(&SECURITY), "Filters and rights."),
            key("sysctls", Kind::Entries(&SYSCTLS), "Kernel settings of the job's own namespaces."),
        ])
    };
}

/// `[job.NAME]`; a profile's keys are among its own.
pub(crate) fn job() -> &'static Section {
    &JOB
}

/// The same as the type of a value.
pub(crate) fn job_kind() -> &'static Kind {
    &JOBS.value
}

static JOB: Section = with_hold![
    key(
        "image",
        Kind::Template(is::image),
        "Where its root file system comes from."
    ),
    key(
        "profile",
        Kind::Text(is::name),
        "How it is held; `strict` when not written."
    ),
    key(
        "entrypoint",
        Kind::List(&ARGUMENT),
        "Replaces the image's Entrypoint and drops its Cmd."
    ),
    key("command", Kind::List(&ARGUMENT), "Replaces the image's Cmd."),
    key(
        "workdir",
        Kind::Template(is::workdir),
        "Replaces the image's WorkingDir."
    ),
    key("env", Kind::Entries(&ENV), "Added to the image's Env."),
    key(
        "expect",
        Kind::List(&Kind::Table(&EXPECT)),
        "What `ringfence test` holds against the kernel, each in a table `[[job.NAME.expect]]`.",
    ),
];

static PROFILE: Section = with_hold![key(
    "inherits",
    Kind::Text(is::name),
    "The profile that this one changes; `strict` when not written."
),];

const ARGUMENT: Kind = Kind::Template(is::argument);

static ENV: Entries = Entries {
    noun: "an environment variable",
    name: is::environment_name,
    value: Kind::Either(&[Kind::Template(is::argument), Kind::Removed]),
};

static USER: Section = Section {
    keys: &[
        key(
            "name",
            Kind::Text(is::user),
            "A name or number, with or without `:GROUP`.",
        ),
        key(
            "from",
            Kind::Word(&["image-unless-root", "image", "caller"]),
            "The image's User when that is not 0, else 65532; the image's User, else 0; or the caller's own ids.",
        ),
    ],
    kinds: &["name", "from"],
    rivals: &[],
};

static NAMESPACES: Section = Section::of(&[
    key(
        "user",
        Kind::AlwaysOn("without it, root inside would be root of the host"),
        "Users and groups.",
    ),
    key(
        "mount",
        Kind::AlwaysOn("without it, the job would change the host's own mounts"),
        "Mounts.",
    ),
    key(
        "pid",
        Kind::AlwaysOn("without it, nothing could end every process of a job"),
        "Processes.",
    ),
    key(
        "net",
        Kind::Refused(
            "the network namespace follows `network.mode`: \"null\" and \"bridge\" have one of their own, \"host\" has none",
        ),
        "Follows `network.mode`.",
    ),
    key(
        "ipc",
        Kind::Bool,
        "System V and POSIX message queues and shared memory.",
    ),
    key("uts", Kind::Bool, "The host name."),
    key("cgroup", Kind::Bool, "The view of control groups."),
    key(
        "time",
        Kind::Either(&[Kind::Bool, Kind::Table(&TIME_OFFSETS)]),
        "The clocks since boot.",
    ),
]);

static TIME_OFFSETS: Section = Section::of(&[
    key(
        "monotonic",
        Kind::Quantity(Unit::Offset),
        "Added to CLOCK_MONOTONIC; may be negative.",
    ),
    key(
        "boottime",
        Kind::Quantity(Unit::Offset),
        "Added to CLOCK_BOOTTIME; may be negative.",
    ),
]);

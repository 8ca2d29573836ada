//! Every key of a manifest with the values that show its direction.

/// Lines of a job from the tightest to the loosest, for each key in the order in which it opens. An empty line leaves it
/// to the profile `strict`.
pub(super) const LADDERS: &[(&str, &[&str])] = &[
    (
        "user.name",
        &["user = \"app\"", "user = \"app:root\"", "user = \"root\""],
    ),
    (
        "user.from",
        &[
            "user.from = \"image-unless-root\"",
            "user.from = \"image\"",
            "user = \"0:0\"",
        ],
    ),
    (
        "namespaces.ipc",
        &["namespaces.ipc = true", "namespaces.ipc = false"],
    ),
    (
        "namespaces.uts",
        &["namespaces.uts = true", "namespaces.uts = false"],
    ),
    (
        "namespaces.cgroup",
        &["namespaces.cgroup = true", "namespaces.cgroup = false"],
    ),
    (
        "namespaces.time",
        &["namespaces.time = true", "namespaces.time = false"],
    ),
    ("root", &["root = \"read-only\"", "root = \"tmpfs\""]),
    ("sys", &["sys = \"absent\"", "sys = \"read-only\""]),
    (
        "limits.enforce",
        &["limits.enforce = \"required\"", "limits.enforce = \"optional\""],
    ),
    (
        "limits.memory.max",
        &[
            "limits.memory = \"256MiB\"",
            "limits.memory = \"1GiB\"",
            "limits.memory = false",
        ],
    ),
    (
        "limits.memory.enforce",
        &[
            "",
            "limits.memory.enforce = \"optional\"",
            "limits.memory = false",
        ],
    ),
    (
        "limits.pids.max",
        &["limits.pids = 4", "", "limits.pids = 1000", "limits.pids = false"],
    ),
    ("limits.pids.enforce", &["", "limits.pids.enforce = \"optional\""]),
    ("limits.cpus.max", &["limits.cpus = 0.5", "limits.cpus = 1.5", ""]),
    (
        "limits.cpus.enforce",
        &[
            "limits.cpus = 1",
            "limits.cpus = { max = 1, enforce = \"optional\" }",
            "",
        ],
    ),
    (
        "limits.cpuset.max",
        &["limits.cpuset = \"0\"", "limits.cpuset = \"0-1\"", ""],
    ),
    (
        "limits.cpuset.enforce",
        &[
            "limits.cpuset = \"0\"",
            "limits.cpuset = { max = \"0\", enforce = \"optional\" }",
        ],
    ),
    (
        "limits.cpu-time.max",
        &["limits.cpu-time = \"1s\"", "limits.cpu-time = \"1min\"", ""],
    ),
    (
        "limits.cpu-time.enforce",
        &[
            "limits.cpu-time = \"1s\"",
            "limits.cpu-time = { max = \"1s\", enforce = \"optional\" }",
        ],
    ),
    (
        "limits.io.*.read",
        &[
            "limits.io.\"8:0\".read = \"1MiB\"",
            "limits.io.\"8:0\".read = \"2MiB\"",
            "",
        ],
    ),
    (
        "limits.io.*.write",
        &[
            "limits.io.\"8:0\".write = \"1MiB\"",
            "limits.io.\"8:0\".write = \"2MiB\"",
            "",
        ],
    ),
    (
        "limits.io.*.read-ops",
        &[
            "limits.io.\"8:0\".read-ops = 1",
            "limits.io.\"8:0\".read-ops = 2",
            "",
        ],
    ),
    (
        "limits.io.*.write-ops",
        &[
            "limits.io.\"8:0\".write-ops = 1",
            "limits.io.\"8:0\".write-ops = 2",
            "",
        ],
    ),
    (
        "limits.io.*.enforce",
        &[
            "limits.io.\"8:0\".read-ops = 1",
            "limits.io.\"8:0\" = { read-ops = 1, enforce = \"optional\" }",
        ],
    ),
    (
        "limits.wall.max",
        &["limits.wall = \"1s\"", "", "limits.wall = false"],
    ),
    (
        "limits.grace",
        &["", "limits.grace = \"1s\"", "limits.grace = \"1min\""],
    ),
    (
        "limits.disk.max",
        &["limits.disk = \"1MiB\"", "limits.disk = \"2MiB\"", ""],
    ),
    (
        "limits.disk.enforce",
        &[
            "limits.disk = \"1MiB\"",
            "limits.disk = { max = \"1MiB\", enforce = \"optional\" }",
        ],
    ),
    (
        "limits.output.max",
        &["limits.output = \"1MiB\"", "limits.output = \"2MiB\"", ""],
    ),
    (
        "network.mode",
        &[
            "network.mode = \"null\"",
            "network.mode = \"bridge\"",
            "network.mode = \"host\"",
        ],
    ),
    (
        "network.name",
        &[
            "network.mode = \"bridge\"",
            "network = { mode = \"bridge\", name = \"shared\" }",
        ],
    ),
    (
        "network.egress",
        &[
            "network = { mode = \"bridge\", allow = {} }",
            "network = { mode = \"bridge\", egress = \"open\" }",
        ],
    ),
    (
        "network.allow.*.ports",
        &[
            "network = { mode = \"bridge\", allow = {} }",
            "network = { mode = \"bridge\", allow.\"a.example\" = { ports = [443] } }",
            "network = { mode = \"bridge\", allow.\"a.example\" = { ports = [80, 443] } }",
            "network = { mode = \"bridge\", allow.\"a.example\" = {} }",
            "network = { mode = \"bridge\", allow.\"a.example\" = {}, allow.\"b.example\" = {} }",
            "network.mode = \"bridge\"",
        ],
    ),
    (
        "network.allow.*.protocol",
        &[
            "network = { mode = \"bridge\", allow.\"a.example\" = { protocol = \"tcp\" } }",
            "network = { mode = \"bridge\", allow.\"a.example\" = {} }",
        ],
    ),
    (
        "network.publish.*.to",
        &[
            "network.mode = \"bridge\"",
            "network = { mode = \"bridge\", publish.\"127.0.0.1:80\" = { to = 80 } }",
        ],
    ),
    (
        "network.publish.*.protocol",
        &[
            "network.mode = \"bridge\"",
            "network = { mode = \"bridge\", publish.\"127.0.0.1:80\" = { to = 80, protocol = \"udp\" } }",
        ],
    ),
    ("mounts.*.bind", &["", "mounts.\"/m\".bind = \"/srv\""]),
    (
        "mounts.*.access",
        &[
            "mounts.\"/m\".bind = \"/srv\"",
            "mounts.\"/m\" = { bind = \"/srv\", access = \"copy\" }",
        ],
    ),
    (
        "mounts.*.tmpfs",
        &[
            "",
            "mounts.\"/m\".tmpfs = \"1MiB\"",
            "mounts.\"/m\".tmpfs = \"2MiB\"",
        ],
    ),
    (
        "mounts.*.exec",
        &[
            "mounts.\"/m\" = { tmpfs = \"1MiB\", exec = false }",
            "mounts.\"/m\".tmpfs = \"1MiB\"",
        ],
    ),
    (
        "security.capabilities",
        &[
            "",
            "security.capabilities = [\"NET_RAW\"]",
            "security.capabilities = [\"CHOWN\", \"NET_RAW\"]",
        ],
    ),
    (
        "security.seccomp.policy",
        &[
            "security.seccomp = \"no-ptrace\"",
            "security.seccomp = \"default\"",
        ],
    ),
    (
        "security.seccomp.allow",
        &["", "security.seccomp.allow = [\"keyctl\"]"],
    ),
    (
        "security.seccomp.deny",
        &[
            "security.seccomp.deny = [\"socket\", \"bind\"]",
            "security.seccomp.deny = [\"bind\"]",
            "",
        ],
    ),
    (
        "security.seccomp.enforce",
        &["", "security.seccomp.enforce = \"optional\""],
    ),
    (
        "security.landlock.read",
        &[
            "security.landlock = { read = [\"/usr/lib\"] }",
            "security.landlock = { read = [\"/usr\"] }",
            "security.landlock = { read = [\"/\"] }",
            "security.landlock = false",
        ],
    ),
    (
        "security.landlock.write",
        &[
            "security.landlock = { read = [\"/\"] }",
            "security.landlock = { read = [\"/\"], write = [\"/tmp\"] }",
            "security.landlock = {}",
        ],
    ),
    (
        "security.landlock.execute",
        &[
            "security.landlock = { read = [\"/\"] }",
            "security.landlock = { read = [\"/\"], execute = [\"/usr\"] }",
            "security.landlock = {}",
        ],
    ),
    (
        "security.landlock.connect-tcp",
        &[
            "security.landlock.connect-tcp = []",
            "security.landlock.connect-tcp = [443]",
            "",
        ],
    ),
    (
        "security.landlock.bind-tcp",
        &[
            "security.landlock.bind-tcp = []",
            "security.landlock.bind-tcp = [80]",
            "",
        ],
    ),
    (
        "security.landlock.enforce",
        &["", "security.landlock.enforce = \"optional\""],
    ),
    (
        "security.masked-paths",
        &[
            "security.masked-paths = [\"/proc/a\", \"/proc/b\"]",
            "security.masked-paths = [\"/proc/a/c\"]",
        ],
    ),
    (
        "security.read-only-paths",
        &[
            "security.read-only-paths = [\"/proc/a\"]",
            "security.read-only-paths = []",
        ],
    ),
    (
        "sysctls.*",
        &[
            "sysctls.\"user.max_user_namespaces\" = 0",
            "sysctls.\"user.max_user_namespaces\" = 9",
        ],
    ),
];

/// Keys that say nothing about how tightly a job is held, with two values each.
pub(super) const NEUTRAL: &[(&str, [&str; 2])] = &[
    ("expect", ["", "expect = [{ uid = 65532 }]"]),
    ("entrypoint", ["entrypoint = [\"a\"]", "entrypoint = [\"b\"]"]),
    ("command", ["command = [\"a\"]", "command = [\"b\"]"]),
    ("workdir", ["workdir = \"/a\"", "workdir = \"/b\""]),
    ("env.*", ["env.A = \"1\"", "env.A = false"]),
    ("hostname", ["hostname = \"a\"", "hostname = \"b\""]),
    ("init", ["init = true", "init = false"]),
    (
        "namespaces.time.monotonic",
        [
            "namespaces.time.monotonic = \"1s\"",
            "namespaces.time.monotonic = \"2s\"",
        ],
    ),
    (
        "namespaces.time.boottime",
        [
            "namespaces.time.boottime = \"1s\"",
            "namespaces.time.boottime = \"2s\"",
        ],
    ),
    (
        "mounts.*.optional",
        [
            "mounts.\"/m\".bind = \"s\"",
            "mounts.\"/m\" = { bind = \"s\", optional = true }",
        ],
    ),
];

/// Keys of which nobody can say from the text which value is looser, with two values each.
pub(super) const UNKNOWN: &[(&str, [&str; 2])] = &[
    // Other contents.
    ("image", ["", "#other image"]),
];

/// What other keys decide: whatever a profile changes stands under the keys that it changes.
pub(super) const ELSEWHERE: &[&str] = &["profile"];

/// Keys that cannot be anything but what they are.
pub(super) const FIXED: &[&str] = &[
    "namespaces.user",
    "namespaces.mount",
    "namespaces.pid",
    "namespaces.net",
    "limits.wall.enforce",
    "limits.output.enforce",
    "security.no-new-privileges",
    "security.seccomp",
];

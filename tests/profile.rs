//! What a manifest that is right means: merging, built-in profiles, variables.

use ringfence::manifest;
use ringfence::profile::{
    Access, BuiltIn, Enforce, Job, Mount, Namespace, Network, Origin, Piece, Rlimit, Root, Text, User,
    resolve, resolve_all,
};
use ringfence::units::Bytes;

/// The job `x` of a manifest that consists of this text and what every manifest needs.
#[track_caller]
fn job(text: &str) -> Job {
    let text = format!("schema = 1\n[job.x]\nimage = \"host\"\n{text}");
    let resolved = manifest::parse(&text).and_then(|manifest| resolve(&manifest, "x"));
    resolved.unwrap_or_else(|problems| panic!("{}", problems.render("x.toml", &text, false)))
}

/// What is mounted where, in a line each.
fn mounts(job: &Job) -> Vec<String> {
    job.hold
        .mounts
        .iter()
        .map(|(place, mount)| match &mount.value {
            Mount::Bind {
                source,
                access,
                optional,
            } => {
                format!("{place} bind {} {access:?} optional={optional}", source.value)
            }
            Mount::Tmpfs { size, exec } => format!("{place} tmpfs {} exec={exec}", size.value),
        })
        .collect()
}

fn memory(job: &Job) -> Option<(String, Enforce)> {
    let memory = job.hold.limits.memory.as_ref()?;
    Some((memory.max.value.to_string(), memory.enforce))
}

#[test]
fn strict_is_the_default_and_holds_what_the_contract_says() {
    let job = job("");
    assert_eq!(job.profile, "strict");
    assert_eq!(job.user.value, User::ImageUnlessRoot);
    assert_eq!(job.hold.root.value, Root::ReadOnly);
    assert_eq!(job.hold.network.value, Network::Null);
    assert_eq!(memory(&job), Some(("512MiB".into(), Enforce::Required)));
    assert_eq!(
        job.hold.limits.pids.as_ref().map(|pids| pids.max.value),
        Some(128)
    );
    let wall = job
        .hold
        .limits
        .wall
        .as_ref()
        .map(|wall| wall.max.value.to_string());
    assert_eq!(wall.as_deref(), Some("10min"));
    assert_eq!(
        mounts(&job),
        ["/dev/shm tmpfs 16MiB exec=false", "/tmp tmpfs 64MiB exec=true"]
    );
    assert!(job.hold.security.capabilities.value.is_empty());
    assert!(job.hold.security.landlock.is_some());
    assert_eq!(job.hold.security.landlock_enforce, Enforce::Required);
    assert_eq!(job.hold.security.seccomp_enforce, Enforce::Required);
    assert!(job.hold.security.no_new_privileges.value && job.hold.init.value);
    assert_eq!(
        job.hold.namespaces.len(),
        7,
        "all but net, which follows the mode"
    );
    assert!(job.hold.namespaces.values().all(|own| own.value));
    assert_eq!(job.hold.rlimits[&Rlimit::Core].value.hard, Some(1));
    assert!(job.warnings.is_empty());
}

#[test]
fn standard_is_what_a_docker_user_expects() {
    let job = job("profile = \"standard\"");
    assert_eq!(job.user.value, User::Image);
    assert_eq!(job.hold.root.value, Root::Tmpfs);
    assert!(matches!(&job.hold.network.value, Network::Bridge(bridge) if bridge.allow.is_none()));
    assert_eq!(memory(&job), None);
    let pids = job.hold.limits.pids.expect("a limit");
    assert_eq!((pids.max.value, pids.enforce), (1024, Enforce::Required));
    let names: Vec<_> = job
        .hold
        .security
        .capabilities
        .value
        .iter()
        .map(|each| each.name())
        .collect();
    assert_eq!(
        names.join(" "),
        "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD \
         AUDIT_WRITE SETFCAP"
    );
    assert_eq!(job.hold.security.landlock_enforce, Enforce::Optional);
    assert_eq!(job.hold.security.seccomp_enforce, Enforce::Required);
}

#[test]
fn dev_shows_the_folder_at_the_workdir() {
    let dev = job("profile = \"dev\"");
    assert_eq!(dev.user.value, User::Caller);
    assert_eq!(dev.hold.network.value, Network::Host);
    assert_eq!(
        dev.hold.limits.pids.as_ref().map(|pids| pids.enforce),
        Some(Enforce::Optional)
    );
    assert_eq!(
        mounts(&dev),
        [
            "/dev/shm tmpfs 64MiB exec=false",
            "/workspace bind ${manifest-dir} Rw optional=false"
        ]
    );
    assert_eq!(dev.workdir.expect("one").value, Text::literal("/workspace"));

    let elsewhere = job("profile = \"dev\"\nworkdir = \"/src\"");
    assert_eq!(
        mounts(&elsewhere)[1],
        "/src bind ${manifest-dir} Rw optional=false"
    );
    assert_eq!(elsewhere.workdir.expect("one").value, Text::literal("/src"));

    let without = job("profile = \"dev\"\nworkdir = \"/src\"\nmounts.\"/src\" = false");
    assert_eq!(mounts(&without), ["/dev/shm tmpfs 64MiB exec=false"]);
    let without = job("profile = \"dev\"\nmounts.\"/workspace\" = false");
    assert_eq!(without.workdir, None);
}

#[test]
fn tables_merge_by_key_and_the_child_wins() {
    let job = job("profile = \"b\"
        limits.pids = 7
        [profile.a]
        inherits = \"strict\"
        limits = { memory = \"1GiB\", cpus = 2 }
        [profile.b]
        inherits = \"a\"
        limits = { memory = \"2GiB\", pids = 9 }
        security.masked-paths = [\"/proc/kcore\"]");
    let limits = &job.hold.limits;
    assert_eq!(memory(&job), Some(("2GiB".into(), Enforce::Required)));
    assert_eq!(limits.pids.as_ref().map(|pids| pids.max.value), Some(7));
    assert_eq!(
        limits.cpus.as_ref().map(|cpus| cpus.max.value.to_string()),
        Some("2".into())
    );
    // An array replaces.
    assert_eq!(job.hold.security.masked_paths.value, ["/proc/kcore"]);

    let table = |origin: &Origin| match origin {
        Origin::Manifest { table, .. } => table.clone(),
        Origin::BuiltIn(profile) => profile.name().to_owned(),
        Origin::Arguments => "arguments".to_owned(),
    };
    let memory = limits.memory.as_ref().expect("a limit");
    assert_eq!(table(&memory.max.origin), "profile.b");
    assert_eq!(table(&limits.pids.as_ref().expect("a limit").max.origin), "job.x");
    assert_eq!(
        limits.wall.as_ref().expect("a limit").max.origin,
        Origin::BuiltIn(BuiltIn::Strict)
    );
}

#[test]
fn a_mount_of_another_kind_replaces_its_parent_whole() {
    let parent =
        "[profile.a]\n[profile.a.mounts.\"/m\"]\nbind = \"src\"\naccess = \"copy\"\noptional = true\n";
    for (child, meant) in [
        ("", "/m bind src Copy optional=true"),
        ("access = \"rw\"", "/m bind src Rw optional=true"),
        ("bind = \"other\"", "/m bind other Copy optional=true"),
        ("tmpfs = \"1MiB\"", "/m tmpfs 1MiB exec=true"),
    ] {
        let text = format!("profile = \"a\"\n[job.x.mounts.\"/m\"]\n{child}\n{parent}");
        assert_eq!(mounts(&job(&text))[1], meant, "{child}");
    }
    // Both stand in the contract: a job's table is one like any other.
    assert!(job("").hold.mounts.contains_key("/tmp"));
    assert_eq!(
        mounts(&job("mounts.\"/tmp\" = { bind = \".\" }"))[1],
        "/tmp bind . Ro optional=false"
    );
}

#[test]
fn false_takes_an_entry_away_and_is_the_value_of_a_boolean() {
    let job = job("init = false
        env = { A = \"1\", PATH = false }
        [job.x.limits]
        memory = false
        [job.x.mounts]
        \"/tmp\" = false
        [job.x.rlimits]
        core = false
        [job.x.sysctls]
        \"user.max_user_namespaces\" = false
        [job.x.security]
        landlock = false
        [job.x.namespaces]
        ipc = false");
    assert!(!job.hold.init.value && !job.hold.namespaces[&Namespace::Ipc].value);
    assert_eq!(memory(&job), None);
    assert_eq!(mounts(&job), ["/dev/shm tmpfs 16MiB exec=false"]);
    assert!(!job.hold.rlimits.contains_key(&Rlimit::Core) && job.hold.rlimits.contains_key(&Rlimit::Nofile));
    assert!(!job.hold.sysctls.contains_key("user.max_user_namespaces"));
    assert!(job.hold.security.landlock.is_none());
    assert_eq!(job.env.keys().collect::<Vec<_>>(), ["A"]);
    assert_eq!(job.unset.keys().collect::<Vec<_>>(), ["PATH"]);
}

#[test]
fn a_limit_is_a_bare_value_or_a_table() {
    for (child, meant) in [
        ("memory = \"1GiB\"", Some(("1GiB", Enforce::Optional))),
        (
            "memory = { enforce = \"required\" }",
            Some(("8MiB", Enforce::Required)),
        ),
        ("memory = { max = \"1GiB\" }", Some(("1GiB", Enforce::Optional))),
        ("enforce = \"required\"", Some(("8MiB", Enforce::Required))),
        ("memory = false", None),
    ] {
        let text = format!(
            "profile = \"a\"\nmounts = {{ \"/tmp\" = false, \"/dev/shm\" = false }}\n[job.x.limits]\n{child}\n\
             [profile.a.limits]\nmemory = \"8MiB\"\nenforce = \"optional\"\n"
        );
        let job = job(&text);
        assert_eq!(
            memory(&job),
            meant.map(|(max, enforce)| (max.to_owned(), enforce)),
            "{child}"
        );
        // Always held, whatever the table says.
        assert_eq!(
            job.hold.limits.wall.map(|wall| wall.enforce),
            Some(Enforce::Required)
        );
    }
}

#[test]
fn an_allow_table_closes_the_network_and_egress_opens_it_again() {
    let profile = "[profile.a.network]\nmode = \"bridge\"\nallow.\"a.example\" = { ports = [443] }\n\
                   allow.\"b.example\" = {}\n";
    let allowed = |child: &str| {
        let job = job(&format!("profile = \"a\"\n[job.x.network]\n{child}\n{profile}"));
        match job.hold.network.value {
            Network::Bridge(bridge) => bridge.allow.map(|allow| {
                allow
                    .keys()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            }),
            other => Some(format!("{other:?}")),
        }
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(allowed(""), some("a.example b.example"));
    assert_eq!(allowed("allow.\"a.example\" = false"), some("b.example"));
    assert_eq!(
        allowed("allow = { \"a.example\" = false, \"b.example\" = false }"),
        some("")
    );
    assert_eq!(
        allowed("allow.\"c.example\" = {}"),
        some("a.example b.example c.example")
    );
    assert_eq!(allowed("egress = \"open\""), None);
    assert_eq!(allowed("mode = \"null\""), some("Null"));

    let closed = job("network = { mode = \"bridge\", allow = {} }");
    assert!(
        matches!(&closed.hold.network.value, Network::Bridge(bridge) if bridge.allow.as_ref().is_some_and(|allow| allow.is_empty()))
    );
    let again = job("profile = \"c\"
        [profile.c]
        inherits = \"b\"
        network.allow.\"c.example\" = {}
        [profile.b]
        inherits = \"a\"
        network.egress = \"open\"
        [profile.a.network]
        mode = \"bridge\"
        allow.\"a.example\" = {}");
    let Network::Bridge(bridge) = again.hold.network.value else {
        panic!("a bridge");
    };
    let allow = bridge.allow.expect("closed again");
    let allow: Vec<String> = allow.keys().map(ToString::to_string).collect();
    assert_eq!(allow, ["c.example"]);
}

#[test]
fn variables_are_looked_up_once_and_those_of_the_environment_stay_names() {
    let text = "schema = 1
        [variables]
        TAG = \"$${job}\"
        TOKEN = { env = \"CI_TOKEN\", default = \"none\", secret = true }
        [job.x]
        image = \"dir:${manifest-dir}/root\"
        command = [\"echo\", \"${job}:${TAG}\", \"$$HOME\", \"${TOKEN}!\"]
        mounts.\"/src\" = { bind = \"${manifest-dir}/src\" }
        [job.x.env]
        WHERE = \"${manifest-dir}\"";
    // A variable's own text holds no variables, so its dollars are what they are.
    let text = text.replace("$${job}", "$job");
    let manifest = manifest::parse(&text).expect("a manifest");
    let job = resolve(&manifest, "x").expect("a job");
    let command: Vec<_> = job
        .command
        .expect("one")
        .value
        .iter()
        .map(Text::to_string)
        .collect();
    assert_eq!(command, ["echo", "x:$$job", "$$HOME", "${TOKEN}!"]);
    let source = |text: &str| Text(vec![Piece::ManifestDir, Piece::Literal(text.into())]);
    assert!(
        matches!(&job.hold.mounts["/src"].value, Mount::Bind { source: bind, access: Access::Ro, .. } if bind.value == source("/src"))
    );
    assert_eq!(job.env["WHERE"].value, Text(vec![Piece::ManifestDir]));
    let token = &job.variables["TOKEN"];
    assert_eq!(
        (token.env.as_str(), token.default.as_deref(), token.secret),
        ("CI_TOKEN", Some("none"), true)
    );
    assert!(!job.variables.contains_key("TAG"));
}

#[test]
fn clocks_and_limits_of_processes_come_in_the_kernel_s_units() {
    let job = job("namespaces.time = { monotonic = \"1h\", boottime = \"-2h\" }
        [job.x.rlimits]
        cpu = \"1min\"
        rttime = \"5ms\"
        nofile = { soft = 10, hard = \"unlimited\" }
        stack = \"8MiB\"");
    let offsets = job.hold.time_offsets.expect("offsets").value;
    assert_eq!(
        (offsets.monotonic_ms, offsets.boottime_ms),
        (3_600_000, -7_200_000)
    );
    assert!(job.hold.namespaces[&Namespace::Time].value);
    let limit = |limit| {
        let value = job.hold.rlimits[&limit].value;
        (value.soft, value.hard)
    };
    assert_eq!(limit(Rlimit::Cpu), (Some(60), Some(60)));
    assert_eq!(limit(Rlimit::Rttime), (Some(5000), Some(5000)));
    assert_eq!(limit(Rlimit::Nofile), (Some(10), None));
    assert_eq!(limit(Rlimit::Stack), (Some(8 << 20), Some(8 << 20)));
}

#[test]
fn a_warning_stands_in_the_job() {
    let job = job("limits.memory = \"16MiB\"");
    let warnings: Vec<_> = job
        .warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert_eq!(
        warnings,
        ["the file systems in memory can grow to 80MiB, and the memory limit is 16MiB"]
    );
}

#[test]
fn a_job_that_is_not_there_is_named_with_the_nearest_one() {
    let manifest = manifest::parse("schema = 1\n[job.test]\nimage = \"host\"\n").expect("a manifest");
    assert_eq!(
        resolve(&manifest, "tset").expect_err("no job").to_string(),
        "[RF0207] the manifest has no job `tset`; did you mean `test`?"
    );
    assert_eq!(resolve_all(&manifest).expect("all jobs").len(), 1);
}

/// Changing a limit of one job changes nothing else: a thousand jobs stay linear and apart.
#[test]
fn many_jobs_are_resolved_one_by_one() {
    let jobs: String = (0..1000)
        .map(|n| {
            format!(
                "[job.j{n}]\nimage = \"host\"\nprofile = \"p{}\"\nlimits.memory = \"{}MiB\"\n",
                n % 100,
                100 + n
            )
        })
        .collect();
    let profiles: String = (0..100)
        .map(|n| format!("[profile.p{n}]\nlimits.pids = {}\n", n + 1))
        .collect();
    let manifest = manifest::parse(&format!("schema = 1\n{jobs}{profiles}")).expect("a manifest");
    let all = resolve_all(&manifest).expect("all jobs");
    let limits = &all["j777"].hold.limits;
    assert_eq!(
        limits.memory.as_ref().map(|memory| memory.max.value),
        Some(Bytes(877 << 20))
    );
    assert_eq!(limits.pids.as_ref().map(|pids| pids.max.value), Some(78));
}

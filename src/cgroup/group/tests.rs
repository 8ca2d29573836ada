//! Groups on the kernel of this machine, whichever version it has.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod user;

use super::super::{CpuQuota, IoLimit};
use super::*;

const MIB: u64 = 1 << 20;

/// Reports a test that this host cannot hold; with `RINGFENCE_TESTS=require` there is no such thing.
fn skipped(reason: &str) {
    assert!(
        std::env::var("RINGFENCE_TESTS").as_deref() != Ok("require"),
        "{reason}"
    );
    eprintln!("skipped: {reason}");
}

/// Reports a test of the other version of the interface: nothing is missing here.
fn not_here(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// A group of this test alone; none where a controller is missing.
fn group(limits: &Limits) -> Option<Group> {
    let site = Site::find();
    if let Err(missing) = site.require(&limits.controllers()) {
        skipped(&missing.to_string());
        return None;
    }
    Some(Group::create(&site, &name(), limits).unwrap())
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{PREFIX}test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Starts a shell that joins the group and then becomes `script`'s.
fn start(group: &Group, script: &str) -> Child {
    let join = |part: &Part| {
        part.dir.join(if part.version == Version::V1 {
            "tasks"
        } else {
            "cgroup.procs"
        })
    };
    let whole = format!("for file; do echo 0 > \"$file\" || exit 99; done; {script}");
    Command::new("sh")
        .args(["-c", &whole, "sh"])
        .args(group.parts.iter().map(join))
        .spawn()
        .unwrap()
}

fn run(group: &Group, script: &str) -> ExitStatus {
    let status = start(group, script).wait().unwrap();
    assert_ne!(status.code(), Some(99), "could not join");
    status
}

/// Waits for something that another process does.
fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn held(group: &Group, file: &str) -> Option<(String, String)> {
    let found = group
        .enforced
        .iter()
        .find(|held| held.file.ends_with(&format!("/{file}")));
    found.map(|held| (held.wanted.clone(), held.got.clone()))
}

fn same(value: &str) -> Option<(String, String)> {
    Some((value.to_owned(), value.to_owned()))
}

#[test]
fn limits_are_read_back() {
    let limits = Limits {
        memory: Some(64 * MIB + 5),
        pids: Some(7),
        cpu: Some(CpuQuota::from_millicpus(500)),
        cpuset: Some("0".to_owned()),
        ..Limits::default()
    };
    let Some(group) = group(&limits) else { return };
    let rounded = Some(((64 * MIB + 5).to_string(), (64 * MIB).to_string()));
    assert_eq!(held(&group, "pids.max"), same("7"));
    assert_eq!(held(&group, "cpuset.cpus"), same("0"));
    if group.directory().is_some_and(|_| group.parts.len() == 1) {
        assert_eq!(held(&group, "memory.max"), rounded);
        assert_eq!(held(&group, "memory.swap.max"), same("0"));
        assert_eq!(held(&group, "memory.oom.group"), same("1"));
        assert_eq!(held(&group, "cpu.max"), same("50000 100000"));
        assert_eq!(held(&group, "cgroup.max.depth"), same("0"));
        assert_eq!(held(&group, "cgroup.max.descendants"), same("0"));
        let error = fs::create_dir(group.parts[0].dir.join("below")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EAGAIN as i32));
    } else {
        assert_eq!(held(&group, "memory.limit_in_bytes"), rounded);
        assert_eq!(held(&group, "memory.memsw.limit_in_bytes"), rounded);
        assert_eq!(held(&group, "memory.kmem.tcp.limit_in_bytes"), rounded);
        assert_eq!(held(&group, "cpu.cfs_quota_us"), same("50000"));
        assert_eq!(held(&group, "cpu.cfs_period_us"), same("100000"));
    }
    group.remove().unwrap();
}

#[test]
fn a_job_that_takes_too_much_memory_is_killed_and_counted() {
    let Some(group) = group(&Limits {
        memory: Some(16 * MIB),
        ..Limits::default()
    }) else {
        return;
    };
    // tail keeps the last line, and this one has no end.
    let status = run(&group, "exec tail /dev/zero");
    assert!(!status.success());
    let counters = group.counters();
    assert!(counters.oom_kills >= Some(1), "{counters:?}");
    assert!(counters.memory_limit_hits != Some(0), "{counters:?}");
    let peak = counters.memory_peak.unwrap();
    assert!((12 * MIB..=16 * MIB).contains(&peak), "{peak}");
    assert_eq!(
        (counters.pids_refused, counters.io_read),
        (None, None),
        "not asked for"
    );
    group.remove().unwrap();
}

#[test]
fn forks_beyond_the_limit_are_refused_and_counted() {
    let Some(group) = group(&Limits {
        pids: Some(4),
        ..Limits::default()
    }) else {
        return;
    };
    let status = run(
        &group,
        "for i in 1 2 3 4 5 6; do sleep 30 & done 2> /dev/null; wait",
    );
    assert!(!status.success());
    let counters = group.counters();
    assert!(counters.pids_refused >= Some(1), "{counters:?}");
    // Absent on kernels without the counter, never wrong.
    assert!(counters.pids_peak.is_none_or(|peak| peak == 4), "{counters:?}");
    group.kill().unwrap();
    group.remove().unwrap();
}

#[test]
fn processor_time_is_counted_and_its_share_held() {
    let limits = Limits {
        cpu: Some(CpuQuota::from_millicpus(200)),
        count: [Controller::CpuAcct].into(),
        ..Limits::default()
    };
    let Some(group) = group(&limits) else { return };
    assert!(group.cpu_usage_us().unwrap().unwrap() < 1_000);
    let mut spinner = start(&group, "while :; do :; done");
    until("the spinner is held", || group.counters().throttled >= Some(2));
    let used = group.cpu_usage_us().unwrap().unwrap();
    assert!(used >= 20_000, "{used}");
    group.kill().unwrap();
    spinner.wait().unwrap();
    let counters = group.counters();
    let sum = counters.cpu_user_us.unwrap() + counters.cpu_system_us.unwrap();
    assert!(sum + 20_000 >= used, "{counters:?} {used}");
    group.remove().unwrap();
}

#[test]
fn kill_ends_everything_and_nothing_is_left() {
    let Some(group) = group(&Limits {
        pids: Some(64),
        ..Limits::default()
    }) else {
        return;
    };
    let dirs: Vec<PathBuf> = group.parts.iter().map(|part| part.dir.clone()).collect();
    let script =
        "trap '' TERM INT HUP; (setsid sleep 60 & (setsid sh -c 'sleep 60; :' &) &); sleep 60 & wait";
    let mut child = start(&group, script);
    until("five processes", || {
        fs::read_to_string(dirs[0].join("cgroup.procs"))
            .unwrap()
            .lines()
            .count()
            >= 5
    });
    let killed = Instant::now();
    group.kill().unwrap();
    group.remove().unwrap();
    assert!(killed.elapsed() < Duration::from_secs(5));
    assert!(!child.wait().unwrap().success());
    assert!(dirs.iter().all(|dir| !dir.exists()));
}

#[test]
fn a_group_that_is_dropped_is_removed() {
    let Some(group) = group(&Limits {
        pids: Some(64),
        ..Limits::default()
    }) else {
        return;
    };
    let dir = group.parts[0].dir.clone();
    let mut child = start(&group, "exec sleep 60");
    until("a process", || {
        !fs::read_to_string(dir.join("cgroup.procs")).unwrap().is_empty()
    });
    drop(group);
    assert!(!child.wait().unwrap().success());
    assert!(!dir.exists());
}

#[test]
fn a_lone_thread_joins_by_the_open_tasks_files() {
    let limits = Limits {
        memory: Some(64 * MIB),
        pids: Some(8),
        ..Limits::default()
    };
    let Some(group) = group(&limits) else { return };
    let mut tasks = group.tasks();
    let (Some(one), Some(two)) = (tasks.next(), tasks.next()) else {
        return not_here("no v1 hierarchies");
    };
    let pass = |fd: BorrowedFd<'_>| Stdio::from(fd.try_clone_to_owned().unwrap());
    let script = "printf 0 >&0 && printf 0 >&1 && exec sleep 60";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(pass(one))
        .stdout(pass(two))
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    for part in &group.parts {
        until("it joins", || {
            fs::read_to_string(part.dir.join("tasks")).unwrap().trim() == pid
        });
    }
    drop(tasks);
    group.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
}

#[test]
fn what_was_made_is_removed_when_a_later_limit_is_refused() {
    let limits = Limits {
        pids: Some(8),
        cpuset: Some("0-1023".to_owned()),
        ..Limits::default()
    };
    let site = Site::find();
    if let Err(missing) = site.require(&limits.controllers()) {
        return skipped(&missing.to_string());
    }
    let name = name();
    let error = Group::create(&site, &name, &limits).unwrap_err().to_string();
    assert!(error.contains(&format!("{name}/cpuset.cpus")), "{error}");
    let parents = site
        .v1
        .values()
        .cloned()
        .chain(site.v2.map(|unified| unified.parent));
    for parent in parents {
        assert!(!parent.join(&name).exists(), "{}", parent.display());
    }
}

#[test]
fn a_device_that_is_not_there_is_named_by_its_file() {
    let io = IoLimit {
        major: 250,
        minor: 99,
        read_bytes: Some(MIB),
        ..IoLimit::default()
    };
    let site = Site::find();
    let limits = Limits {
        io: vec![io],
        ..Limits::default()
    };
    if let Err(missing) = site.require(&limits.controllers()) {
        return skipped(&missing.to_string());
    }
    let name = name();
    let error = Group::create(&site, &name, &limits).unwrap_err().to_string();
    let file = if site.v1.contains_key(&Controller::Io) {
        "blkio.throttle.read_bps_device"
    } else {
        "io.max"
    };
    assert!(error.starts_with("write /"), "{error}");
    assert!(
        error.ends_with(&format!("{name}/{file}: no such device")),
        "{error}"
    );
}

#[test]
fn only_the_standard_device_nodes_can_be_opened() {
    if !Site::find().v1.contains_key(&Controller::Devices) {
        return not_here("device rules are for root on v1");
    }
    let Some(group) = group(&Limits {
        devices: true,
        ..Limits::default()
    }) else {
        return;
    };
    let opened = |node: &str| run(&group, &format!("exec 2> /dev/null; : < {node}")).success();
    for node in ["null", "zero", "full", "random", "urandom"] {
        assert!(opened(&format!("/dev/{node}")), "{node}");
    }
    assert!(Path::new("/dev/mem").exists() || Path::new("/dev/kmsg").exists());
    for node in ["mem", "kmsg", "vda"] {
        assert!(!opened(&format!("/dev/{node}")), "{node}");
    }
    group.remove().unwrap();
}

#[test]
fn a_name_that_could_be_a_path_is_refused() {
    for name in ["ringfence-", "ringfence-a/b", "ringfence-..", "other", ""] {
        let error = Group::create(&Site::find(), name, &Limits::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cgroup name `{name}`: not `ringfence-` followed by letters, digits or `-`")
        );
    }
}

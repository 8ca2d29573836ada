//! Launchers that die: nothing of their jobs lives on, and the next run takes away what is left.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::support::{Caller, Room, Test, callers};

/// Callers whose runs work under strace(1): newuidmap(1) has no privilege there.
fn traceable() -> Vec<Caller> {
    let granted = fs::read_to_string("/etc/subuid").is_ok_and(|text| !text.trim().is_empty());
    let mut callers = callers(Some(&[Caller::Root, Caller::Tester]));
    callers.retain(|caller| *caller == Caller::Root || !granted);
    if callers.is_empty() {
        eprintln!("skipped: newuidmap has no privilege under strace; root's own pass has this");
    }
    callers
}

fn nothing() -> [Stdio; 3] {
    std::array::from_fn(|_| Stdio::null())
}

/// Makes groups a minute old: a young one may belong to a launcher that has not locked it yet.
fn age(room: &Room) {
    date(room, SystemTime::now() - Duration::from_secs(60));
}

fn date(room: &Room, then: SystemTime) {
    let then = TimeSpec::from_duration(then.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    for group in room.groups().runs() {
        utimensat(
            nix::fcntl::AT_FDCWD,
            &group,
            &then,
            &then,
            UtimensatFlags::FollowSymlink,
        )
        .unwrap();
    }
}

#[test]
fn a_job_dies_with_its_launcher_and_the_next_run_cleans_up() {
    let script = "(setsid sh -c '(setsid sleep 1000 &) ; sleep 1000' &); trap '' TERM INT HUP; touch /out/ready; sleep 1000; sleep 1000";
    let test = Test::sh(script)
        .with("user = \"root\"\nmounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap());
    for caller in callers(None) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/ready");
        live.signal(Signal::SIGKILL);
        let (_, room) = live.end_of_all();
        assert!(
            !room.groups().runs().is_empty(),
            "{caller:?}: else this tests nothing"
        );
        // One that may be alive is not touched, however long the next run takes to look at it.
        date(&room, SystemTime::now() + Duration::from_secs(600));
        let next = Test::sh("exit 4").start_in(room, caller, nothing()).unwrap();
        let (ran, room) = next.end_of_all();
        assert_eq!(ran.status, 4);
        assert!(
            !room.groups().runs().is_empty(),
            "{caller:?}: taken away too soon"
        );
        age(&room);
        let next = Test::sh("exit 4").start_in(room, caller, nothing()).unwrap();
        assert_eq!(next.finish().status, 4);
    }
}

#[test]
fn without_init_a_job_dies_with_its_launcher_too() {
    let test = Test::sh("touch /out/ready; sleep 1000; sleep 1000")
        .with("init = false\nnamespaces.time = false")
        .with("user = \"root\"\nmounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap());
    for caller in callers(None) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/ready");
        live.signal(Signal::SIGKILL);
        live.end_of_all();
    }
}

#[test]
fn a_launcher_may_be_killed_at_any_moment() {
    let test = Test::sh("(setsid sleep 1000 &); sleep 1000");
    // From its first instruction to a running job, in steps that differ from caller to caller.
    for (step, caller) in
        (0..12u64).flat_map(|step| callers(None).into_iter().map(move |caller| (step, caller)))
    {
        let live = test.start(caller).unwrap();
        std::thread::sleep(Duration::from_micros(
            step * 4_000 + u64::from(caller.uid() % 7) * 300,
        ));
        live.signal(Signal::SIGKILL);
        let (_, room) = live.end_of_all();
        age(&room);
        let next = Test::sh("exit 4").start_in(room, caller, nothing()).unwrap();
        assert_eq!(next.finish().status, 4, "{caller:?} after step {step}");
    }
}

#[test]
fn pid_1_may_be_killed_at_any_moment() {
    let test = Test::sh("exec sleep 1000");
    for (step, caller) in
        (0..12u64).flat_map(|step| callers(None).into_iter().map(move |caller| (step, caller)))
    {
        let mut live = test.start(caller).unwrap();
        live.wait_until("PID 1 is there", |live| {
            !live.groups().processes_of_runs().is_empty()
        });
        std::thread::sleep(Duration::from_millis(step * 2));
        for process in live.groups().processes_of_runs() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), Signal::SIGKILL).ok();
        }
        let ran = live.finish();
        let stderr = caller.without_notice(&ran.stderr);
        let killed = "ringfence: set-up: PID 1 or the job was killed before the job's program ran\n";
        match ran.status {
            137 => assert_eq!(stderr, "", "{caller:?}"),
            125 => assert!(
                stderr == killed
                    || stderr.starts_with("ringfence: child step 1 of ")
                    || stderr.starts_with("error["),
                "{caller:?}: {stderr}"
            ),
            other => panic!("{caller:?} after {step}: {other} {stderr}"),
        }
    }
}

#[test]
fn a_receipt_that_cannot_be_written_stops_the_run() {
    Test::sh("echo ran")
        .args(&["--report", "missing/report.json"])
        .status(125)
        .stderr("ringfence: report missing/report.json: no such file or directory\n")
        .run();
}

#[test]
fn run_state_that_is_another_users_is_refused() {
    for (mode, what) in [(0o755, "open to others"), (0o770, "open to a group")] {
        let make: fn(&std::path::Path) = match mode {
            0o755 => |folder| open_run(folder, 0o755),
            _ => |folder| open_run(folder, 0o770),
        };
        Test::sh("echo ran").setup(make).status(125).any_stderr().each(|ran| {
            let wanted = format!(
                "ringfence: run state {}: not a directory of this user with mode 0700; remove it or set RINGFENCE_RUN\n",
                ran.folder.join("run").display()
            );
            assert!(ran.stderr.ends_with(&wanted), "{what}: {}", ran.stderr);
        });
    }
}

fn open_run(folder: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir(folder.join("run")).unwrap();
    fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(mode)).unwrap();
}

/// Whatever call of the set-up fails, the job does not run with less.
#[test]
fn a_call_that_fails_stops_the_run() {
    if !std::path::Path::new("/usr/bin/strace").exists() {
        crate::support::skip!("no strace");
    }
    // The one of each that counts: `name:errno:number`, the number counted in each process.
    let injected = [
        "mount:EPERM:1",
        "move_mount:ENOMEM:1",
        "move_mount:EPERM:9",
        "move_mount:EPERM:30",
        "mount_setattr:EINVAL:8",
        "fsopen:ENODEV:1",
        "fsmount:EPERM:4",
        "pivot_root:EINVAL:1",
        "umount2:EBUSY:1",
        "clone3:EAGAIN:1",
        "setresuid:EAGAIN:1",
        "capset:EPERM:1",
        "seccomp:EINVAL:1",
        "seccomp:EINVAL:3",
        "keyctl:EDQUOT:1",
        "landlock_restrict_self:E2BIG:1",
        "landlock_add_rule:ENOMEM:3",
        "sendmsg:ENOMEM:1",
        "getcwd:ENOENT:1",
        "setsid:EPERM:1",
    ];
    for one in injected {
        let mut parts = one.split(':');
        let mut next = || parts.next().unwrap();
        let (call, errno, number) = (next(), next(), next());
        let inject = format!("inject={call}:error={errno}:when={number}");
        let plain = Test::command(&["/bin/echo", "ran"]);
        let failing = plain.clone().wrapped(&[
            "strace",
            "-f",
            "-qqq",
            "-o",
            "trace",
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
        ]);
        for caller in traceable() {
            // The first run asks the host, in children of its own; this one remembers.
            let (first, room) = plain.start(caller).unwrap().end_of_all();
            assert_eq!(first.stdout, "ran\n");
            let streams = std::array::from_fn(|_| Stdio::piped());
            let ran = failing.start_in(room, caller, streams).unwrap().finish();
            let trace = fs::read_to_string(ran.folder.join("trace")).unwrap();
            assert!(trace.contains("(INJECTED)"), "{one} was never reached: {trace}");
            let stderr = caller.without_notice(&ran.stderr);
            let told = stderr.starts_with("ringfence: ") && stderr.lines().count() == 1;
            assert!(
                told && ran.status == 125 && ran.stdout.is_empty(),
                "{one}: {} {stderr}",
                ran.status
            );
        }
    }
}

/// A machine so slow that the wall limit is over before the job's program runs.
#[test]
fn a_set_up_that_outlasts_the_wall_ends_at_it() {
    if !std::path::Path::new("/usr/bin/strace").exists() {
        crate::support::skip!("no strace");
    }
    let slow = "inject=landlock_restrict_self:delay_enter=3s:when=1";
    let words = [
        "strace",
        "-f",
        "-qqq",
        "-o",
        "trace",
        "-e",
        "trace=landlock_restrict_self",
        "-e",
        slow,
    ];
    let test = Test::command(&["/bin/echo", "ran"])
        .with("limits.wall = \"100ms\"")
        .wrapped(&words)
        .report();
    for caller in traceable() {
        let ran = test.start(caller).unwrap().finish();
        assert_eq!((ran.status, ran.stdout.as_str()), (124, ""), "{}", ran.stderr);
        assert_eq!(ran.value("/verdict"), "wall");
    }
}

/// Calls that say that they succeeded and did nothing: what a receipt would claim is read back from the kernel first.
#[test]
fn a_protection_that_only_pretends_stops_the_run() {
    if !std::path::Path::new("/usr/bin/strace").exists() {
        crate::support::skip!("no strace");
    }
    let traced = |call: &str, inject: &[String]| {
        let mut words = vec!["strace", "-f", "-qqq", "-o", "trace", "-e"];
        let trace = format!("trace={call}");
        words.push(&trace);
        words.extend(inject.iter().map(String::as_str));
        Test::command(&["/bin/echo", "ran"])
            .with("security.read-only-paths = []")
            .wrapped(&words)
            .report()
    };
    // The call, which of its calls in a process (`last` of PID 1's), and the words of the step that must stop.
    for (call, number, step) in [
        ("landlock_restrict_self", "1", "landlock ABI "),
        ("prlimit64", "2", "rlimits ("),
        ("mount_setattr", "1+", "mount /etc/alternatives (bind, read-only)"),
        ("move_mount", "last", "mask /proc/"),
    ] {
        for caller in traceable() {
            // The first run asks the host, in children of its own; this one remembers.
            let (first, room) = traced(call, &[]).start(caller).unwrap().end_of_all();
            assert_eq!(
                (first.status, first.stdout.as_str()),
                (0, "ran\n"),
                "{}",
                first.stderr
            );
            let trace = fs::read_to_string(first.folder.join("trace")).unwrap();
            let process = |line: &str| line.split(' ').next().map(str::to_owned);
            let calls: Vec<_> = trace
                .lines()
                .filter(|line| line.contains(&format!("{call}(")))
                .map(process)
                .collect();
            let last = calls
                .iter()
                .filter(|process| Some(*process) == calls.last())
                .count();
            let number = number.replace("last", &last.to_string());
            let inject = ["-e".to_owned(), format!("inject={call}:retval=0:when={number}")];
            let streams = std::array::from_fn(|_| Stdio::piped());
            let ran = traced(call, &inject)
                .start_in(room, caller, streams)
                .unwrap()
                .finish();
            let stderr = caller.without_notice(&ran.stderr);
            let told = stderr.contains(step)
                && stderr.ends_with(": the kernel's own account differs from the plan\n")
                && stderr.lines().count() == 1;
            assert!(
                told && ran.status == 125 && ran.stdout.is_empty(),
                "{call}: {} {stderr}",
                ran.status
            );
        }
    }
}

/// A job that ends before PID 1 has blocked the signal that says so.
#[test]
fn a_job_that_is_faster_than_pid_1_ends_the_run() {
    if !std::path::Path::new("/usr/bin/strace").exists() {
        crate::support::skip!("no strace");
    }
    // Each call of the masks in turn; one of them is that in PID 1 after its fork.
    for number in 1..=4 {
        let slow = format!("inject=rt_sigprocmask:delay_enter=500ms:when={number}");
        let words = [
            "strace",
            "-f",
            "-qqq",
            "-o",
            "trace",
            "-e",
            "trace=rt_sigprocmask",
            "-e",
            &slow,
        ];
        for caller in traceable() {
            let test = Test::command(&["/bin/true"]).wrapped(&words);
            let ran = test.start(caller).unwrap().finish();
            assert_eq!(ran.status, 0, "{number}: {}", ran.stderr);
        }
    }
}

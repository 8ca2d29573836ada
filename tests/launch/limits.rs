//! Quotas: what ends a job, and what is said of it.

use std::time::{Duration, Instant};

use crate::support::{Caller, Live, Test, callers};

#[test]
fn memory_is_bounded_and_the_verdict_names_the_line() {
    Test::command(&[
        "/usr/bin/perl",
        "-e",
        "my $x = 'x' x (256 << 20); print length $x",
    ])
    .with("limits.memory = \"64MiB\"")
    .status(137)
    .any_stderr()
    .report()
    .each(|ran| {
        assert_eq!(ran.value("/verdict"), "oom");
        assert_eq!(
            (ran.value("/signal"), ran.value("/exit-code")),
            (&9.into(), &137.into())
        );
        assert_eq!(ran.value("/limit/key"), "limits.memory");
        assert_eq!(ran.value("/limit/value"), "64MiB");
        assert_eq!(ran.value("/limit/at"), "ringfence.toml:4:17");
        let stderr = ran.caller.without_notice(&ran.stderr);
        let known = stderr.contains("\nringfence: oom: limits.memory = 64MiB (peak ")
            && stderr.ends_with(if whole_group_is_killed() {
                " killed), ringfence.toml:4:17\n"
            } else {
                ", 1 killed), ringfence.toml:4:17\n"
            });
        assert!(known, "{stderr}");
    });
}

/// v2 kills the group as a whole (memory.oom.group), v1 one process.
fn whole_group_is_killed() -> bool {
    nix::sys::statfs::statfs("/sys/fs/cgroup")
        .is_ok_and(|it| it.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

/// The kernel's count, not the exit code: here the main process goes on.
#[test]
fn a_child_that_is_out_of_memory_is_a_limit_that_was_touched() {
    let whole = whole_group_is_killed();
    let script = "perl -e '$x = \"x\" x (256 << 20)'; echo $?; exit 5";
    Test::sh(script)
        .with("limits.memory = \"64MiB\"")
        .status(if whole { 137 } else { 5 })
        .any_stdout()
        .any_stderr()
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), if whole { "oom" } else { "exit" });
            assert_eq!(ran.value("/hit/0/key"), "limits.memory");
            assert_eq!(ran.value("/hit/0/at"), "ringfence.toml:4:17");
        });
}

/// File systems in memory count; a job cannot hide in them.
#[test]
fn files_in_memory_count_as_memory() {
    Test::sh("head -c 60M /dev/zero > /tmp/a && echo filled")
        .with("limits.memory = \"32MiB\"")
        .status(137)
        .any_stderr()
        .any_stdout()
        .report()
        .each(|ran| {
            assert_ne!(ran.stdout, "filled\n");
            assert_eq!(ran.value("/hit/0/key"), "limits.memory");
        });
}

#[test]
fn processes_are_bounded() {
    let fork = "perl -e 'for (1..100) { $pid = fork; defined $pid or die \"$_: $!\\n\"; $pid or do { sleep 1000; exit } }'";
    Test::sh(&format!("exec {fork}"))
        .with("limits.pids = 20")
        .status(11)
        .any_stderr()
        .report()
        .each(|ran| {
            // PID 1 and perl are two of them.
            let stderr = ran.caller.without_notice(&ran.stderr);
            assert_eq!(
                stderr,
                "19: Resource temporarily unavailable\n\
                 ringfence: pids: limits.pids = 20 (1 forks refused), ringfence.toml:4:15\n"
            );
            assert_eq!(ran.value("/verdict"), "pids");
            assert_eq!(ran.value("/usage/pids-peak"), 20);
        });
}

/// A fork bomb whose children leave the session and ignore what they can. An emulated processor takes seconds to begin.
#[test]
fn a_fork_bomb_ends_at_the_wall() {
    let bomb = "perl -e 'use POSIX (); $SIG{$_} = \"IGNORE\" for qw(TERM INT HUP); while (1) { fork; POSIX::setsid }'";
    Test::sh(&format!("exec {bomb}"))
        .with("limits.pids = 16\nlimits.wall = \"5s\"")
        .status(124)
        .any_stderr()
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "wall");
            let hit: Vec<_> = ran
                .value("/hit")
                .as_array()
                .unwrap()
                .iter()
                .map(|hit| hit["key"].clone())
                .collect();
            assert_eq!(hit, ["limits.pids", "limits.wall"]);
        });
}

#[test]
fn at_the_wall_limit_everything_is_dead() {
    let script = "(setsid sh -c '(setsid sleep 1000 &) ; sleep 1000' &); trap '' TERM INT HUP; sleep 1000 & wait; sleep 1000";
    let test = Test::sh(script)
        .with("limits.wall = \"300ms\"")
        .status(124)
        .report();
    for caller in callers(None) {
        let started = Instant::now();
        let live = test.start(caller).unwrap();
        let ran = live.finish();
        let took = started.elapsed();
        assert_eq!(ran.value("/verdict"), "wall");
        assert_eq!(ran.status, 124);
        let wall = ran.value("/usage/wall-ms").as_u64().unwrap();
        // Within a second; five times over where a machine is emulated.
        assert!((300..5300).contains(&wall), "{wall} ms, {took:?}");
        let stderr = caller.without_notice(&ran.stderr);
        assert_eq!(
            stderr,
            format!("ringfence: wall: limits.wall = 300ms ({wall}ms), ringfence.toml:4:15\n")
        );
    }
}

/// By Ctrl-Z, kill(1) or a debugger: nobody passes on or counts anything then, but the limit holds.
#[test]
fn a_stopped_launcher_does_not_stop_the_wall() {
    let folder = "user = \"root\"\nmounts.\"/out\" = { bind = \"out\", access = \"rw\" }";
    for (lines, status) in [("", 124), ("init = false\nnamespaces.time = false", 128 + 9)] {
        let test = Test::sh("touch /out/ready; (setsid sleep 1000 &); exec sleep 1000")
            .with("limits.wall = \"4s\"")
            .with(&format!("{folder}\n{lines}"))
            .setup(|folder| std::fs::create_dir(folder.join("out")).unwrap())
            .wrapped(&["/usr/bin/setsid"])
            .report();
        let all = callers(None);
        // Nothing depends on who it is without an init, and the timer is a slow one.
        let most = if status == 124 { all.len() } else { 1 };
        for caller in all.into_iter().take(most) {
            let mut live = test.start(caller).unwrap();
            live.wait_for_file("out/ready");
            let group = nix::unistd::Pid::from_raw(-live.pid().as_raw());
            nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGSTOP).unwrap();
            if status == 124 {
                let dead = |live: &Live| live.groups().processes_of_runs().is_empty();
                live.wait_until("all processes of the job are dead", dead);
                nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGCONT).unwrap();
            }
            // Without an init the launcher, stopped for good, ends with the job.
            let (ran, _room) = live.end_of_all();
            assert_eq!(ran.status, status, "{caller:?}: {}", ran.stderr);
            if status == 124 {
                assert_eq!(ran.value("/verdict"), "wall");
                assert_eq!(ran.value("/limit/at"), "ringfence.toml:4:15");
            }
        }
    }
}

#[test]
fn grace_lets_a_job_clean_up() {
    let script = "trap 'echo cleaned; exit 3' TERM; while :; do sleep 0.01; done";
    // Long enough for an emulated machine to have set the trap.
    let lines = "limits.wall = \"4s\"\nlimits.grace = \"100s\"";
    // It ends by itself then, and still the wall was the reason.
    Test::sh(script)
        .with(lines)
        .only(&[Caller::Root, Caller::Tester])
        .stdout("cleaned\n")
        .status(124)
        .any_stderr()
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "wall");
            assert_eq!(ran.value("/exit-code"), 124);
        });
    let stubborn = "trap 'echo no' TERM; while :; do sleep 0.01; done";
    let lines = "limits.wall = \"4s\"\nlimits.grace = \"300ms\"";
    Test::sh(stubborn)
        .with(lines)
        .only(&[Caller::Root, Caller::Tester])
        .stdout("no\n")
        .status(124)
        .any_stderr()
        .report()
        .each(|ran| {
            let wall = ran.value("/usage/wall-ms").as_u64().unwrap();
            assert!(wall >= 4300, "{wall}");
        });
}

#[test]
fn processor_time_is_bounded() {
    Test::sh("while :; do :; done")
        .with("limits.cpu-time = \"200ms\"")
        .status(137)
        .any_stderr()
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "cpu");
            assert_eq!(ran.value("/limit/key"), "limits.cpu-time");
            let used = ran.value("/usage/cpu-user-ms").as_u64().unwrap()
                + ran.value("/usage/cpu-system-ms").as_u64().unwrap();
            assert!((150..2000).contains(&used), "{used}");
        });
}

#[test]
fn a_share_of_a_processor_is_held() {
    // A fifth of a processor: at most a fifth of the time that passes, give or take a period of 100 ms.
    Test::sh("timeout 1 sh -c 'while :; do :; done'; true")
        .with("limits.cpus = 0.2")
        .report()
        .each(|ran| {
            let read = |name: &str| ran.value(&format!("/usage/{name}")).as_u64().unwrap();
            let (used, wall) = (read("cpu-user-ms") + read("cpu-system-ms"), read("wall-ms"));
            assert!(used <= wall / 5 + 200, "{used} of {wall} ms");
            assert!(used >= 50, "{used} of {wall} ms");
        });
}

#[test]
fn a_set_of_processors_is_held() {
    Test::sh("grep Cpus_allowed_list /proc/self/status; nproc")
        .with("limits.cpuset = \"0\"")
        .stdout("Cpus_allowed_list:\t0\n1\n")
        .run();
}

#[test]
fn output_is_bounded_for_each_stream() {
    Test::sh("head -c 1000 /dev/zero | tr '\\0' x; head -c 1000 /dev/zero | tr '\\0' y >&2; exit 3")
        .with("limits.output = \"1000B\"")
        .status(3)
        .stdout(&"x".repeat(1000))
        .stderr(&"y".repeat(1000))
        .run();
    Test::sh("yes")
        .with("limits.output = \"1000B\"")
        .status(137)
        .stdout(&"y\n".repeat(500))
        .stderr("ringfence: output: limits.output = 1kB (1000B on stdout), ringfence.toml:4:17\n")
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "output");
            assert_eq!(ran.value("/limit/observed"), "1000B on stdout");
        });
    Test::sh("yes >&2")
        .with("limits.output = \"1000B\"")
        .status(137)
        .any_stderr()
        .each(|ran| {
            let stderr = ran.caller.without_notice(&ran.stderr);
            let end = "ringfence: output: limits.output = 1kB (1000B on stderr), ringfence.toml:4:17\n";
            assert_eq!(stderr, "y\n".repeat(500) + end);
        });
}

#[test]
fn every_process_has_its_rlimits() {
    Test::sh("ulimit -n; ulimit -Hn; ulimit -c; ulimit -l; ulimit -f")
        .with("rlimits.nofile = { soft = 64, hard = 128 }\nrlimits.fsize = \"1MiB\"")
        .stdout("64\n128\n0\n64\n2048\n")
        .run();
    Test::sh("head -c 2M /dev/zero > /tmp/x")
        .with("rlimits.fsize = \"1MiB\"")
        .status(128 + 25)
        .stderr("File size limit exceeded\n")
        .any_stderr()
        .run();
    // A limit of the caller's own is never raised.
    Test::sh("ulimit -Hn")
        .wrapped(&["/bin/sh", "-c", "ulimit -n 512; exec \"$@\"", "sh"])
        .stdout("512\n")
        .report()
        .each(|ran| {
            let (requested, enforced) = ran.protection("rlimit nofile");
            assert_eq!((requested.as_str(), enforced.as_str()), ("1024:4096", "512"));
        });
}

#[test]
fn a_launcher_with_few_descriptors_works_or_says_so() {
    for most in [8, 12, 16, 24, 32, 64] {
        Test::sh("echo ran")
            .wrapped(&["/bin/sh", "-c", &format!("ulimit -n {most}; exec \"$@\""), "sh"])
            .any_stdout()
            .any_stderr()
            .status(0)
            .maybe_status(125)
            .each(|ran| match ran.status {
                0 => assert_eq!(ran.stdout, "ran\n"),
                _ => assert!(
                    ran.stdout.is_empty() && ran.stderr.to_lowercase().contains("too many open files"),
                    "{most}: {}",
                    ran.stderr
                ),
            });
    }
}

#[test]
fn the_receipt_says_what_the_kernel_holds() {
    Test::sh("true")
        .with("limits.memory = \"100MiB\"\nlimits.pids = 33\nlimits.cpus = 0.5")
        .report()
        .each(|ran| {
            let list = ran.value("/enforced").as_array().unwrap();
            for one in list {
                assert_eq!(one["requested"], one["enforced"], "{one:#}");
            }
            assert_eq!(ran.protection("cgroup pids.max").1, "33");
            assert_eq!(ran.protection("rlimit nofile").1, "1024:4096");
            let memory = ["cgroup memory.limit_in_bytes", "cgroup memory.max"];
            let memory = list
                .iter()
                .find(|one| memory.iter().any(|name| one["name"] == *name))
                .expect("memory");
            assert_eq!(memory["enforced"], "104857600");
            // The lines that asked for it, the manifest's or a built-in profile's.
            let at = |name: &str| {
                let named = |one: &&serde_json::Value| one["name"] == name;
                list.iter().find(named).expect(name)["at"].clone()
            };
            assert_eq!(memory["at"], serde_json::json!(["ringfence.toml:4:17"]));
            assert_eq!(
                at("rlimit nofile"),
                serde_json::json!(["built-in strict:27:36", "built-in strict:27:23"])
            );
            assert_eq!(at("namespace net"), serde_json::json!(["built-in strict:36:8"]));
            assert_eq!(at("namespace user"), serde_json::Value::Null);
            assert_eq!(ran.value("/network/mode"), "null");
            assert_eq!(ran.value("/schema"), 1);
            assert_eq!(ran.value("/job"), "test");
            assert!(ran.value("/plan").as_str().unwrap().starts_with("sha256:"));
            let (started, ended) = (
                ran.value("/started").as_f64().unwrap(),
                ran.value("/ended").as_f64().unwrap(),
            );
            assert!(started > 1.7e9 && ended >= started && ended - started < 600.0);
            assert!(ran.value("/usage/memory-peak").as_u64().unwrap() > 0);
        });
}

#[test]
fn without_control_groups_required_limits_are_refused() {
    use crate::support::Caller;
    Test::sh("echo ran").only(&[Caller::UserWithoutGroups]).status(125).any_stderr().report().each(|ran| {
        let stderr = ran.caller.without_notice(&ran.stderr);
        for name in ["memory", "pids"] {
            let line = format!("error[RF0408]: limits.{name} of profile `strict` needs the cgroup controller `{name}`: /sys/fs/cgroup");
            assert!(stderr.contains(&line), "{stderr}");
        }
        assert!(stderr.contains("is not writable: permission denied"), "{stderr}");
        assert_eq!(ran.value("/verdict"), "refused");
    });
    // The manifest may allow it; wall and output hold all the same.
    Test::sh("echo ran; exec sleep 1000")
        .only(&[Caller::UserWithoutGroups])
        .with("limits.enforce = \"optional\"\nlimits.wall = \"500ms\"")
        .status(124)
        .stdout("ran\n")
        .any_stderr()
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "wall");
            let left = ran.value("/not-applied").as_array().unwrap();
            for name in ["memory", "pids"] {
                let text = format!("limits.{name}: not applied: /sys/fs/cgroup");
                assert!(
                    left.iter().any(|one| one.as_str().unwrap().starts_with(&text)),
                    "{left:?}"
                );
            }
        });
}

/// What is said must be true at once, not a second later.
#[test]
fn a_wall_limit_holds_while_nobody_reads_the_output() {
    let test = Test::sh("yes").with("limits.wall = \"300ms\"\nlimits.output = \"10MiB\"");
    for caller in callers(None) {
        let (reader, writer) = std::io::pipe().unwrap();
        let streams = [
            std::process::Stdio::null(),
            writer.into(),
            std::process::Stdio::null(),
        ];
        let started = Instant::now();
        let live = test.start_with(caller, streams).unwrap();
        let ran = live.finish();
        assert_eq!(ran.status, 124);
        assert!(started.elapsed() < Duration::from_secs(60));
        drop(reader);
    }
}

//! How a job ends, and what the caller learns of it.

use nix::sys::signal::Signal;

use crate::support::{Caller, Test, callers};

#[test]
fn the_exit_code_is_the_jobs_own() {
    for code in [0, 3, 124, 125, 126, 127, 255] {
        Test::sh(&format!("exit {code}"))
            .status(code)
            .report()
            .each(|ran| {
                assert_eq!(ran.value("/verdict"), "exit");
                assert_eq!(ran.value("/exit-code"), code);
                assert_eq!(ran.report.as_ref().unwrap().get("signal"), None);
            });
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    // 34 and 64 are the first and the last real-time signal of the C library.
    for signal in [2, 6, 9, 11, 15, 34, 64] {
        Test::sh(&format!("kill -{signal} $$"))
            .status(128 + signal)
            .report()
            .each(|ran| {
                assert_eq!(ran.value("/verdict"), "signal");
                assert_eq!(ran.value("/signal"), signal);
                assert_eq!(ran.value("/exit-code"), 128 + signal);
            });
    }
}

#[test]
fn a_command_that_is_not_there_is_127() {
    let why = "not found in the image; the command or the interpreter that its first line names\n";
    Test::command(&["no-such-command"])
        .status(127)
        .stderr(&format!("ringfence: no-such-command: {why}"))
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "setup");
            assert_eq!(ran.value("/exit-code"), 127);
            assert_eq!(ran.value("/enforced"), &serde_json::json!([]));
        });
    Test::command(&["/no/such/command"])
        .status(127)
        .stderr(&format!("ringfence: /no/such/command: {why}"))
        .run();
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    Test::command(&["/etc/passwd"])
        .status(126)
        .stderr("ringfence: /etc/passwd: permission denied\n")
        .run();
    Test::command(&["/usr"])
        .status(126)
        .stderr("ringfence: /usr: permission denied\n")
        .run();
    Test::command(&["/tmp/x"])
        .with("mounts.\"/tmp/x\" = { bind = \"x\", access = \"ro\" }")
        .setup(|folder| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(folder.join("x"), "no program\n").unwrap();
            std::fs::set_permissions(folder.join("x"), std::fs::Permissions::from_mode(0o755)).unwrap();
        })
        .status(126)
        .stderr("ringfence: /tmp/x: not a program of this processor, and no script with an interpreter\n")
        .run();
}

#[test]
fn words_after_two_dashes_replace_the_command() {
    Test::sh("echo manifest")
        .args(&["--", "/bin/echo", "$HOME", "two words"])
        .stdout("$HOME two words\n")
        .run();
}

#[test]
fn orphans_are_reaped_and_the_rest_ends_with_the_job() {
    // A hundred children whose parent is gone; the last one would sleep on. Counted when the hundred are reaped.
    let script = "i=0; while [ $i -lt 100 ]; do (true &); i=$((i+1)); done; (setsid sleep 1000 &); \
        i=0; while [ $i -lt 100 ]; do ls -d /proc/[0-9]* > /tmp/seen 2> /dev/null; [ $(wc -l < /tmp/seen) = 3 ] && break; \
        sleep 0.1; i=$((i+1)); done; wc -l < /tmp/seen";
    // PID 1, the shell, which expands the pattern itself, and the sleeper.
    Test::sh(script).stdout("3\n").run();
}

#[test]
fn without_init_the_job_is_pid_1() {
    Test::sh("echo $$; exit 7")
        .with("init = false\nnamespaces.time = false")
        .stdout("1\n")
        .status(7)
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "exit");
        });
    Test::sh("exec sleep 1000")
        .with("init = false\nlimits.wall = \"300ms\"")
        .status(124)
        .any_stderr()
        .report()
        .each(|ran| assert_eq!(ran.value("/verdict"), "wall"));
    Test::command(&["nothing"])
        .with("init = false\nnamespaces.time = false")
        .status(127)
        .stderr("ringfence: nothing: not found in the image; the command or the interpreter that its first line names\n")
        .run();
}

/// A signal to the launcher is the job's to handle.
#[test]
fn signals_are_forwarded() {
    for (signal, name) in [
        (Signal::SIGINT, "INT"),
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGQUIT, "QUIT"),
    ] {
        let script =
            format!("trap 'echo got {name}; exit 9' {name}; touch /out/ready; while :; do sleep 0.01; done");
        let test = Test::sh(&script).with(OUT).setup(make_out);
        for caller in callers(None) {
            let mut live = test.start(caller).unwrap();
            live.wait_for_file("out/ready");
            live.signal(signal);
            let ran = live.finish();
            assert_eq!(
                (ran.status, ran.stdout),
                (9, format!("got {name}\n")),
                "{caller:?} {}",
                ran.stderr
            );
        }
    }
}

#[test]
fn a_signal_that_the_job_does_not_handle_ends_it() {
    let test = Test::sh("touch /out/ready; exec sleep 1000")
        .with(OUT)
        .setup(make_out)
        .report();
    for caller in callers(None) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/ready");
        live.signal(Signal::SIGTERM);
        let ran = live.finish();
        assert_eq!(ran.status, 128 + 15, "{caller:?}");
        assert_eq!(
            (ran.value("/verdict"), ran.value("/signal")),
            (&"signal".into(), &15.into())
        );
    }
}

#[test]
fn a_second_interrupt_kills() {
    let script =
        "trap 'echo no' INT; touch /out/ready; while :; do sleep 0.01; [ -e /out/again ] || true; done";
    let test = Test::sh(script).with(OUT).setup(make_out);
    for caller in callers(None) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/ready");
        live.signal(Signal::SIGINT);
        // Two that are pending at once would be one.
        std::thread::sleep(std::time::Duration::from_millis(300));
        live.signal(Signal::SIGINT);
        let ran = live.finish();
        assert_eq!((ran.status, ran.stdout.as_str()), (128 + 9, "no\n"), "{caller:?}");
    }
}

#[test]
fn an_interrupt_while_the_sandbox_is_built_ends_it() {
    // Wherever it lands: while the host is asked, before or in the set-up, or when the job runs.
    let test = Test::sh("exec sleep 1000");
    for (step, caller) in (0..12).flat_map(|step| callers(None).into_iter().map(move |caller| (step, caller)))
    {
        let live = test.start(caller).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(4 * step));
        live.signal(Signal::SIGTERM);
        let (ran, room) = live.end_of_all();
        let stderr = caller.without_notice(&ran.stderr);
        let said = (ran.status, stderr.as_str());
        let known = [(128 + 15, ""), (125, "ringfence: set-up: interrupted\n")];
        assert!(known.contains(&said), "{caller:?} after {step}: {said:?}");
        // Killed while it asked the host, it may have left what the next one takes away.
        let next =
            Test::sh("exit 4").start_in(room, caller, std::array::from_fn(|_| std::process::Stdio::null()));
        assert_eq!(next.unwrap().finish().status, 4);
    }
}

/// A folder that the job writes to and the test sees.
const OUT: &str = "user = \"root\"\nmounts.\"/out\" = { bind = \"out\", access = \"rw\" }";

fn make_out(folder: &std::path::Path) {
    std::fs::create_dir(folder.join("out")).unwrap();
}

/// A job of the caller's own id can open the other end of the pipe that the launcher reads, and race it for each line.
#[test]
fn a_job_that_takes_its_own_output_away_gains_no_time() {
    let script = "exec 5</proc/self/fd/1 || exit 3; cat <&5 >/dev/null & \
        i=0; while [ $i -lt 500 ]; do echo x; i=$((i+1)); done; exec sleep 1000";
    Test::sh(script)
        .with("limits.wall = \"2s\"\nlimits.output = \"1MiB\"")
        .only(&[Caller::User, Caller::UserWithIds, Caller::Tester])
        .status(124)
        .any_stdout()
        .any_stderr()
        .run();
}

#[test]
fn a_stream_that_is_held_outside_does_not_keep_the_launcher() {
    let test = Test::sh("touch /out/ready; while [ ! -e /out/go ]; do sleep 0.01; done; echo end")
        .with(OUT)
        .with("limits.output = \"1MiB\"")
        .setup(make_out);
    for caller in callers(None) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/ready");
        let of_run = |group: std::path::PathBuf| {
            std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default()
        };
        let processes: String = live.groups().runs().into_iter().map(of_run).collect();
        // Not PID 1, which may have the launcher's streams still: the run's end would wait for this test's.
        let hold = |pid: &str| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let path = format!("/proc/{pid}/fd/1");
            let job = comm.trim() != "ringfence";
            job.then(|| std::fs::File::options().write(true).open(path).ok())?
        };
        let held: Vec<_> = processes.lines().filter_map(hold).collect();
        assert!(!held.is_empty(), "{caller:?}");
        std::fs::write(live.folder().join("out/go"), "").unwrap();
        let ran = live.finish();
        assert_eq!(
            (ran.status, ran.stdout.as_str()),
            (0, "end\n"),
            "{caller:?} {}",
            ran.stderr
        );
    }
}

#[test]
fn a_refused_run_has_a_receipt_too() {
    for (manifest, job) in [
        (
            "schema = 1\n[job.test]\nimag = \"host\"\n",
            serde_json::Value::Null,
        ),
        (
            "schema = 1\n[job.test]\nimage = \"host\"\ncommand = [\"true\"]\n",
            "other".into(),
        ),
    ] {
        let mut test = Test::command(&[])
            .manifest(manifest)
            .status(125)
            .any_stderr()
            .report();
        if let Some(name) = job.as_str() {
            test = test.args(&[name]);
        }
        test.each(|ran| {
            assert_eq!(ran.value("/verdict"), "refused");
            assert_eq!(
                ran.report.as_ref().and_then(|report| report.get("job")),
                job.as_str().map(|_| &job)
            );
        });
    }
}

#[test]
fn what_nohup_keeps_from_the_launcher_it_keeps_from_the_job() {
    let test = Test::sh("touch /out/ready; while [ ! -e /out/go ]; do sleep 0.01; done; exit 6")
        .with(OUT)
        .setup(make_out)
        .wrapped(&["/usr/bin/env", "nohup"]);
    for caller in callers(None) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/ready");
        live.signal(Signal::SIGHUP);
        std::fs::write(live.folder().join("out/go"), "").unwrap();
        assert_eq!(live.finish().status, 6, "{caller:?}");
    }
}

/// nohup's SIGHUP is kept from the launcher; the job gets a clean slate, as in a container.
#[test]
fn no_signal_is_blocked_or_ignored_for_the_job() {
    // Mask and SIG_IGN for classic signals, for the C library's own 32, and for real-time ones.
    let caller = "use POSIX; $SIG{$_} = 'IGNORE' for qw(INT TERM USR2 PIPE CHLD HUP NUM32 NUM40); \
        $ignore = pack('Q4', 1, 0, 0, 0); syscall(RT_SIGACTION, 32, $ignore, 0, 8); \
        sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR1, SIGALRM, 41)); exec @ARGV";
    let caller = caller.replace("RT_SIGACTION", &nix::libc::SYS_rt_sigaction.to_string());
    Test::command(&["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
        .wrapped(&["/usr/bin/perl", "-e", &caller])
        .stdout("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n")
        .run();
}

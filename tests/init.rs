//! `ringfence init` beside the tini that it replaces: the same command lines through both, the same answers.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command line, with the variables that it is run with.
struct Scenario {
    variables: &'static [(&'static str, &'static str)],
    args: &'static [&'static str],
}

const fn run(args: &'static [&'static str]) -> Scenario {
    Scenario { variables: &[], args }
}

/// Waits to be ended by a signal, for ten seconds at most.
macro_rules! wait {
    () => {
        "i=0; while [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done"
    };
}

const SCENARIOS: &[Scenario] = &[
    // The command line.
    run(&["-h"]),
    run(&["-s", "-h", "-z"]),
    run(&["--version"]),
    run(&["--version", "x"]),
    run(&[]),
    run(&["-s", "--"]),
    run(&["-z"]),
    run(&["-p"]),
    run(&["-e"]),
    run(&["-p", "FOO", "true"]),
    run(&["-p", "sigterm", "true"]),
    run(&["-e", "256", "true"]),
    run(&["-e", "-1", "true"]),
    run(&["-e", "x", "true"]),
    run(&["sh", "-c", "echo swallowed"]),
    run(&["-s", "echo", "--", "-n", "--", "x"]),
    run(&["echo", "-s", "x"]),
    run(&["-sgwpSIGTERM", "echo", "x"]),
    Scenario {
        variables: &[("POSIXLY_CORRECT", "1")],
        args: &["-s", "echo", "-s"],
    },
    // How the program ends.
    run(&["-s", "true"]),
    run(&["-s", "--", "sh", "-c", "exit 3"]),
    run(&["-s", "--", "sh", "-c", "exit 255"]),
    run(&["-s", "--", "sh", "-c", "kill -9 $$"]),
    run(&["-s", "--", "sh", "-c", "kill -TERM $$"]),
    run(&["-s", "--", "sh", "-c", "kill -34 $$"]),
    run(&["-s", "-e", "3", "-e", "4", "--", "sh", "-c", "exit 3"]),
    run(&["-s", "-e", "143", "--", "sh", "-c", "kill -TERM $$"]),
    run(&["-s", "-e", " +7", "--", "sh", "-c", "exit 7"]),
    run(&["-s", "-e", "3", "--", "sh", "-c", "exit 4"]),
    // What cannot be run.
    run(&["-s", "/nonexistent/program"]),
    run(&["-s", "nonexistent-program"]),
    run(&["-s", ""]),
    run(&["-s", "/etc/passwd"]),
    run(&["-s", "/"]),
    run(&["-s", "/etc/passwd/x"]),
    run(&["-s", "-e", "127", "/nonexistent/program"]),
    // What is said.
    run(&["true"]),
    Scenario {
        variables: &[("TINI_SUBREAPER", "")],
        args: &["true"],
    },
    Scenario {
        variables: &[("TINI_VERBOSITY", "0")],
        args: &["true"],
    },
    Scenario {
        variables: &[("TINI_VERBOSITY", "0")],
        args: &["/nonexistent/program"],
    },
    Scenario {
        variables: &[("TINI_VERBOSITY", "2")],
        args: &["-s", "--", "sh", "-c", "exit 3"],
    },
    run(&["-s", "-v", "--", "sh", "-c", "kill -9 $$"]),
    run(&["-s", "-w", "--", "sh", "-c", "(true &); sleep 0.3; exit 4"]),
    run(&[
        "-s",
        "-w",
        "--",
        "sh",
        "-c",
        "for i in $(seq 20); do (true &); done; sleep 1",
    ]),
    // What is passed on.
    run(&[
        "-s",
        "--",
        "sh",
        "-c",
        concat!("trap 'echo got; exit 7' TERM; kill -TERM $PPID; ", wait!()),
    ]),
    run(&[
        "-s",
        "--",
        "sh",
        "-c",
        concat!("trap 'echo got; exit 7' USR1; kill -USR1 $PPID; ", wait!()),
    ]),
    run(&["-s", "-v", "--", "sh", "-c", concat!("kill -34 $PPID; ", wait!())]),
    run(&[
        "-s",
        "-g",
        "--",
        "sh",
        "-c",
        concat!("kill -TERM $PPID; ", wait!()),
    ]),
    Scenario {
        variables: &[("TINI_KILL_PROCESS_GROUP", "1")],
        args: &[
            "-s",
            "--",
            "sh",
            "-c",
            concat!("sh -c 'sleep 0.3; kill -TERM $1' - $PPID; ", wait!()),
        ],
    },
];

/// A command's answers, without what differs from run to run.
fn answers(program: &Path, scenario: &Scenario) -> String {
    let mut command = Command::new(program);
    command.arg0("tini").args(scenario.args).stdin(Stdio::null());
    for name in [
        "TINI_SUBREAPER",
        "TINI_VERBOSITY",
        "TINI_KILL_PROCESS_GROUP",
        "POSIXLY_CORRECT",
    ] {
        command.env_remove(name);
    }
    command.envs(scenario.variables.iter().copied());
    render(&mut command)
}

/// Exit code, standard output and standard error. Of standard output the program's lines come first: tini's
/// own stay in the C library's buffer until it ends, ours are written at once.
fn render(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stdout = mask(&output.stdout);
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_by_key(|line| line.starts_with('['));
    let mut text = format!("{:?}\n", output.status.code());
    lines
        .iter()
        .for_each(|line| text.push_str(&format!("out: {line}\n")));
    mask(&output.stderr)
        .lines()
        .for_each(|line| text.push_str(&format!("err: {line}\n")));
    text
}

/// Process ids become N, and our name beside tini's version goes.
fn mask(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.replace(concat!(" - ringfence ", env!("CARGO_PKG_VERSION")), "");
    let mut masked = String::new();
    let mut rest = text.as_str();
    let leads = ["tini (", "pid=", "pid '", "pid: '"];
    while let Some(start) = leads
        .iter()
        .filter_map(|lead| Some(rest.find(lead)? + lead.len()))
        .min()
    {
        let id = rest[start..].bytes().take_while(u8::is_ascii_digit).count();
        masked.push_str(&rest[..start]);
        masked.push_str(if id > 0 { "N" } else { "" });
        rest = &rest[start + id..];
    }
    masked + rest
}

fn ours() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ringfence"))
}

/// The tini of this machine; none, with the reason, where it has none.
fn tini() -> Option<PathBuf> {
    let installed = Command::new("tini").arg("--version").output();
    match installed {
        Ok(output) if output.stdout.starts_with(b"tini version 0.19.0") => Some(PathBuf::from("tini")),
        Ok(output) => skip(&format!(
            "not tini 0.19.0 but {}",
            String::from_utf8_lossy(&output.stdout)
        )),
        Err(error) => skip(&format!("no tini to compare with: {error}")),
    }
}

fn skip<T>(reason: &str) -> Option<T> {
    assert_ne!(
        std::env::var("RINGFENCE_TESTS").as_deref(),
        Ok("require"),
        "{reason}"
    );
    eprintln!("skipped: {reason}");
    None
}

/// A folder of the test's own, removed with its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringfence-init-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn answers_as_recorded() {
    let mut text = String::new();
    for scenario in SCENARIOS {
        let variables = scenario
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect::<String>();
        let line = format!("$ {variables}tini {}\n", scenario.args.join(" "));
        text.push_str(&line);
        text.push_str(&answers(&ours(), scenario));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn answers_as_tini_does() {
    let Some(tini) = tini() else { return };
    for scenario in SCENARIOS {
        assert_eq!(
            answers(&ours(), scenario),
            answers(&tini, scenario),
            "{:?} {:?}",
            scenario.variables,
            scenario.args
        );
    }
}

/// As PID 1, with nothing to warn of.
#[test]
fn is_pid_1() {
    let unshare = ["--user", "--map-root-user", "--pid", "--fork"];
    if !Command::new("unshare")
        .args(unshare)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        return skip("no user and pid namespaces by unshare(1)").unwrap_or(());
    }
    let script = "(true &); sleep 0.3; kill -TERM 1; sleep 5; exit 9";
    let through = |program: &Path| {
        let args = ["-v", "-w", "--", "sh", "-c", script];
        render(
            Command::new("unshare")
                .args(unshare)
                .arg(program)
                .args(args)
                .stdin(Stdio::null()),
        )
    };
    let answer = through(&named_tini(&Folder::new("pid1")));
    assert_eq!(
        answer,
        "Some(143)\n\
         out: [INFO  tini (N)] Spawned child process 'sh' with pid 'N'\n\
         out: [INFO  tini (N)] Main child exited with signal (with signal 'Terminated')\n\
         err: [WARN  tini (N)] Reaped zombie process with pid=N\n"
    );
    if let Some(tini) = tini() {
        assert_eq!(answer, through(&tini));
    }
}

/// A program on a terminal is in its foreground, also below two inits.
#[test]
fn hands_the_terminal_over() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("no script(1) to make a terminal").unwrap_or(());
    }
    let foreground =
        "read a b c d group f g front rest < /proc/$$/stat; [ $group = $front ] && tty -s && echo front";
    let folder = Folder::new("terminal");
    let through = |program: &str| {
        let line = format!("{program} -s -- {program} -s -- sh -c '{foreground}'");
        render(
            Command::new("script")
                .args(["-qec", &line, "/dev/null"])
                .stdin(Stdio::null()),
        )
    };
    let answer = through(named_tini(&folder).to_str().unwrap());
    assert_eq!(answer, "Some(0)\nout: front\n");
    if tini().is_some() {
        assert_eq!(answer, through("tini"));
    }
}

/// A copy of our program under tini's name, which makes it init.
fn named_tini(folder: &Folder) -> PathBuf {
    let link = folder.0.join("tini");
    std::os::unix::fs::symlink(ours(), &link).unwrap();
    link
}

/// `-p`: when init's parent dies, init gets the signal and passes it on.
#[test]
fn dies_with_its_parent() {
    let folder = Folder::new("parent");
    let check = |name: &str, program: &str| {
        let file = folder.0.join(name);
        let job = concat!("trap 'echo bye > \"$0\"; exit' TERM; : > \"$0.ready\"; ", wait!());
        // A parent that is gone before tini has asked for its signal is never noticed.
        let script =
            "\"$1\" -s -p SIGTERM -- sh -c \"$2\" \"$3\" & until [ -e \"$3.ready\" ]; do sleep 0.02; done";
        let status = Command::new("sh")
            .args(["-c", script, "-", program, job])
            .arg(&file)
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&file).unwrap_or_default() != "bye\n" {
            assert!(Instant::now() < deadline, "{program} outlived its parent");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    check("ours", named_tini(&folder).to_str().unwrap());
    if tini().is_some() {
        check("theirs", "tini");
    }
}

/// Signals that the caller blocks and ignores are the program's as though init were not there; SIGCHLD
/// among them, for which tini would wait for ever, because children of a process that ignores it vanish.
#[test]
fn leaves_no_trace_in_the_programs_signals() {
    let folder = Folder::new("signals");
    let through = |init: &[&OsStr]| {
        let mut command = Command::new("env");
        command
            .args(["--block-signal=USR1", "--ignore-signal=INT,TTOU,CHLD"])
            .args(init);
        render(
            command
                .args(["grep", "Sig[BI]", "/proc/self/status"])
                .stdin(Stdio::null()),
        )
    };
    let direct = through(&[]);
    if !direct.starts_with("Some(0)\nout: SigBlk:\t") {
        return skip("no env(1) that blocks and ignores signals").unwrap_or(());
    }
    assert_eq!(
        through(&[named_tini(&folder).as_os_str(), OsStr::new("-s")]),
        direct
    );
}

/// A process group of its own, so that a terminal's signals reach the program once.
#[test]
fn starts_a_process_group() {
    let folder = Folder::new("group");
    let script = "read pid name state parent group rest < /proc/$$/stat; [ $pid = $group ]";
    let through = |program: &Path| {
        render(
            Command::new(program)
                .args(["-s", "--", "sh", "-c", script])
                .stdin(Stdio::null()),
        )
    };
    assert_eq!(through(&named_tini(&folder)), "Some(0)\n");
    if let Some(tini) = tini() {
        assert_eq!(through(&tini), "Some(0)\n");
    }
}

/// The verb and the second name are init as well.
#[test]
fn has_three_names() {
    let folder = Folder::new("names");
    let docker = folder.0.join("docker-init");
    std::os::unix::fs::symlink(ours(), &docker).unwrap();
    assert_eq!(
        render(
            Command::new(docker)
                .args(["-s", "echo", "x"])
                .stdin(Stdio::null())
        ),
        "Some(0)\nout: x\n"
    );
    let verb = render(
        Command::new(ours())
            .args(["init", "-s", "-z"])
            .stdin(Stdio::null()),
    );
    assert!(
        verb.starts_with(
            "Some(1)\nerr: ringfence init: invalid option -- 'z'\nerr: ringfence init (tini version 0.19.0)\n"
        ),
        "{verb}"
    );
}

/// Between signals init sleeps; tini wakes every second.
#[test]
fn does_not_poll() {
    let folder = Folder::new("poll");
    let mut init = Command::new(named_tini(&folder))
        .args(["-s", "sleep", "3"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", init.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt_switches:"))
            .unwrap();
        line.to_owned()
    };
    std::thread::sleep(Duration::from_millis(700));
    let before = switches();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(switches(), before);
    assert!(init.wait().unwrap().success());
}

/// A file without a first line that names its interpreter is a shell's, as execvp(3) has it.
#[test]
fn runs_a_script_without_a_first_line() {
    let folder = Folder::new("script");
    let file = folder.0.join("script");
    std::fs::write(&file, "echo $1; exit 6\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let through = |program: &Path| {
        render(
            Command::new(program)
                .arg("-s")
                .arg(&file)
                .arg("x")
                .stdin(Stdio::null()),
        )
    };
    let answer = through(&named_tini(&folder));
    assert_eq!(answer, "Some(6)\nout: x\n");
    if let Some(tini) = tini() {
        assert_eq!(answer, through(&tini));
    }
}

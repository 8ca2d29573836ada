//! The harness of the tests that start the binary: a manifest, a command, and all that a user sees of it.
//!
//! A [`Test`] runs once for every [`Caller`] that this machine allows. Each run stands in control groups of its own, so
//! that whatever it leaves behind, a process or a group, is found there: every run ends with that look.

mod caller;
mod groups;
mod leaks;
mod live;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::caller::{Caller, callers};
pub(crate) use self::groups::Groups;
#[allow(unused_imports, reason = "each test program uses its own part of this")]
pub(crate) use self::live::{Live, Room, folder};

/// No run takes longer than this; an emulated machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Ends the test early, with the reason; where nothing may be skipped, fails it.
macro_rules! skip {
    ($($reason:tt)*) => {{
        let reason = format!($($reason)*);
        assert!(std::env::var("RINGFENCE_TESTS").as_deref() != Ok("require"), "may not be skipped: {reason}");
        eprintln!("skipped: {reason}");
        return;
    }};
}
pub(crate) use skip;

/// A run of the binary, and what its user is to see.
#[derive(Clone)]
#[must_use = "a test that is not run shows nothing"]
pub(crate) struct Test {
    image: String,
    command: String,
    lines: String,
    manifest: Option<String>,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    status: i32,
    other_status: Option<i32>,
    stdout: Option<String>,
    stderr: Option<String>,
    wrapper: Vec<String>,
    setup: Option<Setup>,
    callers: Option<Vec<Caller>>,
    verb: &'static str,
    pulls: bool,
}

/// Makes what a run needs in its folder.
type Setup = Arc<dyn Fn(&Path) + Send + Sync>;

/// How a run ended.
pub(crate) struct Ran {
    /// Who started it.
    pub(crate) caller: Caller,
    /// The exit code; 128 + n when a signal ended the launcher itself.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// The folder of the manifest.
    pub(crate) folder: PathBuf,
    /// What `--report report.json` has written.
    pub(crate) report: Option<serde_json::Value>,
    /// Keeps the folder until all has been looked at.
    pub(crate) room: Option<Room>,
}

impl Test {
    /// A job that runs a shell script on the image source `host`, with the profile `strict`.
    pub(crate) fn sh(script: &str) -> Test {
        Test::command(&["/bin/sh", "-c", script])
    }

    /// A job that runs a command on the image source `host`, with the profile `strict`.
    pub(crate) fn command(words: &[&str]) -> Test {
        // A dollar is written twice in a manifest.
        let words: Vec<_> = words.iter().map(|word| word.replace('$', "$$")).collect();
        Test {
            image: "host".to_owned(),
            command: toml::Value::from(words).to_string(),
            lines: String::new(),
            manifest: None,
            args: Vec::new(),
            environment: Vec::new(),
            stdin: Vec::new(),
            status: 0,
            other_status: None,
            stdout: Some(String::new()),
            stderr: Some(String::new()),
            wrapper: Vec::new(),
            setup: None,
            callers: None,
            verb: "run",
            pulls: false,
        }
    }

    /// Lines of the job's table, from line 4 of the manifest on.
    pub(crate) fn with(mut self, lines: &str) -> Test {
        self.lines += lines;
        self.lines += "\n";
        self
    }

    /// Another image source.
    pub(crate) fn image(mut self, image: &str) -> Test {
        self.image = image.to_owned();
        self
    }

    /// Another manifest altogether.
    pub(crate) fn manifest(mut self, text: &str) -> Test {
        self.manifest = Some(text.to_owned());
        self
    }

    /// Words after the command.
    pub(crate) fn args(mut self, args: &[&str]) -> Test {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Asks for a receipt, which [`Ran::report`] then holds.
    pub(crate) fn report(self) -> Test {
        self.args(&["--report", "report.json"])
    }

    /// A variable of the launcher's own environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Test {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the job reads.
    pub(crate) fn stdin(mut self, bytes: &str) -> Test {
        self.stdin = bytes.as_bytes().to_owned();
        self
    }

    /// A program that starts the launcher: its words come before `ringfence`.
    pub(crate) fn wrapped(mut self, words: &[&str]) -> Test {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// As [`Self::wrapped`], by a script in a mount namespace of its own; `"$@"` is the launcher.
    pub(crate) fn in_mounts(self, script: &str) -> Test {
        let own = ["unshare", "--mount", "--propagation", "private", "sh", "-c"];
        self.wrapped(&[&own[..], &[script, "sh"]].concat())
    }

    /// What to make in the folder of the manifest before the run.
    pub(crate) fn setup(mut self, make: impl Fn(&Path) + Send + Sync + 'static) -> Test {
        self.setup = Some(Arc::new(make));
        self
    }

    /// Another command than `run`.
    pub(crate) fn verb(mut self, verb: &'static str) -> Test {
        self.verb = verb;
        self
    }

    /// The store may hold more afterwards.
    pub(crate) fn pulls(mut self) -> Test {
        self.pulls = true;
        self
    }

    /// Only these callers, of those that there are.
    pub(crate) fn only(mut self, wanted: &[Caller]) -> Test {
        self.callers = Some(wanted.to_vec());
        self
    }

    /// The exit code.
    pub(crate) fn status(mut self, status: i32) -> Test {
        self.status = status;
        self
    }

    /// Another exit code that is as good.
    pub(crate) fn maybe_status(mut self, status: i32) -> Test {
        self.other_status = Some(status);
        self
    }

    /// The whole of standard output.
    pub(crate) fn stdout(mut self, text: &str) -> Test {
        self.stdout = Some(text.to_owned());
        self
    }

    /// The whole of standard error; `{folder}` is the folder of the manifest.
    pub(crate) fn stderr(mut self, text: &str) -> Test {
        self.stderr = Some(text.to_owned());
        self
    }

    /// Any standard output: the test looks at it itself.
    pub(crate) fn any_stdout(mut self) -> Test {
        self.stdout = None;
        self
    }

    /// Any standard error: the test looks at it itself.
    pub(crate) fn any_stderr(mut self) -> Test {
        self.stderr = None;
        self
    }

    /// Runs it for every caller and compares all that was said.
    #[track_caller]
    pub(crate) fn run(self) {
        self.each(|_| {});
    }

    /// The same, and shows each run to `look`.
    #[track_caller]
    pub(crate) fn each(self, look: impl Fn(&Ran)) {
        let callers = callers(self.callers.as_deref());
        if callers.is_empty() {
            // Not for want of something: root's own pass over these tests has all callers.
            assert!(
                !nix::unistd::geteuid().is_root(),
                "none of {:?} here",
                self.callers
            );
            eprintln!("skipped: it is started as {:?}, which takes root", self.callers);
            return;
        }
        for caller in callers {
            match self.start(caller) {
                Ok(live) => {
                    let ran = live.finish();
                    self.compare(&ran);
                    look(&ran);
                }
                Err(reason) => skip!("{caller:?}: {reason}"),
            }
        }
    }

    /// Runs it where another run was before; gives the room back for the next one.
    #[track_caller]
    pub(crate) fn run_in(&self, mut room: Room, caller: Caller) -> (Ran, Room) {
        room.look_again();
        let live = self.start_in(room, caller, [Stdio::piped(), Stdio::piped(), Stdio::piped()]);
        let mut ran = live.expect("the room was made here").finish();
        self.compare(&ran);
        let room = ran.room.take().expect("a run that was finished");
        (ran, room)
    }

    #[track_caller]
    fn compare(&self, ran: &Ran) {
        let folder = ran.folder.display().to_string();
        let expand = |text: &String| text.replace("{folder}", &folder);
        let other = self.other_status.filter(|status| *status == ran.status);
        let wanted = (
            other.unwrap_or(self.status),
            self.stdout.as_ref().map_or_else(|| ran.stdout.clone(), expand),
            self.stderr
                .as_ref()
                .map_or_else(|| ran.caller.without_notice(&ran.stderr), expand),
        );
        let stderr = ran.caller.without_notice(&ran.stderr);
        let got = (ran.status, &ran.stdout, &stderr);
        assert!(
            got == (wanted.0, &wanted.1, &wanted.2),
            "as {:?}\n--- wanted: status {}\n{}--- stderr\n{}--- got: status {}\n{}--- stderr\n{}",
            ran.caller,
            wanted.0,
            wanted.1,
            wanted.2,
            ran.status,
            ran.stdout,
            ran.stderr
        );
    }

    /// The text of the manifest.
    fn text(&self) -> String {
        match &self.manifest {
            Some(text) => text.clone(),
            None => format!(
                "schema = 1\n[job.test]\nimage = {}\n{}command = {}\n",
                toml::Value::from(self.image.as_str()),
                self.lines,
                self.command
            ),
        }
    }
}

impl Ran {
    /// A value of the receipt by its JSON pointer (RFC 6901).
    #[track_caller]
    pub(crate) fn value(&self, pointer: &str) -> &serde_json::Value {
        let report = self.report.as_ref().expect("the test asks for a receipt");
        report
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in {report:#}"))
    }

    /// What the receipt says of a protection: requested, enforced.
    #[track_caller]
    pub(crate) fn protection(&self, name: &str) -> (String, String) {
        let list = self.value("/enforced").as_array().expect("a list");
        let found = list.iter().find(|one| one["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {list:#?}"));
        let text = |key: &str| found[key].as_str().expect("a text").to_owned();
        (text("requested"), text("enforced"))
    }
}

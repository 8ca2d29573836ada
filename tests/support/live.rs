//! A run that is under way.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

use super::leaks::Before;
use super::{Caller, Groups, PATIENCE, Ran, Test};

/// How often it is looked whether something has happened: an emulated processor has no time to spare for more.
const LOOK: Duration = Duration::from_millis(5);

/// A run that is under way: its launcher, and what is watched of it.
pub(crate) struct Live {
    caller: Caller,
    launcher: Child,
    output: Option<[JoinHandle<Vec<u8>>; 2]>,
    room: Room,
    started: Instant,
}

/// Where runs of one caller take place: a folder and control groups of their own, gone when dropped.
pub(crate) struct Room {
    folder: PathBuf,
    groups: Option<Groups>,
    before: Before,
    pulls: bool,
}

impl Drop for Room {
    fn drop(&mut self) {
        // Processes first: they may write.
        self.groups = None;
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Test {
    /// Starts it as `caller`; the reason when this machine does not allow what the harness needs.
    pub(crate) fn start(&self, caller: Caller) -> Result<Live, String> {
        self.start_with(caller, [Stdio::piped(), Stdio::piped(), Stdio::piped()])
    }

    /// The same with streams of the test's own.
    pub(crate) fn start_with(&self, caller: Caller, streams: [Stdio; 3]) -> Result<Live, String> {
        self.start_in(self.room(caller)?, caller, streams)
    }

    /// Makes a room for runs of `caller`, with what the test makes in it.
    pub(crate) fn room(&self, caller: Caller) -> Result<Room, String> {
        let folder = folder();
        let groups = match caller {
            Caller::UserWithoutGroups => None,
            _ => Some(Groups::make(caller)?),
        };
        let before = Before::look(&folder);
        let room = Room {
            folder,
            groups,
            before,
            pulls: false,
        };
        if let Some(make) = &self.setup {
            make(&room.folder);
        }
        give(&room.folder, caller);
        Ok(room)
    }

    /// The same where another run was before.
    pub(crate) fn start_in(
        &self,
        mut room: Room,
        caller: Caller,
        streams: [Stdio; 3],
    ) -> Result<Live, String> {
        room.pulls = self.pulls;
        let manifest = room.folder.join("ringfence.toml");
        fs::write(&manifest, self.text()).map_err(|error| error.to_string())?;
        give(&manifest, caller);
        let mut command = Command::new("/usr/bin/env");
        // Whoever runs the tests, under nohup(1) or in the background, may ignore these.
        command.args(["--default-signal=HUP,INT,QUIT", "/bin/sh"]);
        let doors = room.groups.as_ref().map(Groups::doors).unwrap_or_default();
        let enter: String = doors
            .iter()
            .map(|door| format!("echo 0 > '{}' && ", door.display()))
            .collect();
        command.args(["-c", &format!("{enter}{}", caller.script()), "sh"]);
        command
            .args(&self.wrapper)
            .arg(binary())
            .arg(self.verb)
            .args(&self.args);
        command.current_dir(&room.folder).env_clear();
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.env("HOME", &room.folder).env("TMPDIR", &room.folder);
        command.env("RINGFENCE_STORE", room.folder.join("store"));
        command.env("RINGFENCE_RUN", room.folder.join("run"));
        command.env("RINGFENCE_CONFIG", room.folder.join("config.toml"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let [stdin, stdout, stderr] = streams;
        let mut launcher = command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("/usr/bin/env: {error}"))?;
        if let Some(mut stdin) = launcher.stdin.take() {
            // A job that does not read ends without it.
            stdin.write_all(&self.stdin).ok();
        }
        let out = launcher.stdout.take().map(collect);
        let err = launcher.stderr.take().map(collect);
        Ok(Live {
            caller,
            launcher,
            output: out.zip(err).map(|(out, err)| [out, err]),
            room,
            started: Instant::now(),
        })
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        bytes
    })
}

/// A new folder; beside the store that the environment names, where file systems are known to do.
pub(crate) fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let store = std::env::var_os("RINGFENCE_STORE").map(PathBuf::from);
    let base = store.and_then(|store| Some(store.parent()?.to_owned()));
    let base = base.unwrap_or_else(std::env::temp_dir);
    let path = base.join(format!("rf-test-{}-{number}", std::process::id()));
    fs::create_dir(&path).expect("a folder for the run");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::create_dir(path.join("store")).expect("its store");
    fs::write(path.join("config.toml"), "").expect("its config");
    path
}

/// Makes all of a folder the caller's.
fn give(path: &Path, caller: Caller) {
    if caller.uid() == nix::unistd::geteuid().as_raw() {
        return;
    }
    let (user, group) = (Uid::from_raw(caller.uid()), Gid::from_raw(caller.gid()));
    let kind = fs::symlink_metadata(path).expect("it is there").file_type();
    nix::unistd::fchownat(
        nix::fcntl::AT_FDCWD,
        path,
        Some(user),
        Some(group),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .expect("root may");
    if kind.is_dir() {
        fs::read_dir(path)
            .expect("a folder")
            .flatten()
            .for_each(|entry| give(&entry.path(), caller));
    }
}

/// The binary; a copy when it stands where ordinary users cannot reach it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_ringfence"));
        let open = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 1 == 1);
        if built.ancestors().all(open) {
            return built;
        }
        let copy = std::env::temp_dir().join("ringfence-test-binary");
        let own = copy.with_extension(std::process::id().to_string());
        fs::copy(&built, &own).expect("a copy of the binary");
        fs::rename(own, &copy).expect("its name");
        copy
    })
}

impl Live {
    /// The process id of the launcher.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.launcher.id().cast_signed())
    }

    /// The folder of the manifest.
    pub(crate) fn folder(&self) -> &Path {
        &self.room.folder
    }

    /// The groups that the launcher was started in.
    pub(crate) fn groups(&self) -> &Groups {
        self.room.groups.as_ref().expect("a test with groups")
    }

    /// Sends a signal to the launcher.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the launcher is not waited for yet");
    }

    /// Waits until the file `name` appears in the folder of the manifest.
    #[track_caller]
    pub(crate) fn wait_for_file(&mut self, name: &str) {
        let path = self.room.folder.join(name);
        self.wait_until(&format!("the job makes {name}"), |_| path.exists());
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&Live) -> bool) {
        while !holds(self) {
            assert!(self.started.elapsed() < PATIENCE, "never: {what}");
            let ended = self.launcher.try_wait().expect("a child");
            assert!(ended.is_none() || holds(self), "ended ({ended:?}) before: {what}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for the launcher's end and looks for what it left behind.
    #[track_caller]
    pub(crate) fn finish(self) -> Ran {
        let (mut ran, room) = self.end();
        room.check(&format!("{:?}, stderr: {}", ran.caller, ran.stderr));
        ran.room = Some(room);
        ran
    }

    /// Waits for the launcher's end, and for that of all that it had started; groups and files may still be there.
    #[track_caller]
    pub(crate) fn end_of_all(self) -> (Ran, Room) {
        let (ran, room) = self.end();
        let groups = room.groups.as_ref().expect("a test with groups");
        let ended = Instant::now();
        while !groups.processes().is_empty() {
            let alive = groups.processes();
            // One second, ten times over where a machine is emulated.
            assert!(
                ended.elapsed() < Duration::from_secs(10),
                "{alive:?} outlive their launcher"
            );
            std::thread::sleep(LOOK);
        }
        (ran, room)
    }

    /// Waits for the launcher's end alone.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Ran, Room) {
        let status = loop {
            if let Some(status) = self.launcher.try_wait().expect("a child") {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                self.signal(Signal::SIGKILL);
                panic!("as {:?}: the run does not end", self.caller);
            }
            std::thread::sleep(LOOK);
        };
        let mut output = [String::new(), String::new()];
        for (text, thread) in output.iter_mut().zip(self.output.take().into_iter().flatten()) {
            *text = String::from_utf8_lossy(&thread.join().expect("a reader")).into_owned();
        }
        let [stdout, stderr] = output;
        let report = fs::read_to_string(self.room.folder.join("report.json")).ok();
        let signal = status.signal().map(|signal| 128 + signal);
        let ran = Ran {
            caller: self.caller,
            status: status.code().or(signal).unwrap_or(-1),
            stdout,
            stderr,
            folder: self.room.folder.clone(),
            report: report.and_then(|text| serde_json::from_str(&text).ok()),
            room: None,
        };
        (ran, self.room)
    }
}

impl Room {
    /// Looks for what runs have left behind.
    #[track_caller]
    pub(crate) fn check(&self, run: &str) {
        self.before.compare(self.groups.as_ref(), self.pulls, run);
    }

    /// What is there now was there before the next run.
    pub(super) fn look_again(&mut self) {
        self.before = Before::look(&self.folder);
    }

    /// The groups that launchers are started in.
    pub(crate) fn groups(&self) -> &Groups {
        self.groups.as_ref().expect("a test with groups")
    }
}

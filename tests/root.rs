//! What only root can arrange: ranges of ids, groups that are handed over, limits around the launcher.

#[allow(dead_code, reason = "tests/launch uses the rest")]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Caller, Test, skip};

/// Whether the tests of this file can do anything here.
macro_rules! need_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            skip!("not root");
        }
    };
}

/// A job that waits, in a folder that the test sees, until it may end.
fn waiting() -> Test {
    Test::sh(
        "cat /proc/self/uid_map > /out/map; touch /out/ready; while [ ! -e /out/end ]; do sleep 0.01; done",
    )
    .with("user = \"root\"\nmounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
    .setup(|folder| fs::create_dir(folder.join("out")).unwrap())
    .only(&[Caller::Root])
}

/// A folder of run state that several runs share.
struct Shared(PathBuf);

impl Shared {
    fn new(name: &str) -> Shared {
        let path = std::env::temp_dir().join(format!("rf-root-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Shared(path)
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn runs_at_the_same_time_have_ids_of_their_own() {
    need_root!();
    let shared = Shared::new("ranges");
    let test = waiting().env("RINGFENCE_RUN", shared.text());
    let mut lives: Vec<_> = (0..4).map(|_| test.start(Caller::Root).unwrap()).collect();
    let mut ranges = Vec::new();
    for live in &mut lives {
        live.wait_for_file("out/ready");
        let map = fs::read_to_string(live.folder().join("out/map")).unwrap();
        let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!((words[0], words[2], words.len()), (0, 65536, 3), "{map}");
        ranges.push(words[1]);
    }
    for live in lives {
        fs::write(live.folder().join("out/end"), "").unwrap();
        assert_eq!(live.finish().status, 0);
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[1] - pair[0] >= 65536, "{ranges:?}");
    }
    assert!(
        ranges[0] >= 2_000_000_000 + 65536,
        "number 0 is the one that runs may share: {ranges:?}"
    );
}

#[test]
fn ranges_come_from_the_hosts_configuration_and_can_run_out() {
    need_root!();
    let shared = Shared::new("few");
    let test = waiting().env("RINGFENCE_RUN", shared.text()).setup(|folder| {
        fs::create_dir(folder.join("out")).unwrap();
        fs::write(
            folder.join("config.toml"),
            "[ids]\nbase = 1800000000\ncount = 2\n",
        )
        .unwrap();
    });
    let mut live = test.start(Caller::Root).unwrap();
    live.wait_for_file("out/ready");
    let map = fs::read_to_string(live.folder().join("out/map")).unwrap();
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "1800065536", "65536"]
    );
    test.clone()
        .status(125)
        .stderr("ringfence: range of ids: all 2 are in use; raise `count` in `[ids]` of config.toml\n")
        .run();
    // A launcher that was killed has nothing any more.
    live.signal(nix::sys::signal::Signal::SIGKILL);
    drop(live.end_of_all());
    let mut live = test.start(Caller::Root).unwrap();
    live.wait_for_file("out/ready");
    fs::write(live.folder().join("out/end"), "").unwrap();
    assert_eq!(live.finish().status, 0);
}

#[test]
fn a_range_that_would_hold_root_is_refused() {
    need_root!();
    for (text, count) in [
        ("base = 4294900000\ncount = 2", "2"),
        ("base = 2000000000\ncount = 1", "1"),
    ] {
        let make: fn(&Path) = match count {
            "2" => |folder| {
                fs::write(
                    folder.join("config.toml"),
                    "[ids]\nbase = 4294900000\ncount = 2\n",
                )
                .unwrap()
            },
            _ => |folder| {
                fs::write(
                    folder.join("config.toml"),
                    "[ids]\nbase = 2000000000\ncount = 1\n",
                )
                .unwrap()
            },
        };
        Test::sh("true")
            .only(&[Caller::Root])
            .setup(make)
            .status(125)
            .stderr("ringfence: config {folder}/config.toml: `[ids]` needs a `count` of at least 2, and all ranges below 4294901760\n")
            .each(|ran| assert!(ran.stdout.is_empty(), "{text}"));
    }
}

/// The owner inside is the job, outside it is whoever owned the source.
#[test]
fn a_source_of_any_owner_is_the_jobs_inside() {
    need_root!();
    let test =
        Test::sh("stat -c %u:%g /out /out/own /out/foreign; echo x > /out/made; echo y > /out/foreign")
            .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
            .setup(|folder| {
                fs::create_dir(folder.join("out")).unwrap();
                for (name, owner) in [("own", 12345), ("foreign", 77)] {
                    fs::write(folder.join("out").join(name), "").unwrap();
                    chown(folder.join("out").join(name), Some(owner), Some(owner)).unwrap();
                }
                chown(folder.join("out"), Some(12345), Some(12345)).unwrap();
            })
            .only(&[Caller::Root])
            .status(2)
            .stdout("65532:65532\n65532:65532\n65534:65534\n")
            .stderr("/bin/sh: 1: cannot create /out/foreign: Permission denied\n");
    test.each(|ran| {
        let made = fs::metadata(ran.folder.join("out/made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (12345, 12345));
    });
}

#[test]
fn a_setuid_launcher_refuses_to_start() {
    need_root!();
    let folder = Shared::new("setuid");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.0.join("ringfence");
    fs::copy(env!("CARGO_BIN_EXE_ringfence"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let ran = Command::new("setpriv")
        .args(["--reuid=48611", "--regid=48611", "--clear-groups"])
        .arg(&copy)
        .args(["run", "--image", "host", "--", "/bin/true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(125));
    assert_eq!(
        said,
        "ringfence: ringfence must not be setuid, setgid or carry file capabilities; remove them\n"
    );
}

/// A runner's own quota holds: groups are made below the launcher's own, never beside or above one that has a limit.
#[test]
fn a_limit_around_the_launcher_holds_the_job_too() {
    need_root!();
    let v1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    let (dir, file) = match v1 {
        true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        false => ("/sys/fs/cgroup", "memory.max"),
    };
    // The launcher stands in its group's only process, so that on v2 it can step aside and hand controllers down.
    let own = PathBuf::from(dir).join(own_group(v1).trim_start_matches('/'));
    let own = if v1 {
        own
    } else {
        own.parent().map_or(own.clone(), Path::to_owned)
    };
    let outer = own.join(format!("rf-root-quota-{}", std::process::id()));
    fs::create_dir(&outer).unwrap();
    struct Gone(PathBuf);
    impl Drop for Gone {
        fn drop(&mut self) {
            for _ in 0..100 {
                if fs::remove_dir(&self.0).is_ok() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
    let gone = Gone(outer.clone());
    fs::write(outer.join(file), "67108864").unwrap();
    let enter = format!("echo 0 > {}/cgroup.procs && exec \"$@\"", outer.display());
    Test::command(&["/usr/bin/perl", "-e", "$x = 'x' x (256 << 20)"])
        .with("limits.memory = \"512MiB\"")
        .only(&[Caller::Root])
        .wrapped(&["/bin/sh", "-c", &enter, "sh"])
        .status(137)
        .any_stderr()
        .report()
        .each(|ran| {
            assert!(
                ["oom", "signal"]
                    .iter()
                    .any(|verdict| ran.value("/verdict") == verdict),
                "{}",
                ran.stderr
            );
            let left: Vec<_> = fs::read_dir(&outer)
                .unwrap()
                .flatten()
                .filter(|entry| entry.path().is_dir())
                .collect();
            assert!(left.is_empty(), "{left:?}");
        });
    drop(gone);
    assert!(!outer.exists());
}

fn own_group(v1: bool) -> String {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let line = text.lines().find(|line| match v1 {
        true => line
            .split(':')
            .nth(1)
            .is_some_and(|names| names.split(',').any(|name| name == "memory")),
        false => line.starts_with("0::"),
    });
    line.unwrap().splitn(3, ':').nth(2).unwrap().to_owned()
}

/// Root in a container has no right to mount or to make namespaces: said at once, by name.
#[test]
fn root_without_its_capabilities_is_told_so() {
    need_root!();
    let bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    Test::sh("echo ran")
        .only(&[Caller::Root])
        .wrapped(&bare)
        .maybe_status(125)
        .any_stdout()
        .any_stderr()
        .each(|ran| {
            match ran.status {
                0 => assert_eq!(ran.stdout, "ran\n"),
                _ => assert!(
                    !ran.stderr.trim().is_empty() && ran.stdout.is_empty(),
                    "{}",
                    ran.stderr
                ),
            }
            eprintln!("root without capabilities: {} {}", ran.status, ran.stderr);
        });
}

/// What a person without root can do: groups made by root below the own one, and given away.
#[test]
fn a_group_below_the_own_one_that_was_handed_over_is_found() {
    need_root!();
    if !Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists() {
        // v2 takes nobody into a group that its caller does not stand in; that is not a lack of this machine.
        eprintln!("skipped: a v1 hierarchy is not there");
        return;
    }
    let uid = Caller::UserWithoutGroups.uid();
    let mut made = Vec::new();
    for name in ["memory", "pids", "cpu", "cpuacct"] {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let is_it = fields.next()?.split(',').any(|one| one == name);
            is_it.then(|| fields.next().unwrap_or("/").to_owned())
        });
        let Some(own) = own else { continue };
        let dir = Path::new("/sys/fs/cgroup")
            .join(name)
            .join(own.trim_start_matches('/'));
        let dir = dir.join(format!("rf-root-handed-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        for file in ["", "tasks", "cgroup.procs"] {
            chown(dir.join(file), Some(uid), Some(uid)).unwrap();
        }
        made.push(dir);
    }
    let ran = Test::sh("cat /proc/self/cgroup | grep -c ':/$'")
        .only(&[Caller::UserWithoutGroups])
        .any_stdout()
        .any_stderr()
        .report()
        .start(Caller::UserWithoutGroups)
        .unwrap()
        .finish();
    for dir in made {
        let left: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .collect();
        fs::remove_dir(&dir).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(ran.value("/verdict"), "exit");
}

/// Everything that is said of a run whose streams are closed at once goes nowhere and ends nothing.
#[test]
fn a_run_in_the_background_needs_no_streams() {
    need_root!();
    let test = waiting();
    let mut live = test
        .start_with(Caller::Root, std::array::from_fn(|_| Stdio::null()))
        .unwrap();
    live.wait_for_file("out/ready");
    fs::write(live.folder().join("out/end"), "").unwrap();
    assert_eq!(live.finish().status, 0);
}

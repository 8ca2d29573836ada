//! What a job sees of the machine, and what of the launcher reaches it.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Caller, Test};

/// The namespaces by the kernel's names.
const NAMESPACES: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

#[test]
fn all_eight_namespaces_are_the_jobs_own() {
    let test = Test::sh(
        "for n in user mnt pid net ipc uts cgroup time; do echo $n $(readlink /proc/self/ns/$n); done",
    );
    test.report().any_stdout().each(|ran| {
        let inside: BTreeMap<&str, &str> = ran
            .stdout
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        for name in NAMESPACES {
            let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            let outside = outside.to_str().unwrap();
            assert!(inside[name].starts_with(&format!("{name}:[")), "{inside:?}");
            assert_ne!(inside[name], outside);
            let name = if name == "mnt" { "mount" } else { name };
            let own = ("own".to_owned(), "own".to_owned());
            assert_eq!(ran.protection(&format!("namespace {name}")), own);
        }
    });
}

#[test]
fn the_host_name_is_the_profiles() {
    Test::sh("uname -n; cat /etc/hostname")
        .stdout("ringfence\nringfence\n")
        .run();
    Test::sh("uname -n")
        .with("hostname = \"other.example\"")
        .stdout("other.example\n")
        .run();
}

#[test]
fn clocks_count_from_where_the_manifest_says() {
    let day = Test::sh("cut -d. -f1 /proc/uptime")
        .with("namespaces.time = { boottime = \"24h\", monotonic = \"48h\" }");
    let uptime = || -> i64 {
        let text = fs::read_to_string("/proc/uptime").unwrap();
        text.split('.').next().unwrap().parse().unwrap()
    };
    day.any_stdout().each(|ran| {
        let shown: i64 = ran.stdout.trim().parse().unwrap();
        let offset = shown - uptime();
        assert!((86_400 - 60..=86_400).contains(&offset), "{offset}");
    });
    let monotonic =
        "perl -MTime::HiRes=clock_gettime,CLOCK_MONOTONIC -e 'print int(clock_gettime(CLOCK_MONOTONIC))'";
    let both = Test::sh(&format!("{monotonic}; echo; {monotonic}"))
        .with("namespaces.time = { monotonic = \"48h\" }")
        .any_stdout();
    both.each(|ran| {
        let shown: i64 = ran.stdout.lines().next().unwrap().parse().unwrap();
        let offset = shown - uptime();
        assert!((172_800 - 3600..=172_800 + 3600).contains(&offset), "{offset}");
    });
}

#[test]
fn the_network_is_a_loopback_that_works() {
    let serve = "perl -MIO::Socket::INET -e '
        $s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1:80\") or die \"listen: $!\";
        $c = IO::Socket::INET->new(PeerAddr => \"127.0.0.1:80\") or die \"connect: $!\";
        print \"connected\\n\"'";
    let script = format!("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; {serve}");
    let lines = "sysctls.\"net.ipv4.ip_unprivileged_port_start\" = 0";
    Test::sh(&script).with(lines).stdout("lo\nconnected\n").run();
    let out = "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr => \"192.0.2.1:80\", Timeout => 5) or print \"$!\\n\"'";
    Test::sh(out).stdout("Network is unreachable\n").run();
}

#[test]
fn the_environment_is_built_from_nothing() {
    Test::command(&["/usr/bin/env"])
        .env("CANARY", "secret")
        .env("LD_PRELOAD", "")
        .env("BASH_ENV", "/etc/shadow")
        .with("env.GIVEN = \"a b=c $$HOME\"")
        .any_stdout()
        .each(|ran| {
            let mut lines: Vec<&str> = ran.stdout.lines().collect();
            lines.sort_unstable();
            assert_eq!(
                lines,
                [
                    "GIVEN=a b=c $HOME",
                    "HOME=/",
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                ]
            );
        });
}

/// CVE-2016-9962, CVE-2024-21626: whatever the launcher was started with, the job has its three streams and no more.
#[test]
fn no_descriptor_of_the_caller_reaches_the_job() {
    let leak = "i=10; while [ $i -lt 30 ]; do eval \"exec $i</\"; i=$((i+1)); done; exec \"$@\"";
    // Descriptor 3 is ls's own, of the directory that it lists.
    Test::sh("ls /proc/self/fd; ls -l /proc/1/fd 2>&1")
        .wrapped(&["/bin/bash", "-c", leak, "bash"])
        .status(2)
        .stdout("0\n1\n2\n3\nls: cannot open directory '/proc/1/fd': Permission denied\n")
        .run();
}

#[test]
fn a_working_directory_through_a_descriptor_is_refused() {
    let leak = "i=3; while [ $i -lt 23 ]; do eval \"exec $i</\"; i=$((i+1)); done; exec \"$@\"";
    for number in [3, 7, 22] {
        Test::sh("pwd; ls")
            .with(&format!("workdir = \"/proc/self/fd/{number}\""))
            .wrapped(&["/bin/bash", "-c", leak, "bash"])
            .status(125)
            .any_stderr()
            .each(|ran| {
                let wanted = format!(
                    "error[RF0108]: `/proc/self/fd/{number}` is in /proc, whose links lead to other places\n"
                );
                assert!(ran.stderr.starts_with(&wanted), "{}", ran.stderr);
            });
    }
}

/// A key of the caller's session keyring, as kernels hand it to children that do not leave the session.
#[test]
fn the_callers_session_keyring_stays_outside() {
    const KEYCTL: i64 = nix::libc::SYS_keyctl;
    const ADD_KEY: i64 = nix::libc::SYS_add_key;
    // KEYCTL_JOIN_SESSION_KEYRING 1, KEYCTL_SEARCH 10, KEY_SPEC_SESSION_KEYRING -3 (<linux/keyctl.h>)
    let find = format!(
        "perl -e '($type, $name) = (\"user\", \"ringfence-canary\");
        print syscall({KEYCTL}, 10, -3, $type, $name, 0) > 0 ? \"found\\n\" : \"$!\\n\"'"
    );
    let add = format!(
        "perl -e '($type, $name, $secret) = (\"user\", \"ringfence-canary\", \"secret\");
        syscall({KEYCTL}, 1, 0) > 0 or die \"join: $!\";
        syscall({ADD_KEY}, $type, $name, $secret, 6, -3) > 0 or die \"add: $!\";
        exec @ARGV' -- "
    );
    // The same look from outside: the test would not see a key that nobody can find.
    let outside = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("{add} /bin/sh -c \"$1\""), "sh", &find])
        .output();
    assert_eq!(String::from_utf8_lossy(&outside.unwrap().stdout), "found\n");
    Test::sh(&find)
        .with("security.seccomp.allow = [\"keyctl\"]")
        .wrapped(&["/bin/sh", "-c", &format!("{add} \"$@\""), "sh"])
        .stdout("Required key not available\n")
        .run();
    Test::sh(&find).stdout("Operation not permitted\n").run();
}

#[test]
fn pid_1_shows_nothing_to_the_jobs_root() {
    let script = "for f in exe fd environ mem maps root cwd; do cat /proc/1/$f > /dev/null && echo $f can be read; done; \
        ls /proc/1/fd; readlink /proc/1/exe; kill -9 1; kill -STOP 1; cat /proc/1/comm";
    Test::sh(script)
        .with("user = \"root\"")
        .with("security.capabilities = [\"DAC_OVERRIDE\", \"SETUID\", \"CHOWN\", \"FOWNER\", \"KILL\", \"SYS_CHROOT\"]")
        .stdout("ringfence\n")
        .any_stderr()
        .each(|ran| {
            for name in ["exe", "environ", "mem", "maps"] {
                let line = format!("cat: /proc/1/{name}: Permission denied\n");
                assert!(ran.stderr.contains(&line), "{}", ran.stderr);
            }
            let line = "ls: cannot open directory '/proc/1/fd': Permission denied\n";
            assert!(ran.stderr.contains(line), "{}", ran.stderr);
        });
}

/// `#!/proc/self/exe` and the like (CVE-2019-5736): the launcher's file is not in the sandbox.
#[test]
fn the_launchers_own_file_cannot_be_reached() {
    let script =
        "printf '#!/proc/1/exe\\n' > /tmp/x; chmod +x /tmp/x; /tmp/x; echo $?; readlink /proc/self/exe";
    Test::sh(script)
        .with("user = \"root\"")
        .stdout("126\n/usr/bin/readlink\n")
        .any_stderr()
        .run();
}

#[test]
fn the_user_inside_is_what_the_manifest_says() {
    Test::sh("id")
        .stdout("uid=65532(job) gid=65532(job) groups=65532(job)\n")
        .run();
    Test::sh("id")
        .with("user = \"root\"")
        .stdout("uid=0(root) gid=0(root) groups=0(root)\n")
        .run();
    Test::sh("id -u; id -g")
        .with("user = \"1234:567\"")
        .stdout("1234\n567\n")
        .run();
}

#[test]
fn outside_the_job_is_never_root() {
    // A file that it makes shows whose it is outside.
    let test = Test::sh("touch /out/file; stat -c %u /out/file")
        .with("user = \"root\"\nmounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap())
        .stdout("0\n");
    for caller in crate::support::callers(None) {
        let live = test.start(caller).unwrap();
        let map = Map::of(&live);
        let ran = live.finish();
        assert_eq!((ran.status, ran.stdout.as_str()), (0, "0\n"), "{caller:?}");
        assert!(!map.holds_root(), "{caller:?}: {map:?}");
    }
}

/// The user ids of the machine that a job's namespace has.
#[derive(Debug)]
struct Map(String);

impl Map {
    fn of(live: &crate::support::Live) -> Map {
        // Of whichever process of the run is found first in another user namespace.
        for _ in 0..10_000 {
            for process in live.groups().processes() {
                let text = fs::read_to_string(format!("/proc/{process}/uid_map")).unwrap_or_default();
                if !text.trim().is_empty() && !text.contains("4294967295") {
                    return Map(text);
                }
            }
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        Map(String::new())
    }

    fn holds_root(&self) -> bool {
        assert!(!self.0.is_empty(), "the run was over too soon");
        self.0
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some("0"))
    }
}

#[test]
fn ids_are_the_ones_that_the_caller_may_give() {
    let test = Test::sh("cat /proc/self/uid_map; cat /proc/self/setgroups");
    test.any_stdout().each(|ran| {
        let words: Vec<Vec<&str>> = ran
            .stdout
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let uid = ran.caller.uid().to_string();
        match ran.caller {
            Caller::Root => {
                let first: u32 = words[0][1].parse().unwrap();
                assert!(
                    first >= 2_000_000_000 && (first - 2_000_000_000).is_multiple_of(65536),
                    "{words:?}"
                );
                assert_eq!((words[0][0], words[0][2], words[1][0]), ("0", "65536", "allow"));
            }
            Caller::User | Caller::UserWithoutGroups => {
                assert_eq!(words, [vec!["65532", &uid, "1"], vec!["deny"]])
            }
            Caller::UserWithIds => assert_eq!(
                words,
                [
                    vec!["0", "1900000000", "65532"],
                    vec!["65532", &uid, "1"],
                    vec!["65533", "1900065533", "3"],
                    // The subordinate id whose place the caller has taken.
                    vec!["65536", "1900065532", "1"],
                    vec!["allow"]
                ]
            ),
            Caller::Tester => assert!(
                words.iter().any(|line| line[..2] == ["65532", uid.as_str()]),
                "{words:?}"
            ),
        }
    });
}

/// A variable's value is looked at when the plan is carried out, and said nowhere.
#[test]
fn a_variable_that_leads_astray_is_refused_unsaid() {
    for (line, said) in [
        (
            "workdir = \"/${AWAY}\"",
            "workdir /${AWAY}: leads into /proc or /dev",
        ),
        (
            "command = [\"/${AWAY}/no\"]",
            "/${AWAY}/no: not found in the image; the command or the interpreter that its first line names",
        ),
    ] {
        let command = if line.starts_with("command") {
            ""
        } else {
            "command = [\"pwd\"]"
        };
        let manifest = format!(
            "schema = 1\n[variables]\nAWAY = {{ env = \"CI_AWAY\", secret = true }}\n\
             [job.test]\nimage = \"host\"\n{line}\n{command}\n"
        );
        Test::command(&[])
            .manifest(&manifest)
            .env("CI_AWAY", "proc/self/cwd")
            .status(if command.is_empty() { 127 } else { 125 })
            .stderr(&format!("ringfence: {said}\n"))
            .report()
            .each(|ran| {
                let report = ran.report.as_ref().expect("written").to_string();
                assert!(!report.contains("self/cwd"), "{report}");
            });
    }
}

//! Attacks from inside a job, and by what a job is given; each is one that worked somewhere.
//!
//! As `tests/launch`: through the binary, as root and as ordinary users, whoever can be had.

#[path = "support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests/launch uses the rest")]
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Caller, Test, callers, skip};

/// Every capability that a manifest can give.
const ALL_CAPABILITIES: &str = "user = \"root\"\nsecurity.capabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"FOWNER\", \
    \"FSETID\", \"KILL\", \"SETGID\", \"SETUID\", \"SETPCAP\", \"LINUX_IMMUTABLE\", \"NET_BIND_SERVICE\", \
    \"NET_BROADCAST\", \"NET_RAW\", \"IPC_LOCK\", \"IPC_OWNER\", \"SYS_CHROOT\", \"SYS_PACCT\", \"SYS_BOOT\", \
    \"SYS_NICE\", \"SYS_RESOURCE\", \"SYS_TTY_CONFIG\", \"MKNOD\", \"LEASE\", \"AUDIT_WRITE\", \"AUDIT_CONTROL\", \
    \"SETFCAP\", \"WAKE_ALARM\", \"BLOCK_SUSPEND\", \"AUDIT_READ\"]";

const CANARY: &str = "canary-5f1e0c";

/// What is around the launcher: its environment, its home, its descriptors, sockets of the machine.
#[test]
fn nothing_of_the_callers_reaches_the_job() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let name = format!("{CANARY}-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address.unwrap()).unwrap();
    let script = format!(
        "env; cat /proc/*/environ /proc/net/unix /proc/keys 2>/dev/null | tr '\\0' '\\n'; \
        find / -path /usr -prune -o -name home-canary -print 2>/dev/null | xargs -r cat; \
        ls -a / /tmp /proc/self/fd /proc/1/fd /proc/1/root /proc/1/cwd 2>/dev/null | sort -u | tr '\\n' ' '; \
        exec perl -MSocket -e 'for ([AF_INET, pack_sockaddr_in({port}, inet_aton(\"127.0.0.1\"))], \
            [AF_UNIX, pack(\"S a*\", AF_UNIX, \"\\0{name}\")]) {{ \
            socket(my $s, $_->[0], SOCK_STREAM, 0) or die; print connect($s, $_->[1]) ? \"{CANARY}\\n\" : \"refused\\n\" }}'"
    );
    let leak = "i=10; while [ $i -lt 30 ]; do eval \"exec $i</\"; i=$((i+1)); done; exec \"$@\"";
    Test::sh(&script)
        .env("SECRET", CANARY)
        .setup(|folder| fs::write(folder.join("home-canary"), CANARY).unwrap())
        .wrapped(&["/bin/bash", "-c", leak, "bash"])
        .any_stdout()
        .any_stderr()
        .each(|ran| {
            assert!(!ran.stdout.contains(CANARY), "{}", ran.stdout);
            assert!(ran.stdout.ends_with("refused\nrefused\n"), "{}", ran.stdout);
        });
}

/// CVE-2019-5736: without Landlock a job of an ordinary user may open its own /proc/self/exe before it executes.
#[test]
fn the_launchers_own_file_is_not_the_jobs() {
    // A copy of the caller's own, as under ~/.cargo/bin.
    let own = "cp \"$1\" own && chmod 755 own && shift && exec ./own \"$@\"";
    let change = "open(my $f, \"<\", \"/proc/\" . getppid() . \"/exe\") or die $!; my $n = fileno $f; \
        chmod(0777, $f); open(my $w, \">>\", \"/proc/self/fd/$n\") and print $w \"x\"; print \"tried\\n\"";
    // The script's name becomes the launcher's first argument, which is no command of it.
    for (command, status) in [("/proc/self/exe", 0), ("/src/script", 125)] {
        Test::command(&[command, "init", "-s", "--", "/usr/bin/perl", "-e", change])
            .with("security.landlock = false\nmounts.\"/src\" = { bind = \"src\", access = \"ro\" }")
            .setup(|folder| {
                fs::create_dir(folder.join("src")).unwrap();
                fs::write(folder.join("src/script"), "#!/proc/self/exe\n").unwrap();
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(folder.join("src/script"), mode).unwrap();
            })
            .wrapped(&["/bin/sh", "-c", own, "sh"])
            .status(status)
            .any_stdout()
            .any_stderr()
            .each(|ran| {
                let own = fs::metadata(ran.folder.join("own")).unwrap();
                assert_eq!(own.mode() & 0o7777, 0o755, "{:?}: {}", ran.caller, ran.stdout);
                if command == "/proc/self/exe" {
                    assert_eq!(ran.stdout, "tried\n", "else this tests nothing: {}", ran.stderr);
                }
            });
    }
    Test::command(&["/proc/self/exe", "--version"])
        .status(126)
        .stderr("ringfence: /proc/self/exe: permission denied\n")
        .run();
}

/// CVE-2024-42472: a job replaces what a later run binds by a link to elsewhere.
#[test]
fn a_later_run_does_not_follow_the_links_of_an_earlier_job() {
    let plant = Test::sh("rm -r /work/cache && ln -s ../private /work/cache")
        .with("mounts.\"/work\" = { bind = \"work\", access = \"rw\" }")
        .setup(|folder| {
            fs::create_dir_all(folder.join("work/cache")).unwrap();
            fs::create_dir(folder.join("private")).unwrap();
            fs::write(folder.join("private/file"), CANARY).unwrap();
        });
    for access in ["ro", "rw", "copy"] {
        let follow = Test::sh("cat /cache/file; echo x > /cache/file").with(&format!(
            "mounts.\"/cache\" = {{ bind = \"work/cache\", access = \"{access}\" }}"
        ));
        for caller in callers(None) {
            let mut first = match plant.start(caller) {
                Ok(live) => live.finish(),
                Err(reason) => skip!("{caller:?}: {reason}"),
            };
            assert_eq!(first.status, 0, "{}", first.stderr);
            let room = first.room.take().unwrap();
            let streams = [Stdio::null(), Stdio::piped(), Stdio::piped()];
            let ran = follow.start_in(room, caller, streams).unwrap().finish();
            assert_eq!(
                (ran.status, ran.stdout.as_str()),
                (125, ""),
                "{caller:?}: {}",
                ran.stderr
            );
            assert!(ran.stderr.contains("a link is on the way"), "{}", ran.stderr);
            assert_eq!(
                fs::read_to_string(ran.folder.join("private/file")).unwrap(),
                CANARY
            );
        }
    }
}

/// CVE-2024-21626 by the caller's own hand.
#[test]
fn a_directory_is_no_stream() {
    Test::sh("ls /proc/self/fd/0/")
        .wrapped(&["/bin/sh", "-c", "exec \"$@\" < /", "sh"])
        .status(125)
        .stderr("ringfence: standard input: a directory, which would lead the job out of its root\n")
        .run();
}

/// What an image has where mounts go: `{out}` is a folder of the machine's, by its whole path.
const STRANGE: [(&str, &str); 18] = [
    ("dev", "link {out}"),
    ("dev", "link /proc/self/fd"),
    ("dev", "file"),
    ("proc", "link ../../../../../../..{out}"),
    ("proc", "fifo"),
    ("sys", "link {out}"),
    ("etc", "link {out}"),
    ("etc", "link /proc/self/root{out}"),
    ("tmp", "link ../../../../../../..{out}"),
    ("tmp", "link /proc/sys"),
    ("tmp", "device"),
    ("dev/null", "link /proc/sys/kernel/core_pattern"),
    ("dev/pts", "link {out}"),
    ("etc/resolv.conf", "link {out}/new"),
    ("etc/resolv.conf", "link /proc/sysrq-trigger"),
    ("etc/hosts", "link ../../../../../../..{out}/file"),
    ("etc/hosts", "fifo"),
    ("w", "link {out}/new/deep"),
];

/// CVE-2023-27561, CVE-2025-31133, CVE-2026-41579 and their like.
#[test]
fn no_image_leads_a_mount_out_of_its_root() {
    if !Path::new("/bin/busybox").exists() {
        skip!("no busybox");
    }
    let script = "echo x > /etc/hosts; echo x > /etc/resolv.conf; echo x > /tmp/new; echo x > /dev/null; echo x > new; \
        echo x > /proc/sys/kernel/core_pattern; stat -f -c %t /proc; stat -c %t:%T /dev/null";
    let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = pattern();
    let one = |name: &str, what: &str, caller: Caller| {
        let test = Test::command(&["/bin/busybox", "sh", "-c", script])
            .image("dir:image")
            .with(if name == "w" { "workdir = \"/w\"" } else { "" })
            .setup(|folder| {
                for path in [
                    "image/bin",
                    "image/etc",
                    "image/dev",
                    "image/tmp",
                    "image/proc",
                    "out",
                ] {
                    fs::create_dir_all(folder.join(path)).unwrap();
                }
                fs::write(folder.join("out/file"), CANARY).unwrap();
                fs::copy("/bin/busybox", folder.join("image/bin/busybox")).unwrap();
                for tool in ["sh", "stat"] {
                    symlink("busybox", folder.join("image/bin").join(tool)).unwrap();
                }
                fs::set_permissions(folder.join("out"), fs::Permissions::from_mode(0o777)).unwrap();
            });
        // The image's place is made after the folder is known.
        let shell = format!(
            "cd image && rm -rf {name} && out=$(realpath ../out) && case '{what}' in \
            link*) ln -s \"{}\" {name};; file) echo > {name};; fifo) mkfifo {name};; device) mknod {name} c 1 5 2>/dev/null || mkfifo {name};; esac \
            && cd .. && exec \"$@\"",
            what.trim_start_matches("link ").replace("{out}", "$out")
        );
        let ran = match test.wrapped(&["/bin/sh", "-c", &shell, "sh"]).start(caller) {
            Ok(live) => live.finish(),
            Err(reason) => return Some(reason),
        };
        let said = format!(
            "{caller:?} {name} {what}: {} {} {}",
            ran.status, ran.stdout, ran.stderr
        );
        match ran.status {
            125 => assert!(
                ran.stderr.contains("ringfence: ") && ran.stdout.is_empty(),
                "{said}"
            ),
            0 => assert_eq!(ran.stdout, "9fa0\n1:3\n", "{said}"),
            _ => panic!("{said}"),
        }
        let out: Vec<_> = fs::read_dir(ran.folder.join("out")).unwrap().collect();
        assert_eq!(out.len(), 1, "{said}: {out:?}");
        assert_eq!(
            fs::read_to_string(ran.folder.join("out/file")).unwrap(),
            CANARY,
            "{said}"
        );
        None
    };
    for caller in callers(None) {
        for (name, what) in STRANGE {
            if let Some(reason) = one(name, what, caller) {
                skip!("{caller:?}: {reason}");
            }
        }
    }
    assert_eq!(pattern(), before);
}

/// All system calls of the table and beyond it, with the arguments of nothing: none is answered but by the policy.
#[test]
fn what_no_list_names_does_not_exist() {
    // 468 is the first number that no kernel has today; 0x40000000 is x32's; 310 and on are old ones without a name.
    let sweep = "for my $n (425, 426, 427, 428..432, 435, 442, 468..1023, map { 0x40000000 + $_ } 0..547) { \
        my $r = syscall($n, -1, -1, -1); my $e = $! + 0; print \"$n $r $e\\n\" if $r != -1 || ($e != 38 && $e != 1) }";
    Test::command(&["/usr/bin/perl", "-e", sweep])
        .with(ALL_CAPABILITIES)
        .run();
}

/// A 64-bit program whose first act is a 32-bit call: `getpid` by `int 0x80`.
#[test]
fn the_32_bit_gate_kills() {
    if std::env::consts::ARCH != "x86_64" {
        skip!("no 32-bit gate");
    }
    let program = |folder: &Path| {
        // mov eax, 20; int 0x80; mov edi, 0; mov eax, 231; syscall
        let code = [
            0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xbf, 0, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05,
        ];
        let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0x40_0078_u64, 64, 0] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
        let size = 120 + code.len() as u64;
        for word in [0, 0x40_0000, 0x40_0000, size, size, 0x1000] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(code);
        fs::create_dir(folder.join("src")).unwrap();
        let mut file = fs::File::create(folder.join("src/gate")).unwrap();
        file.write_all(&elf).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
    };
    let gate = Test::command(&["/src/gate"]).with("mounts.\"/src\" = { bind = \"src\", access = \"ro\" }");
    // SIGSYS
    gate.setup(program).status(159).any_stderr().run();
}

#[test]
fn no_capability_opens_a_device_or_the_root() {
    let script = "cd /tmp; for d in 'c 1 1' 'b 7 0' 'c 1 11' 'c 10 237'; do mknod x $d 2>/dev/null && echo made $d; done; \
        mkdir c; perl -e 'chroot(\"c\") or die; chdir(\"..\") for 1..40; chroot(\".\"); print join(\" \", sort glob(\"/*\")), \"\\n\"'; \
        chown 1:1 /usr/bin/id 2>/dev/null && echo owned; for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches \
        /proc/sys/user/max_user_namespaces; do (echo 1 > $f) 2>/dev/null && echo $f; done; \
        setpriv --reuid=7 true && echo changed";
    Test::sh(script)
        .with(ALL_CAPABILITIES)
        .only(&[Caller::Root])
        .stdout("/bin /dev /etc /lib /lib64 /proc /sbin /tmp /usr\nchanged\n")
        .any_stderr()
        .run();
}

/// Inotify's bounds count for the launcher's user outside as well.
#[test]
fn one_job_does_not_take_every_inotify_instance() {
    // inotify_init is 253 on x86_64; elsewhere there is only inotify_init1, 26.
    let init = match std::env::consts::ARCH {
        "x86_64" => "syscall(253)",
        _ => "syscall(26, 0)",
    };
    let fill = format!("my $n = 0; $n++ while $n < 1000 && {init} >= 0; print \"$n $!\\n\"");
    Test::command(&["/usr/bin/perl", "-e", &fill])
        .any_stdout()
        .each(|ran| {
            let (count, why) = ran.stdout.trim().split_once(' ').unwrap();
            assert!(count.parse::<u32>().unwrap() <= 64, "{}", ran.stdout);
            assert_eq!(why, "Too many open files");
        });
}

/// With a limit of 0 a core pattern that is a pipe still starts its program; with 1 it does not (fs/coredump.c).
#[test]
fn no_core_is_handed_to_the_host() {
    Test::sh("grep '^Max core' /proc/self/limits | tr -s ' '")
        .stdout("Max core file size 1 1 bytes \n")
        .run();
}

/// The job writes from its first instruction, by every name that it has for the file.
#[test]
fn a_read_only_source_is_never_written() {
    let script = "for i in $(seq 20); do for f in /src/file /proc/self/root/src/file /proc/$$/cwd/file; do \
        (echo x >> $f) 2>/dev/null; chmod 777 $f 2>/dev/null; ln $f /src/other 2>/dev/null; done; done; cat file";
    Test::sh(script)
        .with("mounts.\"/src\" = { bind = \"src\", access = \"ro\" }\nworkdir = \"/src\"")
        .setup(|folder| {
            fs::create_dir(folder.join("src")).unwrap();
            fs::write(folder.join("src/file"), "as it was\n").unwrap();
        })
        .stdout("as it was\n")
        .each(|ran| {
            let file = fs::metadata(ran.folder.join("src/file")).unwrap();
            assert_eq!((file.mode() & 0o777, file.nlink(), file.len()), (0o644, 1, 10));
        });
}

/// CVE-2021-30465: while one job exchanges a directory and a link, runs mount below that place.
#[test]
fn an_exchanged_directory_leads_no_mount_out() {
    let test = Test::sh("cat /s/d/x/* 2>/dev/null; echo x > /s/d/x/new 2>/dev/null; true")
        .with("mounts.\"/s\" = { bind = \"s\", access = \"rw\" }\nmounts.\"/s/d/x\" = { tmpfs = \"1MiB\" }")
        .setup(|folder| {
            fs::create_dir_all(folder.join("s/d/x")).unwrap();
            fs::create_dir_all(folder.join("out/x")).unwrap();
            fs::write(folder.join("out/x/file"), CANARY).unwrap();
        });
    for caller in callers(None) {
        let mut room = None;
        for _ in 0..8 {
            let started = match room.take() {
                Some(room) => test.start_in(room, caller, [Stdio::null(), Stdio::piped(), Stdio::piped()]),
                None => test.start(caller),
            };
            let live = match started {
                Ok(live) => live,
                Err(reason) => skip!("{caller:?}: {reason}"),
            };
            let folder = live.folder().to_owned();
            let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let racer = {
                let (folder, stop) = (folder.clone(), stop.clone());
                std::thread::spawn(move || {
                    let (place, link) = (folder.join("s/d"), folder.join("s/e"));
                    symlink(folder.join("out"), &link).ok();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        nix::fcntl::renameat2(
                            nix::fcntl::AT_FDCWD,
                            &place,
                            nix::fcntl::AT_FDCWD,
                            &link,
                            nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                        )
                        .ok();
                    }
                })
            };
            let mut ran = live.finish();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            racer.join().unwrap();
            assert!(matches!(ran.status, 0 | 125), "{} {}", ran.status, ran.stderr);
            assert!(!ran.stdout.contains(CANARY), "{}", ran.stdout);
            let out: Vec<_> = fs::read_dir(folder.join("out/x")).unwrap().collect();
            assert_eq!(out.len(), 1, "{out:?}");
            room = ran.room.take();
        }
    }
}

#[test]
fn memory_without_a_file_counts() {
    let number = if std::env::consts::ARCH == "x86_64" {
        319
    } else {
        279
    };
    let memfd = format!(
        "my $n = \"x\\0\"; my $fd = syscall({number}, $n, 0); open(F, \">&=\", $fd) or die; \
        for (1..256) {{ syswrite(F, \"x\" x 1048576) or die \"$!\" }} print \"all\\n\""
    );
    let pipes = "for (1..400) { pipe(my $r, my $w) or die; push @k, $r, $w; fcntl($w, 1031, 1048576); \
        fcntl($w, 4, 2048); 1 while syswrite($w, \"x\" x 65536); } print \"all\\n\"";
    for bomb in [&memfd, pipes] {
        Test::command(&["/usr/bin/perl", "-e", bomb])
            .with("limits.memory = \"24MiB\"\nmounts.\"/tmp\" = { tmpfs = \"4MiB\" }\nmounts.\"/dev/shm\" = { tmpfs = \"4MiB\" }")
            .report()
            .status(137)
            .any_stderr()
            .each(|ran| assert_eq!(ran.value("/verdict"), "oom", "{}", ran.stderr));
    }
}

/// A layer of an ordinary user's is removed by its launcher, however deep it is.
#[test]
fn a_deep_tree_does_not_outlive_its_run() {
    if !Path::new("/bin/busybox").exists() {
        skip!("no busybox");
    }
    // Deeper than the number of descriptors that the launcher may open.
    let script =
        "i=0; while [ $i -lt 500 ]; do busybox mkdir d && cd d && i=$((i+1)) || exit 1; done; echo done";
    Test::command(&["/bin/busybox", "sh", "-c", script])
        .image("dir:image")
        .with("root = \"disk\"\nlimits.disk = \"32MiB\"\nlimits.enforce = \"optional\"\nworkdir = \"/w\"")
        .setup(|folder| {
            for path in ["image/bin", "image/etc", "image/w"] {
                fs::create_dir_all(folder.join(path)).unwrap();
            }
            fs::copy("/bin/busybox", folder.join("image/bin/busybox")).unwrap();
        })
        .wrapped(&["/bin/sh", "-c", "ulimit -n 200; exec \"$@\"", "sh"])
        .only(&[Caller::User, Caller::Tester])
        .stdout("done\n")
        .any_stderr()
        .run();
}

/// A thousand orphans that nobody waits for, then an exit code of the job's own.
#[test]
fn orphans_are_reaped_while_the_job_runs() {
    let script = "for (1..1000) { my $p = fork(); next if !defined $p; if (!$p) { fork(); exit 0 } waitpid($p, 0) } exit 7";
    Test::command(&["/usr/bin/perl", "-e", script])
        .status(7)
        .any_stderr()
        .run();
}

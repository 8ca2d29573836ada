//! What a job may not do, as the kernel answers it.

use std::os::unix::fs::PermissionsExt;

use nix::libc;

use crate::support::Test;

/// A script in perl, which has a word for every system call.
fn perl(script: &str) -> Test {
    Test::command(&["/usr/bin/perl", "-e", script])
}

/// Makes calls and prints the name of each with the kernel's answer.
fn calls(calls: &[(&str, i64, &str)]) -> Test {
    let lines = calls.iter().map(|(name, number, args)| {
        let comma = if args.is_empty() { "" } else { ", " };
        format!(
            "$r = syscall({number}{comma}{args}); print \"{name}: \", $r < 0 ? $! : \"allowed\", \"\\n\";\n"
        )
    });
    perl(&lines.collect::<String>())
}

const STATUS: &str =
    "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status";

#[test]
fn strict_leaves_no_capability() {
    let seen = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
    Test::sh(STATUS).stdout(seen).report().each(|ran| {
        assert_eq!(ran.protection("capabilities"), ("none".into(), "none".into()));
        assert_eq!(ran.protection("no-new-privileges").1, "on");
    });
    // Neither is user 0 any different.
    Test::sh(STATUS).with("user = \"root\"").stdout(seen).run();
}

#[test]
fn capabilities_are_those_of_the_manifest() {
    // CAP_CHOWN is 0, CAP_NET_BIND_SERVICE is 10.
    let lines = "security.capabilities = [\"CHOWN\", \"NET_BIND_SERVICE\"]";
    let script = "grep -E '^Cap' /proc/self/status";
    let all = "CapInh:\t0000000000000401\nCapPrm:\t0000000000000401\nCapEff:\t0000000000000401\n\
        CapBnd:\t0000000000000401\nCapAmb:\t0000000000000401\n";
    let root = all
        .replace("CapInh:\t0000000000000401", "CapInh:\t0000000000000000")
        .replace("CapAmb:\t0000000000000401", "CapAmb:\t0000000000000000");
    Test::sh(script)
        .with(lines)
        .with("user = \"root\"")
        .stdout(&root)
        .run();
    Test::sh(script)
        .with(lines)
        .stdout(all)
        .stderr("ringfence: security.capabilities: a user that is not root keeps CHOWN NET_BIND_SERVICE, inside its user namespace\n")
        .run();
}

#[test]
fn no_privilege_is_gained_by_a_program() {
    Test::sh("/src/id -u; grep CapEff /proc/self/status")
        .with("mounts.\"/src\" = { bind = \"src\", access = \"ro\" }")
        .setup(|folder| {
            std::fs::create_dir(folder.join("src")).unwrap();
            std::fs::copy("/usr/bin/id", folder.join("src/id")).unwrap();
            std::fs::set_permissions(folder.join("src/id"), std::fs::Permissions::from_mode(0o6755)).unwrap();
        })
        .stdout("65532\nCapEff:\t0000000000000000\n")
        .run();
}

#[test]
fn namespaces_and_mounts_are_out_of_reach() {
    let all = [
        ("unshare user", libc::SYS_unshare, "0x10000000"),
        ("unshare mount", libc::SYS_unshare, "0x20000"),
        ("setns", libc::SYS_setns, "0, 0"),
        ("mount", libc::SYS_mount, "0, 0, 0, 0, 0"),
        ("umount2", libc::SYS_umount2, "0, 2"),
        ("pivot_root", libc::SYS_pivot_root, "0, 0"),
        ("open_tree", libc::SYS_open_tree, "-100, 0, 1"),
        ("move_mount", libc::SYS_move_mount, "-100, 0, -100, 0, 0"),
        ("fsopen", libc::SYS_fsopen, "0, 0"),
        ("mount_setattr", libc::SYS_mount_setattr, "-100, 0, 0, 0, 0"),
        ("bpf", libc::SYS_bpf, "0, 0, 0"),
        ("perf_event_open", libc::SYS_perf_event_open, "0, 0, 0, 0, 0"),
        ("userfaultfd", libc::SYS_userfaultfd, "0"),
        ("add_key", libc::SYS_add_key, "0, 0, 0, 0, 0"),
        ("keyctl", libc::SYS_keyctl, "0, 0"),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, "0, 0, 0"),
        ("kexec_load", libc::SYS_kexec_load, "0, 0, 0, 0"),
        ("init_module", libc::SYS_init_module, "0, 0, 0"),
        ("reboot", libc::SYS_reboot, "0, 0, 0"),
        ("swapon", libc::SYS_swapon, "0, 0"),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, "0, 0, 0"),
    ];
    let wanted: String = all
        .iter()
        .map(|(name, ..)| format!("{name}: Operation not permitted\n"))
        .collect();
    let root = "user = \"root\"\nsecurity.capabilities = [\"CHOWN\", \"SETUID\", \"DAC_OVERRIDE\"]";
    calls(&all).stdout(&wanted).run();
    calls(&all).with(root).stdout(&wanted).run();
    // Unknown to the table, or better not known at all: programs have another way.
    let absent = [
        ("clone3", libc::SYS_clone3, "0, 0"),
        ("io_uring_setup", libc::SYS_io_uring_setup, "0, 0"),
        ("io_uring_enter", libc::SYS_io_uring_enter, "0, 0, 0, 0, 0, 0"),
        ("9999", 9999, ""),
    ];
    let wanted: String = absent
        .iter()
        .map(|(name, ..)| format!("{name}: Function not implemented\n"))
        .collect();
    calls(&absent).stdout(&wanted).run();
}

/// The kernel looks at the low 32 bits of an `int`; so must the filter (both halves were a hole elsewhere).
#[test]
fn address_families_are_a_short_list_whatever_the_high_bits() {
    let high = "(1 << 32) + ";
    let mut all = Vec::new();
    let mut wanted = String::new();
    for (name, family, allowed) in [
        ("unix", 1, true),
        ("inet", 2, true),
        ("ax25", 3, false),
        ("inet6", 10, true),
        ("key", 15, false),
        ("packet", 17, false),
        ("rds", 21, false),
        ("can", 29, false),
        ("tipc", 30, false),
        ("bluetooth", 31, false),
        ("alg", 38, false),
        ("vsock", 40, false),
        ("xdp", 44, false),
    ] {
        let answer = if allowed {
            "allowed"
        } else {
            "Address family not supported by protocol"
        };
        for high in ["", high] {
            all.push((name, libc::SYS_socket, format!("{high}{family}, 2, 0")));
            wanted += &format!("{name}: {answer}\n");
        }
        if !allowed {
            all.push((name, libc::SYS_socketpair, format!("{family}, 2, 0, 0")));
            wanted += &format!("{name}: {answer}\n");
        }
    }
    // NETLINK_ROUTE is 0, NETLINK_AUDIT 9, NETLINK_KOBJECT_UEVENT 15.
    for (kind, answer) in [
        (0, "allowed"),
        (9, "Address family not supported by protocol"),
        (15, "Address family not supported by protocol"),
    ] {
        all.push(("netlink", libc::SYS_socket, format!("16, 3, {kind}")));
        wanted += &format!("netlink: {answer}\n");
    }
    let all: Vec<_> = all
        .iter()
        .map(|(name, number, args)| (*name, *number, args.as_str()))
        .collect();
    calls(&all).stdout(&wanted).run();
}

#[test]
fn a_terminal_cannot_be_typed_into() {
    // TIOCSTI 0x5412, TIOCLINUX 0x541C (ioctl_tty(2)), also with high bits.
    let all = [
        ("TIOCSTI", libc::SYS_ioctl, "0, 0x5412, 0"),
        ("TIOCLINUX", libc::SYS_ioctl, "0, 0x541c, 0"),
        ("TIOCSTI", libc::SYS_ioctl, "0, (1 << 32) + 0x5412, 0"),
    ];
    calls(&all).any_stdout().each(|ran| {
        for line in ran.stdout.lines() {
            let (_, answer) = line.split_once(": ").unwrap();
            assert!(
                [
                    "Operation not permitted",
                    "Address family not supported by protocol"
                ]
                .contains(&answer),
                "{}",
                ran.stdout
            );
        }
    });
}

#[test]
fn a_denied_call_can_be_one_that_kills() {
    // 32-bit programs meet the architecture check of every filter (x86_64 alone has one here).
    if !cfg!(target_arch = "x86_64") {
        crate::support::skip!("int 0x80 is x86");
    }
    // getpid by `int 0x80`, as a program of 7 + 5 bytes: mov eax, 20; int 0x80; mov eax, 1; int 0x80.
    let program = "
        open $f, '>', '/tmp/p';
        $code = pack('H*', 'b814000000cd80b801000000bb00000000cd80');
        print $f pack('a4C5x7S2L', \"\\x7fELF\", 2, 1, 1, 0, 0, 2, 62, 1), pack('Q3LS6', 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0);
        print $f pack('L2Q6', 1, 5, 0, 0x400000, 0x400000, 0x78 + length $code, 0x78 + length $code, 0x1000), $code;
        close $f; chmod 0755, '/tmp/p'; exec '/tmp/p'";
    perl(program).status(128 + 31).report().each(|ran| {
        assert_eq!(ran.value("/verdict"), "seccomp");
        assert_eq!(ran.value("/signal"), 31);
    });
}

#[test]
fn landlock_holds_where_mounts_would_allow() {
    let lines = "security.landlock = { read = [\"/proc\", \"/etc\"], execute = [\"/usr\", \"/bin\", \"/lib\", \"/lib64\"], write = [\"/tmp/yes\", \"/dev\"] }";
    let script = "touch /tmp/no; touch /tmp/yes/file && echo written; cat /rw/file; cat /etc/hostname";
    Test::sh(script)
        .with(lines)
        .with("mounts.\"/rw\" = { bind = \"rw\", access = \"rw\" }")
        .with("mounts.\"/tmp/yes\" = { tmpfs = \"1MiB\" }")
        .setup(|folder| {
            std::fs::create_dir(folder.join("rw")).unwrap();
            std::fs::write(folder.join("rw/file"), "secret\n").unwrap();
        })
        .stdout("written\nringfence\n")
        .any_stderr()
        .report()
        .each(|ran| {
            let stderr = ran.caller.without_notice(&ran.stderr);
            assert!(
                stderr.starts_with("touch: cannot touch '/tmp/no': Permission denied\n"),
                "{stderr}"
            );
            assert!(stderr.contains("cat: /rw/file: Permission denied\n"), "{stderr}");
            let (wanted, got) = ran.protection("landlock");
            assert_eq!(wanted, got);
            assert!(wanted.starts_with("ABI "), "{wanted}");
        });
}

#[test]
fn other_processes_of_the_sandbox_cannot_be_taken_over() {
    // PTRACE_ATTACH 16, PTRACE_SEIZE 0x4206, of PID 1.
    let all = [
        ("attach", libc::SYS_ptrace, "16, 1, 0, 0"),
        ("seize", libc::SYS_ptrace, "0x4206, 1, 0, 0"),
        ("read", libc::SYS_process_vm_readv, "1, 0, 0, 0, 0, 0"),
    ];
    calls(&all[..2])
        .with("user = \"root\"")
        .stdout("attach: Operation not permitted\nseize: Operation not permitted\n")
        .run();
    calls(&all[2..]).with("user = \"root\"").any_stdout().each(|ran| {
        assert!(
            ran.stdout == "read: Operation not permitted\n" || ran.stdout == "read: allowed\n",
            "{}",
            ran.stdout
        );
    });
}

/// RLIMIT_CORE does not stop a core pattern that starts a program; without a core nothing runs at all.
#[test]
fn a_crash_leaves_no_core() {
    Test::sh("cd /tmp; kill -SEGV $$").status(128 + 11).run();
    Test::sh("cd /tmp; sh -c 'kill -SEGV $$'; ls -A /tmp")
        .any_stderr()
        .run();
    Test::sh("echo '|/tmp/x' > /proc/sys/kernel/core_pattern")
        .with("user = \"root\"")
        .status(2)
        .any_stderr()
        .run();
}

#[test]
fn priorities_and_schedulers_stay() {
    let all = [
        // SCHED_FIFO 1 and a parameter that the kernel would read.
        ("setpriority", libc::SYS_setpriority, "0, 0, -20"),
    ];
    calls(&all).stdout("setpriority: Permission denied\n").run();
    perl(&format!(
        "$p = pack('i', 10); print syscall({}, 0, 1, $p) < 0 ? \"$!\\n\" : \"allowed\\n\"",
        libc::SYS_sched_setscheduler
    ))
    .stdout("Operation not permitted\n")
    .run();
}

/// CVE-2022-0492: a v1 hierarchy's release agent is a program that the machine runs.
#[test]
fn control_groups_are_out_of_reach() {
    Test::sh("ls /sys/fs/cgroup; cat /proc/self/cgroup | grep -v ':/$'; mount -t cgroup -o memory none /tmp")
        .with("user = \"root\"\nsecurity.capabilities = [\"CHOWN\", \"DAC_OVERRIDE\"]")
        .any_stdout()
        .any_stderr()
        .status(32)
        .each(|ran| {
            let stderr = ran.caller.without_notice(&ran.stderr);
            assert!(
                stderr.contains("mount: /tmp: permission denied.") || stderr.contains("must be superuser"),
                "{stderr}"
            );
        });
}

//! The root file system, mounts, masks, devices.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::support::{Caller, Test, callers};

#[test]
fn the_root_of_strict_cannot_be_written() {
    let refused = "touch: cannot touch '/x': Read-only file system\n\
                   touch: cannot touch '/etc/x': Read-only file system\n\
                   touch: cannot touch '/usr/x': Read-only file system\n";
    // Landlock says no before the mount does, unless it is off.
    let script = "for d in '' /etc /usr; do touch $d/x; done; touch /tmp/x && echo tmp";
    let without = "user = \"root\"\nsecurity.landlock.enforce = \"optional\"";
    let denied = refused.replace("Read-only file system", "Permission denied");
    Test::sh(script)
        .with(without)
        .stdout("tmp\n")
        .any_stderr()
        .each(|ran| {
            let stderr = ran.caller.without_notice(&ran.stderr);
            for (line, other) in stderr.lines().zip(refused.lines().zip(denied.lines())) {
                assert!(line == other.0 || line == other.1, "{stderr}");
            }
            assert_eq!(stderr.lines().count(), 3, "{stderr}");
        });
}

#[test]
fn a_root_in_memory_takes_writes_up_to_its_bound() {
    Test::sh("mkdir -p /var/x && echo kept > /var/x/y && cat /var/x/y")
        .with("root = \"tmpfs\"\nuser = \"root\"\nlimits.disk = \"1MiB\"")
        .stdout("kept\n")
        .run();
    Test::sh("head -c 2M /dev/zero > /full")
        .with("root = \"tmpfs\"\nuser = \"root\"\nlimits.disk = \"1MiB\"")
        .status(1)
        .stderr(
            "head: error writing 'standard output': No space left on device\n\
             ringfence: disk: limits.disk = 1MiB (no space left in a writable layer), ringfence.toml:6:15\n",
        )
        .report()
        .each(|ran| {
            assert_eq!(ran.value("/verdict"), "disk");
            assert_eq!(ran.value("/limit/key"), "limits.disk");
            assert_eq!(ran.value("/limit/at"), "ringfence.toml:6:15");
        });
    // Empty files count as well: they take kernel memory.
    Test::sh("i=0; while : > /f$i; do i=$((i+1)); done; exit 1")
        .with("root = \"tmpfs\"\nuser = \"root\"\nlimits.disk = \"1MiB\"")
        .status(2)
        .any_stderr()
        .report()
        .each(|ran| assert_eq!(ran.value("/verdict"), "disk"));
}

#[test]
fn file_systems_in_memory_are_sized() {
    let script = "df -k --output=size /tmp /dev/shm | tail -n +2 | tr -d ' '; stat -c '%a' /tmp /dev/shm; \
        echo '#!/bin/sh' > /dev/shm/x; chmod +x /dev/shm/x; /dev/shm/x; \
        echo 'echo ran' > /tmp/x; chmod +x /tmp/x; /tmp/x";
    Test::sh(script)
        .with("mounts.\"/tmp\" = { tmpfs = \"8MiB\" }")
        .stdout("8192\n16384\n1777\n1777\nran\n")
        .stderr("/bin/sh: 1: /dev/shm/x: Permission denied\n")
        .run();
    Test::sh("head -c 9M /dev/zero > /tmp/x")
        .with("mounts.\"/tmp\" = { tmpfs = \"8MiB\" }")
        .status(1)
        .stderr("head: error writing 'standard output': No space left on device\n")
        .run();
}

/// A small root file system of a `dir:` image: a shell that needs no other file.
fn image(folder: &Path) {
    let root = folder.join("image");
    for name in ["bin", "etc", "lower/inner", "usr", "home"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "ls", "cat", "rm", "mkdir", "rmdir", "mv", "stat", "id", "touch", "echo", "head", "chown",
        "mount", "umount",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("lower/inner/file"), "of the image\n").unwrap();
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nworker:x:77:88::/home:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nworkers:x:88:\n").unwrap();
}

/// Whether such an image can be made: a busybox that asks for no dynamic linker (PT_INTERP, see elf(5)).
fn has_busybox() -> bool {
    let bytes = fs::read("/usr/bin/busybox").unwrap_or_default();
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at + length).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    count > 0 && (0..count).all(|index| number(table + index * size, 4) != 3)
}

fn on_image(script: &str) -> Test {
    Test::sh(script).image("dir:image").setup(image)
}

#[test]
fn a_folder_is_an_image() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    on_image("cat /lower/inner/file; touch /x; ls /")
        .any_stderr()
        .stdout("of the image\nbin\ndev\netc\nhome\nlower\nproc\ntmp\nusr\n")
        .each(|ran| assert!(!ran.folder.join("image/x").exists() && !ran.folder.join("image/dev").exists()));
    // Groups that the caller has beyond its own, and cannot put down, would stand behind.
    on_image("set -- $(id); echo $1 $2")
        .with("user = \"worker\"")
        .any_stderr()
        .stdout("uid=77(worker) gid=88(workers)\n")
        .run();
}

/// On a kernel without `user.*` attributes on tmpfs the second step fails in an overlay of a user namespace (EIO).
#[test]
fn a_directory_of_a_lower_layer_is_removed_and_made_again() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    let script = "rm -r /lower && mkdir /lower && ls /lower && echo new > /lower/file && cat /lower/file && \
        rm -r /lower/file && rmdir /lower && ls /";
    on_image(script)
        .with("root = \"tmpfs\"\nuser = \"root\"\nlimits.disk = { max = \"8MiB\", enforce = \"optional\" }")
        .any_stderr()
        .stdout("new\nbin\ndev\netc\nhome\nproc\ntmp\nusr\n")
        .each(|ran| {
            let kept = fs::read_to_string(ran.folder.join("image/lower/inner/file")).unwrap();
            assert_eq!(kept, "of the image\n");
        });
}

#[test]
fn a_root_on_disk_is_a_sized_file() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    let script = "rm -r /lower && mkdir /lower && echo new > /lower/file && cat /lower/file; head -c 67108864 /dev/zero > /full";
    on_image(script)
        .with("root = \"disk\"\nuser = \"root\"\nlimits.disk = \"32MiB\"")
        .only(&[Caller::Root])
        .status(1)
        .any_stderr()
        .stdout("new\n")
        .report()
        .each(|ran| assert_eq!(ran.value("/verdict"), "disk", "{}", ran.stderr));
}

/// Without a bound, and so only where the manifest allows that: a folder of the store, of whoever the files are.
#[test]
fn an_ordinary_users_root_on_disk_goes_with_the_run() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    let script = "rm -r /lower && mkdir /lower && mkdir -m 700 /private && echo new > /private/file && cat /private/file; \
        chown -R 5:5 /private 2> /dev/null; true";
    on_image(script)
        .with("root = \"disk\"\nuser = \"root\"\nlimits.disk = \"8MiB\"\nlimits.enforce = \"optional\"")
        .with("security.capabilities = [\"CHOWN\", \"DAC_OVERRIDE\"]")
        .only(&[Caller::User, Caller::UserWithIds, Caller::Tester])
        .any_stderr()
        .stdout("new\n")
        .run();
}

#[test]
fn binds_show_the_source_as_it_is_or_as_a_copy() {
    let make = |folder: &Path| {
        for name in ["ro", "rw", "copy"] {
            fs::create_dir(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("file"), "old\n").unwrap();
        }
    };
    let script =
        "for d in ro rw copy; do echo $d $(stat -c %u /$d/file); echo new > /$d/file; cat /$d/file; done";
    let lines = "mounts.\"/ro\" = { bind = \"ro\", access = \"ro\" }\n\
                 mounts.\"/rw\" = { bind = \"rw\", access = \"rw\" }\n\
                 mounts.\"/copy\" = { bind = \"copy\", access = \"copy\" }\n\
                 limits.disk = { max = \"8MiB\", enforce = \"optional\" }";
    Test::sh(script)
        .with(lines)
        .setup(make)
        .stdout("ro 65532\nold\nrw 65532\nnew\ncopy 65532\nnew\n")
        .any_stderr()
        .each(|ran| {
            let read = |name: &str| fs::read_to_string(ran.folder.join(name).join("file")).unwrap();
            assert_eq!(
                (read("ro"), read("rw"), read("copy")),
                ("old\n".into(), "new\n".into(), "old\n".into())
            );
            // Outside nothing belongs to an id of the job's own.
            let owner = fs::metadata(ran.folder.join("rw/file")).unwrap().uid();
            assert_eq!(owner, ran.caller.uid());
            let stderr = ran.caller.without_notice(&ran.stderr);
            // Linux 6.1 says first what the copy cannot hold there.
            let mut said = stderr
                .lines()
                .filter(|line| !line.starts_with("ringfence: mounts."));
            let line = said.next().unwrap_or_default();
            assert!(
                line.starts_with("/bin/sh: 1: cannot create /ro/file: "),
                "{stderr}"
            );
        });
}

#[test]
fn what_a_job_writes_belongs_to_the_caller() {
    Test::sh("umask 022; echo x > /rw/made; mkdir /rw/folder; stat -c %u:%g /rw/made /rw/folder")
        .with("mounts.\"/rw\" = { bind = \"rw\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("rw")).unwrap())
        .stdout("65532:65532\n65532:65532\n")
        .each(|ran| {
            for name in ["rw/made", "rw/folder"] {
                let seen = fs::metadata(ran.folder.join(name)).unwrap();
                assert_eq!((seen.uid(), seen.gid()), (ran.caller.uid(), ran.caller.gid()));
            }
        });
}

#[test]
fn a_missing_source_is_an_error_and_is_not_made() {
    Test::sh("true")
        .with("mounts.\"/src\" = { bind = \"missing\", access = \"ro\" }")
        .status(125)
        .any_stderr()
        .report()
        .each(|ran| {
            assert!(!ran.folder.join("missing").exists());
            assert!(ran.stderr.contains("--> ringfence.toml:4:26"), "{}", ran.stderr);
            assert_eq!(ran.value("/verdict"), "refused");
        });
    Test::sh("ls / | grep -c src")
        .with("mounts.\"/src\" = { bind = \"missing\", access = \"ro\", optional = true }")
        .status(1)
        .stdout("0\n")
        .stderr("ringfence: mounts.\"/src\": left out: `missing` does not exist\n")
        .run();
}

#[test]
fn a_bound_file_and_a_folder_in_a_new_place() {
    Test::sh("cat /a/b/c/file; echo x >> /a/b/c/file; ls /d/e")
        .with("mounts.\"/a/b/c/file\" = { bind = \"file\", access = \"ro\" }")
        .with("mounts.\"/d/e\" = { bind = \"folder\", access = \"ro\" }")
        .setup(|folder| {
            fs::write(folder.join("file"), "content\n").unwrap();
            fs::create_dir(folder.join("folder")).unwrap();
            fs::write(folder.join("folder/inner"), "").unwrap();
        })
        .stdout("content\ninner\n")
        .any_stderr()
        .run();
}

/// The launcher refuses what it cannot give, a link in the source's last part included.
/// CVE-2024-42472: an earlier job may have put the link there.
#[test]
fn a_source_that_is_a_link_is_refused() {
    Test::sh("cat /src/file")
        .with("mounts.\"/src\" = { bind = \"link\", access = \"ro\" }")
        .setup(|folder| {
            fs::create_dir(folder.join("real")).unwrap();
            fs::write(folder.join("real/file"), "through\n").unwrap();
            symlink("real", folder.join("link")).unwrap();
        })
        .status(125)
        .any_stderr()
        .each(|ran| {
            let end = "a link is on the way, which a job may have put there; \
                if it is yours, write the place that it leads to (ringfence.toml:4:43)\n";
            assert!(ran.stderr.ends_with(end), "{}", ran.stderr);
        });
}

#[test]
fn setuid_files_of_a_source_are_plain_files() {
    Test::sh("/src/id -u; /usr/bin/su -c true; true")
        .with("mounts.\"/src\" = { bind = \"src\", access = \"ro\" }")
        .setup(|folder| {
            fs::create_dir(folder.join("src")).unwrap();
            fs::copy("/usr/bin/id", folder.join("src/id")).unwrap();
            fs::set_permissions(folder.join("src/id"), fs::Permissions::from_mode(0o4755)).unwrap();
        })
        .stdout("65532\n")
        .any_stderr()
        .run();
}

#[test]
fn masked_paths_are_empty() {
    let script = "for f in /proc/kcore /proc/keys /proc/kallsyms /proc/timer_list /proc/interrupts /proc/kmsg; do \
        [ ! -e $f ] || wc -c < $f; done | sort -u; ls /proc/acpi /proc/scsi 2> /dev/null | grep -v '^$' | grep -v :";
    Test::sh(script).stdout("0\n").status(1).run();
}

#[test]
fn read_only_paths_refuse_even_the_jobs_root() {
    let script = "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity; do \
        [ ! -e $f ] || (echo x > $f) 2>&1 | sed 's/.*: //'; done | sort -u; \
        mount -t tmpfs none /proc/sys; umount /proc/sys; umount -l /proc/kcore";
    Test::sh(script)
        .with("user = \"root\"\nsecurity.capabilities = [\"DAC_OVERRIDE\", \"FOWNER\", \"CHOWN\"]")
        .any_stdout()
        .any_stderr()
        .status(32)
        .each(|ran| {
            for line in ran.stdout.lines() {
                assert!(
                    ["Read-only file system", "Permission denied"].contains(&line),
                    "{}",
                    ran.stdout
                );
            }
        });
}

#[test]
fn dev_has_the_standard_devices_and_nothing_else() {
    let script = "ls /dev /dev/pts; stat -c '%n %F %t:%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
        for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
        head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x > /dev/null";
    let seen = "/dev:\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\n/dev/pts:\nptmx\n\
        /dev/null character special file 1:3\n/dev/zero character special file 1:5\n\
        /dev/full character special file 1:7\n/dev/random character special file 1:8\n\
        /dev/urandom character special file 1:9\n/dev/tty character special file 5:0\n\
        /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n4\n4\n";
    Test::sh(script).stdout(seen).run();
    // No other device can be made or opened, whoever the job is.
    Test::sh("mknod /tmp/null c 1 3; mknod /tmp/mem c 1 1; mknod /tmp/disk b 8 0; cat /tmp/* 2> /dev/null; ls /tmp")
        .with("user = \"root\"\nsecurity.capabilities = [\"MKNOD\"]")
        .any_stderr()
        .run();
}

/// An image whose `/proc`, `/dev` and `/etc` lead elsewhere must not bend where things are mounted (CVE-2019-19921 and its like).
#[test]
fn links_in_an_image_lead_nowhere() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    for (name, target) in [
        ("proc", "/tmp"),
        ("dev", "/tmp"),
        ("dev", "../../../../tmp"),
        ("proc", "dev"),
    ] {
        let make: fn(&Path) = match (name, target) {
            ("proc", "/tmp") => |folder| bent(folder, "proc", "/tmp"),
            ("dev", "/tmp") => |folder| bent(folder, "dev", "/tmp"),
            ("proc", _) => |folder| bent(folder, "proc", "dev"),
            _ => |folder| bent(folder, "dev", "../../../../tmp"),
        };
        Test::sh("ls /")
            .image("dir:image")
            .setup(make)
            .status(125)
            .any_stderr()
            .each(|ran| {
                let kind = if name == "proc" {
                    "(proc)"
                } else {
                    "(standard devices)"
                };
                let end = format!("mount /{name} {kind}: too many symbolic links encountered\n");
                assert!(ran.stderr.ends_with(&end), "{}", ran.stderr);
            });
    }
    // Others are followed inside: this one would be the machine's /etc.
    Test::sh("cat /etc/hostname")
        .image("dir:image")
        .setup(|folder| {
            image(folder);
            fs::rename(folder.join("image/etc"), folder.join("image/elsewhere")).unwrap();
            symlink("../../../../elsewhere", folder.join("image/etc")).unwrap();
        })
        .any_stderr()
        .stdout("ringfence\n")
        .run();
}

/// As distributions with systemd ship it: the link's target comes with a running system only.
#[test]
fn a_link_that_leads_to_nothing_is_followed_inside() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/systemd/resolve/stub-resolv.conf",
        "../../../../first",
    ] {
        Test::sh("cmp /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf && readlink /etc/resolv.conf && cat /etc/hostname")
            .image("dir:image")
            .setup(move |folder| {
                image(folder);
                symlink(target, folder.join("image/etc/resolv.conf")).unwrap();
                // A second one behind the first, through a folder that is missing as well.
                symlink("run/systemd", folder.join("image/first-folder")).unwrap();
                symlink("first-folder/resolve/stub-resolv.conf", folder.join("image/first")).unwrap();
            })
            .stdout(&format!("{target}\nringfence\n"))
            .any_stderr()
            .each(|ran| assert!(!ran.folder.join("image/run").exists(), "the image is as it was"));
    }
    // Each names the other, by way of a folder that is not there: the kernel sees no circle.
    Test::sh("true")
        .image("dir:image")
        .setup(|folder| {
            image(folder);
            symlink("../x/../etc/resolv.conf", folder.join("image/etc/resolv.conf")).unwrap();
        })
        .status(125)
        .any_stderr()
        .each(|ran| {
            let end = "mount /etc/resolv.conf (file, read-only): too many symbolic links encountered\n";
            assert!(ran.stderr.ends_with(end), "{}", ran.stderr);
        });
}

/// The kernel tries at every mount what a layer can do that is to be written in; a start is to be spared that.
#[test]
fn a_read_only_root_has_a_layer_to_write_in_only_where_a_place_must_be_made() {
    if !has_busybox() {
        crate::support::skip!("no static busybox");
    }
    let script = "case $(cat /proc/self/mountinfo) in *upperdir=*) echo made;; *) echo found;; esac";
    Test::sh(script)
        .image("dir:image")
        .setup(image)
        .stdout("found\n")
        .any_stderr()
        .run();
    Test::sh(script)
        .image("dir:image")
        .setup(|folder| bent(folder, "etc/resolv.conf", "../run/resolv.conf"))
        .stdout("made\n")
        .any_stderr()
        .run();
}

fn bent(folder: &Path, name: &str, target: &str) {
    image(folder);
    symlink(target, folder.join("image").join(name)).unwrap();
}

#[test]
fn sysctls_are_the_namespaces_own() {
    let before = fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap();
    let wanted = if before.trim() == "0" { "1" } else { "0" };
    Test::sh("cat /proc/sys/kernel/shm_rmid_forced; cat /proc/sys/user/max_user_namespaces")
        .with(&format!(
            "user = \"root\"\nsysctls.\"kernel.shm_rmid_forced\" = {wanted}"
        ))
        .stdout(&format!("{wanted}\n0\n"))
        .run();
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap(),
        before
    );
}

#[test]
fn no_place_of_the_machine_shows() {
    // Of the machine's own paths only those that `host` promises are there.
    Test::sh("ls /home /root /var /run /sys /mnt 2>&1; grep -c ' /work\\| /home' /proc/self/mountinfo; cat /proc/self/cgroup")
        .any_stdout()
        .each(|ran| {
            for name in ["home", "root", "var", "run", "sys", "mnt"] {
                let line = format!("ls: cannot access '/{name}': No such file or directory\n");
                assert!(ran.stdout.contains(&line), "{}", ran.stdout);
            }
            assert!(ran.stdout.contains("\n0\n"), "{}", ran.stdout);
            for line in ran.stdout.lines().skip_while(|line| !line.starts_with(char::is_numeric)).skip(1) {
                assert!(line.ends_with(":/") || line.contains(":/.."), "{line}");
            }
        });
    assert!(!callers(None).is_empty());
}

//! `ringfence export`: what other engines make of a job, compared with what we make of it by a probe inside both.

#[path = "support/archive.rs"]
mod archive;
#[path = "pull/hub.rs"]
#[allow(dead_code, reason = "tests/pull asks more of it")]
mod hub;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "other test programs use the rest"
)]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{Caller, Test, skip};

/// Says everything that both sides of a comparison must have in common.
const PROBE: &str = r#"
echo "user $(id -u) group $(id -g)"
grep -E '^(Cap[A-Z][a-z]+|NoNewPrivs|Seccomp):' /proc/self/status
grep -E 'core file|open files|locked memory|pending signals|msgqueue|nice|realtime priority' /proc/self/limits | tr -s ' '
echo "host name $(uname -n), interfaces $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\n' ' ')"
env | grep -v ^_= | sort
while read -r _ _ _ _ at options _; do
    case $at in /dev/shm|/etc/*|/tmp|/usr|/data)
        echo "$at $(echo "$options" | tr , '\n' | grep -xE 'ro|rw|nosuid|nodev|noexec' | tr '\n' ' ')";;
    esac
done < /proc/self/mountinfo | sort
echo "root: $(: 2>&1 > /new || true)"
touch /tmp/x && echo '/tmp: written'
touch /usr/x 2> /dev/null || echo '/usr: not written'
head -c 1 /proc/kcore 2> /dev/null | wc -c
cat /etc/passwd /data/file
"#;

/// System calls and what is answered: 0, or the number of the error.
#[cfg(target_arch = "x86_64")]
const CALLS: &str = r#"
perl -e '
for my $call (
    ["unshare", 272, 0x10000000], ["keyctl", 250, 0], ["mount", 165, 0], ["clone3", 435, 0, 0],
    ["io_uring_setup", 425, 1, 0], ["no such call", 1000], ["bpf", 321, 0, 0, 0],
    ["socket vsock", 41, 40, 1, 0], ["socket packet", 41, 17, 3, 0], ["socket audit", 41, 16, 3, 9],
    ["socket vsock, upper half", 41, 40 | 1 << 32, 1, 0], ["socketpair netlink", 53, 16, 3, 9, 0],
    ["ioctl TIOCSTI", 16, 0, 0x5412, 0], ["ioctl TIOCSTI, upper half", 16, 0, 0x5412 | 1 << 32, 0],
    ["ioctl TIOCLINUX", 16, 0, 0x541c, 0], ["ioctl TCGETS", 16, 0, 0x5401, 0],
    ["clone newuser", 56, 0x10000000, 0, 0, 0, 0], ["personality", 135, 0x40000], ["personality plain", 135, 0xffffffff],
    ["prctl set_mm", 157, 35, 0, 0, 0, 0], ["prctl get_name", 157, 999, 0, 0, 0, 0],
) {
    my ($name, @words) = @$call;
    $! = 0;
    my $answer = syscall($words[0], map { $_ + 0 } @words[1 .. $#words]);
    print "$name: ", ($answer < 0 ? $! + 0 : 0), "\n";
}'
"#;
#[cfg(not(target_arch = "x86_64"))]
const CALLS: &str = "";

/// The job of the comparisons.
fn probe() -> Test {
    saying(&format!("{PROBE}{CALLS}"))
}

fn saying(script: &str) -> Test {
    Test::sh(script)
        .with("env = { GREETING = \"it's $$HOME\" }\nmounts.\"/data\" = { bind = \"data\" }")
        .setup(|folder| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::create_dir(folder.join("data")).unwrap();
            std::fs::write(folder.join("data/file"), "of the host\n").unwrap();
            for name in ["data", "data/file"] {
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(folder.join(name), mode).unwrap();
            }
        })
}

/// What a probe says in our own sandbox.
fn ours(probe: Test, caller: Caller) -> String {
    let said = std::sync::Mutex::new(String::new());
    probe
        .only(&[caller])
        .any_stdout()
        .each(|ran| said.lock().unwrap().clone_from(&ran.stdout));
    said.into_inner().unwrap()
}

fn is_there(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stdout).into_owned(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

/// `engine run` for a bundle. crun 1.8 refuses hybrid control groups: there it runs where the v2 mount is not seen.
fn runtime(engine: &str, bundle: &Path, name: &str) -> Command {
    let hidden = "umount /sys/fs/cgroup/unified 2> /dev/null; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hidden, "sh", engine, "--root"]);
    let state = bundle.with_file_name(format!("state-{engine}"));
    command.arg(state).args(["run", "--bundle"]).arg(bundle).arg(name);
    command
}

#[track_caller]
fn assert_same(engine: &str, theirs: &str, ours: &str) {
    let differ: Vec<String> = theirs
        .lines()
        .filter(|line| !ours.lines().any(|other| other == *line))
        .map(|line| format!("+{line}"))
        .chain(
            ours.lines()
                .filter(|line| !theirs.lines().any(|other| other == *line))
                .map(|line| format!("-{line}")),
        )
        .collect();
    assert!(
        differ.is_empty() && ours.lines().count() > 20,
        "{engine}:\n{}",
        differ.join("\n")
    );
}

#[test]
fn a_bundle_holds_the_same_under_runc_and_crun() {
    if !nix::unistd::geteuid().is_root() {
        skip!("runc and crun need root for control groups");
    }
    let ours = ours(probe(), Caller::Root);
    for engine in ["runc", "crun"] {
        if !is_there(engine) {
            skip!("no {engine}");
        }
        probe()
            .verb("export")
            .args(&["--to", "oci-bundle", "--output", "bundle"])
            .only(&[Caller::Root])
            .any_stderr()
            .each(|ran| {
                let name = format!("ringfence-test-{engine}-{}", std::process::id());
                let (status, theirs, errors) = said(&mut runtime(engine, &ran.folder.join("bundle"), &name));
                assert_eq!(status, Some(0), "{engine}: {errors}");
                assert_same(engine, &theirs, &ours);
            });
    }
}

#[test]
fn a_folder_keeps_its_owners_in_a_bundle() {
    if !nix::unistd::geteuid().is_root() || !is_there("runc") || !Path::new("/bin/busybox").exists() {
        skip!("needs root, runc and busybox");
    }
    Test::command(&[
        "/bin/busybox",
        "sh",
        "-c",
        "echo in; busybox stat -c '%u:%g %a %n' /bin/busybox /owned",
    ])
    .image("dir:image")
    .with("user = \"7:8\"")
    .setup(|folder| {
        std::fs::create_dir_all(folder.join("image/bin")).unwrap();
        std::fs::copy("/bin/busybox", folder.join("image/bin/busybox")).unwrap();
        std::fs::write(folder.join("image/owned"), "").unwrap();
        std::os::unix::fs::chown(folder.join("image/owned"), Some(7), Some(8)).unwrap();
    })
    .verb("export")
    .args(&["--to", "oci-bundle", "--output", "bundle"])
    .only(&[Caller::Root])
    .any_stderr()
    .each(|ran| {
        let name = format!("ringfence-test-dir-{}", std::process::id());
        let (status, theirs, errors) = said(&mut runtime("runc", &ran.folder.join("bundle"), &name));
        let wanted = "in\n0:0 755 /bin/busybox\n7:8 644 /owned\n";
        assert_eq!((status, theirs.as_str()), (Some(0), wanted), "{errors}");
    });
}

#[test]
fn bubblewrap_holds_the_same() {
    if !is_there("bwrap") || !is_there("bash") {
        skip!("no bubblewrap");
    }
    // A file system in memory can be executed from there: listed as a loss.
    let normal = |text: &str| text.replace(" noexec", "").replace("noexec ", "");
    for caller in support::callers(None) {
        let ours = ours(probe(), caller);
        probe()
            .verb("export")
            .args(&["--to", "bwrap"])
            .only(&[caller])
            .any_stdout()
            .any_stderr()
            .each(|ran| {
                let (user, group) = (caller.uid().to_string(), caller.gid().to_string());
                let mut command = match caller {
                    Caller::Root | Caller::Tester => Command::new("bash"),
                    _ => {
                        let mut command = Command::new("setpriv");
                        command.args(["--reuid", &user, "--regid", &group, "--clear-groups", "bash"]);
                        command
                    }
                };
                let (status, theirs, errors) = said(command.args(["-c", &ran.stdout]));
                assert_eq!(status, Some(0), "{caller:?}: {errors}");
                assert_same("bwrap", &normal(&theirs), &normal(&ours));
            });
    }
}

/// The groups below which nsjail makes its own on control groups v1; removed at the end.
struct Parents(Vec<std::path::PathBuf>);

impl Parents {
    fn make() -> Parents {
        let made =
            ["memory", "pids", "cpu"].map(|name| Path::new("/sys/fs/cgroup").join(name).join("NSJAIL"));
        Parents(
            made.into_iter()
                .filter(|path| std::fs::create_dir(path).is_ok())
                .collect(),
        )
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for path in &self.0 {
            std::fs::remove_dir(path).unwrap();
        }
    }
}

#[test]
#[ignore = "needs nsjail, which Debian 12 does not have: github.com/google/nsjail, as of d6454b4"]
fn nsjail_holds_the_same() {
    // Listed as losses: no filter, other units of limits, no hard limit of its own.
    let lost = [
        "Seccomp:",
        "Max core file",
        "Max open files",
        "Max nice",
        "Max pending",
    ];
    let kept = |text: &str| -> String {
        let lines = text
            .lines()
            .filter(|line| !lost.iter().any(|name| line.starts_with(name)));
        lines.map(|line| line.to_owned() + "\n").collect()
    };
    let _parents = Parents::make();
    let ours = ours(saying(PROBE), Caller::Root);
    saying(PROBE)
        .verb("export")
        .args(&["--to", "nsjail", "--output", "out"])
        .only(&[Caller::Root])
        .any_stderr()
        .each(|ran| {
            let config = ran.folder.join("out/nsjail.cfg");
            let (status, theirs, errors) = said(Command::new("nsjail").arg("--config").arg(config));
            assert_eq!(status, Some(0), "{errors}");
            assert_same("nsjail", &kept(&theirs), &kept(&ours));
        });
}

#[test]
fn losses_are_listed_and_strict_fails_on_them() {
    let refused = "ringfence: not expressed: security.landlock: no path or port is held by Landlock\n";
    Test::command(&["/bin/true"])
        .verb("export")
        .args(&["--to", "oci-bundle", "--strict", "--output", "bundle"])
        .status(1)
        .any_stderr()
        .each(|ran| {
            assert!(ran.stderr.contains(refused), "{}", ran.stderr);
            assert!(!ran.folder.join("bundle").exists(), "nothing is written");
        });
    Test::command(&["/bin/true"])
        .manifest(
            "schema = 1\n[job.test]\nimage = \"host\"\ncommand = [\"/bin/true\"]\ninit = false\nnamespaces.time = false\n\
             limits.wall = false\nsecurity.landlock = false\n[job.test.sysctls]\n\"user.max_user_namespaces\" = false\n\
             \"user.max_inotify_instances\" = false\n\"user.max_inotify_watches\" = false\n",
        )
        .verb("export")
        .args(&["--to", "oci-bundle", "--strict", "--output", "bundle"])
        .only(&[Caller::Root])
        .each(|ran| assert!(ran.folder.join("bundle/config.json").exists()));
}

#[test]
fn what_is_there_is_not_written_over() {
    Test::command(&["/bin/true"])
        .verb("export")
        .args(&["--to", "bwrap", "--output", "out"])
        .setup(|folder| {
            std::fs::create_dir(folder.join("out")).unwrap();
            std::fs::write(folder.join("out/run.bash"), "mine").unwrap();
        })
        .status(125)
        .any_stderr()
        .each(|ran| {
            assert!(
                ran.stderr
                    .ends_with("ringfence: export out/run.bash: file exists\n"),
                "{}",
                ran.stderr
            );
            assert_eq!(
                std::fs::read_to_string(ran.folder.join("out/run.bash")).unwrap(),
                "mine"
            );
        });
    Test::command(&["/bin/true"])
        .verb("export")
        .args(&["--to", "docker"])
        .status(125)
        .stderr(
            "ringfence: export --to docker: image host has no name in a registry, which docker needs; push it to one, or export an oci-bundle\n",
        )
        .run();
    Test::command(&["/bin/true"])
        .verb("export")
        .args(&["--to", "oci-bundle"])
        .status(125)
        .stderr("ringfence: an oci-bundle is a folder: name it with --output\n")
        .run();
}

/// What an image's own busybox says of its sandbox.
const IMAGE_PROBE: &str = "id -u; id -g; grep -E '^(Cap[A-Z][a-z]+|NoNewPrivs|Seccomp):' /proc/self/status; \
    grep -E 'open files|locked memory' /proc/self/limits; cat /etc/motd /etc/passwd; \
    stat -c '%u:%g %a %n' /etc /bin/busybox /etc/motd; touch /tmp/x && echo '/tmp: written'; \
    touch /etc/x 2> /dev/null || echo '/etc: not written'; ls /sys/class/net 2> /dev/null || echo lo";

/// Our own answer, then the export and `engine`'s answer, for an image of two layers.
fn compare_image(target: &str, engine: impl Fn(&Path) -> (Option<i32>, String, String)) {
    let motd = registry::Layer::gzip(&archive::Archive::new().file("etc/motd", "welcome\n").end());
    let (hub, layers) = (hub::Hub::start(), [hub::base!(), motd]);
    hub.push("library/probe", hub::Types::Oci, &layers, hub::HELLO);
    hub.visit(Caller::Root, |visit| {
        let probe = Test::command(&["/bin/sh", "-c", IMAGE_PROBE]).image(&hub.name("library/probe"));
        let ours = visit.run(&probe.clone().any_stdout().any_stderr().pulls()).stdout;
        let export = probe.verb("export").args(&["--to", target, "--output", target]);
        let ran = visit.run(&export.any_stderr());
        let (status, theirs, errors) = engine(&ran.folder.join(target));
        assert_eq!((status, theirs), (Some(0), ours), "{target}: {errors}");
    });
}

#[test]
fn a_bundle_of_two_layers_is_the_image_under_runc() {
    if !nix::unistd::geteuid().is_root() || !is_there("runc") {
        skip!("needs root and runc");
    }
    compare_image("oci-bundle", |folder| {
        let name = format!("ringfence-test-layers-{}", std::process::id());
        said(&mut runtime("runc", folder, &name))
    });
}

#[test]
#[ignore = "needs a Docker engine: `benches/setup` starts one, and DOCKER_HOST says where"]
fn docker_holds_the_same() {
    compare_image("docker", |folder| {
        said(Command::new("sh").arg(folder.join("run.sh")))
    });
}

/// Compose 1.29, which Debian has, is older than the key that keeps an engine from making the source of a bind; it makes none.
fn for_compose_1(text: &str) -> String {
    text.replace("bind:\n          create_host_path: false\n        ", "")
}

#[test]
#[ignore = "needs a Docker engine: `benches/setup` starts one, and DOCKER_HOST says where"]
fn compose_holds_the_same() {
    compare_image("compose", |folder| {
        let file = folder.join("compose.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, for_compose_1(&text)).unwrap();
        let project = format!("ringfence-test-{}", std::process::id());
        let compose = |args: &[&str]| {
            let mut compose = Command::new("docker-compose");
            compose.args(["--project-name", &project]).args(args);
            said(compose.current_dir(folder))
        };
        // So that what the job says is not mixed with what the engine says of its layers.
        let (status, _, errors) = compose(&["pull", "--quiet"]);
        assert_eq!(status, Some(0), "{errors}");
        compose(&["run", "--rm", "-T", "test"])
    });
}

/// The text of a snapshot of src/export/tests.rs, in which one job says everything.
fn everything(snapshot: &str) -> &str {
    let (_, text) = snapshot.split_once("\n---\n").expect("a head");
    text.split_once("\n--- not expressed").expect("losses").0
}

#[test]
fn compose_takes_what_it_is_given() {
    if !is_there("docker-compose") {
        skip!("docker-compose is missing");
    }
    let folder = std::env::temp_dir().join(format!("ringfence-compose-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let text = for_compose_1(everything(include_str!("exports/compose.snap")));
    std::fs::write(folder.join("compose.yaml"), &text).unwrap();
    std::fs::write(folder.join("seccomp.json"), "{}").unwrap();
    let mut compose = Command::new("docker-compose");
    let (status, read, errors) = said(compose.arg("config").current_dir(&folder));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(status, Some(0), "{errors}");
    // It prints what it has understood.
    let services = |text: &str| {
        let whole: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
        whole["services"].clone()
    };
    assert_eq!(services(&read), services(&text));
}

#[test]
fn kubernetes_takes_what_it_is_given() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/kubernetes-validate");
    let found = [ours, "kubernetes-validate".into()].into_iter().find(|path| {
        let version = Command::new(path).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    let Some(validate) = found else {
        skip!("kubernetes-validate is missing (python3 -m pip install kubernetes-validate)");
    };
    let text = everything(include_str!("exports/kubernetes.snap"));
    let file = std::env::temp_dir().join(format!("ringfence-kubernetes-{}.yaml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let (status, out, errors) = said(Command::new(validate).arg("--strict").arg(&file));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status, Some(0), "{out}{errors}");
}

#[test]
fn a_docker_line_comes_in_as_a_manifest() {
    let import = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence"));
        said(command.arg("import").args(words))
    };
    let line = [
        "--from",
        "docker",
        "--",
        "docker",
        "run",
        "-t",
        "--network",
        "none",
        "busybox",
        "id",
    ];
    let manifest = "schema = 1\n\n[job.main]\ncommand = [\"id\"]\nimage = \"busybox\"\nprofile = \"standard\"\n\n\
                    [job.main.network]\nmode = \"null\"\n";
    let left = "ringfence: left out: --tty: write `ringfence run -t`\n";
    assert_eq!(import(&line), (Some(0), manifest.to_owned(), left.to_owned()));
    let strict: Vec<&str> = ["--strict"].into_iter().chain(line).collect();
    assert_eq!(import(&strict), (Some(1), String::new(), left.to_owned()));
    // What a manifest refuses is printed, to be mended, and named.
    let (status, out, errors) = import(&["--from", "docker", "--", "run", "-v", "/:/host", "busybox"]);
    assert_eq!(status, Some(125));
    assert!(
        out.contains("bind = \"/\"") && errors.contains("it is the host's whole file system"),
        "{errors}"
    );
    assert_eq!(
        import(&["--from", "docker"]).2,
        "ringfence: import --from docker takes the line after `--`: `ringfence import --from docker -- docker run …`\n"
    );
    let (status, _, errors) = import(&["--from", "compose", "/no/such/file"]);
    assert_eq!(status, Some(125));
    assert_eq!(
        errors,
        "ringfence: import /no/such/file: no such file or directory\n"
    );
}

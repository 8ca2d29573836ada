//! `ringfence plan` as a reader and a pipeline use it: the lines behind each step, folders of plans, a matrix.

use std::path::PathBuf;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const MANIFEST: &str = r#"schema = 1

[matrix]
jobs     = ["test"]
images   = ["host", "dir:rootfs"]
profiles = ["strict", "ci"]
hosts    = ["old.toml", "new.toml"]

[job.test]
image   = "host"
command = ["true"]
mounts."/src".bind = "."

[job.lint]
image   = "host"
command = ["true"]

[profile.ci]
limits.memory = "1GiB"
hostname      = "ci"
"#;

/// A folder of the test's own, with a manifest, two hosts and the root file system of an image; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringfence-sheet-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("rootfs/etc")).expect("a folder");
        let folder = Folder(path);
        folder.write("ringfence.toml", MANIFEST);
        for (host, file) in [("root-v1", "old.toml"), ("root-v2", "new.toml")] {
            let facts = std::fs::read_to_string(format!("{ROOT}/tests/hosts/{host}.toml")).expect("facts");
            folder.write(file, &facts);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file");
    }

    /// Exit code and what is printed, on whichever stream.
    fn plan(&self, args: &[&str]) -> String {
        let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .arg("plan")
            .args(args)
            .current_dir(&self.0)
            .env("RINGFENCE_CONFIG", "/dev/null")
            .env("RINGFENCE_RUN", self.0.join("run"))
            .env("RINGFENCE_STORE", self.0.join("store"))
            .output()
            .expect("ringfence");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).expect("text");
        let printed = text(&out.stdout) + &text(&out.stderr);
        let printed = printed.replace(&self.0.display().to_string(), "{folder}");
        format!("exit {}\n{printed}", out.status.code().unwrap_or(-1))
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(folder)).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder");
    }
}

#[test]
fn each_step_names_its_lines() {
    let folder = Folder::new("lines");
    let sheet = folder.plan(&["test", "--lines", "--facts", "new.toml"]);
    let steps = sheet.split_once("before the clone\n").expect("the steps").1;
    insta::assert_snapshot!(steps, @r#"
       1  cgroup (memory 512MiB without swap, pids 128; controllers cpuacct v2, memory v2, pids v2)
            limits.memory.max  built-in strict:22:11
            limits.pids.max  built-in strict:23:11
       2  take /etc/alternatives
            image  ringfence.toml:10:11
       3  take /etc/ca-certificates
            image  ringfence.toml:10:11
       4  take /etc/ld.so.cache
            image  ringfence.toml:10:11
       5  take /etc/ld.so.conf
            image  ringfence.toml:10:11
       6  take /etc/ld.so.conf.d
            image  ringfence.toml:10:11
       7  take /etc/localtime
            image  ringfence.toml:10:11
       8  take /etc/ssl
            image  ringfence.toml:10:11
       9  take . for /src
            mounts."/src".bind  ringfence.toml:12:22
      10  take /usr
            image  ringfence.toml:10:11

    with the child waiting
       1  map ids (65536 of a range of this run's own)
            user.from  built-in strict:5:21
       2  idmap . for /src (its owner becomes 65532:65532)
            mounts."/src".bind  ringfence.toml:12:22

    init
       1  unshare time (no offsets)
            namespaces.time  built-in strict:18:8
       2  become root of the user namespace
            always
       3  not dumpable
            always
       4  new session keyring
            always
       5  make all mounts private
            always
       6  hostname ringfence
            hostname  built-in strict:6:12
       7  loopback up
            network.mode  built-in strict:36:8
       8  root (tmpfs, only for mount points)
            image  ringfence.toml:10:11
            root  built-in strict:8:12
       9  fork the job's process
            always
      10  mount /proc (proc)
            always
      11  mount /dev (standard devices)
            always
      12  mount /bin (link to usr/bin)
            image  ringfence.toml:10:11
      13  mount /dev/shm (tmpfs, 16MiB, noexec)
            mounts."/dev/shm".exec  built-in strict:43:9
            mounts."/dev/shm".tmpfs  built-in strict:42:9
      14  mount /etc/alternatives (bind, read-only)
            image  ringfence.toml:10:11
      15  mount /etc/ca-certificates (bind, read-only)
            image  ringfence.toml:10:11
      16  mount /etc/group (file, read-only)
            image  ringfence.toml:10:11
            user.from  built-in strict:5:21
      17  mount /etc/hostname (file, read-only)
            hostname  built-in strict:6:12
      18  mount /etc/hosts (file, read-only)
            network.mode  built-in strict:36:8
      19  mount /etc/ld.so.cache (bind, read-only)
            image  ringfence.toml:10:11
      20  mount /etc/ld.so.conf (bind, read-only)
            image  ringfence.toml:10:11
      21  mount /etc/ld.so.conf.d (bind, read-only)
            image  ringfence.toml:10:11
      22  mount /etc/localtime (bind, read-only)
            image  ringfence.toml:10:11
      23  mount /etc/passwd (file, read-only)
            image  ringfence.toml:10:11
            user.from  built-in strict:5:21
      24  mount /etc/resolv.conf (file, read-only)
            network.mode  built-in strict:36:8
      25  mount /etc/ssl (bind, read-only)
            image  ringfence.toml:10:11
      26  mount /lib (link to usr/lib)
            image  ringfence.toml:10:11
      27  mount /lib64 (link to usr/lib64)
            image  ringfence.toml:10:11
      28  mount /sbin (link to usr/sbin)
            image  ringfence.toml:10:11
      29  mount /src (bind, read-only)
            mounts."/src".bind  ringfence.toml:12:22
      30  mount /tmp (tmpfs, 64MiB)
            mounts."/tmp".tmpfs  built-in strict:39:9
      31  mount /usr (bind, read-only)
            image  ringfence.toml:10:11
      32  sysctl net.ipv4.ip_unprivileged_port_start = 0
            network.mode  built-in strict:36:8
      33  sysctl user.max_inotify_instances = 64
            sysctls."user.max_inotify_instances"  built-in strict:68:32
      34  sysctl user.max_inotify_watches = 65536
            sysctls."user.max_inotify_watches"  built-in strict:69:32
      35  sysctl user.max_user_namespaces = 0
            sysctls."user.max_user_namespaces"  built-in strict:66:30
      36  mask /proc/acpi /proc/asound /proc/config.gz /proc/driver /proc/interrupts /proc/kallsyms /proc/kcore /proc/key-users /proc/keys /proc/kmsg /proc/kpagecgroup /proc/kpagecount /proc/kpageflags /proc/latency_stats /proc/modules /proc/mtrr /proc/sched_debug /proc/scsi /proc/slabinfo /proc/timer_list /proc/timer_stats /proc/vmallocinfo
            security.masked-paths  built-in strict:48:16
      37  read-only /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger
            security.read-only-paths  built-in strict:56:19
      38  read-only /
            root  built-in strict:8:12

    workload
       1  new session
            always
       2  rlimits (core 1, memlock 65536, msgqueue 819200, nice 0, nofile 1024:4096, rtprio 0, sigpending 1024)
            rlimits.core  built-in strict:28:14
            rlimits.memlock  built-in strict:29:14
            rlimits.msgqueue  built-in strict:30:14
            rlimits.nice  built-in strict:31:14
            rlimits.nofile.hard  built-in strict:27:36
            rlimits.nofile.soft  built-in strict:27:23
            rlimits.rtprio  built-in strict:32:14
            rlimits.sigpending  built-in strict:33:14
       3  become 65532:65532 (no capabilities)
            user.from  built-in strict:5:21
            security.capabilities  built-in strict:46:16
       4  no-new-privs
            security.no-new-privileges  built-in strict:47:21
       5  wait for PID 1
            always
       6  go to /
            image  ringfence.toml:10:11
       7  landlock ABI 2 (read /, write /dev /dev/shm /proc /tmp, execute / /tmp)
            security.landlock.enforce  built-in strict:63:11
       8  close all descriptors but 0 1 2
            always
       9  seccomp (default)
            security.seccomp.enforce  built-in strict:60:11
            security.seccomp.policy  built-in strict:59:11
      10  verify what the kernel says of this process
            always

    notices
      path: `.` is assumed: the facts do not have it
      security.landlock: ABI 2 does not hold back truncating files, ioctl on devices, signals and abstract sockets
    "#);
    // The same steps as without the lines.
    let bare = folder.plan(&["test", "--facts", "new.toml"]);
    let below = |line: &&str| line.find(|c| c != ' ') != Some(8);
    assert_eq!(
        sheet.lines().filter(below).collect::<Vec<_>>(),
        bare.lines().collect::<Vec<_>>()
    );
}

#[test]
fn a_matrix_is_a_file_for_each_cell() {
    let folder = Folder::new("matrix");
    assert_eq!(folder.plan(&["--all", "--write", "plans"]), "exit 0\n");
    insta::assert_snapshot!(folder.files("plans").join("\n"), @r#"
    index.toml
    lint@new.plan.txt
    lint@old.plan.txt
    test+dir_rootfs+ci@new.plan.txt
    test+dir_rootfs+ci@old.plan.txt
    test+dir_rootfs+strict@new.plan.txt
    test+dir_rootfs+strict@old.plan.txt
    test+host+ci@new.plan.txt
    test+host+ci@old.plan.txt
    test+host+strict@new.plan.txt
    test+host+strict@old.plan.txt
    "#);
    let plan =
        |name: &str| std::fs::read_to_string(folder.0.join(format!("plans/{name}.plan.txt"))).expect(name);
    assert!(
        plan("test+dir_rootfs+ci@new")
            .starts_with("plan 1 of job test, profile ci\n\nimage        dir:rootfs\n")
    );
    assert!(
        plan("test+host+strict@old").starts_with("plan 1 of job test, profile strict\n\nimage        host\n")
    );
    assert_eq!(folder.plan(&["--all", "--check", "plans"]), "exit 0\n");
}

/// A lock of one image for two platforms, whose users are known.
fn lock() -> String {
    let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
    let platform = |name: &str, letter: &str| {
        format!(
            "[image.platform.\"{name}\"]\nmanifest = \"{0}\"\nconfig = \"{0}\"\nentrypoint = []\n\
             cmd = [\"sh\"]\nenv = []\nworking-dir = \"\"\nuser = \"\"\nstop-signal = \"\"\n\
             layers = [{{ digest = \"{0}\", diff-id = \"{0}\", size = 1 }}]\n\
             passwd = [\"root:x:0:0::/root:\"]\ngroup = [\"root:x:0:\"]\n",
            digest(letter)
        )
    };
    format!(
        "lock = 1\n[[image]]\nrequest = \"docker.io/library/busybox:latest\"\nindex = \"{}\"\n{}{}",
        digest("0"),
        platform("linux/amd64", "a"),
        platform("linux/arm64", "b"),
    )
}

/// Offline, from the lock alone: whichever processor this machine has.
#[test]
fn each_platform_has_the_image_that_is_locked_for_it() {
    const PLATFORMS: &str = "schema = 1\n[matrix]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
        hosts = [\"new.toml\"]\n[job.test]\nimage = \"busybox\"\n";
    let folder = Folder::new("platforms");
    folder.write("ringfence.toml", PLATFORMS);
    folder.write("ringfence.lock", &lock());
    assert_eq!(folder.plan(&["--all", "--write", "plans"]), "exit 0\n");
    assert_eq!(
        folder.files("plans"),
        [
            "index.toml",
            "test+linux_amd64@new.plan.txt",
            "test+linux_arm64@new.plan.txt"
        ]
    );
    let plan = |name: &str| std::fs::read_to_string(folder.0.join("plans").join(name)).expect(name);
    let (amd64, arm64) = (
        plan("test+linux_amd64@new.plan.txt"),
        plan("test+linux_arm64@new.plan.txt"),
    );
    assert_ne!(amd64, arm64);
    // Nothing but the image is another one.
    assert_eq!(amd64.replace(&"a".repeat(64), &"b".repeat(64)), arm64);
    // Of a host the plan has the image for that host's processor.
    folder.write(
        "arm.toml",
        &std::fs::read_to_string(folder.0.join("new.toml"))
            .expect("facts")
            .replace("\"x86_64\"", "\"aarch64\""),
    );
    let sheet = folder.plan(&["test", "--facts", "arm.toml"]);
    assert_eq!(sheet, format!("exit 0\n{arm64}"));

    folder.write("other.toml", PLATFORMS);
    assert_eq!(
        folder.plan(&["test", "--facts", "arm.toml", "-f", "other.toml"]),
        "exit 125\nringfence: image docker.io/library/busybox:latest: it is not locked for linux/arm64/v8; \
         run `ringfence lock`\n"
    );
    let known = lock().rsplit_once("passwd").expect("the last").0.to_owned();
    folder.write("ringfence.lock", &known);
    assert_eq!(
        folder.plan(&["test", "--facts", "arm.toml"]),
        "exit 125\nringfence: image docker.io/library/busybox:latest: its users and groups for linux/arm64/v8 \
         are not locked; run `ringfence lock`\n"
    );
}

#[test]
fn two_plans_of_one_name_are_refused() {
    let folder = Folder::new("names");
    folder.write("ringfence.toml", &MANIFEST.replace("\"dir:rootfs\"", "\"host\""));
    assert_eq!(
        folder.plan(&["--all", "--write", "plans"]),
        "exit 125\nringfence: two plans would be called test+host+strict@old; list each thing once in `[matrix]` and \
         `--facts`, and give files of facts different names\n"
    );
}

#[test]
fn a_plan_that_changed_is_shown_with_its_surroundings() {
    let folder = Folder::new("check");
    folder.plan(&["--all", "--write", "plans"]);
    folder.write("ringfence.toml", &MANIFEST.replace("1GiB", "2GiB"));
    let said = folder.plan(&["--all", "--check", "plans"]);
    let first = said
        .split("--- plans/test+dir_rootfs+ci@old")
        .next()
        .expect("a part");
    insta::assert_snapshot!(first, @r#"
    exit 1
    --- plans/test+host+ci@old.plan.txt
    +++ now
    @@ -17,7 +17,7 @@
                  /tmp (tmpfs, 64MiB)
                  /usr (bind, read-only)
     reaches      nothing: it has a loopback interface only
    -bounded by   memory 1GiB without swap, pids 128, wall 10min
    +bounded by   memory 2GiB without swap, pids 128, wall 10min
     namespaces   user mount pid net ipc uts cgroup time
     stop signal  15
     environment  HOME=/
    @@ -37,7 +37,7 @@
     with the child waiting
        1  map ids (65536 of a range of this run's own)
        2  idmap . for /src (its owner becomes 65532:65532)
    -   3  cgroup (memory 1GiB without swap, pids 128, devices closed; controllers devices v1, memory v1, pids v1)
    +   3  cgroup (memory 2GiB without swap, pids 128, devices closed; controllers devices v1, memory v1, pids v1)
     
     init
        1  unshare net
    --- plans/test+host+ci@new.plan.txt
    +++ now
    @@ -17,14 +17,14 @@
                  /tmp (tmpfs, 64MiB)
                  /usr (bind, read-only)
     reaches      nothing: it has a loopback interface only
    -bounded by   memory 1GiB without swap, pids 128, wall 10min
    +bounded by   memory 2GiB without swap, pids 128, wall 10min
     namespaces   user mount pid net ipc uts cgroup time
     stop signal  15
     environment  HOME=/
                  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
     
     before the clone
    -   1  cgroup (memory 1GiB without swap, pids 128; controllers cpuacct v2, memory v2, pids v2)
    +   1  cgroup (memory 2GiB without swap, pids 128; controllers cpuacct v2, memory v2, pids v2)
        2  take /etc/alternatives
        3  take /etc/ca-certificates
        4  take /etc/ld.so.cache
    "#);
    assert_eq!(said.matches("\n--- ").count(), 4, "{said}");
}

#[test]
fn a_file_that_is_missing_differs() {
    let folder = Folder::new("missing");
    folder.plan(&["--all", "--write", "plans"]);
    std::fs::remove_file(folder.0.join("plans/lint@new.plan.txt")).expect("a file");
    let said = folder.plan(&["--all", "--check", "plans"]);
    assert!(
        said.starts_with("exit 1\n--- plans/lint@new.plan.txt\n+++ now\n@@ -0,0 +1,"),
        "{said}"
    );
}

#[test]
fn a_folder_holds_what_is_planned_and_nothing_else() {
    let folder = Folder::new("left-over");
    folder.plan(&["--all", "--write", "plans"]);
    folder.write("plans/README.md", "kept");
    folder.write("ringfence.toml", &MANIFEST.replace("\"old.toml\", ", ""));
    let said = folder.plan(&["--all", "--check", "plans"]);
    assert!(said.starts_with("exit 1\n--- plans/index.toml\n"), "{said}");
    assert!(said.contains("\n-    \"lint@old.plan.txt\",\n"), "{said}");
    assert_eq!(folder.plan(&["--all", "--write", "plans"]), "exit 0\n");
    assert_eq!(folder.files("plans").len(), 1 + 1 + 5);
    assert_eq!(folder.plan(&["--all", "--check", "plans"]), "exit 0\n");

    let index = std::fs::read_to_string(folder.0.join("plans/index.toml")).expect("the index");
    folder.write("plans/index.toml", &index.replace("plan = 1", "plan = 0"));
    assert_eq!(
        folder.plan(&["--all", "--check", "plans"]),
        "exit 125\nringfence: plans: its plans have version 0 of the format, this ringfence writes version 1; review what \
         `ringfence plan --all --write plans` changes\n"
    );
}

/// With the facts of another host nothing of this one is looked at, and nothing is made.
#[test]
fn a_plan_for_another_host_leaves_this_one_alone() {
    let folder = Folder::new("alone");
    let before = folder.files(".");
    assert!(
        folder
            .plan(&["lint", "--facts", "old.toml"])
            .starts_with("exit 0\n")
    );
    assert_eq!(folder.files("."), before);
}

/// Wherever the manifest stands, with whatever in the environment.
#[test]
fn a_plan_has_the_same_bytes_everywhere() {
    let text = MANIFEST.replace(
        "[job.lint]",
        "[variables]\nTOKEN = { env = \"RINGFENCE_TEST_TOKEN\", default = \"none\" }\n[job.lint]\nenv.TOKEN = \"${TOKEN}\"",
    );
    let sheets = ["here", "there"].map(|name| {
        let folder = Folder::new(name);
        folder.write("ringfence.toml", &text);
        let mut plan = Command::new(env!("CARGO_BIN_EXE_ringfence"));
        plan.args(["plan", "--all", "--facts", "new.toml"])
            .current_dir(&folder.0)
            .env_clear()
            .env("RINGFENCE_CONFIG", "/dev/null")
            .env("RINGFENCE_STORE", folder.0.join("store"));
        if name == "there" {
            plan.env("RINGFENCE_TEST_TOKEN", "a secret")
                .env("LC_ALL", "C")
                .env("TZ", "Asia/Tokyo");
        }
        let out = plan.output().expect("ringfence");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    });
    assert_eq!(sheets[0], sheets[1]);
    assert!(sheets[0].contains("TOKEN=${TOKEN}"), "{}", sheets[0]);
    assert!(!sheets[1].contains("secret"), "{}", sheets[1]);
}

#[test]
fn a_matrix_that_is_wrong() {
    let folder = Folder::new("wrong");
    folder.write(
        "ringfence.toml",
        &MANIFEST
            .replace("[\"test\"]", "[\"tset\"]")
            .replace("hosts ", "platforms = [\"linux/s390x\"]\nhosts "),
    );
    insta::assert_snapshot!(folder.plan(&["--all"]), @r#"
    exit 125
    error[RF0207]: the manifest has no job `tset`
     --> ringfence.toml:4:13
      |
    4 | jobs     = ["tset"]
      |             ^^^^^^
      |
      = help: did you mean "test"?
      = book: errors/RF0207.md, or `ringfence explain RF0207`

    error[RF0104]: `linux/s390x` is not one of the words for `platforms`
     --> ringfence.toml:7:14
      |
    7 | platforms = ["linux/s390x"]
      |              ^^^^^^^^^^^^^
      |
      = help: the words are "linux/amd64", "linux/arm64"
      = book: errors/RF0104.md, or `ringfence explain RF0104`
    "#);
    folder.write("ringfence.toml", &MANIFEST.replace("\"ci\"]", "\"cl\"]"));
    insta::assert_snapshot!(folder.plan(&["--all"]), @r#"
    exit 125
    error[RF0201]: unknown profile `cl`
     --> ringfence.toml:6:23
      |
    6 | profiles = ["strict", "cl"]
      |                       ^^^^
      |
      = help: did you mean "ci"?
      = book: errors/RF0201.md, or `ringfence explain RF0201`
    "#);
    folder.write("ringfence.toml", &MANIFEST.replace("new.toml", "none.toml"));
    insta::assert_snapshot!(folder.plan(&["--all"]), @r#"
    exit 125
    ringfence: facts {folder}/none.toml: no such file or directory
    "#);
}

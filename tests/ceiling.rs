//! `[ceiling]` of config.toml: what exceeds it is refused with both lines, whatever the command.

use std::path::PathBuf;
use std::process::Command;

/// A folder of the test's own, with a manifest and a config.toml; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringfence-ceiling-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder");
        // What links lead to is compared, so the folder itself is named without one.
        Folder(path.canonicalize().expect("the folder"))
    }

    /// Exit code and standard error of a command; the folder itself is shown as `{folder}`.
    fn says(&self, command: &[&str], manifest: &str, config: &str) -> String {
        std::fs::write(
            self.0.join("ringfence.toml"),
            format!("schema = 1\n[job.test]\n{manifest}"),
        )
        .expect("a manifest");
        std::fs::write(self.0.join("config.toml"), format!("[ceiling]\n{config}")).expect("a config");
        let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/root-v2.toml");
        let words: Vec<&str> = command
            .iter()
            .map(|word| if *word == "FACTS" { facts } else { word })
            .collect();
        let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .args(words)
            .current_dir(&self.0)
            .env("RINGFENCE_CONFIG", "config.toml")
            .env("RINGFENCE_RUN", self.0.join("run"))
            .env("RINGFENCE_STORE", self.0.join("store"))
            .env("CI_PLACE", "/etc")
            .output()
            .expect("ringfence");
        let said = String::from_utf8(out.stderr)
            .expect("text")
            .replace(&self.0.display().to_string(), "{folder}");
        format!("exit {}\n{said}", out.status.code().unwrap_or(-1))
    }

    /// The same of `ringfence plan` for a recorded host.
    fn plan(&self, manifest: &str, config: &str) -> String {
        self.says(&["plan", "--facts", "FACTS"], manifest, config)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder");
    }
}

const HOST: &str = "image = \"host\"\ncommand = [\"true\"]\n";

#[test]
fn a_limit_above_the_ceiling() {
    let folder = Folder::new("limit");
    let manifest = format!("{HOST}limits.memory = \"8GiB\"\nlimits.pids = 5000\nlimits.wall = \"2h\"\n");
    insta::assert_snapshot!(folder.plan(&manifest, "memory = \"4GiB\"\npids = 1024\nwall = \"1h\"\n"), @r#"
    exit 125
    error[RF0501]: memory of 8GiB exceeds this host's ceiling of 4GiB
     --> ringfence.toml:5:17
      |
    5 | limits.memory = "8GiB"
      |                 ^^^^^^
      |
     ::: config.toml:2:10
      |
    2 | memory = "4GiB"
      |          ------ the ceiling
      |
      = help: ask for at most 4GiB
      = book: errors/RF0501.md, or `ringfence explain RF0501`

    error[RF0501]: pids of 5000 exceeds this host's ceiling of 1024
     --> ringfence.toml:6:15
      |
    6 | limits.pids = 5000
      |               ^^^^
      |
     ::: config.toml:3:8
      |
    3 | pids = 1024
      |        ---- the ceiling
      |
      = help: ask for at most 1024

    error[RF0501]: wall of 2h exceeds this host's ceiling of 1h
     --> ringfence.toml:7:15
      |
    7 | limits.wall = "2h"
      |               ^^^^
      |
     ::: config.toml:4:8
      |
    4 | wall = "1h"
      |        ---- the ceiling
      |
      = help: ask for at most 1h
    "#);
    let manifest = format!("{HOST}limits.memory = \"4GiB\"\n");
    assert_eq!(
        folder.plan(&manifest, "memory = \"4GiB\"\npids = 1024\nwall = \"1h\"\n"),
        "exit 0\n"
    );
}

/// A built-in profile's value has a line too, in its own text.
#[test]
fn a_limit_of_a_built_in_profile() {
    let folder = Folder::new("built-in");
    insta::assert_snapshot!(folder.plan(HOST, "memory = \"256MiB\"\n"), @r#"
    exit 125
    error[RF0501]: memory of 512MiB exceeds this host's ceiling of 256MiB
      --> ringfence.toml:3:9
       |
     3 | image = "host"
       |         ^^^^^^
       |
      ::: built-in profile strict:22:11
       |
    22 | memory  = "512MiB"                      # and no swap
       |           -------- set here
       |
      ::: config.toml:2:10
       |
     2 | memory = "256MiB"
       |          -------- the ceiling
       |
       = help: ask for at most 256MiB
       = book: errors/RF0501.md, or `ringfence explain RF0501`
    "#);
}

#[test]
fn a_limit_that_is_missing_or_optional() {
    let folder = Folder::new("missing");
    insta::assert_snapshot!(folder.plan(&format!("{HOST}limits.memory = false\n"), "memory = \"4GiB\"\n"), @r#"
    exit 125
    error[RF0501]: no limit of memory, and this host's ceiling is 4GiB
     --> ringfence.toml:5:17
      |
    5 | limits.memory = false
      |                 ^^^^^
      |
     ::: config.toml:2:10
      |
    2 | memory = "4GiB"
      |          ------ the ceiling
      |
      = help: ask for at most 4GiB
      = book: errors/RF0501.md, or `ringfence explain RF0501`
    "#);
    let standard = format!("{HOST}profile = \"standard\"\nnetwork.mode = \"null\"\n");
    insta::assert_snapshot!(folder.plan(&standard, "memory = \"4GiB\"\n"), @r#"
    exit 125
    error[RF0501]: no limit of memory, and this host's ceiling is 4GiB
     --> ringfence.toml:5:11
      |
    5 | profile = "standard"
      |           ^^^^^^^^^^
      |
     ::: config.toml:2:10
      |
    2 | memory = "4GiB"
      |          ------ the ceiling
      |
      = help: ask for at most 4GiB
      = book: errors/RF0501.md, or `ringfence explain RF0501`
    "#);
    let optional = format!("{HOST}limits.enforce = \"optional\"\n");
    insta::assert_snapshot!(folder.plan(&optional, "memory = \"4GiB\"\n"), @r#"
    exit 125
    error[RF0501]: the limit of memory is optional, and this host has a ceiling of 4GiB
     --> ringfence.toml:5:18
      |
    5 | limits.enforce = "optional"
      |                  ^^^^^^^^^^
      |
     ::: config.toml:2:10
      |
    2 | memory = "4GiB"
      |          ------ the ceiling
      |
      = help: write `enforce = "required"`
      = book: errors/RF0501.md, or `ringfence explain RF0501`
    "#);
}

#[test]
fn a_network_a_capability_and_a_profile() {
    let folder = Folder::new("several");
    let manifest = format!("{HOST}profile = \"dev\"\nsecurity.capabilities = [\"CHOWN\", \"NET_RAW\"]\n");
    let config = "network = [\"null\", \"bridge\"]\ncapabilities = [\"CHOWN\"]\nprofiles = [\"strict\", \"standard\"]\n";
    insta::assert_snapshot!(folder.plan(&manifest, config), @r#"
    exit 125
    error[RF0502]: this host's ceiling does not allow the network mode "host"
      --> ringfence.toml:5:11
       |
     5 | profile = "dev"
       |           ^^^^^
       |
      ::: built-in profile dev:12:8
       |
    12 | mode = "host"
       |        ------ set here
       |
      ::: config.toml:2:11
       |
     2 | network = ["null", "bridge"]
       |           ------------------ the ceiling
       |
       = help: it allows null, bridge
       = book: errors/RF0502.md, or `ringfence explain RF0502`

    error[RF0506]: this host's ceiling does not allow the profile `dev`
     --> ringfence.toml:5:11
      |
    5 | profile = "dev"
      |           ^^^^^
      |
     ::: config.toml:4:12
      |
    4 | profiles = ["strict", "standard"]
      |            ---------------------- the ceiling
      |
      = help: it allows strict, standard
      = book: errors/RF0506.md, or `ringfence explain RF0506`

    error[RF0505]: this host's ceiling does not allow NET_RAW
     --> ringfence.toml:6:25
      |
    6 | security.capabilities = ["CHOWN", "NET_RAW"]
      |                         ^^^^^^^^^^^^^^^^^^^^
      |
     ::: config.toml:3:16
      |
    3 | capabilities = ["CHOWN"]
      |                --------- the ceiling
      |
      = help: write `security.capabilities` without it, or none: `[]`
      = book: errors/RF0505.md, or `ringfence explain RF0505`
    "#);
}

#[test]
fn an_image_and_a_registry() {
    let folder = Folder::new("image");
    let manifest = "image = \"registry.example/x/y:1\"\ncommand = [\"true\"]\n";
    let config = "registries = [\"docker.io\"]\nimages = [\"docker.io/library/*\", \"host\"]\n";
    insta::assert_snapshot!(folder.plan(manifest, config), @r#"
    exit 125
    error[RF0504]: this host's ceiling does not allow the registry registry.example
     --> ringfence.toml:3:9
      |
    3 | image = "registry.example/x/y:1"
      |         ^^^^^^^^^^^^^^^^^^^^^^^^
      |
     ::: config.toml:2:14
      |
    2 | registries = ["docker.io"]
      |              ------------- the ceiling
      |
      = help: it allows docker.io
      = book: errors/RF0504.md, or `ringfence explain RF0504`

    error[RF0504]: this host's ceiling does not allow the image registry.example/x/y:1
     --> ringfence.toml:3:9
      |
    3 | image = "registry.example/x/y:1"
      |         ^^^^^^^^^^^^^^^^^^^^^^^^
      |
     ::: config.toml:3:10
      |
    3 | images = ["docker.io/library/*", "host"]
      |          ------------------------------- the ceiling
      |
      = help: it allows docker.io/library/*, host
    "#);
    assert_eq!(folder.plan(HOST, config), "exit 0\n");
}

#[test]
fn a_part_of_the_host_outside_the_allowed_folders() {
    let folder = Folder::new("mount");
    std::fs::create_dir(folder.0.join("src")).expect("a folder");
    std::os::unix::fs::symlink("/etc", folder.0.join("link")).expect("a link");
    let bind = |source: &str| format!("{HOST}mounts.\"/m\".bind = \"{source}\"\n");
    let config = "mounts = [\"${manifest-dir}\"]\n";
    for inside in [".", "src", "${manifest-dir}/src", "src/../src"] {
        assert_eq!(folder.plan(&bind(inside), config), "exit 0\n", "{inside}");
    }
    insta::assert_snapshot!(folder.plan(&bind("/etc"), config), @r#"
    exit 125
    error[RF0503]: this host's ceiling does not allow /etc to be bound
     --> ringfence.toml:5:20
      |
    5 | mounts."/m".bind = "/etc"
      |                    ^^^^^^
      |
     ::: config.toml:2:10
      |
    2 | mounts = ["${manifest-dir}"]
      |          ------------------- the ceiling
      |
      = help: it allows ${manifest-dir} and what is below
      = book: errors/RF0503.md, or `ringfence explain RF0503`
    "#);
    // A link, a way up and a variable lead to the same place.
    for outside in ["link", "src/../link", "link/../etc"] {
        assert!(
            folder
                .plan(&bind(outside), config)
                .contains("does not allow /etc to be bound"),
            "{outside}"
        );
    }
    assert!(folder.plan(&bind(".."), config).contains("does not allow /"));
    let variable = format!(
        "{}[variables]\nPLACE = {{ env = \"CI_PLACE\" }}\n",
        bind("${PLACE}")
    );
    assert!(
        folder
            .plan(&variable, config)
            .contains("does not allow /etc to be bound")
    );
    // What is not there is refused by where it would be.
    assert!(
        folder
            .plan(&bind("link/nothing/here"), config)
            .contains("does not allow /etc/nothing/here to be bound")
    );
}

/// Whatever would start the job, or fetch what it needs, says the same.
#[test]
fn every_command_that_leads_to_a_run_refuses() {
    let folder = Folder::new("commands");
    let manifest = format!("{HOST}limits.memory = \"8GiB\"\n");
    for command in [
        &["run"][..],
        &["plan"],
        &["plan", "--all"],
        &["pull"],
        &["facts", "test"],
    ] {
        let said = folder.says(command, &manifest, "memory = \"4GiB\"\n");
        assert!(
            said.starts_with("exit 125\nerror[RF0501]: memory of 8GiB exceeds"),
            "{command:?}: {said}"
        );
    }
    let said = folder.says(
        &["run", "--image", "host", "--profile", "dev", "--", "true"],
        "",
        "profiles = [\"strict\"]\n",
    );
    assert!(
        said.contains("this host's ceiling does not allow the profile `dev`"),
        "{said}"
    );
}

#[test]
fn a_ceiling_that_cannot_be_read() {
    let folder = Folder::new("wrong");
    insta::assert_snapshot!(folder.plan(HOST, "memory = \"4G\"\n"), @r#"
    exit 125
    ringfence: config config.toml: TOML parse error at line 2, column 10
      |
    2 | memory = "4G"
      |          ^^^^
    `4G` has the unit `G`, which can be read in two ways; write `4GiB` (powers of 1024) or `4GB` (powers of 1000)
    "#);
    insta::assert_snapshot!(folder.plan(HOST, "disk = \"4GiB\"\n"), @r#"
    exit 125
    ringfence: config config.toml: TOML parse error at line 2, column 1
      |
    2 | disk = "4GiB"
      | ^^^^
    unknown field `disk`, expected one of `memory`, `pids`, `wall`, `network`, `mounts`, `registries`, `images`, `capabilities`, `profiles`
    "#);
}

//! `ringfence diff`: whole answers about manifests, plans and git revisions.

use std::path::{Path, PathBuf};
use std::process::Command;

const OLD: &str = r#"schema = 1
[job.test]
image = "host"
command = ["true"]
profile = "ci"

[job.lint]
image = "host"

[profile.ci]
limits.memory = "256MiB"
limits.wall = "1min"
"#;

const NEW: &str = r#"schema = 1
[job.test]
image = "host"
command = ["true", "|`x`|"]
profile = "ci"

[job.deploy]
image = "host"
network.mode = "host"

[profile.ci]
root = "tmpfs"
limits.memory = "128MiB"
limits.wall = "90s"
security.capabilities = ["NET_RAW"]
"#;

/// A folder of the test's own; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringfence-diff-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder");
        let folder = Folder(path);
        folder.write("old.toml", OLD);
        folder.write("new.toml", NEW);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file");
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        let out = Command::new(program)
            .args(args)
            .current_dir(&self.0)
            .output()
            .expect(program);
        assert!(out.status.success(), "{program} {args:?}: {out:?}");
        String::from_utf8(out.stdout).expect("text")
    }

    /// What `ringfence diff` prints, on whichever stream, after its exit code.
    fn diff(&self, args: &[&str]) -> String {
        let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .arg("diff")
            .args(args)
            .current_dir(&self.0)
            .output()
            .expect("ringfence");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).expect("text");
        format!(
            "exit {}\n{}{}",
            out.status.code().unwrap_or(-1),
            text(&out.stdout),
            text(&out.stderr)
        )
    }

    /// A plan of `new.toml` for a recorded host, in a file.
    fn plan(&self, manifest: &str, file: &str, format: &str) {
        let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/root-v2.toml");
        let facts = facts.to_str().expect("a path");
        let args = [
            "plan", "test", "-f", manifest, "--facts", facts, "--format", format,
        ];
        let plan = self.run(env!("CARGO_BIN_EXE_ringfence"), &args);
        self.write(file, &plan);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder");
    }
}

#[test]
fn two_manifests() {
    let folder = Folder::new("manifests");
    insta::assert_snapshot!(folder.diff(&["old.toml", "new.toml"]), @r#"
    exit 0
    job deploy (new)
      looser   network.allow  everything, where it was limited  (new.toml:9:16)
      looser   network.mode   network becomes the host's own  (new.toml:9:16)

    job lint (gone)

    job test
      looser   limits.wall            1min → 90s  (new.toml:14:15)
      looser   root                   root becomes writable, in memory  (new.toml:12:8)
      looser   security.capabilities  adds CAP_NET_RAW  (new.toml:15:25)
      tighter  limits.memory          256MiB → 128MiB  (new.toml:13:17)
      neutral  command                ["true"] → ["true", "|`x`|"]  (new.toml:4:11)

    5 looser, 1 tighter, 1 neutral
    "#);
    assert_eq!(
        folder.diff(&["old.toml", "old.toml", "--deny-looser"]),
        "exit 0\nno change\n"
    );
}

#[test]
fn markdown_for_a_review() {
    let folder = Folder::new("markdown");
    insta::assert_snapshot!(folder.diff(&["old.toml", "new.toml", "--format", "markdown"]), @r#"
    exit 0
    ### Sandbox: 5 looser, 1 tighter, 1 neutral

    #### Job `deploy` (new)

    | | key | change | where |
    | --- | --- | --- | --- |
    | **looser** | `network.allow` | everything, where it was limited | `new.toml:9:16` |
    | **looser** | `network.mode` | network becomes the host's own | `new.toml:9:16` |

    #### Job `lint` (gone)

    #### Job `test`

    | | key | change | where |
    | --- | --- | --- | --- |
    | **looser** | `limits.wall` | 1min → 90s | `new.toml:14:15` |
    | **looser** | `root` | root becomes writable, in memory | `new.toml:12:8` |
    | **looser** | `security.capabilities` | adds CAP\_NET\_RAW | `new.toml:15:25` |
    | tighter | `limits.memory` | 256MiB → 128MiB | `new.toml:13:17` |
    | neutral | `command` | \["true"\] → \["true", "\|\`x\`\|"\] | `new.toml:4:11` |
    "#);
}

#[test]
fn json_for_machines() {
    let folder = Folder::new("json");
    folder.write("old.toml", "schema = 1\n[job.x]\nimage = \"host\"\n");
    folder.write(
        "new.toml",
        "schema = 1\n[job.x]\nimage = \"host\"\nroot = \"tmpfs\"\n",
    );
    insta::assert_snapshot!(folder.diff(&["old.toml", "new.toml", "--format", "json"]), @r#"
    exit 0
    [
      {
        "changes": [
          {
            "at": "new.toml:4:8",
            "direction": "looser",
            "key": "root",
            "reason": "root becomes writable, in memory"
          }
        ],
        "fate": "kept",
        "job": "x"
      }
    ]
    "#);
}

#[test]
fn what_is_looser_can_be_denied() {
    let folder = Folder::new("deny");
    assert!(
        folder
            .diff(&["old.toml", "new.toml", "--deny-looser"])
            .starts_with("exit 1\n")
    );
    let tighter = OLD.replace("256MiB", "128MiB").replace("\"true\"", "\"false\"");
    folder.write("tighter.toml", &tighter);
    insta::assert_snapshot!(folder.diff(&["old.toml", "tighter.toml", "--deny-looser"]), @r#"
    exit 0
    job test
      tighter  limits.memory  256MiB → 128MiB  (tighter.toml:11:17)
      neutral  command        ["true"] → ["false"]  (tighter.toml:4:11)

    1 tighter, 1 neutral
    "#);
    assert!(
        folder
            .diff(&["tighter.toml", "old.toml", "--deny-looser"])
            .starts_with("exit 1\n")
    );
}

#[test]
fn two_plans() {
    let folder = Folder::new("plans");
    folder.plan("old.toml", "old.json", "json");
    folder.plan("new.toml", "new.json", "json");
    insta::assert_snapshot!(folder.diff(&["old.json", "new.json", "--deny-looser"]), @r#"
    exit 1
    job test
      looser   limits.wall                    1min → 90s
      looser   root                           root becomes writable
      looser   security.capabilities          adds CAP_NET_RAW
      looser   security.capabilities.ambient  security.capabilities.ambient becomes held by the job's user
      looser   security.landlock.write        adds /
      tighter  limits.memory                  256MiB → 128MiB
      neutral  command                        ["true"] → ["true", "|`x`|"]
      neutral  notices.security.capabilities  absent → a user that is not root keeps NET_RAW, inside its user namespace
      neutral  root.writes-go-to              nowhere → memory

    5 looser, 1 tighter, 3 neutral
    "#);
    folder.plan("new.toml", "new.plan.toml", "toml");
    assert_eq!(folder.diff(&["new.json", "new.plan.toml"]), "exit 0\nno change\n");
}

#[test]
fn two_git_revisions() {
    let folder = Folder::new("git");
    if Command::new("git").arg("--version").output().is_err() {
        assert_ne!(
            std::env::var("RINGFENCE_TESTS").as_deref(),
            Ok("require"),
            "git is missing"
        );
        eprintln!("skipped: git is missing");
        return;
    }
    let git = |args: &[&str]| {
        let who = [
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@example.org",
            "-c",
            "commit.gpgsign=false",
        ];
        folder.run("git", &[&who, args].concat())
    };
    git(&["init", "--quiet", "."]);
    folder.write("ringfence.toml", OLD);
    git(&["add", "ringfence.toml"]);
    git(&["commit", "--quiet", "-m", "one"]);
    folder.write("ringfence.toml", &OLD.replace("256MiB", "1GiB"));
    insta::assert_snapshot!(folder.diff(&["HEAD:ringfence.toml", "ringfence.toml"]), @r#"
    exit 0
    job test
      looser   limits.memory  256MiB → 1GiB  (ringfence.toml:11:17)

    1 looser
    "#);
    git(&["commit", "--quiet", "-a", "-m", "two"]);
    assert!(
        folder
            .diff(&[
                "HEAD~1:./ringfence.toml",
                "HEAD:./ringfence.toml",
                "--deny-looser"
            ])
            .starts_with("exit 1\n")
    );
    insta::assert_snapshot!(folder.diff(&["HEAD:absent.toml", "ringfence.toml"]), @r#"
    exit 125
    ringfence: HEAD:absent.toml: fatal: path 'absent.toml' does not exist in 'HEAD'
    "#);
}

#[test]
fn what_cannot_be_compared_is_told() {
    let folder = Folder::new("wrong");
    folder.plan("old.toml", "old.json", "json");
    folder.plan("old.toml", "old.txt", "text");
    folder.write("older.json", "{ \"plan\": 0, \"job\": \"test\" }");
    folder.write(
        "bad.toml",
        "schema = 1\n[job.test]\nimage = \"host\"\nmemory = \"1GiB\"\n",
    );
    insta::assert_snapshot!(folder.diff(&["old.toml", "old.json"]), @r#"
    exit 125
    ringfence: old.toml is a manifest and old.json a plan; compare two of a kind
    "#);
    insta::assert_snapshot!(folder.diff(&["old.txt", "old.json"]), @r#"
    exit 125
    ringfence: old.txt: this is a plan for people; write one with `--format json` or `--format toml`
    "#);
    insta::assert_snapshot!(folder.diff(&["older.json", "old.json"]), @r#"
    exit 125
    ringfence: older.json: this is a plan of version 0, and this ringfence reads version 1; plan the manifest again with `ringfence plan --format json`
    "#);
    insta::assert_snapshot!(folder.diff(&["old.toml", "bad.toml"]), @r#"
    exit 125
    error[RF0101]: unknown key `memory`
     --> bad.toml:4:1
      |
    4 | memory = "1GiB"
      | ^^^^^^
      |
      = help: `memory` belongs in the table `limits`
      = book: errors/RF0101.md, or `ringfence explain RF0101`
    "#);
    insta::assert_snapshot!(folder.diff(&["old.toml", "absent.toml"]), @r#"
    exit 125
    ringfence: absent.toml: no such file or directory
    "#);
}

//! `ringfence explain`: whole answers, from the line that holds to the built-in's own words.

use std::path::Path;
use std::process::Command;

/// A manifest with a chain of three tables and one of everything that can happen to a value.
const MANIFEST: &str = r#"schema = 1

[job.test]
image   = "host"
profile = "ci"
command = [
    "sh", "-c",
    "true",
]
limits.memory = "1GiB"          # the tests of this job need more

[job.test.mounts]
"/tmp" = false

[profile.ci]
inherits = "base"

[profile.ci.limits]
memory = "256MiB"

[profile.base.mounts."/src"]
bind = "."
"#;

/// What `ringfence explain` prints, with its exit code and what it says on standard error.
#[track_caller]
fn explain(name: &str, args: &[&str]) -> String {
    let folder = std::env::temp_dir().join(format!("ringfence-explain-{name}-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("ringfence.toml"), MANIFEST).expect("a manifest");
    let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .arg("explain")
        .args(args)
        .current_dir(&folder)
        .output()
        .expect("ringfence");
    std::fs::remove_dir_all(&folder).expect("the folder");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    match out.status.code() {
        Some(0) => text(out.stdout),
        code => format!("{code:?}\n{}", text(out.stderr)),
    }
}

#[test]
fn a_value_that_three_tables_write() {
    insta::assert_snapshot!(explain("three", &["limits.memory"]), @r#"
    limits.memory.max = "1GiB"
        Memory, without swap; file systems in memory count.
        set in      job.test    ringfence.toml:10:17   limits.memory = "1GiB"  # the tests of this job need more
        was set in  profile.ci  ringfence.toml:19:10   memory = "256MiB"
        was set in  strict      built-in strict:22:11  memory  = "512MiB"  # and no swap
    "#);
}

#[test]
fn a_value_that_was_taken_away() {
    insta::assert_snapshot!(explain("gone", &["mounts./tmp", "test"]), @r#"
    mounts."/tmp".tmpfs is removed
        A file system in memory of this size.
        removed in  job.test  ringfence.toml:13:10  "/tmp" = false
        was set in  strict    built-in strict:39:9  tmpfs = "64MiB"
    "#);
}

#[test]
fn a_value_over_several_lines() {
    insta::assert_snapshot!(explain("lines", &["command"]), @r#"
    command = [ "sh", "-c", "true", ]
        Replaces the image's Cmd.
        set in  job.test  ringfence.toml:6:11  command = [ …
    "#);
}

#[test]
fn a_table_shows_each_of_its_values() {
    insta::assert_snapshot!(explain("table", &["mounts"]), @r#"
    mounts."/dev/shm".exec = false
        Whether programs in a tmpfs may be run; `true` when not written.
        set in  strict  built-in strict:43:9  exec  = false

    mounts."/dev/shm".tmpfs = "16MiB"
        A file system in memory of this size.
        set in  strict  built-in strict:42:9  tmpfs = "16MiB"

    mounts."/src".bind = "."
        A file or directory of the host; relative to the manifest's folder.
        set in  profile.base  ringfence.toml:22:8  bind = "."

    mounts."/tmp".tmpfs is removed
        A file system in memory of this size.
        removed in  job.test  ringfence.toml:13:10  "/tmp" = false
        was set in  strict    built-in strict:39:9  tmpfs = "64MiB"
    "#);
}

#[test]
fn without_a_path_everything_after_the_chain() {
    let all = explain("all", &[]);
    assert!(
        all.starts_with("job.test ← profile.ci ← profile.base ← strict\n\ncommand = "),
        "{all}"
    );
    assert!(
        all.contains("\nsysctls.\"user.max_user_namespaces\" = \"0\"\n"),
        "{all}"
    );
}

#[test]
fn a_key_that_nothing_writes() {
    insta::assert_snapshot!(explain("unset", &["limits.cpus"]), @r#"
    limits.cpus is not set
        A share of processors.
        none of job.test, profile.ci, profile.base, strict writes it
    "#);
}

#[test]
fn a_key_that_there_is_not() {
    insta::assert_snapshot!(explain("typo", &["limits.memroy"]), @r#"
    Some(125)
    ringfence: `limits` has no key `memroy`; did you mean `limits.memory`?
    "#);
    insta::assert_snapshot!(explain("none", &["frobnicate"]), @r#"
    Some(125)
    ringfence: a job has no key `frobnicate`
    "#);
}

#[test]
fn a_job_that_there_is_not() {
    insta::assert_snapshot!(explain("job", &["limits", "tset"]), @r#"
    Some(125)
    error[RF0207]: the manifest has no job `tset`
     |
     = help: did you mean `test`?
     = book: errors/RF0207.md, or `ringfence explain RF0207`
    "#);
}

#[test]
fn json_for_machines() {
    insta::assert_snapshot!(explain("json", &["limits.memory", "--json"]), @r#"
    [
      {
        "about": "Memory, without swap; file systems in memory count.",
        "path": "limits.memory.max",
        "settings": [
          {
            "at": "built-in strict:22:11",
            "removes": false,
            "table": "strict",
            "text": "memory  = \"512MiB\"  # and no swap"
          },
          {
            "at": "ringfence.toml:19:10",
            "removes": false,
            "table": "profile.ci",
            "text": "memory = \"256MiB\""
          },
          {
            "at": "ringfence.toml:10:17",
            "removes": false,
            "table": "job.test",
            "text": "limits.memory = \"1GiB\"  # the tests of this job need more"
          }
        ],
        "value": "\"1GiB\""
      }
    ]
    "#);
}

/// Every value of every example has a place: a line of the manifest, or of a built-in profile.
#[test]
fn every_value_of_every_example_has_a_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    for entry in std::fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let manifest = ringfence::manifest::parse(&text).expect("the examples are right");
        for job in manifest.jobs() {
            let explanation = ringfence::profile::explain(&manifest, job).expect("the examples are right");
            assert!(explanation.values.len() > 30, "{job} of {}", path.display());
            for value in &explanation.values {
                assert!(
                    !value.doc.is_empty(),
                    "{} says nothing about itself",
                    value.path()
                );
                for setting in &value.settings {
                    let text = setting.built_in.map_or(text.as_str(), |profile| profile.text());
                    let written = &text[setting.span.clone()];
                    assert!(
                        !written.trim().is_empty(),
                        "{} of {}",
                        value.path(),
                        path.display()
                    );
                }
            }
        }
    }
}

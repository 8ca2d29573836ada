//! What users see of a manifest that is wrong, and what one that is right means.

use std::path::{Path, PathBuf};

use ringfence::problem::{Problems, codes};
use ringfence::{manifest, profile};

fn shown(problems: Option<Problems>, path: &Path, text: &str) -> String {
    let name = path.file_name().expect("a file").to_string_lossy();
    match problems {
        Some(problems) => problems.render(&name, text, false),
        None => "nothing is wrong\n".to_owned(),
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every manifest in `tests/bad` has at least one mistake; the snapshot beside it is all that is said about it.
#[test]
fn mistakes() {
    insta::glob!("bad/*.toml", |path| {
        let text = read(path);
        let problems = profile::check(&text);
        assert!(problems.is_some(), "{} has no mistake", path.display());
        // Beside the manifest, for the reader; the text itself says nothing about where it was made.
        insta::with_settings!({ snapshot_path => "bad", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(shown(problems, path, &text));
        });
    });
}

/// A problem without a code that is documented, or without a place, helps nobody.
#[test]
fn every_mistake_has_a_documented_code_and_a_place() {
    for path in manifests("tests/bad") {
        for problem in profile::check(&read(&path)).expect("a mistake").iter() {
            assert!(
                codes::ALL.iter().any(|(code, _)| *code == problem.code),
                "{}",
                problem.code
            );
            assert!(
                !problem.message.is_empty() && !problem.message.ends_with('.'),
                "{}",
                problem.message
            );
            assert!(
                problem.span.is_some() || problem.code == codes::UNKNOWN_JOB,
                "{}",
                problem.message
            );
        }
    }
}

#[test]
fn example_manifests_are_right() {
    for path in manifests("manifests") {
        let text = read(&path);
        assert_eq!(shown(profile::check(&text), &path, &text), "nothing is wrong\n");
    }
}

/// The manifest that documents show first.
#[test]
fn the_documented_manifest_is_right() {
    let text = r#"
schema = 1

[job.test]
image   = "python:3.12-slim"
profile = "ci"
command = ["python", "-m", "pytest", "-q"]
workdir = "/src"

[job.test.env]
CI = "1"

[job.test.mounts."/src"]
bind   = "."
access = "ro"

[profile.ci]
inherits = "strict"

[profile.ci.limits]
memory = "512MiB"
pids   = 64
cpus   = 1.5
cpu-time = "30s"
wall   = "60s"
disk   = "64MiB"
output = "1MiB"

[profile.ci.network]
mode = "bridge"

[profile.ci.network.allow."index.example.org"]
ports = [443]

[profile.ci.network.publish."127.0.0.1:8080"]
to = 80

[profile.ci.mounts."/tmp"]
tmpfs = "64MiB"
"#;
    assert_eq!(
        shown(profile::check(text), Path::new("ringfence.toml"), text),
        "nothing is wrong\n"
    );
}

/// A file that was cut off anywhere gives an answer, never a panic or an endless loop.
#[test]
fn every_prefix_of_a_manifest_gets_an_answer() {
    // The examples byte by byte; the many wrong ones in strides, so that the test stays short.
    let examples = manifests("manifests").into_iter().map(|path| (path, 1));
    for (path, stride) in examples.chain(manifests("tests/bad").into_iter().map(|path| (path, 13))) {
        let text = read(&path);
        for end in (0..text.len())
            .step_by(stride)
            .filter(|end| text.is_char_boundary(*end))
        {
            let problems = profile::check(&text[..end]);
            if end % 16 == 0 {
                shown(problems, &path, &text[..end]);
            }
        }
    }
}

fn manifests(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
}

/// Texts made to be expensive: each is refused or read in bounded time, on a small stack.
#[test]
fn hostile_texts_get_an_answer() {
    let repeated = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    let chain: String = (0..20_000)
        .map(|n| format!("[profile.p{n}]\ninherits = \"p{}\"\n", n + 1))
        .collect();
    let texts = [
        repeated("x", 10 << 20),
        repeated("[", manifest::MAX_BYTES),
        repeated("[a]\n", manifest::MAX_BYTES),
        repeated("=\n", manifest::MAX_BYTES),
        repeated("=\n", 60 << 10),
        repeated("'''\n", 60 << 10),
        repeated("\u{feff}", 60 << 10),
        repeated("é = \"${\"\r\n", 60 << 10),
        format!("a{} = 1", repeated(".a", manifest::MAX_BYTES - 8)),
        format!("[a{}]", repeated(".a", manifest::MAX_BYTES - 8)),
        format!("a = {}", repeated("[", 100_000)),
        format!("a = {}", repeated("{a=", 100_000)),
        format!("schema = 1\n{chain}[job.x]\nimage = \"host\"\nprofile = \"p0\"\n"),
        format!(
            "schema = 1\n[job.x]\n{}",
            (0..50_000).map(|n| format!("k{n} = 1\n")).collect::<String>()
        ),
    ];
    for text in texts {
        let text = text.as_str();
        let start: String = text.chars().take(20).collect();
        let problems = std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(1 << 20);
            let checked = small
                .spawn_scoped(scope, || profile::check(text))
                .expect("a thread");
            checked.join().unwrap_or_else(|_| panic!("{start:?} panics"))
        });
        let problems = problems.unwrap_or_else(|| panic!("{start:?} is right"));
        let shown = problems.render("x.toml", text, false);
        assert!(shown.len() < 100_000, "{start:?}: {} bytes", shown.len());
    }
}

#[test]
fn a_manifest_that_is_too_large_is_refused_with_one_error() {
    let text = "#".repeat(10 << 20);
    assert_eq!(
        profile::check(&text).expect("too large").to_string(),
        "[RF0001] the manifest has 10485760 bytes; at most 1048576 are read; is this the right file?"
    );
}

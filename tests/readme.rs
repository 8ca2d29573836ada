//! README.md and the examples do what they say.

#[path = "support/transcript.rs"]
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use transcript::{blocks, host_refuses, line_matches, matches, run, transcript};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_ringfence");

/// The two commands that README.md begins with; continuous integration runs both as they stand there.
const FROM_NOTHING: [&str; 2] = ["cargo run --release -- run -f manifests/hello.toml", "cargo test"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a host with less says before each run: one id, or an older Landlock. README.md was made on one with both.
fn is_notice(line: &str) -> bool {
    ["ringfence: ids: ", "ringfence: security.landlock: "]
        .iter()
        .any(|notice| line.starts_with(notice))
}

#[test]
fn transcripts_are_what_the_commands_print() {
    let readme = read("README.md");
    let transcripts = blocks(&readme, "console");
    assert!(transcripts.len() >= 5);
    if host_refuses() {
        return;
    }
    for block in transcripts {
        let mut status = 0;
        for shown in transcript(&block) {
            let (code, said) = run(shown.command, status);
            let lines: Vec<&str> = said.lines().filter(|line| !is_notice(line)).collect();
            assert!(
                matches(&shown.printed, &lines),
                "`{}` prints\n{said}",
                shown.command
            );
            status = code;
        }
    }
}

#[test]
fn the_commands_are_the_two_that_continuous_integration_runs() {
    let readme = read("README.md");
    assert_eq!(blocks(&readme, "sh"), [FROM_NOTHING]);
    let ci = read(".ci/run");
    for command in FROM_NOTHING {
        let runs = |line: &str| line.trim() == command || line.trim() == format!("{command} < /dev/null");
        assert!(ci.lines().any(runs), ".ci/run does not run `{command}`");
    }
}

#[test]
fn the_commands_of_contributing_are_those_of_continuous_integration() {
    let ci = read(".ci/run");
    let contributing = read("CONTRIBUTING.md");
    let blocks = blocks(&contributing, "sh");
    assert_eq!(blocks.len(), 1);
    for command in blocks.concat() {
        assert!(
            ci.lines().any(|line| line.trim() == command),
            ".ci/run does not run `{command}`"
        );
    }
}

#[test]
fn links_and_files_that_are_named_exist() {
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "benches/README.md",
    ] {
        let text = read(page);
        let folder = Path::new(ROOT).join(page);
        let folder = folder.parent().unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            assert!(folder.join(link).exists(), "{page}: there is no {link}");
        }
        let outside_blocks = text.split("```").step_by(2).collect::<String>();
        let quoted = outside_blocks.split('`').skip(1).step_by(2);
        let path = |word: &&str| {
            ["manifests/", "tests/", "benches/", "src/", ".ci/"]
                .iter()
                .any(|top| word.starts_with(top))
        };
        for file in quoted.flat_map(str::split_whitespace).filter(path) {
            assert!(Path::new(ROOT).join(file).exists(), "{page}: there is no {file}");
        }
    }
}

fn manifests() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["manifests", "benches"] {
        for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_example_passes_check_and_says_nothing() {
    let manifests = manifests();
    assert!(manifests.len() > 5);
    for manifest in manifests {
        let out = Command::new(PROGRAM)
            .args(["check".as_ref(), "-f".as_ref(), manifest.as_os_str()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(
            (out.status.code(), said.as_ref()),
            (Some(0), ""),
            "{}",
            manifest.display()
        );
    }
}

#[test]
fn every_example_is_named_in_the_readme() {
    let readme = read("README.md");
    for manifest in manifests() {
        if manifest
            .parent()
            .is_some_and(|folder| folder.ends_with("manifests"))
        {
            let name = manifest.file_name().unwrap().to_str().unwrap();
            assert!(readme.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[test]
fn left_out_text_is_matched_and_other_text_is_not() {
    assert!(line_matches("a … b", "a long b"));
    assert!(line_matches("plain", "plain  "));
    assert!(!line_matches("plain", "plainer"));
    assert!(!line_matches("a … b", "a long c"));
    assert!(matches(&["a", "…", "z"], &["a", "b", "c", "z"]));
    assert!(matches(&["a", "…", "z"], &["a", "z"]));
    assert!(!matches(&["a", "…", "z"], &["a", "z", "q"]));
    assert!(!matches(&["a"], &["a", "b"]));
}

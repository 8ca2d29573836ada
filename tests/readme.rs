//! README.md and the examples do what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_ringfence");

/// The two commands that README.md begins with; continuous integration runs both as they stand there.
const FROM_NOTHING: [&str; 2] = ["cargo run --release -- run -f manifests/hello.toml", "cargo test"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of each fenced block of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if found == language {
                blocks.push(block);
            }
        }
    }
    blocks
}

/// A command of a transcript, and what it is said to print.
struct Shown<'a> {
    command: &'a str,
    printed: Vec<&'a str>,
}

fn transcript<'a>(block: &[&'a str]) -> Vec<Shown<'a>> {
    let mut shown: Vec<Shown> = Vec::new();
    for &line in block {
        match (line.strip_prefix("$ "), shown.last_mut()) {
            (Some(command), _) => shown.push(Shown {
                command,
                printed: Vec::new(),
            }),
            (None, Some(last)) => last.printed.push(line),
            (None, None) => panic!("a transcript begins with a command, not with `{line}`"),
        }
    }
    shown
}

/// Whether a line is the one shown, where `…` stands for any text.
fn line_matches(shown: &str, line: &str) -> bool {
    let line = line.trim_end();
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether lines are those shown, where a line `…` stands for any lines.
fn matches(shown: &[&str], lines: &[&str]) -> bool {
    match (shown, lines) {
        ([], lines) => lines.is_empty(),
        (["…", shown @ ..], lines) => (0..=lines.len()).any(|left_out| matches(shown, &lines[left_out..])),
        (_, []) => false,
        ([first, shown @ ..], [line, lines @ ..]) => line_matches(first, line) && matches(shown, lines),
    }
}

/// Runs a command as a reader of README.md would, `status` being the exit code of the one before it.
fn run(command: &str, status: i32) -> (i32, String) {
    let built = Path::new(PROGRAM).parent().unwrap().display();
    let path = format!("{built}:{}", std::env::var("PATH").unwrap());
    let command = command.replace("cargo run --release --", "ringfence");
    let out = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; (exit {status}); {command}")])
        .current_dir(ROOT)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
}

/// What a host with less says before each run: one id, or an older Landlock. README.md was made on one with both.
fn is_notice(line: &str) -> bool {
    ["ringfence: ids: ", "ringfence: security.landlock: "]
        .iter()
        .any(|notice| line.starts_with(notice))
}

/// A host that cannot hold `strict` refuses with 125; there the transcripts cannot be made again.
fn host_refuses() -> bool {
    let (status, said) = run("ringfence run --image host -- true", 0);
    if status != 125 {
        return false;
    }
    assert_ne!(
        std::env::var("RINGFENCE_TESTS").as_deref(),
        Ok("require"),
        "refused: {said}"
    );
    eprintln!("skipped: this host cannot hold `strict`: {said}");
    true
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

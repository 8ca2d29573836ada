//! Documents as their readers take them: blocks of a page, commands with what they print.

use std::path::Path;
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_ringfence");

/// The lines of each fenced block of a language.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<Vec<&'a str>> {
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
pub(crate) struct Shown<'a> {
    pub(crate) command: &'a str,
    pub(crate) printed: Vec<&'a str>,
}

pub(crate) fn transcript<'a>(block: &[&'a str]) -> Vec<Shown<'a>> {
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
pub(crate) fn line_matches(shown: &str, line: &str) -> bool {
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
pub(crate) fn matches(shown: &[&str], lines: &[&str]) -> bool {
    match (shown, lines) {
        ([], lines) => lines.is_empty(),
        (["…", shown @ ..], lines) => (0..=lines.len()).any(|left_out| matches(shown, &lines[left_out..])),
        (_, []) => false,
        ([first, shown @ ..], [line, lines @ ..]) => line_matches(first, line) && matches(shown, lines),
    }
}

/// Runs a command as a reader of README.md would, `status` being the exit code of the one before it.
pub(crate) fn run(command: &str, status: i32) -> (i32, String) {
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

/// A host that cannot hold `strict` refuses with 125; there the transcripts cannot be made again.
pub(crate) fn host_refuses() -> bool {
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

//! The book does what it says: every transcript is made again, every manifest is right, or wrong in the way it is said to be.

#[path = "support/transcript.rs"]
mod transcript;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringfence::{ceiling, plan, problem, profile};
use transcript::{blocks, host_refuses, matches, run, transcript};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn source() -> PathBuf {
    Path::new(ROOT).join("book/src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of a folder with their texts.
fn pages(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).expect("a folder of pages");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), read(&path)))
        .collect()
}

/// Every code with its meaning.
fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    problem::codes::ALL
        .iter()
        .chain(plan::CODES)
        .chain(ceiling::codes::ALL)
        .copied()
}

#[test]
fn every_transcript_is_what_the_commands_print() {
    if host_refuses() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("ringfence-book-{}", std::process::id()));
    let mut compared = 0;
    for (path, text) in pages(&source()) {
        for block in blocks(&text, "console") {
            let mut status = 0;
            for shown in transcript(&block) {
                let command = format!("PLANS={}; {}", folder.display(), shown.command);
                let (code, said) = run(&command, status);
                let lines: Vec<&str> = said.lines().collect();
                assert!(
                    matches(&shown.printed, &lines),
                    "{}: `{}` prints\n{said}",
                    path.display(),
                    shown.command
                );
                status = code;
                compared += 1;
            }
        }
    }
    fs::remove_dir_all(folder).expect("the plans");
    assert!(compared >= 6, "{compared}");
}

#[test]
fn every_manifest_is_right() {
    let mut checked = 0;
    for (path, text) in pages(&source()) {
        for block in blocks(&text, "toml") {
            let text = block.join("\n") + "\n";
            checked += 1;
            if text.starts_with("[ceiling]") {
                let config: toml::Table = toml::from_str(&text).expect("toml");
                let ceiling = toml::to_string(&config["ceiling"]).expect("toml");
                toml::from_str::<ceiling::Ceiling>(&ceiling)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                continue;
            }
            if let Some(problems) = profile::check(&text) {
                panic!("{}", problems.render(&path.display().to_string(), &text, false));
            }
        }
    }
    assert!(checked >= 2, "{checked}");
}

/// Each page shows what is wrong, and what would be right, and both are.
#[test]
fn every_code_has_a_page_that_shows_it() {
    for (code, meaning) in codes() {
        let page = read(&source().join(format!("errors/{code}.md")));
        assert!(
            page.starts_with(&format!("# {code}: {meaning}\n\n")),
            "{code}: the title is not its meaning"
        );
        let manifests: Vec<String> = blocks(&page, "toml")
            .iter()
            .map(|block| block.join("\n") + "\n")
            .collect();
        let Some(wrong) = page.contains("\nWrong:\n").then(|| manifests[0].as_str()) else {
            assert!(manifests.is_empty(), "{code}: a manifest that nobody checks");
            continue;
        };
        let found = profile::check(wrong).unwrap_or_else(|| panic!("{code}: the wrong manifest is right"));
        assert!(
            found.iter().any(|problem| problem.code == code),
            "{code}: {found}"
        );
        if page.contains("\nRight:\n") {
            assert_eq!(
                profile::check(&manifests[1]).map(|problems| problems.to_string()),
                None,
                "{code}"
            );
        }
    }
}

#[test]
fn the_summary_has_every_page_and_no_other() {
    let summary = read(&source().join("SUMMARY.md"));
    let linked: BTreeSet<&str> = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    let relative = |(path, _): (PathBuf, String)| {
        path.strip_prefix(source())
            .expect("a page of the book")
            .to_str()
            .expect("text")
            .to_owned()
    };
    let all = pages(&source())
        .into_iter()
        .chain(pages(&source().join("errors")))
        .map(relative);
    let all: BTreeSet<String> = all.filter(|page| page != "SUMMARY.md").collect();
    let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(linked, all);
    for (code, meaning) in codes() {
        assert!(
            summary.contains(&format!("[{code}: {meaning}](errors/{code}.md)")),
            "{code} is not in the summary"
        );
    }
    // A page that includes a file shows what is tested.
    for (path, text) in pages(&source()) {
        for included in text
            .split("{{#include ")
            .skip(1)
            .filter_map(|rest| rest.split("}}").next())
        {
            assert!(
                source().join(included).is_file(),
                "{}: there is no {included}",
                path.display()
            );
        }
    }
}

#[test]
fn a_code_is_explained_without_the_book_at_hand() {
    let (code, said) = run("ringfence explain RF0105", 0);
    assert_eq!((code, said), (0, read(&source().join("errors/RF0105.md"))));
    let (code, said) = run("ringfence explain RF9999", 0);
    assert_eq!(
        (code, said.as_str()),
        (
            125,
            "ringfence: there is no error RF9999; the errors are RF0001 to RF0506\n"
        )
    );
}

//! The one-way flow between modules, which one crate leaves to discipline: reads `src/` and names every line that
//! points the wrong way.

use std::fs;
use std::path::{Path, PathBuf};

/// What the host is asked through.
const HOST: &[&str] = &[
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::os",
    "nix",
    "crate::sys",
];

/// A module, what its code may not name, what of that it may all the same, and why.
struct Rule {
    module: &'static str,
    forbidden: &'static [&'static [&'static str]],
    except: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        module: "manifest",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::host",
                "crate::cli",
            ],
        ],
        // Addresses are data.
        except: &["std::net::IpAddr", "std::net::SocketAddr"],
        reason: "a manifest is text; nothing of the machine is looked at",
    },
    Rule {
        module: "profile",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::host",
                "crate::cli",
            ],
        ],
        // Addresses are data.
        except: &["std::net::SocketAddr"],
        reason: "profiles are resolved without a machine",
    },
    Rule {
        module: "plan",
        forbidden: &[
            HOST,
            &[
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::report",
                "crate::cli",
                "crate::host::probe",
            ],
        ],
        except: &[],
        reason: "a plan depends on its four arguments alone",
    },
    Rule {
        module: "expect",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::launch",
                "crate::stage",
                "crate::report",
                "crate::cli",
            ],
        ],
        except: &[],
        reason: "what was seen comes in as data",
    },
    Rule {
        module: "ceiling",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::report",
                "crate::cli",
                "crate::host",
            ],
        ],
        except: &[],
        reason: "where a path leads is told to it",
    },
    Rule {
        module: "import",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::host",
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::report",
                "crate::cli",
            ],
        ],
        except: &[],
        reason: "a text becomes a text",
    },
    Rule {
        module: "diff",
        forbidden: &[
            HOST,
            &[
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::report",
                "crate::cli",
                "crate::host",
            ],
        ],
        except: &[],
        reason: "two texts are compared, wherever they are",
    },
    Rule {
        module: "seccomp",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::profile",
                "crate::launch",
                "crate::stage",
                "crate::cli",
            ],
        ],
        // Names of numbers, not calls.
        except: &["nix::libc", "nix::errno"],
        reason: "filters are compiled here and applied elsewhere",
    },
    Rule {
        module: "host",
        forbidden: &[&["crate::plan", "crate::launch", "crate::stage", "crate::cli"]],
        except: &[],
        reason: "the probe answers questions, whatever they are for",
    },
    Rule {
        module: "image",
        forbidden: &[&[
            "crate::plan",
            "crate::launch",
            "crate::stage",
            "crate::cli",
            "crate::profile",
        ]],
        except: &[],
        reason: "images know nothing of sandboxes",
    },
    Rule {
        module: "lock",
        forbidden: &[
            HOST,
            &[
                "crate::plan",
                "crate::profile",
                "crate::launch",
                "crate::stage",
                "crate::cli",
            ],
        ],
        except: &[],
        reason: "a lock is text; who calls has the file and the registry",
    },
    Rule {
        module: "cgroup",
        forbidden: &[&[
            "crate::plan",
            "crate::profile",
            "crate::launch",
            "crate::stage",
            "crate::cli",
        ]],
        except: &[],
        reason: "control groups know nothing of plans",
    },
    Rule {
        module: "egress",
        forbidden: &[
            HOST,
            &[
                "crate::manifest",
                "crate::profile",
                "crate::plan",
                "crate::net",
                "crate::launch",
                "crate::stage",
                "crate::report",
                "crate::cli",
            ],
        ],
        // Addresses are data.
        except: &[
            "std::net::IpAddr",
            "std::net::Ipv4Addr",
            "std::net::Ipv6Addr",
            "std::net::SocketAddrV4",
        ],
        reason: "what may be reached is decided by what is told to it",
    },
    Rule {
        module: "net",
        forbidden: &[&[
            "crate::plan",
            "crate::profile",
            "crate::launch",
            "crate::stage",
            "crate::report",
            "crate::cli",
        ]],
        except: &[],
        reason: "networks know nothing of plans",
    },
    Rule {
        module: "stage",
        forbidden: &[&[
            "crate::cli",
            "crate::manifest",
            "crate::image",
            "crate::host",
            "crate::launch",
        ]],
        except: &[],
        reason: "after the clone there are steps to take and nothing to decide",
    },
    Rule {
        module: "export",
        forbidden: &[
            HOST,
            &[
                "crate::launch",
                "crate::stage",
                "crate::cgroup",
                "crate::report",
                "crate::cli",
            ],
        ],
        except: &[],
        reason: "a plan and the values that it leaves open make the text",
    },
    Rule {
        module: "sys",
        forbidden: &[&["crate"]],
        except: &["crate::sys"],
        reason: "system calls need nothing of the rest",
    },
];

/// Files that may print: the library returns.
const PRINTING: &[&str] = &["cli", "init", "main.rs"];

/// The bound of one file; tables of data may be longer.
const LINES: usize = 500;
const TABLES: &[&str] = &["manifest/sections.rs", "seccomp/table.rs"];

/// Files that only tests compile, besides those called `tests`.
const TEST_FILES: &[&str] = &["plan/sample.rs", "seccomp/interpreter.rs"];

#[test]
fn no_module_names_what_it_may_not_know() {
    let mut wrong = Vec::new();
    for rule in RULES {
        for file in files_of(rule.module) {
            for path in paths(&code(&file)) {
                let mut forbidden = rule.forbidden.iter().flat_map(|list| list.iter());
                if forbidden.any(|name| is_below(&path, name))
                    && !rule.except.iter().any(|name| is_below(&path, name))
                {
                    wrong.push(format!("{}: {path} ({})", shown(&file), rule.reason));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_lives_in_sys() {
    let wrong: Vec<String> = all_files()
        .filter(|file| !shown(file).starts_with("src/sys/"))
        .filter(|file| words(&code(file)).any(|word| word == "unsafe"))
        .map(|file| shown(&file))
        .collect();
    assert!(
        wrong.is_empty(),
        "unsafe outside of src/sys: {}",
        wrong.join(", ")
    );
}

#[test]
fn the_library_does_not_print() {
    let prints = ["print!", "println!", "eprint!", "eprintln!", "dbg!"];
    let may = |file: &Path| {
        PRINTING
            .iter()
            .any(|name| shown(file).starts_with(&format!("src/{name}")))
    };
    let wrong: Vec<String> = all_files()
        .filter(|file| !may(file))
        .filter(|file| {
            let code = code(file);
            prints.iter().any(|print| {
                code.match_indices(print)
                    .any(|(at, _)| !code[..at].ends_with(is_name))
            })
        })
        .map(|file| shown(&file))
        .collect();
    assert!(wrong.is_empty(), "prints: {}", wrong.join(", "));
}

#[test]
fn a_file_is_one_idea_long() {
    let wrong: Vec<String> = all_files()
        .filter(|file| !TABLES.iter().any(|table| file.ends_with(table)))
        .map(|file| (read(&file).lines().count(), shown(&file)))
        .filter(|(lines, _)| *lines > LINES)
        .map(|(lines, file)| format!("{file} has {lines} lines"))
        .collect();
    assert!(wrong.is_empty(), "more than {LINES} lines: {}", wrong.join(", "));
}

#[test]
fn paths_are_found_however_they_are_written() {
    let code = "use std::{collections::{BTreeMap, HashSet as Set}, fs};\npub(crate) use nix::{errno::Errno, sys::stat::{self, Mode}};\n\
                fn f() { std::env::var(\"x\"); let y = crate :: sys::prctl(); }";
    let mut found = paths(code);
    found.sort();
    assert_eq!(
        found,
        [
            "crate::sys::prctl",
            "nix::errno::Errno",
            "nix::sys::stat::Mode",
            "nix::sys::stat::self",
            "std::collections::BTreeMap",
            "std::collections::HashSet",
            "std::env::var",
            "std::fs",
        ]
    );
    let file = "/// like `std::fs`\nfn f() { g(\"std::fs // not a comment\"); } // unsafe\n#[cfg(test)]\nmod tests { use std::fs; }";
    assert_eq!(paths(&without_tests(file)), [""; 0]);
}

/// Whether a path is what `name` names, or leads into it.
fn is_below(path: &str, name: &str) -> bool {
    path.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn shown(file: &Path) -> String {
    file.strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .unwrap_or(file)
        .display()
        .to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn all_files() -> impl Iterator<Item = PathBuf> {
    rust_files(&root()).into_iter()
}

/// The files of a module: `src/NAME.rs` and everything below `src/NAME`. A module that is not there yet has none.
fn files_of(module: &str) -> Vec<PathBuf> {
    let (folder, file) = (root().join(module), root().join(format!("{module}.rs")));
    let mut files = if folder.is_dir() {
        rust_files(&folder)
    } else {
        Vec::new()
    };
    files.extend(file.is_file().then_some(file));
    files
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is compiled into the product; a file of tests alone has none.
fn code(file: &Path) -> String {
    let of_tests = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    let below = file.strip_prefix(root()).unwrap_or(file);
    if below.iter().any(of_tests) || TEST_FILES.iter().any(|name| below == Path::new(name)) {
        return String::new();
    }
    without_tests(&read(file))
}

/// The text without comments, without what stands in strings, and up to the tests at its end.
fn without_tests(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    // What other tests use of them.
    let text = text
        .split("\n#[cfg(test)]\npub(crate) mod tests")
        .next()
        .unwrap_or_default();
    let mut out = String::new();
    let (mut rest, mut in_string) = (text, false);
    while let Some(c) = rest.chars().next() {
        match (in_string, c) {
            (true, '\\') => {
                let skipped: usize = rest.chars().take(2).map(char::len_utf8).sum();
                rest = &rest[skipped..];
                continue;
            }
            (_, '"') => in_string = !in_string,
            (false, '/') if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            (false, '\'') if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") => {
                rest = &rest[rest[1..].find("'").map_or(1, |end| end + 2)..];
                continue;
            }
            (false, c) => out.push(c),
            (true, _) => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Every path with two parts or more, groups of `use` taken apart.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = String::new();
    let mut groups: Vec<String> = Vec::new();
    let mut after_as = false;
    let flush = |before: &mut String, groups: &[String], found: &mut Vec<String>| {
        let path = format!("{}{before}", groups.last().map_or("", String::as_str));
        if path.contains("::") && !before.is_empty() {
            found.push(path.trim_end_matches("::").to_owned());
        }
        before.clear();
    };
    for token in tokens(code) {
        match token {
            "::" => before.push_str("::"),
            "{" if before.ends_with("::") => {
                let group = format!("{}{before}", groups.last().map_or("", String::as_str));
                groups.push(group);
                before.clear();
            }
            "{" => {
                flush(&mut before, &[], &mut found);
                // A block: paths in it have no group in front.
                groups.push(String::new());
            }
            "}" => {
                flush(&mut before, &groups, &mut found);
                groups.pop();
            }
            "as" => {
                flush(&mut before, &groups, &mut found);
                after_as = true;
            }
            name if name.starts_with(is_name) => {
                if std::mem::take(&mut after_as) {
                    continue;
                }
                if !before.ends_with("::") {
                    flush(&mut before, &groups, &mut found);
                }
                before.push_str(name);
            }
            _ => flush(&mut before, &groups, &mut found),
        }
    }
    flush(&mut before, &groups, &mut found);
    found
}

/// Names, `::` and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            first if is_name(first) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            first => first.len_utf8(),
        };
        found.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    found
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    tokens(code)
        .into_iter()
        .filter(|token| token.starts_with(is_name))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

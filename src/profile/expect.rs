//! What the author of a job claims of its sandbox, for `ringfence test` to hold against the kernel.

use std::fmt;

use super::view::View;
use super::{Capability, Origin, Peer, Placed};
use crate::manifest::value::{Node, Value};
use crate::problem::{Problem, codes};

/// More than anybody reads; the number of one fits into a record.
const MOST: usize = 256;

/// One claim: what a process of the job sees when it tries, or how the job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A file or directory can, or cannot, be used so.
    Path {
        /// How.
        access: Try,
        /// The place inside.
        path: String,
        /// `can-…`, and not `cannot-…`.
        allowed: bool,
    },
    /// A connection can, or cannot, be made.
    Connect {
        /// Where to.
        to: Peer,
        /// `can-…`, and not `cannot-…`.
        allowed: bool,
    },
    /// The user id inside.
    Uid(u32),
    /// The group id inside.
    Gid(u32),
    /// A capability is in none of the five sets.
    LacksCapability(Capability),
    /// So many processes are seen in `/proc`, the one that looks among them.
    Processes(u32),
    /// The exit code of `ringfence run`.
    ExitCode(u8),
    /// The verdict, in the receipt's word.
    Verdict(String),
    /// Standard output has a match of this regular expression.
    OutputMatches(String),
    /// Standard error has one.
    ErrorsMatch(String),
}

/// How a path is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// A file is opened and its first byte read; a directory's first name.
    Read,
    /// A file is opened to be written; in a directory, or where nothing is, one is made, written and removed.
    Write,
}

impl Claim {
    /// Whether it is about how the job ends; the others are asked before the job's program would run.
    pub fn is_about_the_end(&self) -> bool {
        matches!(
            self,
            Claim::ExitCode(_) | Claim::Verdict(_) | Claim::OutputMatches(_) | Claim::ErrorsMatch(_)
        )
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let can = |allowed: &bool| if *allowed { "can" } else { "cannot" };
        match self {
            Claim::Path {
                access,
                path,
                allowed,
            } => {
                let verb = match access {
                    Try::Read => "read",
                    Try::Write => "write",
                };
                write!(f, "{} {verb} {path}", can(allowed))
            }
            Claim::Connect { to, allowed } => write!(f, "{} connect to {to}", can(allowed)),
            Claim::Uid(id) => write!(f, "uid is {id}"),
            Claim::Gid(id) => write!(f, "gid is {id}"),
            Claim::LacksCapability(capability) => write!(f, "lacks capability {capability}"),
            Claim::Processes(1) => f.write_str("sees 1 process"),
            Claim::Processes(count) => write!(f, "sees {count} processes"),
            Claim::ExitCode(code) => write!(f, "exit code is {code}"),
            Claim::Verdict(verdict) => write!(f, "verdict is {verdict}"),
            Claim::OutputMatches(pattern) => write!(f, "output matches {}", OneLine(pattern)),
            Claim::ErrorsMatch(pattern) => write!(f, "errors match {}", OneLine(pattern)),
        }
    }
}

/// A text on one line, harmless on a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// The claims of a job, in the order in which they are written.
pub(super) fn read(view: View<'_, '_>, problems: &mut Vec<Problem>) -> Vec<Placed<Claim>> {
    let mut claims = Vec::new();
    for item in view.items() {
        let Some(Value::Table(table)) = item.value() else {
            continue;
        };
        if claims.len() == MOST {
            let message = format!("a job has more than {MOST} expectations");
            let help = "give some of them to another job";
            problems.push(Problem::new(codes::OUT_OF_RANGE, item.span(), message, help));
            break;
        }
        // The decoder has reported a table that is empty, and one that says two things.
        let Some((key, node)) = table.iter().next() else {
            continue;
        };
        let origin = match item.origin() {
            Origin::Manifest { table, .. } => Origin::Manifest {
                table,
                span: node.key.start..node.span.end,
            },
            other => other,
        };
        claims.extend(claim(key, node).map(|value| Placed { value, origin }));
    }
    claims
}

/// The claim of one key; none for a value that was reported already.
fn claim(key: &str, node: &Node) -> Option<Claim> {
    let text = || node.value.as_text().map(str::to_owned);
    let number = || match node.value {
        Value::Integer(number) => u32::try_from(number).ok(),
        _ => None,
    };
    let path = |access, allowed| {
        Some(Claim::Path {
            access,
            path: text()?,
            allowed,
        })
    };
    let connect = |allowed| {
        Some(Claim::Connect {
            to: text()?.parse().ok()?,
            allowed,
        })
    };
    match key {
        "can-read" => path(Try::Read, true),
        "cannot-read" => path(Try::Read, false),
        "can-write" => path(Try::Write, true),
        "cannot-write" => path(Try::Write, false),
        "can-connect" => connect(true),
        "cannot-connect" => connect(false),
        "uid" => number().map(Claim::Uid),
        "gid" => number().map(Claim::Gid),
        "lacks-capability" => Capability::from_name(&text()?).map(Claim::LacksCapability),
        "processes" => number().map(Claim::Processes),
        "exit-code" => number()
            .and_then(|code| u8::try_from(code).ok())
            .map(Claim::ExitCode),
        "verdict" => text().map(Claim::Verdict),
        "output-matches" => text().map(Claim::OutputMatches),
        "errors-match" => text().map(Claim::ErrorsMatch),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::sections::EXPECT;
    use crate::{manifest, profile};

    fn claims(lines: &str) -> Result<Vec<String>, String> {
        let text = format!("schema = 1\n[job.x]\nimage = \"host\"\n{lines}");
        let job = manifest::parse(&text).and_then(|manifest| profile::resolve(&manifest, "x"));
        let shown = |job: profile::Job| job.expect.iter().map(|claim| claim.value.to_string()).collect();
        job.map(shown).map_err(|problems| problems.to_string())
    }

    #[test]
    fn every_key_of_the_section_is_a_claim() {
        for key in EXPECT.keys {
            let value = match key.name {
                "uid" | "gid" | "processes" | "exit-code" => "7",
                "lacks-capability" => "\"NET_RAW\"",
                "verdict" => "\"oom\"",
                "can-connect" | "cannot-connect" => "\"example.org:80\"",
                _ => "\"/x\"",
            };
            let found = claims(&format!("[[job.x.expect]]\n{} = {value}\n", key.name)).expect(key.name);
            assert_eq!(found.len(), 1, "{}", key.name);
        }
    }

    #[test]
    fn claims_are_read_in_their_order() {
        let found = claims(
            "[[job.x.expect]]\ncannot-read = \"/etc/shadow\"\n[[job.x.expect]]\nprocesses = 2\n\
             [[job.x.expect]]\ncannot-connect = \"/run/x.sock\"\n[[job.x.expect]]\noutput-matches = '^a\\d$'\n",
        );
        let expected = [
            "cannot read /etc/shadow",
            "sees 2 processes",
            "cannot connect to /run/x.sock",
            "output matches ^a\\d$",
        ];
        assert_eq!(found.expect("right"), expected);
        let nothing = claims("expect = [{}]\n").expect_err("nothing is said");
        let wanted = "[RF0107] `expect` says nothing; write one of `can-read`";
        assert!(nothing.starts_with(wanted), "{nothing}");
    }
}

//! Expectations: claims held against what was seen, and how the result is told.
//!
//! Pure: who looks, and where, is the launcher's; what it saw comes in as [`Seen`].

mod format;

use std::fmt;

use regex_lite::Regex;
use serde::Serialize;

pub(crate) use self::format::Format;
use crate::profile::{Claim, Try};

/// What was seen of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It could be done.
    Done,
    /// It could be opened, and nothing is in it.
    Empty,
    /// The name has no address.
    NoAddress,
    /// The kernel refused, in its words.
    Refused(String),
    /// A number that was asked for.
    Number(u32),
    /// The process that looks was ended before it could answer.
    NoAnswer,
}

/// How the job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The exit code of `run`.
    pub(crate) code: u8,
    /// The receipt's word.
    pub(crate) verdict: String,
    /// Standard output.
    pub(crate) output: String,
    /// Standard error.
    pub(crate) errors: String,
}

/// One claim and how it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Outcome {
    /// The claim, as a sentence.
    pub(crate) expect: String,
    /// Whether it holds.
    pub(crate) met: bool,
    /// What was seen.
    pub(crate) seen: String,
    /// Where it stands: `FILE:LINE:COLUMN`.
    pub(crate) at: String,
}

/// The outcomes of one job, in the manifest's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Tested {
    /// The job's name.
    pub(crate) job: String,
    /// Its expectations.
    pub(crate) expectations: Vec<Outcome>,
}

impl Tested {
    /// How many expectations were not met.
    pub(crate) fn failures(&self) -> usize {
        self.expectations.iter().filter(|outcome| !outcome.met).count()
    }
}

/// Whether a claim about the sandbox holds, and what was seen, in words.
pub(crate) fn judge(claim: &Claim, seen: &Seen) -> (bool, String) {
    let met = match (claim, seen) {
        (_, Seen::NoAnswer) => false,
        // An empty file can be read; a masked one, which looks the same, shows nothing.
        (
            Claim::Path {
                access: Try::Read, ..
            },
            Seen::Empty,
        ) => true,
        (Claim::Path { allowed, .. } | Claim::Connect { allowed, .. }, seen) => {
            *allowed != matches!(seen, Seen::Refused(_) | Seen::NoAddress)
        }
        (Claim::Uid(wanted) | Claim::Gid(wanted) | Claim::Processes(wanted), Seen::Number(number)) => {
            wanted == number
        }
        (Claim::LacksCapability(_), Seen::Number(number)) => *number == 0,
        _ => false,
    };
    let words = match (claim, seen) {
        (Claim::LacksCapability(_), Seen::Number(0)) => "in no set".to_owned(),
        (Claim::LacksCapability(_), Seen::Number(_)) => "the job has it".to_owned(),
        (Claim::Uid(_) | Claim::Gid(_), Seen::Number(id)) => format!("it is {id}"),
        _ => seen.to_string(),
    };
    (met, words)
}

/// Whether a claim about the job's end holds, and what was seen, in words.
pub(crate) fn judge_end(claim: &Claim, end: &End) -> (bool, String) {
    let matched = |pattern: &str, text: &str| {
        // The decoder has compiled it before.
        let found = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        (found, excerpt(text))
    };
    match claim {
        Claim::ExitCode(code) => (*code == end.code, format!("it is {}", end.code)),
        Claim::Verdict(verdict) => (*verdict == end.verdict, format!("it is {}", end.verdict)),
        Claim::OutputMatches(pattern) => matched(pattern, &end.output),
        Claim::ErrorsMatch(pattern) => matched(pattern, &end.errors),
        _ => (false, "it is not about the end".to_owned()),
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Done => f.write_str("it can"),
            Seen::Empty => f.write_str("nothing is in it"),
            Seen::NoAddress => f.write_str("the name has no address"),
            Seen::Refused(words) => f.write_str(words),
            Seen::Number(number) => write!(f, "there are {number}"),
            Seen::NoAnswer => f.write_str("no answer: the process that looked was ended"),
        }
    }
}

/// The beginning of what a job has said, on one line and harmless on a terminal.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.is_empty() {
        return "there is none".to_owned();
    }
    let start: String = text.chars().take(LONGEST).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("it is \"{}{more}\"", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Capability;

    fn reads(allowed: bool) -> Claim {
        Claim::Path {
            access: Try::Read,
            path: "/x".into(),
            allowed,
        }
    }

    #[test]
    fn a_claim_holds_or_not() {
        let refused = Seen::Refused("permission denied".into());
        for (claim, seen, met, words) in [
            (reads(true), &Seen::Done, true, "it can"),
            (reads(false), &Seen::Done, false, "it can"),
            (reads(true), &refused, false, "permission denied"),
            (reads(false), &refused, true, "permission denied"),
            (reads(true), &Seen::Empty, true, "nothing is in it"),
            (reads(false), &Seen::Empty, true, "nothing is in it"),
            (
                reads(false),
                &Seen::NoAnswer,
                false,
                "no answer: the process that looked was ended",
            ),
            (Claim::Uid(7), &Seen::Number(7), true, "it is 7"),
            (Claim::Processes(2), &Seen::Number(3), false, "there are 3"),
            (
                Claim::LacksCapability(Capability::NetRaw),
                &Seen::Number(1),
                false,
                "the job has it",
            ),
            (
                Claim::LacksCapability(Capability::NetRaw),
                &refused,
                false,
                "permission denied",
            ),
        ] {
            assert_eq!(judge(&claim, seen), (met, words.to_owned()), "{claim}: {seen:?}");
        }
    }

    #[test]
    fn a_claim_about_the_end_is_held_against_all_that_was_said() {
        let end = End {
            code: 3,
            verdict: "exit".into(),
            output: "first\nsecond\u{1b}\n".into(),
            errors: String::new(),
        };
        let judged = |claim| judge_end(&claim, &end);
        assert_eq!(judged(Claim::ExitCode(0)), (false, "it is 3".to_owned()));
        assert_eq!(
            judged(Claim::Verdict("exit".into())),
            (true, "it is exit".to_owned())
        );
        assert_eq!(
            judged(Claim::OutputMatches("(?m)^sec".into())),
            (true, "it is \"first\\nsecond\\u{1b}\\n\"".to_owned())
        );
        assert_eq!(
            judged(Claim::ErrorsMatch("x".into())),
            (false, "there is none".to_owned())
        );
    }
}

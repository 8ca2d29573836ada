//! The command line as getopt(3) reads tini's, and its environment variables.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use nix::sys::signal::Signal;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Orphans below this process become its children (prctl(2), PR_SET_CHILD_SUBREAPER).
    pub(super) subreaper: bool,
    /// Signals go to the program's process group.
    pub(super) process_group: bool,
    /// Every orphan that is reaped is reported.
    pub(super) warn_on_reap: bool,
    /// How much is said, from 0.
    pub(super) verbosity: u32,
    /// Sent to init when its parent dies.
    pub(super) death_signal: Option<Signal>,
    /// Exit codes that become 0.
    pub(super) expected: BTreeSet<u8>,
    /// The program and its arguments; never empty.
    pub(super) program: Vec<CString>,
}

/// Why no program is started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `--version`, alone.
    Version,
    /// `-h`.
    Help,
    /// `-l`.
    License,
    /// There is no such option.
    Unknown(char),
    /// The option takes an argument and is the last word.
    NoArgument(char),
    /// The option's argument is not one of its values.
    Invalid(char, OsString),
    /// No words but options.
    NoProgram,
}

impl Options {
    /// Reads a command line without its first word.
    ///
    /// Like the GNU getopt that tini is built with, options count wherever they stand until `--`, which is
    /// why a program's own follow it: `tini PROGRAM -- ARGS`. With `posixly_correct` the first other word
    /// ends them.
    pub(super) fn parse(args: &[OsString], posixly_correct: bool) -> Result<Options, Refusal> {
        if args == ["--version"] {
            return Err(Refusal::Version);
        }
        let mut options = Options {
            subreaper: false,
            process_group: false,
            warn_on_reap: false,
            verbosity: 1,
            death_signal: None,
            expected: BTreeSet::new(),
            program: Vec::new(),
        };
        let mut words = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.as_bytes() {
                b"--" => words.extend(rest.by_ref()),
                [b'-', cluster @ ..] if !cluster.is_empty() => options.read_cluster(cluster, &mut rest)?,
                _ => {
                    words.push(arg);
                    if posixly_correct {
                        words.extend(rest.by_ref());
                    }
                }
            }
        }
        if words.is_empty() {
            return Err(Refusal::NoProgram);
        }
        // A word of a command line ends at its first NUL, so there is none inside.
        options.program = words
            .into_iter()
            .filter_map(|word| CString::new(word.clone().into_vec()).ok())
            .collect();
        Ok(options)
    }

    /// Reads one word of options: `-s`, `-vvv`, `-gpSIGTERM`.
    fn read_cluster<'a>(
        &mut self,
        cluster: &[u8],
        rest: &mut impl Iterator<Item = &'a OsString>,
    ) -> Result<(), Refusal> {
        for (index, letter) in cluster.iter().enumerate() {
            let option = char::from(*letter);
            match option {
                'h' => return Err(Refusal::Help),
                'l' => return Err(Refusal::License),
                's' => self.subreaper = true,
                'v' => self.verbosity += 1,
                'w' => self.warn_on_reap = true,
                'g' => self.process_group = true,
                'p' | 'e' => {
                    let attached = &cluster[index + 1..];
                    let value = match rest_of(attached) {
                        Some(value) => value,
                        None => rest.next().ok_or(Refusal::NoArgument(option))?,
                    };
                    let known = if option == 'p' {
                        self.read_signal(value)
                    } else {
                        self.read_code(value)
                    };
                    return known.ok_or_else(|| Refusal::Invalid(option, value.to_owned()));
                }
                _ => return Err(Refusal::Unknown(option)),
            }
        }
        Ok(())
    }

    fn read_signal(&mut self, name: &OsStr) -> Option<()> {
        self.death_signal = Some(Signal::from_str(name.to_str()?).ok()?);
        Some(())
    }

    fn read_code(&mut self, code: &OsStr) -> Option<()> {
        let (value, end) = leading_number(code.as_bytes());
        self.expected
            .insert(u8::try_from(value).ok().filter(|_| end.is_empty())?);
        Some(())
    }

    /// Adds what tini's environment variables ask for.
    pub(super) fn read_environment(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        self.subreaper |= variable("TINI_SUBREAPER").is_some();
        self.process_group |= variable("TINI_KILL_PROCESS_GROUP").is_some();
        if let Some(level) = variable("TINI_VERBOSITY") {
            // As tini keeps it: unsigned, so that a negative level says everything.
            self.verbosity = leading_number(level.as_bytes()).0 as u32;
        }
    }

    /// 0 for the codes that are expected.
    pub(super) fn remap(&self, code: u8) -> u8 {
        if self.expected.contains(&code) { 0 } else { code }
    }
}

/// What follows an option in the same word, when there is anything.
fn rest_of(attached: &[u8]) -> Option<&OsStr> {
    (!attached.is_empty()).then(|| OsStr::from_bytes(attached))
}

/// The number at the start of a text, as strtol(3) reads it (0 where there is none), and what follows it.
fn leading_number(text: &[u8]) -> (i64, &[u8]) {
    let trimmed = text.trim_ascii_start();
    let (negative, digits) = match trimmed {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return (0, text);
    }
    let value = digits[..length].iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    (if negative { -value } else { value }, &digits[length..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Refusal> {
        Options::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>(), false)
    }

    fn program(line: &str) -> Vec<String> {
        let options = parse(line).unwrap();
        options
            .program
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn options_count_until_two_dashes() {
        assert_eq!(program("echo a"), ["echo", "a"]);
        assert_eq!(program("-s -- sh -c x"), ["sh", "-c", "x"]);
        assert_eq!(program("sh -v -- -c x -- y"), ["sh", "-c", "x", "--", "y"]);
        assert_eq!(program("- x"), ["-", "x"]);
        assert_eq!(parse("sh -c x"), Err(Refusal::Unknown('c')));
        let words: Vec<OsString> = ["sh", "-c", "x"].map(OsString::from).into();
        assert_eq!(Options::parse(&words, true).unwrap().program.len(), 3);
    }

    #[test]
    fn options_can_stand_together() {
        let options = parse("-gwsvvpSIGTERM -e 3 -e143 x").unwrap();
        assert!(options.process_group && options.warn_on_reap && options.subreaper);
        assert_eq!(options.verbosity, 3);
        assert_eq!(options.death_signal, Some(Signal::SIGTERM));
        assert_eq!([3, 143, 4].map(|code| options.remap(code)), [0, 0, 4]);
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        for (line, refusal) in [
            ("--version", Refusal::Version),
            ("--version x", Refusal::Unknown('-')),
            ("-s -h -z", Refusal::Help),
            ("-l", Refusal::License),
            ("-p", Refusal::NoArgument('p')),
            ("-p sigterm x", Refusal::Invalid('p', "sigterm".into())),
            ("-e 256 x", Refusal::Invalid('e', "256".into())),
            ("-e -1 x", Refusal::Invalid('e', "-1".into())),
            ("-e 0x3 x", Refusal::Invalid('e', "0x3".into())),
            (
                "-e 99999999999999999999 x",
                Refusal::Invalid('e', "99999999999999999999".into()),
            ),
            ("-s --", Refusal::NoProgram),
        ] {
            assert_eq!(parse(line), Err(refusal), "{line}");
        }
    }

    #[test]
    fn variables_add_to_options() {
        let with = |name: &'static str, value: &'static str| {
            let mut options = parse("-v x").unwrap();
            options.read_environment(|asked| (asked == name).then(|| value.into()));
            options
        };
        assert!(with("TINI_SUBREAPER", "").subreaper);
        assert!(with("TINI_KILL_PROCESS_GROUP", "0").process_group);
        assert_eq!(with("OTHER", "3").verbosity, 2);
        assert_eq!(with("TINI_VERBOSITY", "3").verbosity, 3);
        assert_eq!(with("TINI_VERBOSITY", "none").verbosity, 0);
        assert_eq!(with("TINI_VERBOSITY", "-1").verbosity, u32::MAX);
    }
}

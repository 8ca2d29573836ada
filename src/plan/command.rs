//! What is executed: command, environment and working directory.

use std::collections::BTreeMap;
use std::ops::Range;

use super::given::{Found, Given};
use super::user::Person;
use super::{Exec, codes, place};
use crate::profile::{Piece, Text};

/// What Docker gives a program whose image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kernel's bound of one word, its NUL included (MAX_ARG_STRLEN, execve(2)).
const WORD_MAX: usize = 128 << 10;

/// The kernel's bound of all words and variables under the usual stack limit of 8 MiB (execve(2)).
const ALL_MAX: usize = 2 << 20;

/// Words, environment and whether PID 1 is ours.
pub(super) fn exec(given: Given<'_>, person: &Person, found: &mut Found) -> Exec {
    let exec = Exec {
        argv: argv(given, found),
        env: env(given, person, found),
        init: given.job.hold.init.value,
    };
    // A pointer to each, as the kernel counts them.
    let words = exec.argv.iter().map(|word| length(word) + 9);
    let variables = exec
        .env
        .iter()
        .map(|(name, value)| name.len() + length(value) + 10);
    let all: usize = words.chain(variables).sum();
    if all > ALL_MAX {
        found.refuse(
            codes::BAD_STRING,
            command_span(given),
            format!("command and environment together have {all} bytes, the kernel takes {ALL_MAX}"),
            "pass long input in a file",
        );
    }
    exec
}

/// As in Kubernetes: `entrypoint` replaces the image's and drops its Cmd; `command`, or the words of the command
/// line, replace Cmd.
fn argv(given: Given<'_>, found: &mut Found) -> Vec<Text> {
    let (job, config) = (given.job, &given.image.config);
    let literal = |words: &[String]| words.iter().map(Text::literal).collect::<Vec<_>>();
    let mut argv = match &job.entrypoint {
        Some(entrypoint) => entrypoint.value.clone(),
        None => literal(&config.entrypoint),
    };
    argv.extend(match (&given.request.args, &job.command, &job.entrypoint) {
        (Some(args), _, _) => literal(args),
        (None, Some(command), _) => command.value.clone(),
        (None, None, Some(_)) => Vec::new(),
        (None, None, None) => literal(&config.cmd),
    });
    match argv.first().map(Text::as_literal) {
        None => found.refuse(
            codes::NO_COMMAND,
            command_span(given),
            format!("job `{}` has no command, and its image has none either", job.name),
            "write `command = [\"PROGRAM\", \"ARGUMENT\"]`",
        ),
        Some(Some("")) => found.refuse(
            codes::BAD_STRING,
            command_span(given),
            "the first word of the command is empty",
            "it names the program",
        ),
        Some(_) => {}
    }
    for (index, word) in argv.iter().enumerate() {
        if let Some(why) = unfit_word(word) {
            found.refuse(
                codes::BAD_STRING,
                command_span(given),
                format!("word {} of the command {why}", index + 1),
                "",
            );
        }
    }
    argv
}

/// The image's variables and those that programs expect, without those that the job takes out, then the job's.
fn env(given: Given<'_>, person: &Person, found: &mut Found) -> BTreeMap<String, Text> {
    let mut env = BTreeMap::new();
    for variable in &given.image.config.env {
        // Without `=` an engine once took the value from the host (CVE-2026-57231): it has none.
        let Some((name, value)) = variable.split_once('=').filter(|(name, _)| is_name(name)) else {
            found.notice(
                "env",
                format!(
                    "the image's `{}` is no variable with a value, and is left out",
                    variable.escape_debug()
                ),
            );
            continue;
        };
        env.insert(name.to_owned(), Text::literal(value));
    }
    let mut default = |name: &str, value: &str| {
        env.entry(name.to_owned()).or_insert_with(|| Text::literal(value));
    };
    default("PATH", PATH);
    default("HOME", &person.home);
    if given.request.tty {
        default("TERM", "xterm");
    }
    env.retain(|name, _| !given.job.unset.contains_key(name));
    for (name, value) in &given.job.env {
        if !is_name(name) {
            found.refuse(
                codes::BAD_STRING,
                value.span(),
                format!("`{}` is no name of a variable", name.escape_debug()),
                "a name has no `=`, no space and no control character",
            );
        }
        env.insert(name.clone(), value.value.clone());
    }
    for (name, value) in &env {
        if let Some(why) = unfit_word(value) {
            let span = given
                .job
                .env
                .get(name)
                .map_or_else(|| given.job.image.span(), |value| value.span());
            found.refuse(
                codes::BAD_STRING,
                span,
                format!("the value of `{name}` {why}"),
                "",
            );
        }
    }
    env
}

/// The job's working directory, else the image's, else `/`.
pub(super) fn workdir(given: Given<'_>, found: &mut Found) -> Text {
    let (text, whose, span) = match &given.job.workdir {
        Some(workdir) => (workdir.value.clone(), "workdir", workdir.span()),
        None => match given.image.config.working_dir.as_str() {
            "" => return Text::literal("/"),
            dir => (
                Text::literal(dir),
                "the image's WorkingDir",
                given.job.image.span(),
            ),
        },
    };
    let unfit = match (text.as_literal(), text.0.first()) {
        (Some(path), _) => place::unfit(path),
        // The folder is absolute; what a variable holds is asked again when it is known.
        (None, Some(Piece::Literal(start))) if !start.starts_with('/') => Some("is not absolute"),
        (None, _) => None,
    };
    if let Some(why) = unfit {
        found.refuse(
            codes::BAD_WORKDIR,
            span,
            format!("{whose} `{}` {why}", text.to_string().escape_debug()),
            "write a plain absolute place inside, such as `workdir = \"/src\"`",
        );
    }
    text
}

fn command_span(given: Given<'_>) -> Option<Range<usize>> {
    let job = given.job;
    let words = job.command.as_ref().or(job.entrypoint.as_ref());
    words.map_or_else(|| job.image.span(), |words| words.span())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control())
}

/// Why no program can be given this word.
fn unfit_word(word: &Text) -> Option<&'static str> {
    let nul = |piece: &Piece| matches!(piece, Piece::Literal(text) if text.contains('\0'));
    if word.0.iter().any(nul) {
        return Some("holds a NUL");
    }
    (length(word) >= WORD_MAX).then_some("is longer than the kernel's 128KiB")
}

/// Bytes of the parts that are known now.
fn length(word: &Text) -> usize {
    let literal = |piece: &Piece| match piece {
        Piece::Literal(text) => text.len(),
        Piece::ManifestDir | Piece::Environment(_) => 0,
    };
    word.0.iter().map(literal).sum()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Sample, placed};
    use super::*;

    fn texts(words: &[&str]) -> Vec<Text> {
        words.iter().copied().map(Text::literal).collect()
    }

    fn with_image() -> Sample {
        let mut sample = sample::strict();
        sample.job.command = None;
        sample.image.config.entrypoint = vec!["/entry".into()];
        sample.image.config.cmd = vec!["one".into(), "two".into()];
        sample
    }

    fn words(sample: &Sample) -> Vec<String> {
        let mut found = Found::default();
        let words = argv(sample.given(), &mut found);
        assert_eq!(found.problems, []);
        words.iter().map(Text::to_string).collect()
    }

    #[test]
    fn entrypoint_and_command_are_those_of_kubernetes() {
        let mut sample = with_image();
        assert_eq!(words(&sample), ["/entry", "one", "two"]);
        sample.job.command = Some(placed(texts(&["job"]), 1));
        assert_eq!(words(&sample), ["/entry", "job"]);
        sample.request.args = Some(vec!["typed".into()]);
        assert_eq!(words(&sample), ["/entry", "typed"]);
        sample.job.entrypoint = Some(placed(texts(&["own"]), 1));
        assert_eq!(words(&sample), ["own", "typed"]);
        sample.request.args = None;
        sample.job.command = None;
        assert_eq!(words(&sample), ["own"]);
        sample.job.entrypoint = Some(placed(Vec::new(), 1));
        sample.job.command = Some(placed(texts(&["alone"]), 1));
        assert_eq!(words(&sample), ["alone"]);
    }

    #[test]
    fn words_that_cannot_be_given_are_refused() {
        let mut sample = sample::strict();
        sample.job.command = None;
        assert_eq!(
            sample.refusals(),
            [
                "job `test` has no command, and its image has none either; write `command = [\"PROGRAM\", \"ARGUMENT\"]`"
            ]
        );
        sample.image.config.cmd = vec![String::new(), "a\0b".into(), "x".repeat(WORD_MAX)];
        assert_eq!(
            sample.refusals(),
            [
                "the first word of the command is empty; it names the program",
                "word 2 of the command holds a NUL",
                "word 3 of the command is longer than the kernel's 128KiB",
            ]
        );
        sample.image.config.cmd = vec!["x".repeat(WORD_MAX - 1); 16];
        assert_eq!(
            sample.refusals(),
            [
                "command and environment together have 2097369 bytes, the kernel takes 2097152; pass long input in a file"
            ]
        );
    }

    #[test]
    fn the_environment_is_the_images_then_the_jobs() {
        let mut sample = sample::strict();
        let env = ["A=1", "A=2", "LANG=C", "SECRET", "AWS_*", "=x", ""];
        sample.image.config.env = env.map(str::to_owned).to_vec();
        sample.request.tty = true;
        sample
            .job
            .env
            .insert("LANG".into(), placed(Text::literal("en"), 3));
        sample.job.unset.insert("B".into(), placed((), 3).origin);
        let plan = sample.plan();
        let shown: Vec<String> = plan
            .exec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            ["A=2", "HOME=/", "LANG=en", &format!("PATH={PATH}"), "TERM=xterm"]
        );
        let left_out: Vec<&str> = plan
            .notices
            .iter()
            .filter(|notice| notice.about == "env")
            .map(|n| &*n.text)
            .collect();
        assert_eq!(
            left_out,
            [
                "the image's `=x` is no variable with a value, and is left out",
                "the image's `AWS_*` is no variable with a value, and is left out",
                "the image's `SECRET` is no variable with a value, and is left out",
                "the image's `` is no variable with a value, and is left out",
            ]
        );
        sample.image.config.env = vec!["A=\0".into()];
        assert_eq!(sample.refusals(), ["the value of `A` holds a NUL"]);
    }

    #[test]
    fn a_working_directory_is_a_plain_place_inside() {
        let mut sample = sample::strict();
        sample.image.config.working_dir = "/proc/self/fd/7".into();
        assert_eq!(
            sample.refusals(),
            [
                "the image's WorkingDir `/proc/self/fd/7` leads into /proc or /dev; write a plain absolute place inside, such as `workdir = \"/src\"`"
            ]
        );
        sample.job.workdir = Some(placed(Text::literal("src"), 1));
        assert_eq!(
            sample.refusals(),
            [
                "workdir `src` is not absolute; write a plain absolute place inside, such as `workdir = \"/src\"`"
            ]
        );
        let symbolic = Text(vec![Piece::ManifestDir, Piece::Literal("/x".into())]);
        sample.job.workdir = Some(placed(symbolic.clone(), 1));
        assert_eq!(workdir(sample.given(), &mut Found::default()), symbolic);
        assert_eq!(sample.refusals(), [""; 0]);
    }
}

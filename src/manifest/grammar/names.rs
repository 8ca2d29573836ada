//! Names: of jobs, variables, hosts, users.

use super::{Wrong, plain};
use crate::problem::codes;

/// The name of a job, a profile or a network: it may become part of a file name.
pub(crate) fn name(text: &str) -> Result<(), Wrong> {
    let good = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    good.then_some(()).ok_or_else(|| {
        Wrong::new(
            codes::BAD_NAME,
            "is not a name",
            "up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first",
        )
    })
}

/// The name of a variable of `[variables]`.
pub(crate) fn variable_name(text: &str) -> Result<(), Wrong> {
    if matches!(text, "job" | "manifest-dir") {
        return Err(Wrong::new(
            codes::BAD_NAME,
            "is a variable that every manifest has",
            "choose another name",
        ));
    }
    let good = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then_some(()).ok_or_else(|| {
        Wrong::new(
            codes::BAD_NAME,
            "is not the name of a variable",
            "up to 64 letters, digits and `_`, no digit first",
        )
    })
}

/// The name of an environment variable: execve(2) ends the name at `=` and the entry at NUL.
pub(crate) fn environment_name(text: &str) -> Result<(), Wrong> {
    let bad = |wrong: &str| Wrong::new(codes::BAD_NAME, wrong, "");
    plain(text).map_err(|error| bad(&error.wrong))?;
    if text.contains('=') {
        return Err(bad("has a `=`, which ends the name of an environment variable"));
    }
    Ok(())
}

/// A word of a command or the value of an environment variable: anything that a C string can hold.
pub(crate) fn argument(text: &str) -> Result<(), Wrong> {
    if text.contains('\0') {
        return Err(Wrong::form(
            "has a NUL character, which ends a string for the kernel",
            "",
        ));
    }
    Ok(())
}

/// The text of a variable. The bound keeps what a small manifest can grow to within reason.
pub(crate) fn variable_text(text: &str) -> Result<(), Wrong> {
    if text.len() > 4096 {
        return Err(Wrong::form("is longer than a variable may be (4096 bytes)", ""));
    }
    argument(text)
}

/// A host name: labels as RFC 1123 has them, 64 bytes as uname(2) has them.
pub(crate) fn hostname(text: &str) -> Result<(), Wrong> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        return Ok(());
    }
    Err(Wrong::form(
        "is not a host name",
        "up to 64 letters, digits and `-`, in parts of at most 63 with `.` between them",
    ))
}

/// `USER` or `USER:GROUP`, each a name or a number.
///
/// Numbers are read in one way only: no sign, no leading zero, no other base, and not 4294967295,
/// which is -1 for the kernel and means "leave it as it is" (see setresuid(2)).
pub(crate) fn user(text: &str) -> Result<(), Wrong> {
    let mut parts = text.split(':');
    let (user, group, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if more.is_some() {
        return Err(Wrong::form(
            "has more than one colon",
            "write `USER` or `USER:GROUP`",
        ));
    }
    identity(user)?;
    group.map_or(Ok(()), identity)
}

fn identity(text: &str) -> Result<(), Wrong> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let canonical = text
            .parse::<u32>()
            .ok()
            .filter(|id| *id != u32::MAX && id.to_string() == text);
        return canonical.map(|_| ()).ok_or_else(|| {
            Wrong::form(
                "has a number that is no user or group id",
                "a decimal number from 0 to 4294967294 without leading zeros",
            )
        });
    }
    // What useradd(8) accepts, and upper case and dots as many systems do.
    let good = (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .trim_end_matches('$')
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    good.then_some(()).ok_or_else(|| {
        Wrong::form(
            "is not a user",
            "write a name or a number, with or without `:GROUP`: \"root\", \"1000\", \"1000:1000\"",
        )
    })
}

/// Where a root file system comes from, as far as a string without its variables shows it.
pub(crate) fn image(text: &str) -> Result<(), Wrong> {
    crate::profile::image_source(text)
        .map(|_| ())
        .map_err(|(wrong, right)| Wrong::new(codes::BAD_IMAGE, wrong, right))
}

#[cfg(test)]
mod tests {
    use super::super::assert_form;
    use super::*;

    #[test]
    fn names_can_become_file_names() {
        let wrong = "is not a name";
        assert_form(
            name,
            &["a", "test", "Build-2.1_x", "9"],
            &[
                ("", wrong),
                (".", wrong),
                ("..", wrong),
                ("../../etc", wrong),
                ("a/b", wrong),
                ("-x", wrong),
                ("a\0", wrong),
                ("é", wrong),
                (&"a".repeat(65), wrong),
            ],
        );
    }

    #[test]
    fn users_are_read_in_one_way() {
        let number = "has a number that is no user or group id";
        let name = "is not a user";
        assert_form(
            user,
            &[
                "root",
                "0",
                "1000",
                "1000:0",
                "www-data:www-data",
                "4294967294",
                "_apt",
                "host$",
            ],
            &[
                ("00", number),
                ("0x0", number),
                ("4294967295", number),
                ("4294967296", number),
                ("99999999999999999999", number),
                ("1000:0x0", number),
                ("1000 ", number),
                ("+0", name),
                ("-1", name),
                (" 0", name),
                ("root\n", name),
                ("", name),
                ("1000:", name),
                (":0", name),
                ("--uid", name),
                ("1000:1000:x", "has more than one colon"),
            ],
        );
    }

    #[test]
    fn hosts_variables_and_environments() {
        let wrong = "is not a host name";
        assert_form(
            hostname,
            &["a", "job-1.example.org"],
            &[
                ("", wrong),
                ("-a", wrong),
                ("a..b", wrong),
                ("a_b", wrong),
                ("a\nb", wrong),
                (&"a".repeat(65), wrong),
            ],
        );
        assert_form(
            variable_name,
            &["CI_JOB", "_x1"],
            &[
                ("job", "is a variable that every manifest has"),
                ("manifest-dir", "is a variable that every manifest has"),
                ("1x", "is not the name of a variable"),
                ("a-b", "is not the name of a variable"),
            ],
        );
        assert_form(
            environment_name,
            &["PATH", "a.b", "*"],
            &[
                ("", "names nothing"),
                ("A=B", "has a `=`, which ends the name of an environment variable"),
                ("A\0", "has the control character \\u{0}"),
                ("A\n", "has the control character \\n"),
            ],
        );
    }
}

//! Words for a POSIX shell.

/// A word that the shell takes as it stands.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Words with blanks between them.
pub(super) fn line(words: &[&str]) -> String {
    words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" ")
}

/// A command over several lines, all but the first indented.
pub(super) fn command(lines: &[String]) -> String {
    lines.join(" \\\n    ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_change_is_quoted() {
        for (text, quoted) in [
            ("a/b:c=d", "a/b:c=d"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's $x", "'it'\\''s $x'"),
            ("~", "'~'"),
            ("\n", "'\n'"),
        ] {
            assert_eq!(word(text), quoted);
        }
    }
}

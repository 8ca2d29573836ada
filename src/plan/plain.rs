//! Texts of a manifest or an image, made harmless for a terminal and for a reader.

use std::fmt::{self, Display, Formatter, Write};

/// A text of a manifest or an image as a terminal may show it: no control character and no change of direction.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Nearly every text, and all at once.
        if self.0.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return f.write_str(self.0);
        }
        for c in self.0.chars() {
            match c {
                // Bidirectional controls and line separators make a text look like another one.
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' => {
                    write!(f, "{}", c.escape_unicode())?;
                }
                c if c.is_control() => write!(f, "{}", c.escape_debug())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A word of a command as a shell would need it.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_alphanumeric() || "_-./:=@%+,${}".contains(c);
        match !self.0.is_empty() && self.0.chars().all(bare) {
            true => f.write_str(self.0),
            false => write!(f, "'{}'", Plain(&self.0.replace('\'', "'\\''"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_pretends_to_be_something_else() {
        assert_eq!(
            Plain("a\u{1b}[31m\n\u{202e}é").to_string(),
            "a\\u{1b}[31m\\n\\u{202e}é"
        );
        for (word, shown) in [
            ("/bin/sh", "/bin/sh"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("${manifest-dir}/x", "${manifest-dir}/x"),
            ("a\nb", "'a\\nb'"),
        ] {
            assert_eq!(Quoted(word).to_string(), shown);
        }
    }
}

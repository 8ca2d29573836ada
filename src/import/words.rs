//! A line as the words that a POSIX shell would make of it, without anything that a shell would expand.

/// The words; none when a quote is not ended.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match (quote, c) {
            (None, ' ' | '\t' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => match letters.next()? {
                '\n' => {}
                escaped => {
                    let word = word.get_or_insert_default();
                    if quote.is_some() && !"\"\\$`".contains(escaped) {
                        word.push('\\');
                    }
                    word.push(escaped);
                }
            },
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, words) in [
            ("a b  c", Some(vec!["a", "b", "c"])),
            ("a 'b c' \"d\\\"e\" f\\ g", Some(vec!["a", "b c", "d\"e", "f g"])),
            ("'' x", Some(vec!["", "x"])),
            ("a\\\n b", Some(vec!["a", "b"])),
            ("\"a\\nb\"", Some(vec!["a\\nb"])),
            ("'open", None),
            ("", Some(vec![])),
        ] {
            let words: Option<Vec<String>> =
                words.map(|words| words.into_iter().map(str::to_owned).collect());
            assert_eq!(split(line), words, "{line}");
        }
    }
}

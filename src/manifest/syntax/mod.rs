//! From text to TOML's tree, in bounded time and depth.

mod builder;
mod tree;

use toml_parser::parser::{ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source};

use self::builder::{Builder, MAX_DEPTH};
pub(super) use self::tree::{Toml, TomlArray, TomlKey, TomlTable};
use super::MAX_BYTES;
use super::advice::shown;
use crate::problem::{ENOUGH, Problem, codes};

/// Everything that is wrong with a text, up to [`ENOUGH`].
#[derive(Default)]
struct Errors(Vec<ParseError>);

impl ErrorSink for Errors {
    fn report_error(&mut self, error: ParseError) {
        if self.0.len() < ENOUGH {
            self.0.push(error);
        }
    }
}

/// The tree as far as it can be read, and what is wrong with the text.
pub(super) fn tree(text: &str) -> (TomlTable<'_>, Vec<Problem>) {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the manifest has {} bytes; at most {MAX_BYTES} are read",
            text.len()
        );
        return (
            TomlTable::default(),
            vec![Problem::new(
                codes::TOO_LARGE,
                None,
                message,
                "is this the right file?",
            )],
        );
    }
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let (mut builder, mut errors) = (Builder::new(source), Errors::default());
    parse_document(
        &tokens,
        &mut ValidateWhitespace::new(&mut builder, source),
        &mut errors,
    );
    let deep = builder.deep.take();
    let table = builder.finish(&mut errors);
    // The parser and the builder each report in their own order.
    errors
        .0
        .sort_by_key(|error| error.unexpected().map_or(usize::MAX, |span| span.start()));
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors.0 {
        let problem = problem(text, &error);
        // What follows on the same line, or an array that is not closed, is the parser finding its feet.
        let follows = problems
            .last()
            .is_some_and(|last| match (&last.span, &problem.span) {
                (Some(last), Some(this)) => !text[last.start.min(this.start)..this.start].contains('\n'),
                _ => true,
            });
        if !follows {
            problems.push(problem);
        }
        if error.description().starts_with("unclosed") || error.description().starts_with("missing comma") {
            break;
        }
    }
    match deep {
        None => (table, problems),
        Some(place) => {
            let message = format!("tables are nested more than {MAX_DEPTH} deep");
            problems.push(Problem::new(codes::TOO_DEEP, Some(place), message, ""));
            (TomlTable::default(), problems)
        }
    }
}

fn problem(text: &str, error: &ParseError) -> Problem {
    let span = error.unexpected().map(|span| {
        let start = text.floor_char_boundary(span.start().min(text.len()));
        start..text.floor_char_boundary(span.end().min(text.len())).max(start)
    });
    let found = shown(span.clone().map_or("", |span| text[span].trim()));
    let message = error.description();
    let new = |code, message: String, help: &str| Problem::new(code, span.clone(), message, help);
    match message {
        "duplicate key" => new(
            codes::DUPLICATE_KEY,
            format!("{found} is written twice"),
            "write everything about it in one place",
        ),
        "cannot extend value of type inline table with a dotted key" => new(
            codes::DUPLICATE_KEY,
            format!("{found} is written inline with `{{ }}` already, and nothing can be added to that"),
            "write a `[table]` header of its own for it instead of the braces",
        ),
        // A bare word is read as the number that begins with the same letter.
        "invalid float" | "string values must be quoted" if !found.contains(['=', '[', '"']) => new(
            codes::SYNTAX,
            format!("{found} is neither a number nor a quoted string"),
            &format!("write \"{}\"", found.trim_matches('`')),
        ),
        "missing comma between array elements" => new(
            codes::SYNTAX,
            "this does not belong to the array before it".to_owned(),
            "a comma is missing, or the `]` that closes the array",
        ),
        _ => new(
            codes::SYNTAX,
            format!("this is not TOML: {message}"),
            &error.expected().map(expected).unwrap_or_default(),
        ),
    }
}

/// What would have been right there.
fn expected(these: &[Expected]) -> String {
    let words = these.iter().map(|one| match one {
        Expected::Literal("\n") => "newline".to_owned(),
        Expected::Literal(text) => format!("`{}`", text.escape_debug()),
        Expected::Description(text) => (*text).to_owned(),
        _ => "etc".to_owned(),
    });
    match these {
        [] => "expected nothing".to_owned(),
        _ => format!("expected {}", words.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::Spanned;
    use toml::de::{DeTable, DeValue};

    use super::*;

    /// Whether both trees say the same at the same places.
    fn same(ours: Spanned<Toml<'_>>, theirs: &Spanned<DeValue<'_>>) -> bool {
        let spans = ours.span() == theirs.span();
        spans
            && match (ours.into_inner(), theirs.get_ref()) {
                (Toml::String(ours), DeValue::String(theirs)) => ours == *theirs,
                (Toml::Integer(ours), DeValue::Integer(theirs)) => {
                    ours.digits == theirs.as_str() && ours.radix == theirs.radix()
                }
                (Toml::Float(ours), DeValue::Float(theirs)) => ours == theirs.as_str(),
                (Toml::Boolean(ours), DeValue::Boolean(theirs)) => ours == *theirs,
                (Toml::Datetime, DeValue::Datetime(_)) => true,
                (Toml::Array(ours), DeValue::Array(theirs)) => {
                    let mut pairs = ours.items.into_iter().zip(theirs.iter());
                    pairs.len() == theirs.len() && pairs.all(|(ours, theirs)| same(ours, theirs))
                }
                (Toml::Table(ours), DeValue::Table(theirs)) => same_table(ours, theirs),
                _ => false,
            }
    }

    fn same_table(ours: TomlTable<'_>, theirs: &DeTable<'_>) -> bool {
        ours.len() == theirs.len()
            && ours.into_iter().all(|(key, value)| {
                let found = theirs.get_key_value(key.get_ref().as_ref());
                found.is_some_and(|(known, theirs)| known.span() == key.span() && same(value, theirs))
            })
    }

    /// What `toml` makes of a text is made of it here, and what it refuses is refused.
    #[track_caller]
    fn agrees(text: &str) {
        let (table, problems) = tree(text);
        match DeTable::parse(text) {
            Ok(theirs) => {
                assert!(problems.is_empty(), "{text}\n{problems:?}");
                assert!(same_table(table, theirs.get_ref()), "{text}");
            }
            Err(error) => assert!(!problems.is_empty(), "{text}\n{error}"),
        }
    }

    #[test]
    fn the_tree_is_that_of_toml() {
        for folder in ["manifests", "tests/bad", "src/profile/builtin", "tests/hosts"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for file in std::fs::read_dir(&folder).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|ends| ends == "toml") {
                    agrees(&std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        // Every way to write to a table, after every other.
        let lines = [
            "a = 1",
            "a.b = 1",
            "a.c = 1",
            "a.b.c = 1",
            "a = {}",
            "a = { b = 1 }",
            "a = { b.c = 1, b.d = 2 }",
            "a = { b = {}, b.c = 1 }",
            "a = [{ b = 1 }]",
            "a = []",
            "[a]",
            "[a.b]",
            "[a.b.c]",
            "[a.c]",
            "[[a]]",
            "[[a.b]]",
            "[[a.b.c]]",
            "b.c = 1",
            "b = 1",
            "c = 1",
        ];
        for one in lines {
            for two in lines {
                for three in lines {
                    agrees(&format!("{one}\n{two}\n{three}\n"));
                    agrees(&format!("{one}\n[x]\n{two}\n{three}\n"));
                }
            }
        }
        let many: String = (0..40).map(|n| format!("k{} = {n}\n", n * 7 % 41)).collect();
        agrees(&many);
        agrees(&format!("{many}k7 = 1\n"));
        for scalar in [
            "0x_1F",
            "0xFF",
            "0o17",
            "0b11",
            "1_000",
            "-7",
            "+1.5e3",
            "inf",
            "nan",
            "true",
            "1979-05-27T07:32:00Z",
            "1979-13-27",
            "'x'",
            "'''\nx'''",
            "\"\\u00e9\\n\"",
            "\"\"\"\\\n  x\"\"\"",
            "[1, [2, 3,], ]",
            "[\n1, # one\n]",
            "{ 'x y' = 1, \"z\" = 2 }",
        ] {
            agrees(&format!("a = {scalar}\n"));
        }
    }

    #[test]
    fn what_is_too_deep_is_said_once() {
        let path = |depth: usize| vec!["a"; depth].join(".");
        let deep = |text: &str| {
            let (table, problems) = tree(text);
            let problems: Vec<String> = problems.into_iter().map(|one| one.message).collect();
            (table.is_empty(), problems)
        };
        let said = vec!["tables are nested more than 32 deep".to_owned()];
        for text in [
            format!("{} = 1\nb = 2", path(33)),
            format!("[{}]\nb = 2", path(33)),
            format!("[{}]\n{} = 1", path(20), path(13)),
            format!("a = {}1{}", "[".repeat(33), "]".repeat(33)),
            format!("[{}]\nb = {}1{}", path(20), "{ a = ".repeat(12), " }".repeat(12)),
        ] {
            assert_eq!(deep(&text), (true, said.clone()), "{text}");
        }
        assert_eq!(
            deep(&format!("{} = 1\n[x]\n{} = 2", path(32), path(31))),
            (false, vec![])
        );
    }
}

//! From text to TOML's tree, in bounded time and depth.

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::MAX_BYTES;
use super::advice::shown;
use crate::problem::{Problem, codes};

/// Deeper than any key of a manifest.
const MAX_DEPTH: usize = 32;

/// Above this size only the first syntax error is looked for: recovery keeps a record for each.
const RECOVERABLE_BYTES: usize = 64 << 10;

/// The tree as far as it can be read, and what is wrong with the text.
pub(super) fn tree(text: &str) -> (DeTable<'_>, Vec<Problem>) {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the manifest has {} bytes; at most {MAX_BYTES} are read",
            text.len()
        );
        return (
            DeTable::new(),
            vec![Problem::new(
                codes::TOO_LARGE,
                None,
                message,
                "is this the right file?",
            )],
        );
    }
    let (table, mut errors) = if text.len() > RECOVERABLE_BYTES {
        match DeTable::parse(text) {
            Ok(table) => (table, Vec::new()),
            Err(error) => (Spanned::new(0..0, DeTable::new()), vec![error]),
        }
    } else {
        DeTable::parse_recoverable(text)
    };
    // The parser's own passes each report in their own order.
    errors.sort_by_key(|error| error.span().map_or(usize::MAX, |span| span.start));
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
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
        if error.message().starts_with("unclosed") || error.message().starts_with("missing comma") {
            break;
        }
    }
    match bounded(table.into_inner()) {
        Ok(table) => (table, problems),
        Err(place) => {
            let message = format!("tables are nested more than {MAX_DEPTH} deep");
            problems.push(Problem::new(codes::TOO_DEEP, Some(place), message, ""));
            (DeTable::new(), problems)
        }
    }
}

fn problem(text: &str, error: &Error) -> Problem {
    let span = error.span().map(|span| {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        start..text.floor_char_boundary(span.end.min(text.len())).max(start)
    });
    let found = shown(span.clone().map_or("", |span| text[span].trim()));
    let message = error.message();
    let (message, expected) = message.split_once(", expected ").unwrap_or((message, ""));
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
            &match expected {
                "" => String::new(),
                expected => format!("expected {expected}"),
            },
        ),
    }
}

/// The table, unless it is deep: then it is taken apart without recursion, as dropping it would
/// need a stack frame for each level (a dotted key of a megabyte has half a million).
fn bounded(table: DeTable<'_>) -> Result<DeTable<'_>, std::ops::Range<usize>> {
    let mut deep = None;
    let mut level: Vec<(&DeValue<'_>, std::ops::Range<usize>)> = table
        .values()
        .map(|value| (value.get_ref(), value.span()))
        .collect();
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for (value, _) in level {
            match value {
                DeValue::Table(table) => next.extend(table.values().map(|v| (v.get_ref(), v.span()))),
                DeValue::Array(items) => next.extend(items.iter().map(|v| (v.get_ref(), v.span()))),
                _ => {}
            }
        }
        level = next;
    }
    if let Some((_, place)) = level.into_iter().next() {
        deep = Some(place);
    }
    let Some(place) = deep else {
        return Ok(table);
    };
    let mut rest: Vec<DeValue<'_>> = vec![DeValue::Table(table)];
    while let Some(value) = rest.pop() {
        match value {
            DeValue::Table(table) => rest.extend(table.into_iter().map(|(_, value)| value.into_inner())),
            DeValue::Array(mut items) => {
                rest.extend(
                    items
                        .iter_mut()
                        .map(|item| std::mem::replace(item.get_mut(), DeValue::Boolean(false))),
                );
            }
            _ => {}
        }
    }
    Err(place)
}

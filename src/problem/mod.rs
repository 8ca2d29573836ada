//! What is wrong with a manifest, in a form that can be shown beside its source line.

pub mod codes;
mod render;

use std::fmt;
use std::ops::Range;

/// After so many problems a pass may stop looking: nobody mends a thousand lines one by one.
pub(crate) const ENOUGH: usize = 1000;

/// One thing that is wrong, with its place and its mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable code such as `RF0104`, one of [`codes::ALL`].
    pub code: &'static str,
    /// Whether it stops anything.
    pub severity: Severity,
    /// Bytes of the manifest's text that the message is about; none when it is about no line.
    pub span: Option<Range<usize>>,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// What would be right; empty when there is nothing to add.
    pub help: String,
    /// Other places that have to do with it, each with a few words.
    pub related: Vec<(Range<usize>, String)>,
    /// Places in other texts than the manifest.
    pub elsewhere: Vec<Elsewhere>,
}

/// A place in another text than the manifest: config.toml, a built-in profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The text's name as messages show it.
    pub file: String,
    /// The number of the line, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Bytes of the line that it is about.
    pub span: Range<usize>,
    /// A few words about it.
    pub label: String,
}

/// Whether a problem stops anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is planned or run.
    Error,
    /// Worth knowing; everything goes on.
    Warning,
}

/// All problems that one pass found; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problem {
    /// An error at a place of the manifest.
    pub fn new(
        code: &'static str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        Problem {
            code,
            severity: Severity::Error,
            span,
            message: message.into(),
            help: help.into(),
            related: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// The same as something worth knowing, which stops nothing.
    pub fn as_warning(self) -> Problem {
        Problem {
            severity: Severity::Warning,
            ..self
        }
    }

    /// Adds another place that has to do with it; a value without a place in the manifest adds none.
    pub fn beside(mut self, span: Option<Range<usize>>, label: impl Into<String>) -> Problem {
        self.related.extend(span.map(|span| (span, label.into())));
        self
    }
}

impl Elsewhere {
    /// The place of some bytes of a text; of several lines, the first.
    pub fn of(
        file: impl Into<String>,
        text: &str,
        span: Range<usize>,
        label: impl Into<String>,
    ) -> Elsewhere {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let end = line.floor_char_boundary(span.end.saturating_sub(line_start).min(line.len()));
        let start = (start - line_start).min(line.len());
        Elsewhere {
            file: file.into(),
            line: 1 + text[..line_start].matches('\n').count(),
            text: line.to_owned(),
            span: start..end.max(start),
            label: label.into(),
        }
    }
}

impl Problems {
    /// `value` when no error was found, else all that was found, warnings included.
    ///
    /// # Errors
    /// The problems, in the order of their places.
    pub fn none_or<T>(found: Vec<Problem>, value: T) -> Result<T, Problems> {
        if found.iter().all(|problem| problem.severity == Severity::Warning) {
            return Ok(value);
        }
        Err(Problems::in_order(found))
    }

    /// Sorts what was found by place and drops what was said twice.
    fn in_order(mut found: Vec<Problem>) -> Problems {
        found.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        // A profile's mistake is found again by each job that uses it.
        let mut seen = std::collections::HashSet::new();
        found.retain(|problem| seen.insert((problem.code, problem.span.clone(), problem.message.clone())));
        Problems(found)
    }

    /// All that was found, errors and warnings, in the order of their places; `None` when nothing was.
    pub fn from_found(found: Vec<Problem>) -> Option<Problems> {
        (!found.is_empty()).then(|| Problems::in_order(found))
    }

    /// The problems, in the order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// Whether one of them stops a plan or a run.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    /// Without the manifest's text at hand: one line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "[{}] {}", problem.code, problem.message)?;
            if !problem.help.is_empty() {
                write!(f, "; {}", problem.help)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_the_text_and_says_nothing_twice() {
        let late = Problem::new("RF0101", Some(9..10), "late", "");
        let early = Problem::new("RF0101", Some(1..2), "early", "");
        let problems =
            Problems::none_or(vec![late.clone(), early.clone(), late.clone()], ()).expect_err("two errors");
        assert_eq!(problems.iter().collect::<Vec<_>>(), [&early, &late]);
    }

    #[test]
    fn a_warning_alone_stops_nothing() {
        let warning = Problem::new("RF0101", None, "odd", "").as_warning();
        assert_eq!(Problems::none_or(vec![warning.clone()], 7), Ok(7));
        assert!(!Problems::from_found(vec![warning]).expect("one").has_errors());
        assert_eq!(Problems::from_found(Vec::new()), None);
    }
}

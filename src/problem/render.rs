//! Problems beside their source lines, for people.

use std::collections::BTreeSet;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Level, Message, Renderer, Snippet};

use super::{Problem, Problems, Severity};

/// More than this at once helps nobody.
const SHOWN: usize = 50;

impl Problems {
    /// All problems as a terminal shows them: place, source line, caret, what is wrong, what would be right.
    ///
    /// `file_name` is shown as given; `text` is the manifest that the spans belong to. `colour` adds
    /// escape sequences; what the manifest holds is made harmless (no escape of it reaches a terminal).
    pub fn render(&self, file_name: &str, text: &str, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        let mut linked = BTreeSet::new();
        for problem in self.iter().take(SHOWN) {
            let page = linked.insert(problem.code).then(|| page(problem.code));
            out += &one(problem, page.as_deref(), file_name, text, &renderer);
            out += "\n\n";
        }
        if let Some(more) = self.iter().len().checked_sub(SHOWN).filter(|more| *more > 0) {
            out += &format!("… and {more} more problems\n\n");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// Where the book tells more about a code; with the first problem of it.
fn page(code: &str) -> String {
    format!("errors/{code}.md, or `ringfence explain {code}`")
}

fn one(problem: &Problem, page: Option<&str>, file_name: &str, text: &str, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(problem.message.as_str()).id(problem.code);
    let places = problem
        .span
        .iter()
        .chain(problem.related.iter().map(|(span, _)| span));
    let Some(lines) = lines_around(text, places) else {
        let group = title
            .elements(elsewhere(problem))
            .elements(footers(problem, page));
        return renderer.render(&[group]);
    };
    let inside = |span: &Range<usize>| {
        let start = floor_char(text, span.start);
        let end = first_line_end(text, start)
            .min(floor_char(text, span.end))
            .max(start);
        start - lines.start..end - lines.start
    };
    let snippet = Snippet::source(&text[lines.clone()])
        .path(file_name)
        .line_start(1 + text[..lines.start].matches('\n').count())
        .annotations(
            problem
                .span
                .iter()
                .map(|span| AnnotationKind::Primary.span(inside(span))),
        )
        .annotations(
            problem
                .related
                .iter()
                .map(|(span, label)| AnnotationKind::Context.span(inside(span)).label(label.as_str())),
        );
    let group = title.element(snippet).elements(elsewhere(problem));
    renderer.render(&[group.elements(footers(problem, page))])
}

/// What would be right, and where to read on.
fn footers<'a>(problem: &'a Problem, page: Option<&'a str>) -> impl Iterator<Item = Message<'a>> {
    let help = (!problem.help.is_empty()).then(|| Level::HELP.message(problem.help.as_str()));
    help.into_iter()
        .chain(page.map(|page| Level::NOTE.with_name("book").message(page)))
}

/// The places in other texts, each below its own name.
fn elsewhere(problem: &Problem) -> impl Iterator<Item = Snippet<'_, Annotation<'_>>> {
    problem.elsewhere.iter().map(|place| {
        let annotation = AnnotationKind::Context
            .span(place.span.clone())
            .label(place.label.as_str());
        Snippet::source(place.text.as_str())
            .path(place.file.as_str())
            .line_start(place.line)
            .annotation(annotation)
    })
}

/// The bytes of the whole lines that hold all places.
fn lines_around<'a>(text: &str, places: impl Iterator<Item = &'a Range<usize>>) -> Option<Range<usize>> {
    let (start, end) = places.fold(None, |found: Option<(usize, usize)>, span| {
        let (start, end) = found.unwrap_or((usize::MAX, 0));
        Some((start.min(span.start), end.max(span.start)))
    })?;
    let start = floor_char(text, start);
    let start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    Some(start..first_line_end(text, floor_char(text, end)))
}

/// A table's place is its header or first line; nobody wants to see all of it again.
fn first_line_end(text: &str, start: usize) -> usize {
    text[start..]
        .find('\n')
        .map_or(text.len(), |length| start + length)
}

/// A place in the text for every number, so that no span can make this panic.
fn floor_char(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "schema = 1\n[job.test]\nimage = \"host\"\nmemory = \"512M\"\n";

    #[test]
    fn shows_place_line_caret_and_mend() {
        let problem = Problem::new("RF0103", Some(48..54), "`512M` is not clear", "write `512MiB`")
            .beside(Some(11..21), "in this job");
        insta::assert_snapshot!(Problems::from(problem).render("ringfence.toml", TEXT, false));
    }

    #[test]
    fn survives_places_outside_the_text() {
        for span in [0..0, 3..900, 900..901, 57..58] {
            let problem = Problem::new("RF0103", Some(span), "odd", "");
            let shown = Problems::from(problem).render("x.toml", "é = \"\u{1b}[31m\"", false);
            assert!(shown.starts_with("error[RF0103]: odd\n"), "{shown}");
            assert!(!shown.contains('\u{1b}'), "{shown:?}");
        }
    }

    #[test]
    fn shows_a_bounded_number() {
        let many = (0..60)
            .map(|n| Problem::new("RF0101", Some(n..n), format!("odd {n}"), ""))
            .collect();
        let shown = Problems::from_found(many)
            .expect("sixty")
            .render("x.toml", TEXT, false);
        assert!(shown.ends_with("\n\n… and 10 more problems\n"), "{shown}");
    }
}

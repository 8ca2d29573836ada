//! Strings with `${NAME}` in them.

use std::collections::BTreeSet;

use super::nearest::nearest;

/// A string cut at its variables; what a variable holds is never cut again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(pub Vec<Part>);

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it stands.
    Literal(String),
    /// `${manifest-dir}`.
    ManifestDir,
    /// `${job}`.
    Job,
    /// `${NAME}`, declared under `[variables]`.
    Variable(String),
}

/// Why a string is not a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A dollar sign with neither `$` nor `{` after it, or a brace that is never closed.
    Dollar,
    /// A name that nothing defines, and the nearest one that something does.
    Undefined(String, Option<String>),
}

impl Template {
    /// Cuts a string; `declared` are the names under `[variables]`.
    pub(crate) fn parse(text: &str, declared: &BTreeSet<String>) -> Result<Template, Flaw> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, after) = rest
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or(Flaw::Dollar)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(match name {
                "manifest-dir" => Part::ManifestDir,
                "job" => Part::Job,
                _ if declared.contains(name) => Part::Variable(name.to_owned()),
                _ => {
                    let known = declared.iter().map(String::as_str).chain(["manifest-dir", "job"]);
                    return Err(Flaw::Undefined(
                        name.to_owned(),
                        nearest(name, known).map(str::to_owned),
                    ));
                }
            });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Template(parts))
    }

    /// The string, when it holds no variable.
    pub(crate) fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_variables_and_reads_two_dollars_as_one() {
        let declared = BTreeSet::from(["CI_JOB".to_owned()]);
        let parse = |text| Template::parse(text, &declared);
        let literal = |text: &str| Part::Literal(text.to_owned());
        assert_eq!(
            parse("${manifest-dir}/a$$b/${CI_JOB}-${job}"),
            Ok(Template(vec![
                Part::ManifestDir,
                literal("/a$b/"),
                Part::Variable("CI_JOB".into()),
                literal("-"),
                Part::Job
            ]))
        );
        assert_eq!(parse("$${job}"), Ok(Template(vec![literal("${job}")])));
        assert_eq!(parse(""), Ok(Template(vec![])));
        for text in ["$HOME", "a$", "${job", "$ {job}", "$$$"] {
            assert_eq!(parse(text), Err(Flaw::Dollar), "{text}");
        }
        assert_eq!(
            parse("${CI_JOBS}"),
            Err(Flaw::Undefined("CI_JOBS".into(), Some("CI_JOB".into())))
        );
        assert_eq!(parse("${}"), Err(Flaw::Undefined(String::new(), None)));
    }
}

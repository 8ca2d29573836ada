//! Strings with variables that are known only where the job runs.

use std::fmt;

use crate::manifest::template::{Part, Template};
use crate::manifest::{Declared, Manifest};

/// A string of the manifest after its variables were looked up.
///
/// Variables of the manifest's own text are already part of the literals; what stays symbolic is
/// what a plan may not show: the manifest's folder, the store, values from the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub Vec<Piece>);

/// A part of a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// As it stands.
    Literal(String),
    /// `${manifest-dir}`: the folder that holds the manifest, absolute.
    ManifestDir,
    /// `${NAME}`: a declared variable whose value comes from the environment.
    Environment(String),
}

/// What variables stand for when a job is resolved.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub manifest: &'a Manifest,
    pub job: &'a str,
}

impl Names<'_> {
    /// The text of a template: what the manifest itself knows becomes part of the literals.
    pub(super) fn expand(self, template: &Template) -> Text {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let symbolic = |piece, literal: &mut String, pieces: &mut Vec<Piece>| {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(literal)));
            }
            pieces.push(piece);
        };
        for part in &template.0 {
            match part {
                Part::Literal(text) => literal.push_str(text),
                Part::Job => literal.push_str(self.job),
                Part::ManifestDir => symbolic(Piece::ManifestDir, &mut literal, &mut pieces),
                Part::Variable(name) => match self.manifest.variables().get(name) {
                    Some(Declared::Text(text)) => literal.push_str(text),
                    _ => symbolic(Piece::Environment(name.clone()), &mut literal, &mut pieces),
                },
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Text(pieces)
    }
}

impl Text {
    /// A text without variables.
    pub fn literal(text: impl Into<String>) -> Text {
        let text = text.into();
        let pieces = (!text.is_empty()).then_some(Piece::Literal(text));
        Text(pieces.into_iter().collect())
    }

    /// The text when it has no symbolic part.
    pub fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with every symbolic part looked up.
    ///
    /// # Errors
    /// The name of the first variable that `environment` does not know.
    pub fn expand<'a>(
        &'a self,
        manifest_dir: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<String, &'a str> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::ManifestDir => out.push_str(manifest_dir),
                Piece::Environment(name) => out.push_str(&environment(name).ok_or(name.as_str())?),
            }
        }
        Ok(out)
    }
}

impl fmt::Display for Text {
    /// As a manifest would write it: symbolic parts by name, a literal dollar doubled.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => {
                    for (number, part) in text.split('$').enumerate() {
                        f.write_str(if number == 0 { "" } else { "$$" })?;
                        f.write_str(part)?;
                    }
                }
                Piece::ManifestDir => f.write_str("${manifest-dir}")?,
                Piece::Environment(name) => write!(f, "${{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What [`Text`]'s `Display` has written: `${…}` is symbolic, two dollars are one.
impl<'d> serde::Deserialize<'d> for Text {
    fn deserialize<D: serde::Deserializer<'d>>(deserializer: D) -> Result<Text, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || serde::de::Error::custom(format!("`{text}` has a dollar sign that starts no variable"));
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, after) = after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or_else(wrong)?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(match name {
                "manifest-dir" => Piece::ManifestDir,
                name => Piece::Environment(name.to_owned()),
            });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Text(pieces))
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "`${manifest-dir}` and `${NAME}` stand for what is known where the job runs; `$$` is a dollar.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        for pieces in [
            vec![],
            vec![Piece::Literal("a$b$${x}".into())],
            vec![
                Piece::ManifestDir,
                Piece::Literal("/d".into()),
                Piece::Environment("CI".into()),
            ],
        ] {
            let json = serde_json::to_string(&Text(pieces.clone())).expect("json");
            assert_eq!(serde_json::from_str::<Text>(&json).expect("a text"), Text(pieces));
        }
        assert!(serde_json::from_str::<Text>("\"a$b\"").is_err());
    }

    #[test]
    fn shows_names_and_expands_to_values() {
        let text = Text(vec![
            Piece::ManifestDir,
            Piece::Literal("/a$b/".into()),
            Piece::Environment("CI_JOB".into()),
        ]);
        assert_eq!(text.to_string(), "${manifest-dir}/a$$b/${CI_JOB}");
        assert_eq!(
            text.expand("/src", |_| Some("7".into())),
            Ok("/src/a$b/7".to_owned())
        );
        assert_eq!(text.expand("/src", |_| None), Err("CI_JOB"));
        assert_eq!(Text::literal("x").as_literal(), Some("x"));
        assert_eq!(text.as_literal(), None);
    }
}

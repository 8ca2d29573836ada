//! Paths of keys from a job's table: what stands there, and what was probably meant.

use super::nearest::nearest;
use super::schema::{Kind, Section};
use super::sections;

/// A path that no manifest can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoSuchPath {
    /// The table, as a path, that lacks the key; empty for the job's own.
    pub table: String,
    /// The key.
    pub key: String,
    /// The path that was probably meant.
    pub near: Option<String>,
}

/// What a key is about: its own sentence, or its table's where a bare value would stand for it
/// (`limits.memory.max`).
pub(crate) fn doc(keys: &[&str]) -> Option<&'static str> {
    let (mut kind, mut doc) = (sections::job_kind(), None);
    for key in keys {
        let known = kind.section().and_then(|section| section.key(key));
        if kind.bare() != Some(*key) {
            doc = known.map(|known| known.doc).or(doc);
        }
        kind = kind.below(key)?;
    }
    doc
}

/// The keys of a path whose parts are joined by dots, quoted or not. Keys of the user's own may hold dots
/// themselves (`network.allow.index.example.org.ports`): the last part is a key of their table where it can be.
pub(crate) fn keys(path: &str) -> Result<Vec<String>, NoSuchPath> {
    let mut kind = sections::job_kind();
    let mut found: Vec<String> = Vec::new();
    let mut rest = unquoted(path);
    while !rest.is_empty() {
        let key = match (kind.section(), kind.entries()) {
            (Some(section), _) => section_key(section, &rest, &found)?,
            (None, Some(entries)) => entry_key(&entries.value, &rest),
            (None, None) => return Err(no_such(&[], &rest, &found)),
        };
        kind = match kind.below(&key) {
            Some(kind) => kind,
            None => return Err(no_such(&[], &rest, &found)),
        };
        rest = rest[key.len()..].trim_start_matches('.').to_owned();
        found.push(key);
    }
    Ok(found)
}

/// The path without quotes around its keys.
pub(crate) fn unquoted(path: &str) -> String {
    path.replace(['"', '\''], "")
}

fn section_key(section: &'static Section, rest: &str, above: &[String]) -> Result<String, NoSuchPath> {
    let key = rest.split('.').next().unwrap_or_default();
    match section.key(key) {
        Some(known) => Ok(known.name.to_owned()),
        None => {
            let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
            Err(no_such(&names, key, above))
        }
    }
}

fn no_such(names: &[&str], key: &str, above: &[String]) -> NoSuchPath {
    let table = above.join(".");
    let near = nearest(key, names.iter().copied());
    NoSuchPath {
        key: key.to_owned(),
        near: near.map(|near| match table.as_str() {
            "" => near.to_owned(),
            table => format!("{table}.{near}"),
        }),
        table,
    }
}

/// The whole rest, or what stands before the last dot when a key of the entry's own table follows it.
fn entry_key(value: &'static Kind, rest: &str) -> String {
    let inner = rest
        .rsplit_once('.')
        .filter(|(_, last)| value.section().is_some_and(|section| section.key(last).is_some()));
    inner.map_or(rest, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_with_or_without_quotes() {
        for (path, read) in [
            ("", &[][..]),
            ("limits.memory.max", &["limits", "memory", "max"]),
            ("mounts./tmp", &["mounts", "/tmp"]),
            ("mounts.\"/a.b\".bind", &["mounts", "/a.b", "bind"]),
            (
                "network.allow.index.example.org",
                &["network", "allow", "index.example.org"],
            ),
            (
                "network.allow.index.example.org.ports",
                &["network", "allow", "index.example.org", "ports"],
            ),
            ("env.PATH", &["env", "PATH"]),
        ] {
            assert_eq!(keys(path).expect(path), read);
        }
        let wrong = |path: &str| keys(path).expect_err(path);
        assert_eq!(wrong("limits.memroy").near.as_deref(), Some("limits.memory"));
        assert_eq!(wrong("limit").near.as_deref(), Some("limits"));
        assert_eq!(wrong("root.x").near, None);
        assert_eq!(wrong("nothing.like.it").key, "nothing");
    }

    #[test]
    fn a_bare_value_is_about_what_its_table_is_about() {
        assert_eq!(doc(&["limits", "wall", "max"]), Some("Time from its start."));
        assert_eq!(
            doc(&["mounts", "/tmp", "tmpfs"]),
            Some("A file system in memory of this size.")
        );
        assert_eq!(doc(&["env", "CI"]), Some("Added to the image's Env."));
        assert_eq!(doc(&["nothing"]), None);
    }
}

//! What somebody probably meant.

use super::nearest::nearest;
use super::schema::{Key, Kind, Section};
use super::syntax::{Toml, TomlKey};
use crate::problem::{Problem, codes};

/// What other tools call it, and what it is called here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("args", "command"),
    ("caps", "capabilities"),
    ("cap-add", "capabilities"),
    ("cmd", "command"),
    ("cwd", "workdir"),
    ("environment", "env"),
    ("extends", "inherits"),
    ("from", "image"),
    ("host", "hostname"),
    ("mem", "memory"),
    ("ports", "publish"),
    ("ref", "image"),
    ("rootfs", "root"),
    ("run", "command"),
    ("stdout", "output"),
    ("time", "wall"),
    ("timeout", "wall"),
    ("ulimits", "rlimits"),
    ("volumes", "mounts"),
    ("working-dir", "workdir"),
];

/// Words of other tools, and the words for the same thing here.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("none", "null"),
    ("off", "null"),
    ("loopback", "null"),
    ("nat", "bridge"),
    ("best-effort", "optional"),
    ("readonly", "read-only"),
    ("read", "ro"),
    ("write", "rw"),
    ("overlay", "copy"),
    ("memory", "tmpfs"),
];

/// A key that a section does not have.
pub(super) fn unknown_key(section: &'static Section, key: &TomlKey<'_>) -> Problem {
    let name = key.get_ref();
    let names = || section.keys.iter().map(|key| key.name);
    let folded = name.to_ascii_lowercase().replace('_', "-");
    let other = OTHER_NAMES
        .iter()
        .find(|(theirs, _)| *theirs == folded)
        .map(|(_, ours)| *ours);
    let help = if let Some(near) = nearest(name, names()) {
        format!("did you mean `{near}`?")
    } else if let Some(ours) = other.filter(|ours| names().any(|name| name == *ours)) {
        format!("here it is called `{ours}`")
    } else if let Some(table) = section_with(section, other.unwrap_or(&folded)) {
        format!("`{}` belongs in the table `{table}`", other.unwrap_or(&folded))
    } else {
        let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
        format!("the keys here are {}", names.join(" "))
    };
    Problem::new(
        codes::UNKNOWN_KEY,
        Some(key.span()),
        format!("unknown key {}", shown(name)),
        help,
    )
}

/// The table of a section that has a key of this name.
fn section_with(section: &'static Section, name: &str) -> Option<&'static str> {
    let has = |key: &&Key| match &key.kind {
        Kind::Table(inner) => inner.key(name).is_some(),
        _ => false,
    };
    section.keys.iter().find(has).map(|key| key.name)
}

/// The word that was meant.
pub(super) fn word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let folded = text.to_ascii_lowercase();
    let other = OTHER_WORDS
        .iter()
        .find(|(theirs, ours)| *theirs == folded && words.contains(ours))
        .map(|(_, ours)| *ours);
    other.or_else(|| nearest(text, words.iter().copied()))
}

/// The array to write instead of one string.
pub(super) fn array(key: &str, text: &str) -> String {
    let needs_shell = text.contains([
        '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '\n',
    ]);
    let words: Vec<_> = if needs_shell && matches!(key, "command" | "entrypoint") {
        vec!["sh", "-c", text]
    } else {
        text.split_whitespace().collect()
    };
    let quoted: Vec<_> = words.iter().map(|word| toml_string(word)).collect();
    format!("write `{key} = [{}]`", quoted.join(", "))
}

/// The same value in the type that is needed, where there is no doubt about it.
pub(super) fn retyped(kind: &'static Kind, value: &Toml<'_>) -> String {
    let kinds = kind.alternatives();
    let takes = |wanted: fn(&Kind) -> bool| kinds.iter().any(|kind| wanted(kind));
    match value {
        Toml::String(text)
            if takes(|kind| matches!(kind, Kind::Integer(..) | Kind::Cpus)) && is_number(text) =>
        {
            format!("write {text} without quotes")
        }
        Toml::String(text)
            if takes(|kind| matches!(kind, Kind::Bool | Kind::AlwaysOn(_) | Kind::Removed))
                && matches!(&**text, "true" | "false") =>
        {
            format!("write {text} without quotes")
        }
        Toml::String(_) if takes(|kind| matches!(kind, Kind::Unlimited)) => {
            "write \"unlimited\" where there is no limit".to_owned()
        }
        Toml::String(text) => kinds
            .iter()
            .find_map(|kind| key_for(kind, text))
            .map(|key| format!("write `{{ {key} = {} }}`", toml_string(text)))
            .unwrap_or_default(),
        Toml::Integer(_) | Toml::Float(_)
            if takes(|kind| matches!(kind, Kind::Text(_) | Kind::Template(_))) =>
        {
            match value {
                Toml::Integer(number) => format!("write \"{number}\""),
                Toml::Float(number) => format!("write \"{number}\""),
                _ => String::new(),
            }
        }
        Toml::Table(_) if takes(|kind| matches!(kind, Kind::List(Kind::Table(_)))) => {
            "write its header in two pairs of brackets, once for each: `[[…]]`".to_owned()
        }
        Toml::Array(_) if takes(|kind| matches!(kind, Kind::Entries(_))) => {
            "every entry has a key of its own here, so that profiles can be merged".to_owned()
        }
        _ => String::new(),
    }
}

/// The key of a table that a bare string was probably meant for.
fn key_for(kind: &Kind, text: &str) -> Option<&'static str> {
    let Kind::Table(section) = kind else {
        return None;
    };
    let word = section.keys.iter().find(|key| match &key.kind {
        Kind::Word(words) => words.contains(&text),
        _ => false,
    });
    word.map(|key| key.name)
        .or_else(|| section.kinds.first().copied())
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

/// Text of the manifest inside a message: harmless on a terminal, and not too long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let short = short.replace("\\\"", "\"").replace("\\'", "'");
    let more = if text.chars().nth(LONGEST).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{short}{more}`")
}

fn toml_string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

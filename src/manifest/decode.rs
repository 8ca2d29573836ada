//! From TOML's tree to checked values: one walk over the tables of [`super::sections`] that reports
//! every problem and goes on.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;

use super::advice;
use super::grammar::{self, Check, Wrong};
use super::schema::{Entries, Kind, Section, Unit, listed};
use super::syntax::{Toml, TomlArray, TomlKey, TomlTable};
use super::template::{Flaw, Template};
use super::value::{Node, Table, Value};
use crate::problem::{ENOUGH, Problem, codes};
use crate::units::{Bytes, MilliCpus, Millis};

/// The walk: what it knows and what it found.
pub(super) struct Decoder {
    /// Names under `[variables]`.
    pub variables: BTreeSet<String>,
    /// Everything wrong so far.
    pub problems: Vec<Problem>,
}

impl Decoder {
    /// A table with known keys.
    pub(super) fn section(&mut self, section: &'static Section, table: TomlTable<'_>) -> Table {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            if self.problems.len() >= ENOUGH {
                break;
            }
            match section.key(key.get_ref()) {
                Some(known) => {
                    let node = self.node(&known.kind, &key, value);
                    entries.push((known.name.into(), node));
                }
                None => self.problems.push(advice::unknown_key(section, &key)),
            }
        }
        let entries = Table::of(entries);
        self.one_kind(section, &entries);
        if let [a, b] = section.rivals
            && let (Some(a_node), Some(b_node)) = (entries.get(a), entries.get(b))
        {
            let message = format!("`{a}` and `{b}` contradict each other");
            self.problems.push(
                Problem::new(
                    codes::EXCLUSIVE_KEYS,
                    Some(b_node.key.clone()),
                    message,
                    "keep one of them",
                )
                .beside(Some(a_node.key.clone()), "the other"),
            );
        }
        entries
    }

    /// Of the keys that decide what a table is, only one can be there.
    fn one_kind(&mut self, section: &'static Section, entries: &Table) {
        let mut written = section
            .kinds
            .iter()
            .filter_map(|kind| Some((kind, entries.get(kind)?)));
        if let (Some((first, first_node)), Some((second, second_node))) = (written.next(), written.next()) {
            let message = format!("`{first}` and `{second}` exclude each other");
            self.problems.push(
                Problem::new(
                    codes::EXCLUSIVE_KEYS,
                    Some(second_node.key.clone()),
                    message,
                    "keep one of them",
                )
                .beside(Some(first_node.key.clone()), "the other"),
            );
        }
    }

    /// A table whose keys the user chooses.
    pub(super) fn entries(&mut self, entries: &'static Entries, table: TomlTable<'_>) -> Table {
        let mut found = Vec::with_capacity(table.len());
        for (key, value) in table {
            if self.problems.len() >= ENOUGH {
                break;
            }
            if let Err(wrong) = (entries.name)(key.get_ref()) {
                let shown = advice::shown(key.get_ref());
                let message = match wrong.code {
                    codes::BAD_NAME if wrong.wrong.starts_with("is not a name") => {
                        format!("{shown} cannot name {}", entries.noun)
                    }
                    _ if key.get_ref().is_empty() => format!("the name of {} is empty", entries.noun),
                    _ => format!("{shown} {}", wrong.wrong),
                };
                self.problem(wrong.code, key.span(), message, wrong.right);
            }
            let node = self.node(&entries.value, &key, value);
            found.push((key.into_inner().into_owned().into(), node));
        }
        Table::of(found)
    }

    fn node(&mut self, kind: &'static Kind, key: &TomlKey<'_>, value: Spanned<Toml<'_>>) -> Node {
        Node {
            key: key.span(),
            span: value.span(),
            whole: !matches!(value.get_ref(), Toml::Table(_)),
            value: self.value(kind, key.get_ref(), value),
        }
    }

    /// Takes the value apart: what is read of it is in the room of what it leaves.
    fn value(&mut self, kind: &'static Kind, key: &str, value: Spanned<Toml<'_>>) -> Value {
        let span = value.span();
        match (kind, value.get_ref()) {
            (Kind::Either(kinds), found) => {
                let fitting = kinds.iter().find(|kind| fits(kind, found));
                match fitting.or_else(|| kinds.iter().find(|kind| almost(kind, found))) {
                    Some(kind) => self.value(kind, key, value),
                    None => self.wrong_type(kind, key, &value),
                }
            }
            (Kind::Short(_, _, section), Toml::Table(_)) => {
                Value::Table(self.section(section, table_of(value)))
            }
            (Kind::Short(name, bare, _), _)
                if fits(bare, value.get_ref()) || almost(bare, value.get_ref()) =>
            {
                let node = Node {
                    key: span.clone(),
                    span,
                    value: self.value(bare, key, value),
                    whole: true,
                };
                Value::Table(Table::from([(*name, node)]))
            }
            (Kind::Bool | Kind::AlwaysOn(_), Toml::Boolean(true)) => Value::Bool(true),
            (Kind::Bool, Toml::Boolean(false)) => Value::Bool(false),
            (Kind::Removed, Toml::Boolean(false)) => Value::Removed,
            (Kind::AlwaysOn(reason), Toml::Boolean(false)) => {
                let message = format!("`{key}` cannot be switched off: {reason}");
                self.problem(codes::REFUSED_KEY, span, message, "leave it out")
            }
            (Kind::Refused(reason), _) => {
                let message = format!("`{key}` cannot be written: {reason}");
                self.problem(codes::REFUSED_KEY, span, message, "leave it out")
            }
            (Kind::Integer(least, most), Toml::Integer(number)) => {
                match i64::from_str_radix(&number.digits, number.radix) {
                    Ok(number) if (*least..=*most).contains(&number) => Value::Integer(number),
                    _ => self.problem(
                        codes::OUT_OF_RANGE,
                        span,
                        format!("`{key}` is {number}, which is out of range"),
                        match *most {
                            i64::MAX => format!("a whole number from {least}"),
                            most => format!("a whole number from {least} to {most}"),
                        },
                    ),
                }
            }
            (Kind::Cpus, Toml::Float(_) | Toml::Integer(_)) => self.cpus(key, &value),
            (Kind::Quantity(unit), Toml::String(text)) => self.quantity(*unit, text, span),
            // A bare number: the readings that it could have had.
            (Kind::Quantity(unit), Toml::Integer(number)) => self.quantity(*unit, &number.digits, span),
            (Kind::Quantity(unit), Toml::Float(number)) => self.quantity(*unit, number, span),
            (Kind::Unlimited, Toml::String(text)) if text == "unlimited" => Value::Unlimited,
            (Kind::Word(words), Toml::String(text)) => match words.iter().find(|word| *word == text) {
                Some(word) => Value::Text((*word).to_owned()),
                None => {
                    let message = format!("{} is not one of the words for `{key}`", advice::shown(text));
                    let right = advice::word(text, words)
                        .map(|word| format!("write \"{word}\""))
                        .unwrap_or_else(|| format!("the words are {}", listed(words)));
                    self.problem(codes::UNKNOWN_WORD, span, message, right)
                }
            },
            (Kind::Text(check), Toml::String(text)) => self.text(*check, text, span),
            (Kind::Template(check), Toml::String(text)) => self.template(*check, text, span),
            (Kind::List(item), Toml::Array(_)) => Value::List(
                items_of(value)
                    .into_iter()
                    .map(|each| Node {
                        key: each.span(),
                        span: each.span(),
                        value: self.value(item, key, each),
                        whole: true,
                    })
                    .collect(),
            ),
            (Kind::List(_), Toml::String(text)) => {
                let message = format!("`{key}` is one string, and an array of strings is needed");
                self.problem(codes::NOT_AN_ARRAY, span, message, advice::array(key, text))
            }
            (Kind::Table(section), Toml::Table(table)) => {
                if table.is_empty() && section.kinds.len() == section.keys.len() {
                    let help = format!("write one of {}", listed_keys(section.kinds));
                    let message = format!("`{key}` says nothing");
                    self.problem(codes::MISSING_KEY, span, message, help);
                }
                Value::Table(self.section(section, table_of(value)))
            }
            (Kind::Entries(entries), Toml::Table(_)) => Value::Table(self.entries(entries, table_of(value))),
            _ => self.wrong_type(kind, key, &value),
        }
    }

    fn cpus(&mut self, key: &str, value: &Spanned<Toml<'_>>) -> Value {
        let text = match value.get_ref() {
            Toml::Integer(number) if number.radix == 10 => &number.digits,
            Toml::Float(number) => number,
            _ => "",
        };
        match MilliCpus::parse(text) {
            Ok(cpus) => Value::Cpus(cpus),
            Err(error) => {
                let message = format!("`{key}` {}", error.wrong);
                self.problem(codes::OUT_OF_RANGE, value.span(), message, error.right)
            }
        }
    }

    fn quantity(&mut self, unit: Unit, text: &str, span: Range<usize>) -> Value {
        let read = match unit {
            Unit::Bytes | Unit::BytesOrZero => Bytes::parse(text).map(Value::Bytes),
            Unit::Time => Millis::parse(text).map(Value::Time),
            Unit::Offset => {
                let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
                // `Millis` holds at most 63 bits.
                Millis::parse(length).map(|length| Value::Offset(sign * length.0.cast_signed()))
            }
        };
        match read {
            Ok(Value::Bytes(Bytes(0))) if unit == Unit::Bytes => self.zero(text, span),
            Ok(Value::Time(Millis(0))) => self.zero(text, span),
            Ok(value) => value,
            Err(error) => {
                let wrong = Wrong::from(error);
                let message = format!("{} {}", advice::shown(text), wrong.wrong);
                self.problem(wrong.code, span, message, wrong.right)
            }
        }
    }

    fn zero(&mut self, text: &str, span: Range<usize>) -> Value {
        let message = format!("{} leaves the job nothing", advice::shown(text));
        self.problem(
            codes::OUT_OF_RANGE,
            span,
            message,
            "`false` takes away a limit that a parent sets",
        )
    }

    fn text(&mut self, check: Check, text: &str, span: Range<usize>) -> Value {
        if text.contains("${") {
            let message = format!("{} has a variable, and none is read here", advice::shown(text));
            let right =
                "variables stand in `image`, `command`, `entrypoint`, `workdir`, `env` and a mount's `bind`";
            return self.problem(codes::NO_VARIABLES_HERE, span, message, right);
        }
        match check(text) {
            Ok(()) => Value::Text(text.to_owned()),
            Err(wrong) => self.malformed(text, wrong, span),
        }
    }

    fn template(&mut self, check: Check, text: &str, span: Range<usize>) -> Value {
        if let Err(wrong) = grammar::argument(text) {
            return self.malformed(text, wrong, span);
        }
        let template = match Template::parse(text, &self.variables) {
            Ok(template) => template,
            Err(Flaw::Dollar) => {
                let message = format!(
                    "{} has a dollar sign that starts no variable",
                    advice::shown(text)
                );
                let right = "write `$$` for a dollar sign, `${NAME}` for a variable";
                return self.problem(codes::BAD_VARIABLE, span, message, right);
            }
            Err(Flaw::Undefined(name, nearest)) => {
                let message = format!("the variable {} is not defined", advice::shown(&name));
                let right = match nearest {
                    Some(near) => format!("did you mean `${{{near}}}`?"),
                    None => "define it under `[variables]`, or write `$$` for a dollar sign".to_owned(),
                };
                return self.problem(codes::UNKNOWN_VARIABLE, span, message, right);
            }
        };
        match template.as_literal().map(check) {
            Some(Err(wrong)) => self.malformed(text, wrong, span),
            _ => Value::Template(template),
        }
    }

    fn malformed(&mut self, text: &str, wrong: Wrong, span: Range<usize>) -> Value {
        let message = match text {
            "" => format!("an empty string {}", wrong.wrong),
            _ => format!("{} {}", advice::shown(text), wrong.wrong),
        };
        self.problem(wrong.code, span, message, wrong.right)
    }

    fn wrong_type(&mut self, kind: &'static Kind, key: &str, value: &Spanned<Toml<'_>>) -> Value {
        let found = match value.get_ref() {
            Toml::String(_) => "a string",
            Toml::Integer(_) => "an integer",
            Toml::Float(_) => "a float",
            Toml::Boolean(true) => "`true`",
            Toml::Boolean(false) => "`false`",
            Toml::Datetime => "a date or time",
            Toml::Array(_) => "an array",
            Toml::Table(_) => "a table",
        };
        let message = format!("`{}` takes {}, not {found}", key.escape_debug(), kind.expects());
        self.problem(
            codes::WRONG_TYPE,
            value.span(),
            message,
            advice::retyped(kind, value.get_ref()),
        )
    }

    fn problem(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Value {
        self.problems.push(Problem::new(code, Some(span), message, help));
        Value::Bad
    }
}

/// The entries of a table; none of anything else.
fn table_of(value: Spanned<Toml<'_>>) -> TomlTable<'_> {
    match value.into_inner() {
        Toml::Table(table) => table,
        _ => TomlTable::default(),
    }
}

/// The items of an array; none of anything else.
fn items_of(value: Spanned<Toml<'_>>) -> Vec<Spanned<Toml<'_>>> {
    match value.into_inner() {
        Toml::Array(TomlArray { items, .. }) => items,
        _ => Vec::new(),
    }
}

/// `` `a` `b` ``, as messages name keys.
fn listed_keys(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" ")
}

/// Whether a value is of a type that a kind takes.
fn fits(kind: &Kind, value: &Toml<'_>) -> bool {
    match kind {
        Kind::Refused(_) => true,
        Kind::Bool | Kind::AlwaysOn(_) => matches!(value, Toml::Boolean(_)),
        Kind::Removed => matches!(value, Toml::Boolean(false)),
        Kind::Integer(..) => matches!(value, Toml::Integer(_)),
        Kind::Cpus => matches!(value, Toml::Integer(_) | Toml::Float(_)),
        Kind::Unlimited => value.as_str() == Some("unlimited"),
        // So that the next alternative is asked.
        Kind::Quantity(_) => value.as_str().is_some_and(|text| text != "unlimited"),
        Kind::Word(_) | Kind::Text(_) | Kind::Template(_) => matches!(value, Toml::String(_)),
        Kind::List(_) => matches!(value, Toml::Array(_)),
        Kind::Table(_) | Kind::Entries(_) => matches!(value, Toml::Table(_)),
        Kind::Either(kinds) => kinds.iter().any(|kind| fits(kind, value)),
        Kind::Short(_, bare, _) => matches!(value, Toml::Table(_)) || fits(bare, value),
    }
}

/// Whether a kind has something better to say about a value than that its type is wrong.
fn almost(kind: &Kind, value: &Toml<'_>) -> bool {
    match kind {
        Kind::Quantity(_) => matches!(value, Toml::String(_) | Toml::Integer(_) | Toml::Float(_)),
        Kind::List(_) => matches!(value, Toml::String(_)),
        Kind::Short(_, bare, _) => almost(bare, value),
        _ => false,
    }
}

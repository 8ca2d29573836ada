//! From the events of `toml_parser`, the parser that `toml` stands on, to the tree.

use std::borrow::Cow;
use std::mem::{replace, take};
use std::ops::Range;

use toml::Spanned;
use toml::value::Datetime;
use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::parser::EventReceiver;
use toml_parser::{ErrorSink, ParseError, Raw, Source, Span};

use super::tree::{Integer, Toml, TomlArray, TomlKey, TomlTable, Written};

/// Deeper than any key of a manifest.
pub(super) const MAX_DEPTH: usize = 32;

/// A tree that grows.
pub(super) struct Builder<'i> {
    source: Source<'i>,
    root: TomlTable<'i>,
    /// The table of the last header; in the root's place before the first.
    current: TomlTable<'i>,
    header: Option<Header<'i>>,
    /// The first byte of a header that is not closed yet, and whether it has two brackets.
    heading: Option<(usize, bool)>,
    /// The keys of a header or value under way.
    keys: Vec<TomlKey<'i>>,
    /// The next key belongs to those.
    dotted: bool,
    /// Arrays and tables in braces that are not closed yet, the outermost first, each with its first byte.
    open: Vec<(usize, Open<'i>)>,
    /// What follows cannot be told from what it belongs to.
    lost: bool,
    /// Where it is deeper than [`MAX_DEPTH`]; the tree ends there.
    pub(super) deep: Option<Range<usize>>,
}

struct Header<'i> {
    path: Vec<TomlKey<'i>>,
    span: Range<usize>,
    of_array: bool,
}

enum Open<'i> {
    Array(TomlArray<'i>),
    /// With the keys of its own value.
    Table(TomlTable<'i>, Vec<TomlKey<'i>>),
}

/// What leads from a table to one in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Header,
    Dots,
    DotsInBraces,
}

impl<'i> Builder<'i> {
    pub(super) fn new(source: Source<'i>) -> Builder<'i> {
        Builder {
            source,
            root: TomlTable::default(),
            current: TomlTable::default(),
            header: None,
            heading: None,
            keys: Vec::new(),
            dotted: false,
            open: Vec::new(),
            lost: false,
            deep: None,
        }
    }

    /// The whole tree.
    pub(super) fn finish(mut self, errors: &mut dyn ErrorSink) -> TomlTable<'i> {
        self.finish_table(errors);
        self.root
    }

    fn start_table(&mut self, header: Header<'i>, errors: &mut dyn ErrorSink) {
        self.finish_table(errors);
        if let Some((key, path)) = header.path.split_last()
            && !header.of_array
            && let Some(parent) = descend(&mut self.root, path, By::Header, errors)
            && let Some(place) = parent.place(key.get_ref())
        {
            // It goes back to its place when the next header comes.
            let value = replace(parent.at(place).1.get_mut(), Toml::Boolean(false));
            if !matches!(&value, Toml::Table(table) if table.written == Written::Implied) {
                duplicate(key, errors);
            }
            if let Toml::Table(table) = value {
                self.current = table;
            }
        }
        self.current.written = Written::Header;
        self.header = Some(header);
    }

    fn finish_table(&mut self, errors: &mut dyn ErrorSink) {
        let table = take(&mut self.current);
        let Some(mut header) = self.header.take() else {
            self.root = table;
            return;
        };
        let Some(key) = header.path.pop() else { return };
        let Some(parent) = descend(&mut self.root, &header.path, By::Header, errors) else {
            return;
        };
        let value = Spanned::new(header.span.clone(), Toml::Table(table));
        match (parent.place(key.get_ref()), header.of_array) {
            (None, false) => drop(parent.push(key, value)),
            (Some(place), false) => *parent.at(place) = (key, value),
            (None, true) => {
                let array = TomlArray {
                    items: vec![value],
                    of_headers: true,
                };
                parent.push(key, Spanned::new(header.span, Toml::Array(array)));
            }
            (Some(place), true) => match parent.at(place).1.get_mut() {
                Toml::Array(array) if array.of_headers => array.items.push(value),
                _ => duplicate(&key, errors),
            },
        }
    }

    /// Puts a value where it belongs.
    fn value(&mut self, value: Spanned<Toml<'i>>, errors: &mut dyn ErrorSink) {
        let (table, by) = match self.open.last_mut() {
            Some((_, Open::Array(array))) => {
                if array.items.is_empty() {
                    array.items.reserve_exact(1);
                }
                return array.items.push(value);
            }
            Some((_, Open::Table(table, _))) => (table, By::DotsInBraces),
            None => (&mut self.current, By::Dots),
        };
        let Some(key) = self.keys.pop() else { return };
        if let Some(parent) = descend(table, &self.keys, by, errors) {
            let of_header = !self.keys.is_empty() && parent.written == Written::Header;
            match parent.place(key.get_ref()) {
                None if !of_header => drop(parent.push(key, value)),
                _ => duplicate(&key, errors),
            }
        }
        self.keys.clear();
    }

    /// Whether one level more is not too much.
    fn fits(&mut self, span: Span) -> bool {
        // A header begins at the root again.
        let header = self.header.as_ref().filter(|_| self.heading.is_none());
        let above = header.map_or(0, |header| header.path.len());
        let outer = self.open.iter().map(|(_, open)| match open {
            Open::Array(_) => 1,
            Open::Table(_, keys) => 1 + keys.len(),
        });
        let fits = above + outer.sum::<usize>() + self.keys.len() < MAX_DEPTH;
        if !fits {
            self.deep.get_or_insert(range(span));
            self.lost = true;
        }
        fits
    }

    fn raw(&self, span: Span, encoding: Option<Encoding>) -> Raw<'i> {
        let text = self.source.input().get(range(span)).unwrap_or_default();
        Raw::new_unchecked(text, encoding, span)
    }

    fn close(&mut self, span: Span, errors: &mut dyn ErrorSink) {
        let Some((start, open)) = self.open.pop().filter(|_| !self.lost) else {
            return;
        };
        let value = match open {
            Open::Array(array) => Toml::Array(array),
            Open::Table(table, keys) => {
                self.keys = keys;
                Toml::Table(table)
            }
        };
        self.value(Spanned::new(start..span.end(), value), errors);
    }

    fn close_header(&mut self, span: Span, errors: &mut dyn ErrorSink) {
        let Some((start, of_array)) = self.heading.take().filter(|_| !self.lost) else {
            return;
        };
        let header = Header {
            path: take(&mut self.keys),
            span: start..span.end(),
            of_array,
        };
        self.start_table(header, errors);
    }
}

impl EventReceiver for Builder<'_> {
    fn std_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.heading = Some((span.start(), false));
    }

    fn std_table_close(&mut self, span: Span, errors: &mut dyn ErrorSink) {
        self.close_header(span, errors);
    }

    fn array_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.heading = Some((span.start(), true));
    }

    fn array_table_close(&mut self, span: Span, errors: &mut dyn ErrorSink) {
        self.close_header(span, errors);
    }

    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        if self.lost || !self.fits(span) {
            return false;
        }
        let open = Open::Table(TomlTable::of(Written::Braces), take(&mut self.keys));
        self.open.push((span.start(), open));
        true
    }

    fn inline_table_close(&mut self, span: Span, errors: &mut dyn ErrorSink) {
        self.close(span, errors);
    }

    fn array_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        if self.lost || !self.fits(span) {
            return false;
        }
        self.open.push((span.start(), Open::Array(TomlArray::default())));
        true
    }

    fn array_close(&mut self, span: Span, errors: &mut dyn ErrorSink) {
        self.close(span, errors);
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, errors: &mut dyn ErrorSink) {
        if !take(&mut self.dotted) {
            self.keys.clear();
        }
        if self.lost || !self.fits(span) {
            return;
        }
        let mut key = Cow::Borrowed("");
        self.raw(span, encoding).decode_key(&mut key, errors);
        self.keys.push(Spanned::new(range(span), key));
    }

    fn key_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.dotted = true;
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, errors: &mut dyn ErrorSink) {
        if self.lost {
            return;
        }
        let mut text = Cow::Borrowed("");
        let value = match self.raw(span, encoding).decode_scalar(&mut text, errors) {
            ScalarKind::String => Toml::String(text),
            ScalarKind::Boolean(is) => Toml::Boolean(is),
            ScalarKind::Float => Toml::Float(text),
            ScalarKind::Integer(radix) => Toml::Integer(Integer {
                digits: text,
                radix: radix.value(),
            }),
            ScalarKind::DateTime => {
                if let Err(error) = text.parse::<Datetime>() {
                    errors.report_error(ParseError::new(error.to_string()).with_unexpected(span));
                }
                Toml::Datetime
            }
        };
        self.value(Spanned::new(range(span), value), errors);
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        // A header that is not closed, or a key without a value: what follows would be taken for another table's.
        let between = self.heading.is_some() || !self.keys.is_empty();
        self.lost |= self.open.is_empty() && between;
    }
}

/// The table at the end of a path, whose missing parts are made.
fn descend<'t, 'i>(
    mut table: &'t mut TomlTable<'i>,
    path: &[TomlKey<'i>],
    by: By,
    errors: &mut dyn ErrorSink,
) -> Option<&'t mut TomlTable<'i>> {
    for key in path {
        let place = table.place(key.get_ref()).unwrap_or_else(|| {
            let made = TomlTable::of(match by {
                By::Header => Written::Implied,
                By::Dots => Written::Dots,
                By::DotsInBraces => Written::DotsInBraces,
            });
            table.push(key.clone(), Spanned::new(key.span(), Toml::Table(made)))
        });
        let mut cannot_extend = |kind: &str| {
            let message = format!("cannot extend value of type {kind} with a dotted key");
            errors.report_error(ParseError::new(message).with_unexpected(span(key)));
        };
        let found = table.at(place).1.get_mut();
        let kind = found.kind();
        table = match found {
            // The last of them is meant.
            Toml::Array(array) if array.of_headers && by != By::DotsInBraces => {
                match array.items.last_mut()?.get_mut() {
                    Toml::Table(last) => last,
                    _ => return None,
                }
            }
            Toml::Table(next) => match (by, next.written) {
                (By::Dots, Written::Header) | (By::DotsInBraces, Written::Braces) => {
                    duplicate(key, errors);
                    return None;
                }
                (By::Header | By::Dots, Written::Braces | Written::DotsInBraces) => {
                    cannot_extend("inline table");
                    return None;
                }
                (By::Dots, Written::Implied) => {
                    next.written = Written::Dots;
                    next
                }
                _ => next,
            },
            _ => {
                cannot_extend(kind);
                return None;
            }
        };
    }
    Some(table)
}

fn duplicate(key: &TomlKey<'_>, errors: &mut dyn ErrorSink) {
    errors.report_error(ParseError::new("duplicate key").with_unexpected(span(key)));
}

fn span(key: &TomlKey<'_>) -> Span {
    Span::new_unchecked(key.span().start, key.span().end)
}

fn range(span: Span) -> Range<usize> {
    span.start()..span.end()
}

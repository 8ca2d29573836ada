//! The manifest's text as checked values with their places.
//!
//! [`parse`] knows TOML, the keys, their types and the form of each value; it reads no file and no
//! environment variable, and it reports everything that is wrong at once. What the values mean
//! together (inheritance, defaults, contradictions) is [`crate::profile`]'s.
//!
//! ```
//! let manifest = ringfence::manifest::parse("schema = 1\n[job.hello]\nimage = \"host\"\n")?;
//! assert_eq!(manifest.jobs().collect::<Vec<_>>(), ["hello"]);
//! # Ok::<(), ringfence::problem::Problems>(())
//! ```

mod advice;
mod decode;
pub(crate) mod grammar;
mod json_schema;
mod matrix;
pub(crate) mod nearest;
pub(crate) mod paths;
pub(crate) mod schema;
pub(crate) mod sections;
mod syntax;
mod table;
pub(crate) mod template;
pub(crate) mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use self::decode::Decoder;
pub use self::json_schema::json_schema;
use self::matrix::Matrix;
pub use self::matrix::Variant;
use self::syntax::{Toml, TomlTable};
use self::value::{Table, Value};
use crate::problem::{Problem, Problems, codes};

/// The most that a manifest may have; whoever reads the file can stop there.
pub const MAX_BYTES: usize = 1 << 20;

/// A manifest whose keys, types and forms are right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// `[job.*]`, by name.
    pub(crate) jobs: Table,
    /// `[profile.*]`, by name; cells of a matrix share them.
    pub(crate) profiles: Arc<Table>,
    /// `[variables]`, by name.
    variables: BTreeMap<String, Declared>,
    /// `[matrix]`.
    matrix: Matrix,
}

/// What `[variables]` declares under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// `NAME = "text"`.
    Text(String),
    /// `NAME = { env = "…" }`: known only where the job runs.
    Environment(Variable),
}

/// A variable whose value comes from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The environment variable that it is read from.
    pub env: String,
    /// Its value where that variable is not set; without one that is an error.
    pub default: Option<String>,
    /// Its value is kept out of everything that is printed.
    pub secret: bool,
}

impl Declared {
    /// Where the value comes from, when it comes from the environment.
    pub fn environment(&self) -> Option<&Variable> {
        match self {
            Declared::Text(_) => None,
            Declared::Environment(variable) => Some(variable),
        }
    }
}

/// Reads a manifest.
///
/// # Errors
/// Everything that is wrong with the text, its keys and its values, in the order of their places.
pub fn parse(text: &str) -> Result<Manifest, Problems> {
    let (manifest, problems) = parse_recoverable(text);
    Problems::none_or(problems, manifest.unwrap_or_default())
}

/// Reads as much of a manifest as can be read. What is wrong stands in the manifest as a gap that
/// later passes say nothing about; there is no manifest when the text is no TOML.
pub(crate) fn parse_recoverable(text: &str) -> (Option<Manifest>, Vec<Problem>) {
    let (root, syntax) = syntax::tree(text);
    let readable = syntax.is_empty();
    let mut decoder = Decoder {
        variables: variable_names(&root),
        problems: Vec::new(),
    };
    let says_schema = root.get("schema").is_some();
    let mut tables = decoder.section(&sections::ROOT, root);
    if readable && !says_schema {
        let help = "write `schema = 1` as the first line";
        let problem = Problem::new(
            codes::SCHEMA,
            Some(0..0),
            "the manifest does not say its schema",
            help,
        );
        decoder.problems.push(problem);
    }
    for problem in &mut decoder.problems {
        // A later version is not a number out of range.
        if problem.code == codes::OUT_OF_RANGE && problem.message.starts_with("`schema` is ") {
            problem.code = codes::SCHEMA;
            problem.message = problem
                .message
                .replace(", which is out of range", ", and this ringfence reads schema 1");
            problem.help =
                "write `schema = 1`, or use the ringfence that the manifest was written for".into();
        }
    }
    // What was understood before the text went wrong is worth saying; what came after it is guessed.
    let trusted = syntax
        .iter()
        .map(|problem| first_of_line(text, problem))
        .min()
        .unwrap_or(usize::MAX);
    decoder
        .problems
        .retain(|problem| problem.span.as_ref().is_some_and(|span| span.start < trusted));
    decoder.problems.extend(syntax);
    let mut entries = |name: &str| match tables.remove(name).map(|node| node.value) {
        Some(Value::Table(table)) => table,
        _ => Table::default(),
    };
    let jobs = entries("job");
    let manifest = Manifest {
        profiles: Arc::new(entries("profile")),
        variables: variables(entries("variables"), &mut decoder.problems),
        matrix: Matrix::read(entries("matrix"), &jobs, &mut decoder.problems),
        jobs,
    };
    (readable.then_some(manifest), decoder.problems)
}

/// The first byte of the line where a problem stands.
fn first_of_line(text: &str, problem: &Problem) -> usize {
    let start = problem.span.as_ref().map_or(0, |span| span.start);
    text[..start].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The names that `${…}` may hold, read before everything else.
fn variable_names(root: &TomlTable<'_>) -> BTreeSet<String> {
    match root.get("variables") {
        Some(Toml::Table(table)) => table.keys().map(str::to_owned).collect(),
        _ => BTreeSet::new(),
    }
}

fn variables(table: Table, problems: &mut Vec<Problem>) -> BTreeMap<String, Declared> {
    let mut variables = BTreeMap::new();
    for (name, node) in table {
        let variable = match node.value {
            Value::Text(text) => Declared::Text(text),
            Value::Table(table) => {
                let text = |key: &str| {
                    table
                        .get(key)
                        .and_then(|node| node.value.as_text())
                        .map(str::to_owned)
                };
                if !table.contains_key("env") {
                    problems.push(Problem::new(
                        codes::MISSING_KEY,
                        Some(node.key),
                        format!("the variable `{name}` does not say where its value comes from"),
                        format!("write `{name} = \"text\"` or `{name} = {{ env = \"{name}\" }}`"),
                    ));
                }
                Declared::Environment(Variable {
                    env: text("env").unwrap_or_default(),
                    default: text("default"),
                    secret: matches!(
                        table.get("secret").map(|node| &node.value),
                        Some(Value::Bool(true))
                    ),
                })
            }
            _ => Declared::Text(String::new()),
        };
        variables.insert(name.into_owned(), variable);
    }
    variables
}

impl Manifest {
    /// The names of its jobs, sorted.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &str> {
        self.jobs.keys()
    }

    /// The names of its profiles, sorted; the built-in ones are not among them.
    pub fn profiles(&self) -> impl ExactSizeIterator<Item = &str> {
        self.profiles.keys()
    }

    /// What it declares under `[variables]`, by name.
    pub fn variables(&self) -> &BTreeMap<String, Declared> {
        &self.variables
    }

    /// Where the name of a job stands.
    pub fn job_span(&self, name: &str) -> Option<Range<usize>> {
        self.jobs.get(name).map(|node| node.key.clone())
    }
}

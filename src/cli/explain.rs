//! `ringfence explain`: where a value comes from.

use serde_json::{Value, json};

use super::args::Explain as Args;
use super::failure::Failure;
use super::print;
use super::project::{Project, line_and_column};
use crate::manifest::paths::{self, NoSuchPath};
use crate::profile::{self, Explained, Explanation, Setting};
use crate::{ceiling, plan, problem};

/// Every value at the path, each with its chain of tables; the one that holds comes first.
pub(super) fn explain(args: &Args) -> Result<u8, Failure> {
    if let Some(code) = args.path.as_deref().filter(|path| is_code(path)) {
        return print(page(code)?).map(|()| 0);
    }
    let project = Project::open(args.file.file.as_deref())?;
    let job = project.job_name(args.job.as_deref())?;
    // A mistake elsewhere in the job is `check`'s; a value that stands can be explained all the same.
    let explanation = profile::explain(&project.manifest, job)
        .map_err(|problems| Failure::Manifest(project.render(&problems)))?;
    let path = args.path.as_deref().unwrap_or_default();
    let values: Vec<&Explained> = explanation.under(path).collect();
    if values.is_empty() {
        let keys = paths::keys(path).map_err(|error| Failure::text(unknown(&error)))?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        return print(&match args.json {
            true => "[]\n".to_owned(),
            false => unset(path, paths::doc(&keys).unwrap_or_default(), &explanation),
        })
        .map(|()| 0);
    }
    if args.json {
        let list: Vec<_> = values.iter().map(|value| as_json(value, &project)).collect();
        return print(&format!("{:#}\n", Value::Array(list))).map(|()| 0);
    }
    let mut texts: Vec<String> = values.iter().map(|value| as_text(value, &project)).collect();
    if path.is_empty() {
        texts.insert(0, format!("{}\n", explanation.chain.join(" ← ")));
    }
    print(&texts.join("\n"))?;
    Ok(0)
}

/// Whether a path is the code of an error: no key begins so.
fn is_code(path: &str) -> bool {
    path.strip_prefix("RF")
        .is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
}

/// The book's page of a code.
fn page(code: &str) -> Result<&'static str, Failure> {
    let pages = || {
        problem::codes::PAGES
            .iter()
            .chain(plan::PAGES)
            .chain(ceiling::codes::PAGES)
    };
    let ends = pages()
        .next()
        .zip(pages().last())
        .map(|((first, _), (last, _))| format!("{first} to {last}"));
    pages()
        .find(|(known, _)| *known == code)
        .map(|(_, page)| *page)
        .ok_or_else(|| {
            Failure::text(format!(
                "there is no error {code}; the errors are {}",
                ends.unwrap_or_default()
            ))
        })
}

fn unknown(error: &NoSuchPath) -> String {
    let place = match error.table.as_str() {
        "" => "a job has".to_owned(),
        table => format!("`{table}` has"),
    };
    let near = error
        .near
        .as_ref()
        .map(|near| format!("; did you mean `{near}`?"));
    format!("{place} no key `{}`{}", error.key, near.unwrap_or_default())
}

fn unset(path: &str, doc: &str, explanation: &Explanation) -> String {
    format!(
        "{path} is not set\n    {doc}\n    none of {} writes it\n",
        explanation.chain.join(", ")
    )
}

fn as_text(value: &Explained, project: &Project) -> String {
    let holds = value.holds().filter(|setting| !setting.removes);
    let mut text = match holds {
        Some(setting) => format!("{} = {}\n", value.path(), written(setting, project)),
        None => format!("{} is removed\n", value.path()),
    };
    text += &format!("    {}\n", value.doc);
    let rows: Vec<[String; 4]> = value
        .settings
        .iter()
        .rev()
        .enumerate()
        .map(|(age, setting)| {
            let verb = match (age, setting.removes) {
                (0, false) => "set in",
                (0, true) => "removed in",
                (_, false) => "was set in",
                (_, true) => "was removed in",
            };
            let (verb, table) = (verb.to_owned(), setting.table.clone());
            [verb, table, place(setting, project), line(setting, project)]
        })
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    for [verb, table, place, line] in &rows {
        text += &format!(
            "    {verb:<w0$}  {table:<w1$}  {place:<w2$}  {line}\n",
            w0 = widths[0],
            w1 = widths[1],
            w2 = widths[2]
        );
    }
    text
}

fn as_json(value: &Explained, project: &Project) -> Value {
    let settings: Vec<_> = value
        .settings
        .iter()
        .map(|setting| {
            json!({
                "table": setting.table,
                "removes": setting.removes,
                "at": place(setting, project),
                "text": line(setting, project),
            })
        })
        .collect();
    let holds = value.holds().filter(|setting| !setting.removes);
    json!({
        "path": value.path(),
        "about": value.doc,
        "value": holds.map(|setting| written(setting, project)),
        "settings": settings,
    })
}

/// The value as it is written, on one line.
fn written(setting: &Setting, project: &Project) -> String {
    let text = source(setting, project)
        .get(setting.span.clone())
        .unwrap_or_default();
    match text.starts_with('[') && text.ends_with(']') && !text.contains([',', '"', '\'']) && text != "[]" {
        // The header of a table without keys.
        true => "{}".to_owned(),
        false => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// `FILE:LINE:COLUMN`; of a built-in profile, the line of its own text.
pub(super) fn place(setting: &Setting, project: &Project) -> String {
    match setting.built_in {
        Some(profile) => {
            let (line, column) = line_and_column(profile.text(), setting.span.start);
            format!("built-in {}:{line}:{column}", profile.name())
        }
        None => project.place(setting.span.start),
    }
}

/// The line that it stands in: the words of whoever wrote it, comment included.
fn line(setting: &Setting, project: &Project) -> String {
    let text = source(setting, project);
    let start = text[..setting.span.start]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    let more = text[setting.span.clone()].contains('\n');
    let more = if more { " …" } else { "" };
    // A comment that was set far to the right comes closer.
    match line.split_once("   ") {
        Some((before, after)) => format!("{before}  {}{more}", after.trim_start()),
        None => format!("{line}{more}"),
    }
}

fn source<'a>(setting: &Setting, project: &'a Project) -> &'a str {
    setting.built_in.map_or(project.text(), |profile| profile.text())
}

//! Changes for people: a list for a terminal, a table for a review comment.

use super::{Change, Direction};
use crate::plan::Plain;

/// What has become of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDiff {
    /// Its name.
    pub job: String,
    /// Whether it is on both sides.
    pub fate: Fate,
    /// What is different, the loosest first.
    pub changes: Vec<Change>,
}

/// On which sides a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// On both.
    Kept,
    /// In the new one alone; it is compared with a bare job of the profile `strict`.
    New,
    /// In the old one alone.
    Gone,
}

/// One line for each change; `place` says where it was written, or nothing.
pub fn text(jobs: &[JobDiff], place: impl Fn(&Change) -> String) -> String {
    let mut out = String::new();
    for diff in jobs.iter().filter(|diff| diff.is_worth_saying()) {
        out += &format!("job {}{}\n", Plain(&diff.job), diff.fate.words());
        let width = |of: fn(&Change) -> usize| diff.changes.iter().map(of).max().unwrap_or_default();
        let keys = width(|change| change.key.chars().count());
        for change in &diff.changes {
            let at = match place(change) {
                at if at.is_empty() => at,
                at => format!("  ({})", Plain(&at)),
            };
            let (direction, key) = (change.direction.to_string(), Plain(&change.key).to_string());
            out += &format!("  {direction:<7}  {key:<keys$}  {}{at}\n", Plain(&change.reason));
        }
        out.push('\n');
    }
    out + &summary(jobs) + "\n"
}

/// A heading and a table for each job.
pub fn markdown(jobs: &[JobDiff], place: impl Fn(&Change) -> String) -> String {
    let mut out = format!("### Sandbox: {}\n", summary(jobs));
    for diff in jobs.iter().filter(|diff| diff.is_worth_saying()) {
        out += &format!("\n#### Job {}{}\n", code(&diff.job), diff.fate.words());
        if diff.changes.is_empty() {
            continue;
        }
        out += "\n| | key | change | where |\n| --- | --- | --- | --- |\n";
        for change in &diff.changes {
            let direction = match change.direction {
                Direction::Looser => "**looser**".to_owned(),
                other => other.to_string(),
            };
            let at = place(change);
            let at = if at.is_empty() { at } else { code(&at) };
            out += &format!(
                "| {direction} | {} | {} | {at} |\n",
                code(&change.key),
                plain(&change.reason)
            );
        }
    }
    out
}

/// `2 looser, 1 neutral`; `no change` when there is none.
fn summary(jobs: &[JobDiff]) -> String {
    let all = [
        Direction::Looser,
        Direction::Unknown,
        Direction::Tighter,
        Direction::Neutral,
    ];
    let count = |direction| {
        let changes = jobs.iter().flat_map(|diff| &diff.changes);
        changes.filter(|change| change.direction == direction).count()
    };
    let parts: Vec<String> = all
        .into_iter()
        .map(|direction| (count(direction), direction))
        .filter(|(count, _)| *count > 0)
        .map(|(count, direction)| format!("{count} {direction}"))
        .collect();
    match parts.is_empty() {
        true => "no change".to_owned(),
        false => parts.join(", "),
    }
}

impl JobDiff {
    fn is_worth_saying(&self) -> bool {
        !self.changes.is_empty() || self.fate != Fate::Kept
    }
}

impl Fate {
    fn words(self) -> &'static str {
        match self {
            Fate::Kept => "",
            Fate::New => " (new)",
            Fate::Gone => " (gone)",
        }
    }
}

/// Text of a manifest in a table of Markdown: nothing of it is markup, whoever wrote it.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in Plain(text).to_string().chars() {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ';' | '/' | '"' | '\'' | '(' | ')' | '%') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The same as code. A backtick would end it and a bar the cell, so there it stays text.
fn code(text: &str) -> String {
    match text.contains(['`', '|', '\n', '\r']) {
        true => plain(text),
        false => format!("`{}`", Plain(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, fate: Fate, changes: &[(&str, Direction, &str)]) -> JobDiff {
        let change = |(key, direction, reason): &(&str, Direction, &str)| Change {
            key: (*key).to_owned(),
            direction: *direction,
            reason: (*reason).to_owned(),
            origin: None,
            in_old: false,
        };
        JobDiff {
            job: name.to_owned(),
            fate,
            changes: changes.iter().map(change).collect(),
        }
    }

    fn jobs() -> Vec<JobDiff> {
        vec![
            job("same", Fate::Kept, &[]),
            job("gone", Fate::Gone, &[]),
            job(
                "test",
                Fate::Kept,
                &[
                    ("security.capabilities", Direction::Looser, "adds CAP_NET_RAW"),
                    ("hostname", Direction::Neutral, "a → <img src=x>|`b`\u{1b}[31m"),
                ],
            ),
        ]
    }

    #[test]
    fn a_list_for_a_terminal() {
        let place = |change: &Change| {
            if change.key == "hostname" {
                String::new()
            } else {
                "new.toml:3:1".to_owned()
            }
        };
        insta::assert_snapshot!(text(&jobs(), place), @r#"
    job gone (gone)

    job test
      looser   security.capabilities  adds CAP_NET_RAW  (new.toml:3:1)
      neutral  hostname               a → <img src=x>|`b`\u{1b}[31m

    1 looser, 1 neutral
    "#);
        assert_eq!(text(&[], place), "no change\n");
    }

    #[test]
    fn a_table_for_a_review_in_which_no_manifest_can_write_markup() {
        insta::assert_snapshot!(markdown(&jobs(), |_| "new.toml:3:1".to_owned()), @r#"
    ### Sandbox: 1 looser, 1 neutral

    #### Job `gone` (gone)

    #### Job `test`

    | | key | change | where |
    | --- | --- | --- | --- |
    | **looser** | `security.capabilities` | adds CAP\_NET\_RAW | `new.toml:3:1` |
    | neutral | `hostname` | a → \<img src\=x\>\|\`b\`\\u\{1b\}\[31m | `new.toml:3:1` |
    "#);
    }
}

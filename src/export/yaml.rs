//! JSON values as YAML in block style, for people.
//!
//! Strings stand in JSON's quotes wherever YAML could take them for something else (YAML 1.2 holds JSON, section 1.3).

use std::fmt::Write;

use serde_json::Value;

/// The document of a value.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    // Writing to a string cannot fail.
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                write!(out, "{indent}{}:", scalar(&Value::from(key.as_str()))).expect("a string");
                below(out, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                match item {
                    Value::Object(entries) if !entries.is_empty() => {
                        block(&mut inner, item, depth + 1);
                        // The first key stands beside the dash.
                        let inner = inner.trim_start();
                        write!(out, "{indent}- {inner}").expect("a string");
                    }
                    _ => writeln!(out, "{indent}- {}", flow(item)).expect("a string"),
                }
            }
        }
        other => writeln!(out, "{indent}{}", flow(other)).expect("a string"),
    }
}

fn below(out: &mut String, value: &Value, depth: usize) {
    let has_lines = match value {
        Value::Object(entries) => !entries.is_empty(),
        Value::Array(items) => items
            .iter()
            .any(|item| item.is_object() || item.to_string().len() > 40),
        _ => false,
    };
    if has_lines {
        out.push('\n');
        block(out, value, depth);
    } else {
        writeln!(out, " {}", flow(value)).expect("a string");
    }
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => value.to_string(),
        _ => scalar(value),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether nothing in a text could be taken for a number, a truth value, or YAML's own signs.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_for_people_and_quotes_for_what_could_be_misread() {
        let value = json!({
            "name": "a", "on": true, "port": "80", "version": "1.0", "empty": {}, "none": [],
            "list": ["a", "b c"],
            "items": [{ "x": 1, "y": { "z": "no" } }, { "x": 2 }],
        });
        insta::assert_snapshot!(document(&value), @r#"
        empty: {}
        items:
          - x: 1
            "y":
              z: "no"
          - x: 2
        list: [a, "b c"]
        name: a
        none: []
        "on": true
        port: "80"
        version: "1.0"
        "#);
    }
}

//! The manifest's tables as a JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::schema::{Kind, Section, Unit};
use super::sections;

/// The JSON Schema (draft 7) of a manifest. It knows keys, types and words; what a string must look
/// like beyond its units is [`parse`](super::parse)'s alone.
pub fn json_schema() -> Value {
    let mut schema = section(&sections::ROOT);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "ringfence manifest",
        "required": ["schema"],
    });
    if let (Value::Object(schema), Value::Object(head)) = (&mut schema, head) {
        schema.extend(head);
    }
    schema
}

fn section(section: &'static Section) -> Value {
    let properties: Map<String, Value> = section
        .keys
        .iter()
        .map(|key| {
            let mut schema = kind(&key.kind);
            if let Value::Object(schema) = &mut schema {
                schema.insert("description".to_owned(), key.doc.into());
            }
            (key.name.to_owned(), schema)
        })
        .collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn kind(what: &'static Kind) -> Value {
    match what {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::AlwaysOn(_) => json!({ "const": true }),
        Kind::Refused(_) => json!({ "not": {} }),
        Kind::Removed => json!({ "const": false }),
        Kind::Integer(least, i64::MAX) => json!({ "type": "integer", "minimum": least }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Cpus => json!({ "type": "number", "minimum": 0.01, "maximum": 8192 }),
        Kind::Quantity(unit) => json!({ "type": "string", "pattern": match unit {
            Unit::Bytes | Unit::BytesOrZero => r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)$",
            Unit::Time => r"^[0-9]+(\.[0-9]+)?(ms|s|min|h)$",
            Unit::Offset => r"^-?[0-9]+(\.[0-9]+)?(ms|s|min|h)$",
        } }),
        Kind::Unlimited => json!({ "const": "unlimited" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Text(_) | Kind::Template(_) => json!({ "type": "string" }),
        Kind::List(item) => json!({ "type": "array", "items": kind(item) }),
        Kind::Table(inner) => section(inner),
        Kind::Entries(entries) => json!({ "type": "object", "additionalProperties": kind(&entries.value) }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(kind).collect::<Vec<_>>() }),
        Kind::Short(_, bare, inner) => json!({ "anyOf": [kind(bare), section(inner)] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_learns_keys_words_and_meanings() {
        let schema = json_schema();
        let job = &schema["properties"]["job"]["additionalProperties"];
        assert_eq!(
            job["properties"]["root"],
            json!({
                "enum": ["read-only", "tmpfs", "disk"],
                "description": "Whether the root file system can be written, and where the writes go.",
            })
        );
        assert_eq!(job["additionalProperties"], json!(false));
        let memory = &job["properties"]["limits"]["properties"]["memory"]["anyOf"];
        assert_eq!(memory[0]["anyOf"][0]["type"], json!("string"));
        assert_eq!(memory[1], json!({ "const": false }));
    }
}

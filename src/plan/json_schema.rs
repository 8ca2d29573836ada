//! The JSON Schema of a plan: published with the program, made from the types by its test.

/// The JSON Schema (draft 2020-12) of what [`Plan::to_json`](super::Plan::to_json) writes.
pub const JSON_SCHEMA: &str = include_str!("plan.schema.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    /// Where the types have changed: `RINGFENCE_WRITE=1 cargo test published`, and VERSION if a reader could misread it.
    #[test]
    fn the_published_schema_is_that_of_the_types() {
        let mut schema = schemars::schema_for!(Plan);
        schema.insert("title".to_owned(), "ringfence plan".into());
        schema.insert("properties".to_owned(), {
            let mut properties = schema.get("properties").cloned().expect("a struct has them");
            properties["plan"] = serde_json::json!({ "const": super::super::VERSION });
            properties
        });
        let made = serde_json::to_string_pretty(&schema).expect("json") + "\n";
        if std::env::var_os("RINGFENCE_WRITE").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plan/plan.schema.json");
            std::fs::write(path, &made).expect("the schema");
        }
        assert!(
            made == JSON_SCHEMA,
            "src/plan/plan.schema.json is not that of the types"
        );
    }
}

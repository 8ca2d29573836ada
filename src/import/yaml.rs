//! YAML as JSON's values.

use serde_json::Value;

use super::Refusal;

/// The document of a text. What aliases can multiply it to is bounded by the parser's own budget.
pub(super) fn value(text: &str) -> Result<Value, Refusal> {
    serde_saphyr::from_str(text).map_err(|error| {
        let message = error.to_string();
        Refusal(format!(
            "it is no YAML: {}",
            message.lines().next().unwrap_or_default()
        ))
    })
}

//! `ringfence schema`: what a manifest may hold, for editors.

use super::args::Schema;
use super::failure::Failure;
use super::print;
use crate::manifest;

/// Prints the JSON Schema.
pub(super) fn schema(_args: &Schema) -> Result<u8, Failure> {
    let schema = serde_json::to_string_pretty(&manifest::json_schema())
        .map_err(|error| Failure::text(format!("schema: {error}")))?;
    print(&(schema + "\n"))?;
    Ok(0)
}

//! `ringfence schema`: what a manifest may hold, and what a plan holds, for editors and programs.

use super::args::{Schema, SchemaOf};
use super::failure::Failure;
use super::print;
use crate::{manifest, plan};

/// Prints the JSON Schema.
pub(super) fn schema(args: &Schema) -> Result<u8, Failure> {
    match args.of {
        SchemaOf::Manifest => print(&format!("{:#}\n", manifest::json_schema()))?,
        SchemaOf::Plan => print(plan::JSON_SCHEMA)?,
    }
    Ok(0)
}

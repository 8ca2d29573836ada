//! The image of a job, read by the image module's own grammar.

use crate::image::Source;

/// The source that a text names, or what is wrong with it and what would be right.
pub(crate) fn image_source(text: &str) -> Result<Source, (String, String)> {
    Source::parse(text).map_err(|error| ("is not an image".to_owned(), error.to_string()))
}

//! Variables of other tools as those of a manifest.

use super::draft::Job;

/// A text without variables: a dollar is one.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A text of a compose file: `$NAME`, `${NAME}`, `${NAME:-default}` and `$$` (compose-spec, "Interpolation"). Each
/// variable is declared in the manifest.
pub(super) fn interpolated(text: &str, what: &str, job: &mut Job<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out += "$$";
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let Some(end) = inside.find('}') else {
                out += "$${";
                rest = inside;
                continue;
            };
            out += &braced(&inside[..end], what, job);
            rest = &inside[end + 1..];
        } else {
            let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            match &rest[..end] {
                "" => out += "$$",
                name => {
                    job.variable(name, Some(""));
                    out += &format!("${{{name}}}");
                }
            }
            rest = &rest[end..];
        }
    }
    out + rest
}

/// What stands between `${` and `}`.
fn braced(inside: &str, what: &str, job: &mut Job<'_>) -> String {
    let end = inside.find(|c: char| !is_name(c)).unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    let default = match rest {
        // Compose puts an empty text where nothing is set.
        "" => Some(""),
        _ if rest.starts_with(":?") || rest.starts_with('?') => None,
        _ => match rest.strip_prefix(":-").or_else(|| rest.strip_prefix('-')) {
            Some(default) => Some(default),
            None => {
                job.leave_out(
                    what,
                    format!("`${{{inside}}}` has no counterpart; it is the variable alone"),
                );
                Some("")
            }
        },
    };
    job.variable(name, default);
    format!("${{{name}}}")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

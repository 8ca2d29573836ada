//! Whether a path of the host stands below one of the allowed folders.

/// The path without `.`, `..` and doubled slashes; `None` when it is not absolute.
pub(super) fn normal(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Whether `path` is `root` or stands below it; both [`normal`].
pub(super) fn below(path: &str, root: &str) -> bool {
    let rest = path.strip_prefix(root.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_climbs_out() {
        let fits = |path: &str, root: &str| below(&normal(path).expect(path), root);
        assert!(
            fits("/srv/a", "/srv") && fits("/srv", "/srv") && fits("/srv//./a/", "/srv") && fits("/x", "/")
        );
        assert!(!fits("/srv/../etc", "/srv") && !fits("/srv2", "/srv") && !fits("/", "/srv"));
        assert!(!fits("/srv/a/../../../srv2", "/srv"));
        assert_eq!(normal("srv"), None);
    }
}

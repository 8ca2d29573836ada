//! Paths inside.

/// Why a path is no place for a job to stand in or for something to be mounted at; `None` when it is.
///
/// For a working directory that holds a variable the launcher asks again after it is looked up. Below
/// `/proc` and `/dev` a path may lead through a descriptor out of the sandbox (CVE-2024-21626).
pub fn unfit(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("is not absolute");
    }
    if path.contains('\0') {
        return Some("holds a NUL");
    }
    if path.len() >= 4096 {
        return Some("is longer than a path may be");
    }
    if path.split('/').any(|part| part == "..") {
        return Some("climbs with `..`");
    }
    let path = normal(path);
    if below(&path, "/proc") || (below(&path, "/dev") && !below(&path, "/dev/shm")) {
        return Some("leads into /proc or /dev");
    }
    None
}

/// The path without doubled and trailing slashes and without `.`.
pub(super) fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

/// Whether `path` is `place` or stands below it; both normal.
pub(super) fn below(path: &str, place: &str) -> bool {
    place == "/"
        || path
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_lead_out_are_unfit() {
        for path in ["/", "/src", "/dev/shm/x", "/proc2", "/developer", "//a/./b/"] {
            assert_eq!(unfit(path), None, "{path}");
        }
        for path in [
            "/proc/self/fd/3",
            "//proc/1/root",
            "/./proc",
            "/dev/fd/3",
            "/dev",
            "/proc/self/cwd",
        ] {
            assert_eq!(unfit(path), Some("leads into /proc or /dev"), "{path}");
        }
        assert_eq!(unfit("/a/../b"), Some("climbs with `..`"));
        assert_eq!(unfit("src"), Some("is not absolute"));
        assert_eq!(unfit(""), Some("is not absolute"));
        assert_eq!(unfit("/a\0b"), Some("holds a NUL"));
        assert_eq!(normal("//a/./b/"), "/a/b");
        assert!(below("/a/b", "/a") && below("/a", "/") && !below("/ab", "/a"));
    }
}

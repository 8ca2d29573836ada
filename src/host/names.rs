//! Names and programs of this host, found without PATH.

use std::path::{Path, PathBuf};

use nix::unistd::AccessFlags;

/// The name of a user by `/etc/passwd`'s `text`; none when it has no line there.
pub(crate) fn user_name(text: &str, uid: u32) -> Option<&str> {
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number && !name.is_empty()).then_some(name)
    })
}

/// Where a program stands that is found by its name in the folders that every distribution uses; never in `PATH`,
/// which belongs to the caller.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    [
        "/usr/bin",
        "/bin",
        "/usr/sbin",
        "/sbin",
        "/usr/local/bin",
        "/usr/local/sbin",
    ]
    .into_iter()
    .map(|folder| Path::new(folder).join(name))
    .find(|path| nix::unistd::access(path, AccessFlags::X_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names_by_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nkim:x:1000:1000::/home/kim:/bin/sh\n";
        assert_eq!(user_name(text, 1000), Some("kim"));
        assert_eq!(user_name(text, 100), None);
    }
}

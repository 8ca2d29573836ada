//! The users and groups that an image names: passwd(5) and group(5), read as data.

use serde::{Deserialize, Serialize};

/// The most that is read of either file, in bytes; a longer one counts as absent.
pub(crate) const LONGEST_FILE: u64 = 1 << 20;

/// The users and groups of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Lines of `/etc/passwd`, in their order.
    #[serde(default)]
    pub users: Vec<User>,
    /// Lines of `/etc/group`, in their order.
    #[serde(default)]
    pub groups: Vec<Group>,
}

/// One line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user id inside.
    pub uid: u32,
    /// The primary group id inside.
    pub gid: u32,
    /// The home folder inside; empty when unset.
    pub home: String,
}

/// One line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The group id inside.
    pub gid: u32,
    /// The users that are in it besides those whose primary group it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
}

impl Accounts {
    /// Reads both files. Lines that do not follow the format are skipped, as the C library does.
    pub(crate) fn parse(passwd: &[u8], group: &[u8]) -> Accounts {
        Accounts {
            users: lines(passwd).filter_map(user).collect(),
            groups: lines(group).filter_map(self::group).collect(),
        }
    }

    /// The users as lines of `/etc/passwd`, without what a plan never reads.
    pub fn passwd(&self) -> Vec<String> {
        let line = |user: &User| format!("{}:x:{}:{}::{}:", user.name, user.uid, user.gid, user.home);
        self.users.iter().map(line).collect()
    }

    /// The groups as lines of `/etc/group`.
    pub fn group(&self) -> Vec<String> {
        let line = |group: &Group| format!("{}:x:{}:{}", group.name, group.gid, group.members.join(","));
        self.groups.iter().map(line).collect()
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = name(fields.next()?)?;
    let _password = fields.next()?;
    let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
    let _comment = fields.next();
    let home = fields.next().unwrap_or_default().to_owned();
    Some(User { name, uid, gid, home })
}

fn group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = name(fields.next()?)?;
    let _password = fields.next()?;
    let gid = id(fields.next()?)?;
    let members = fields
        .next()
        .unwrap_or_default()
        .split(',')
        .filter_map(self::name)
        .collect();
    Some(Group { name, gid, members })
}

fn name(text: &str) -> Option<String> {
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace());
    plain.then(|| text.to_owned())
}

/// Digits alone: `+0`, `0x0` and ` 0` are no ids (CVE-2026-30892). 4294967295 means "no id" to the kernel.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_users_and_groups() {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:33::/srv\n1000:x:0:0\n# no\n:x:1:1\nplus:x:+0:0\nmax:x:4294967295:0\n\xff:x:1:1",
            b"root:x:0:\nweb:x:33:web,www\nbad:x\n",
        );
        let user = |name: &str, uid, gid, home: &str| User {
            name: name.to_owned(),
            uid,
            gid,
            home: home.to_owned(),
        };
        assert_eq!(
            accounts.users,
            [
                user("root", 0, 0, "/root"),
                user("web", 1000, 33, "/srv"),
                user("1000", 0, 0, "")
            ]
        );
        assert_eq!(accounts.groups.len(), 2);
        assert_eq!(accounts.groups[1].members, ["web", "www"]);
        assert_eq!(
            accounts.passwd(),
            ["root:x:0:0::/root:", "web:x:1000:33::/srv:", "1000:x:0:0:::"]
        );
        assert_eq!(accounts.group(), ["root:x:0:", "web:x:33:web,www"]);
        let again = |lines: Vec<String>| lines.join("\n").into_bytes();
        assert_eq!(
            Accounts::parse(&again(accounts.passwd()), &again(accounts.group())),
            accounts
        );
    }
}

//! The image source `host`: which parts of this machine's root a job sees.

use std::collections::BTreeMap;

use super::given::{Found, Given};
use super::user::Person;
use super::{Id, Mounted, Tree};
use crate::profile::Text;

/// The accounts of a root file system that has none of its own.
pub(super) const PASSWD: &str =
    "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";

/// The groups that belong to them.
pub(super) const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// What is mounted into the empty root, by place.
pub(super) fn places(given: Given<'_>, person: &Person, found: &mut Found) -> BTreeMap<String, Mounted> {
    let root = &given.facts.root;
    if root.links.is_empty() && root.directories.is_empty() {
        found.notice(
            "host",
            "the facts do not say what /bin, /sbin and /lib are: only /usr is there",
        );
    }
    let etc = root.etc.iter().map(|name| match name.starts_with('/') {
        true => name.clone(),
        false => format!("/etc/{name}"),
    });
    let mut places: BTreeMap<String, Mounted> = ["/usr".to_owned()]
        .into_iter()
        .chain(root.directories.iter().cloned())
        .chain(etc)
        .map(|path| (path.clone(), same(path)))
        .collect();
    for (place, target) in &root.links {
        let target = target.clone();
        places.insert(place.clone(), Mounted::Link { target });
    }
    let (passwd, group) = accounts(person);
    places.insert("/etc/passwd".to_owned(), Mounted::File { text: passwd });
    places.insert("/etc/group".to_owned(), Mounted::File { text: group });
    places
}

/// A path of the host at the same place inside.
pub(super) fn same(path: String) -> Mounted {
    Mounted::Bind {
        tree: Tree::Bind {
            source: Text::literal(&path),
            at: path,
            optional: false,
        },
        read_only: true,
    }
}

/// passwd and group with an entry for the job, so that programs that ask for their own name find one.
fn accounts(person: &Person) -> (Text, Text) {
    let known = |id: u32| id == 0 || id == 65534;
    let (mut passwd, mut group) = (PASSWD.to_owned(), GROUP.to_owned());
    if let (Id::Number(user), Id::Number(main)) = (person.user, person.group) {
        if !known(user) {
            passwd += &format!("job:x:{user}:{main}:job:{}:/bin/sh\n", person.home);
        }
        if !known(main) {
            group += &format!("job:x:{main}:\n");
        }
    }
    (Text::literal(passwd), Text::literal(group))
}

#[cfg(test)]
mod tests {
    use super::super::{ImageKind, sample};

    #[test]
    fn usr_is_bound_and_the_rest_is_as_the_host_has_it() {
        let mut sample = sample::strict();
        sample.image.kind = ImageKind::Host;
        sample.facts.root.links.insert("/bin".into(), "usr/bin".into());
        sample.facts.root.directories.push("/lib64".into());
        sample.facts.root.etc.push("/etc/ssl".into());
        let plan = sample.plan();
        let mounts: Vec<String> = plan
            .init
            .iter()
            .map(ToString::to_string)
            .filter(|s| s.starts_with("mount"))
            .collect();
        assert_eq!(
            mounts,
            [
                "mount /proc (proc)",
                "mount /dev (standard devices)",
                "mount /bin (link to usr/bin)",
                "mount /dev/shm (tmpfs, 16MiB, noexec)",
                "mount /etc/group (file, read-only)",
                "mount /etc/hostname (file, read-only)",
                "mount /etc/hosts (file, read-only)",
                "mount /etc/passwd (file, read-only)",
                "mount /etc/resolv.conf (file, read-only)",
                "mount /etc/ssl (bind, read-only)",
                "mount /lib64 (bind, read-only)",
                "mount /tmp (tmpfs, 64MiB)",
                "mount /usr (bind, read-only)",
            ]
        );
        let trees: Vec<String> = plan.before_clone.iter().map(ToString::to_string).collect();
        assert_eq!(trees, ["take /etc/ssl", "take /lib64", "take /usr"]);
        let passwd = plan.init.iter().find_map(|step| match step {
            super::super::InitStep::Mount {
                at,
                what: super::Mounted::File { text },
            } if at == "/etc/passwd" => Some(text),
            _ => None,
        });
        assert_eq!(
            passwd.and_then(|text| text.as_literal()),
            Some(
                "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\njob:x:65532:65532:job:/:/bin/sh\n"
            )
        );
    }
}

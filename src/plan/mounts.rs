//! What the job sees besides its image: the manifest's mounts and our own files, parents before children.

use std::collections::BTreeMap;

use super::given::{Found, Given, asker};
use super::limits::kind_name;
use super::user::Person;
use super::{ChildStep, Mounted, Tree, TreeOwner, codes, place};
use crate::host::facts::{Feature, PathFacts, PathKind};
use crate::profile::{Access, Mount, Origin, Placed, Text};
use crate::units::Bytes;

/// Access bits of a file system in memory: every user of the job may write to it, as in `/tmp`.
const STICKY: u32 = 0o1777;

/// What is mounted, by place, and which trees are given other owners.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) places: BTreeMap<String, Mounted>,
    pub(super) idmaps: Vec<ChildStep>,
}

impl Mounts {
    /// The trees that must be taken for them, by place.
    pub(super) fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.places.values().filter_map(|what| match what {
            Mounted::Bind { tree, .. } | Mounted::Copy { tree, .. } => Some(tree),
            _ => None,
        })
    }
}

/// A bind mount of the manifest.
struct Bind<'a> {
    at: &'a str,
    source: &'a Placed<Text>,
    access: Access,
    optional: bool,
}

/// The manifest's mounts over `ours`: at the same place the manifest's counts, and below it ours give way.
pub(super) fn mounts(
    given: Given<'_>,
    person: &Person,
    ours: BTreeMap<String, Mounted>,
    found: &mut Found,
) -> Mounts {
    let mut mounts = Mounts::default();
    for (written, mount) in &given.job.hold.mounts {
        let at = place::normal(written);
        if let Some(why) = hides(written, &at) {
            found.refuse(
                codes::MOUNT_CLASH,
                mount.span(),
                format!("nothing can be mounted at `{}`: it {why}", written.escape_debug()),
                "mount below a directory of your own, such as `/data`",
            );
        }
        if mounts.places.contains_key(&at) {
            found.refuse(
                codes::MOUNT_CLASH,
                mount.span(),
                format!("two mounts at `{at}`: one would hide the other"),
                "keep one of them",
            );
        }
        match &mount.value {
            Mount::Tmpfs { size, exec } => {
                let tmpfs = Mounted::Tmpfs {
                    size: size.value,
                    mode: STICKY,
                    exec: *exec,
                };
                mounts.places.insert(at, tmpfs);
            }
            Mount::Bind {
                source,
                access,
                optional,
            } => {
                let bind = Bind {
                    at: &at,
                    source,
                    access: *access,
                    optional: *optional,
                };
                bind.plan(given, person, &mut mounts, found);
            }
        }
    }
    for (at, what) in ours {
        match mounts.places.keys().find(|parent| place::below(&at, parent)) {
            None => {
                mounts.places.insert(at, what);
            }
            Some(parent) if *parent == at => {}
            Some(parent) => found.notice(
                "mounts",
                format!("{at} is as the mount at {parent} has it, not ours"),
            ),
        }
    }
    mounts
}

fn there(facts: &PathFacts) -> bool {
    !matches!(facts.kind, PathKind::Missing | PathKind::Denied)
}

/// Why a mount at this place would hide what every job needs.
fn hides(written: &str, at: &str) -> Option<&'static str> {
    match at {
        "/" => Some("would hide the image"),
        _ if place::below(at, "/sys") => Some("leads into /sys"),
        _ => place::unfit(written),
    }
}

impl Bind<'_> {
    fn plan(&self, given: Given<'_>, person: &Person, mounts: &mut Mounts, found: &mut Found) {
        let name = self.source.value.to_string();
        let facts = given.facts.path.get(&name);
        match facts.map(|facts| facts.kind) {
            None => found.notice("path", format!("`{name}` is assumed: the facts do not have it")),
            Some(PathKind::Missing) if self.optional => {
                found.notice(self.key(), format!("left out: `{name}` does not exist"));
                return;
            }
            Some(PathKind::Missing) => self.refuse(
                found,
                format!("`{name}` does not exist"),
                "make it, or write `optional = true` to run without it",
            ),
            Some(PathKind::Denied) => self.refuse(
                found,
                format!("`{name}` is out of the caller's reach"),
                "give the caller the right to search every folder above it",
            ),
            Some(kind @ (PathKind::BlockDevice | PathKind::Other)) => self.refuse(
                found,
                format!("`{name}` is {}", kind_name(kind)),
                "files and directories can be mounted",
            ),
            Some(PathKind::File) if self.access == Access::Copy => self.refuse(
                found,
                format!("`{name}` is a file, and `copy` is for directories"),
                "write `access = \"ro\"`, or mount its directory",
            ),
            Some(PathKind::File | PathKind::Directory) => {}
        }
        let tree = Tree::Bind {
            at: self.at.to_owned(),
            source: self.source.value.clone(),
            optional: self.optional,
        };
        self.owners(given, person, &tree, mounts, found);
        let what = match self.access {
            Access::Ro => Mounted::Bind {
                tree,
                read_only: true,
            },
            Access::Rw => Mounted::Bind {
                tree,
                read_only: false,
            },
            Access::Copy => self.copy(given, tree, found),
        };
        mounts.places.insert(self.at.to_owned(), what);
    }

    /// As root the source's owner becomes the job's user; an ordinary user's job is the caller already.
    fn owners(&self, given: Given<'_>, person: &Person, tree: &Tree, mounts: &mut Mounts, found: &mut Found) {
        let name = self.source.value.to_string();
        let facts = given.facts.path.get(&name);
        if !given.as_root() {
            if self.access == Access::Rw && facts.is_some_and(|facts| !facts.owned && there(facts)) {
                found.notice(
                    self.key(),
                    format!("`{name}` is not the caller's: the job writes only what everybody may"),
                );
            }
            return;
        }
        match facts.filter(|facts| !facts.idmapped_mounts && there(facts)) {
            None => mounts.idmaps.push(ChildStep::IdmapTree {
                tree: tree.clone(),
                owner: TreeOwner::Job {
                    user: person.user,
                    group: person.group,
                },
            }),
            Some(facts) if self.access == Access::Ro => found.notice(
                self.key(),
                format!(
                    "the file system {} takes no idmapped mounts: the job reads only what everybody may",
                    facts.file_system
                ),
            ),
            Some(facts) => found.refuse(
                codes::NO_IDMAP,
                self.source.span(),
                format!(
                    "{}: the file system {} of `{name}` takes no idmapped mounts, so that the job could not write there",
                    self.key(),
                    facts.file_system
                ),
                "write `access = \"ro\"`, or use a source on another file system",
            ),
        }
    }

    /// An overlay whose writes are thrown away.
    fn copy(&self, given: Given<'_>, tree: Tree, found: &mut Found) -> Mounted {
        if let Some(reason) = given.lacks(Feature::OverlayInUserNamespace) {
            self.refuse(
                found,
                format!("`copy` needs overlay mounts inside a user namespace: {reason}"),
                "write `access = \"ro\"`",
            );
        } else if given.lacks(Feature::TmpfsUserXattr).is_some() {
            found.notice(
                self.key(),
                "directories of the source cannot be removed in the copy: tmpfs has no `user.*` attributes here",
            );
        }
        let disk: Option<Bytes> = given.job.hold.limits.disk.as_ref().map(|limit| limit.max.value);
        Mounted::Copy { tree, size: disk }
    }

    fn key(&self) -> String {
        format!("mounts.\"{}\"", self.at)
    }

    fn refuse(&self, found: &mut Found, why: String, help: &str) {
        let origin = &self.source.origin;
        let whose = match origin {
            Origin::Manifest { .. } => String::new(),
            origin => format!(" of {}", asker(origin)),
        };
        found.refuse(
            codes::NO_SOURCE,
            origin.span(),
            format!("{}{whose}: {why}", self.key()),
            help,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Sample, placed};
    use super::*;
    use crate::host::facts::{Caller, Support};

    fn with(at: &str, source: &str, access: Access, facts: Option<PathFacts>) -> Sample {
        let mut sample = sample::strict();
        add(&mut sample, at, source, access);
        if let Some(facts) = facts {
            sample.facts.path.insert(source.to_owned(), facts);
        }
        sample
    }

    fn add(sample: &mut Sample, at: &str, source: &str, access: Access) {
        let bind = Mount::Bind {
            source: placed(Text::literal(source), 20),
            access,
            optional: false,
        };
        sample.job.hold.mounts.insert(at.to_owned(), placed(bind, 20));
    }

    fn on(kind: PathKind, idmapped_mounts: bool) -> Option<PathFacts> {
        Some(PathFacts {
            kind,
            idmapped_mounts,
            file_system: "nfs4".into(),
            owned: true,
            device: None,
        })
    }

    fn steps(sample: &Sample) -> Vec<String> {
        let plan = sample.plan();
        let init = plan.init.iter().map(ToString::to_string);
        init.filter(|step| step.starts_with("mount /data") || step.starts_with("take"))
            .collect()
    }

    #[test]
    fn root_gives_the_source_to_the_job() {
        let sample = with("/data/", "./data", Access::Rw, on(PathKind::Directory, true));
        assert_eq!(steps(&sample), ["mount /data (bind, writable)"]);
        let plan = sample.plan();
        assert!(
            plan.before_clone
                .iter()
                .any(|step| step.to_string() == "take ./data for /data")
        );
        let idmap = "idmap ./data for /data (its owner becomes 65532:65532)";
        assert!(plan.with_child.iter().any(|step| step.to_string() == idmap));
    }

    #[test]
    fn without_idmap_only_reading_is_left() {
        let sample = with("/data", "./data", Access::Ro, on(PathKind::Directory, false));
        assert_eq!(
            sample.notices("mounts.\"/data\""),
            ["the file system nfs4 takes no idmapped mounts: the job reads only what everybody may"]
        );
        for access in [Access::Rw, Access::Copy] {
            let sample = with("/data", "./data", access, on(PathKind::Directory, false));
            assert_eq!(
                sample.refusals(),
                [
                    "mounts.\"/data\": the file system nfs4 of `./data` takes no idmapped mounts, so that the job could not write there; \
                     write `access = \"ro\"`, or use a source on another file system"
                ]
            );
        }
    }

    #[test]
    fn an_ordinary_users_trees_are_taken_inside() {
        let mut sample = with("/data", "./data", Access::Copy, on(PathKind::Directory, false));
        sample.facts.caller = Caller::User;
        assert_eq!(
            steps(&sample),
            [
                "take the image",
                "take ./data for /data",
                "mount /data (copy, writes are thrown away)"
            ]
        );
        let idmaps = |step: &ChildStep| matches!(step, ChildStep::IdmapTree { .. });
        assert!(!sample.plan().with_child.iter().any(idmaps));
        let no = Support::No("ENOTSUP".into());
        sample.facts.kernel_features.insert(Feature::TmpfsUserXattr, no);
        assert_eq!(
            sample.notices("mounts.\"/data\""),
            [
                "directories of the source cannot be removed in the copy: tmpfs has no `user.*` attributes here"
            ]
        );
        add(&mut sample, "/data", "./data", Access::Rw);
        sample.facts.path.get_mut("./data").expect("set").owned = false;
        assert_eq!(
            sample.notices("mounts.\"/data\""),
            ["`./data` is not the caller's: the job writes only what everybody may"]
        );
    }

    #[test]
    fn a_source_must_be_there() {
        let missing = with("/data", "./data", Access::Ro, on(PathKind::Missing, false));
        assert_eq!(
            missing.refusals(),
            [
                "mounts.\"/data\": `./data` does not exist; make it, or write `optional = true` to run without it"
            ]
        );
        let mut optional = missing;
        let mount = optional.job.hold.mounts.get_mut("/data").expect("set");
        if let Mount::Bind { optional, .. } = &mut mount.value {
            *optional = true;
        }
        assert_eq!(
            optional.notices("mounts.\"/data\""),
            ["left out: `./data` does not exist"]
        );
        assert_eq!(steps(&optional), [""; 0]);

        let socket = with("/data", "./socket", Access::Ro, on(PathKind::Other, true));
        assert_eq!(
            socket.refusals(),
            [
                "mounts.\"/data\": `./socket` is neither a file nor a directory; files and directories can be mounted"
            ]
        );
        let file = with("/data", "./file", Access::Copy, on(PathKind::File, true));
        assert_eq!(
            file.refusals(),
            [
                "mounts.\"/data\": `./file` is a file, and `copy` is for directories; write `access = \"ro\"`, or mount its directory"
            ]
        );
        let denied = with("/data", "/root/x", Access::Ro, on(PathKind::Denied, false));
        assert_eq!(
            denied.refusals(),
            [
                "mounts.\"/data\": `/root/x` is out of the caller's reach; give the caller the right to search every folder above it"
            ]
        );
        let unknown = with("/data", "./data", Access::Ro, None);
        assert_eq!(
            unknown.notices("path"),
            ["`./data` is assumed: the facts do not have it"]
        );
    }

    #[test]
    fn no_mount_hides_another_unsaid() {
        let mut sample = sample::strict();
        for at in [
            "/",
            "/sys/x",
            "/proc/self",
            "/dev",
            "/a/../b",
            "rel",
            "/x",
            "/x/./",
        ] {
            add(&mut sample, at, "./data", Access::Ro);
        }
        let mend = "mount below a directory of your own, such as `/data`";
        let mut refusals = sample.refusals();
        refusals.sort();
        assert_eq!(
            refusals,
            [
                format!("nothing can be mounted at `/`: it would hide the image; {mend}"),
                format!("nothing can be mounted at `/a/../b`: it climbs with `..`; {mend}"),
                format!("nothing can be mounted at `/dev`: it leads into /proc or /dev; {mend}"),
                format!("nothing can be mounted at `/proc/self`: it leads into /proc or /dev; {mend}"),
                format!("nothing can be mounted at `/sys/x`: it leads into /sys; {mend}"),
                format!("nothing can be mounted at `rel`: it is not absolute; {mend}"),
                "two mounts at `/x`: one would hide the other; keep one of them".to_owned(),
            ]
        );
    }

    #[test]
    fn our_files_give_way_to_the_manifests_mounts() {
        let mut sample = with("/etc", "./data", Access::Ro, on(PathKind::Directory, true));
        assert_eq!(
            sample.notices("mounts"),
            [
                "/etc/hostname is as the mount at /etc has it, not ours",
                "/etc/hosts is as the mount at /etc has it, not ours",
                "/etc/resolv.conf is as the mount at /etc has it, not ours",
            ]
        );
        sample.job.hold.mounts.remove("/etc");
        add(&mut sample, "/etc/hosts", "./data", Access::Ro);
        assert_eq!(sample.notices("mounts"), [""; 0]);
        let plan = sample.plan();
        let hosts: Vec<_> = plan
            .init
            .iter()
            .map(ToString::to_string)
            .filter(|s| s.contains("/etc/hosts"))
            .collect();
        assert_eq!(hosts, ["mount /etc/hosts (bind, read-only)"]);
    }
}

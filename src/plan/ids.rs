//! Which ids the user namespace has, and whose the files of a tree become.

use super::given::{Found, Given};
use super::user::Person;
use super::{ChildStep, Id, IdMapping, ImageKind, Tree, TreeOwner, codes};
use crate::profile::Mount;

/// Ids that a job's user namespace has, as most programs expect them: 0 to 65535.
const IDS: u32 = 65536;

/// Chooses the id maps, and takes from the person what they cannot hold.
pub(super) fn mapping(given: Given<'_>, person: &mut Person, found: &mut Found) -> IdMapping {
    let (user, group) = (person.user, person.group);
    if given.as_root() {
        bounded(given, person, found);
        if given.image.kind == ImageKind::Layers && !given.facts.store.idmapped_mounts {
            found.notice(
                "ids",
                "the store's file system takes no idmapped mounts: all runs of the store share one range of ids",
            );
            return IdMapping::SharedRange;
        }
        return IdMapping::Range;
    }
    let ids = &given.facts.ids;
    if ids.subordinate_uids >= IDS && ids.subordinate_gids >= IDS {
        bounded(given, person, found);
        if given.image.kind == ImageKind::Layers {
            // No ordinary user can idmap: the image's files and the caller's cannot both be the job's user's.
            if user != Id::Caller && !has_binds(given) {
                return IdMapping::Stored;
            }
            if let Id::Number(user) = user
                && (user == 0 || has_account(&given.image.passwd, user))
            {
                found.notice(
                    "ids",
                    format!(
                        "with binds the job's user is the caller: the files that the image gives to user {user} \
                         belong to 65536 inside"
                    ),
                );
            }
        }
        return IdMapping::Subordinate { user, group };
    }
    if ids.subordinate_uids > 0 || ids.subordinate_gids > 0 {
        found.notice(
            "ids",
            format!(
                "{} subordinate user ids and {} group ids are too few, {IDS} of each are needed: \
                 the job's user is the only one inside",
                ids.subordinate_uids, ids.subordinate_gids
            ),
        );
    }
    if ids.subordinate_uids == 0 && ids.subordinate_gids == 0 {
        let reason = match ids.reason.as_str() {
            "" => "the caller has no subordinate ids",
            reason => reason,
        };
        found.notice("ids", format!("the job's user is the only one inside: {reason}"));
    }
    if !person.groups.is_empty() {
        let groups: Vec<String> = person.groups.drain(..).map(|group| group.to_string()).collect();
        found.notice(
            "ids",
            format!(
                "without subordinate ids the job does not get the supplementary groups {} of the image",
                groups.join(" ")
            ),
        );
    }
    IdMapping::Single { user, group }
}

fn has_binds(given: Given<'_>) -> bool {
    let mut mounts = given.job.hold.mounts.values();
    mounts.any(|mount| matches!(mount.value, Mount::Bind { .. }))
}

fn has_account(passwd: &str, user: u32) -> bool {
    let mut ids = passwd.lines().filter_map(|line| line.split(':').nth(2));
    ids.any(|id| id.parse() == Ok(user))
}

/// Refuses ids that a range of 65536 does not hold.
fn bounded(given: Given<'_>, person: &Person, found: &mut Found) {
    let ids = [("user", person.user), ("group", person.group)];
    let groups = person
        .groups
        .iter()
        .map(|group| ("supplementary group", Id::Number(*group)));
    for (what, id) in ids.into_iter().chain(groups) {
        if let Id::Number(id) = id
            && id >= IDS
        {
            found.refuse(
                codes::ID_RANGE,
                given.job.user.span().or(given.job.image.span()),
                format!("the job's {what} {id} is outside the ids that its user namespace has"),
                "write a `user` with ids from 0 to 65535",
            );
        }
    }
}

/// The step that shows the image's files with the owners they were stored with; only root can take it, and for an
/// ordinary user the store holds files of the user's own ids already.
pub(super) fn idmap_layers(given: Given<'_>, mapping: &IdMapping, found: &mut Found) -> Option<ChildStep> {
    let takes_idmap = match given.image.kind {
        ImageKind::Host => return None,
        ImageKind::Layers => *mapping == IdMapping::Range,
        ImageKind::Dir => {
            let source = given
                .image
                .reference
                .strip_prefix("dir:")
                .unwrap_or(&given.image.reference);
            match given.facts.path.get(source) {
                Some(facts) => facts.idmapped_mounts,
                None => true,
            }
        }
    };
    if !given.as_root() {
        return None;
    }
    if !takes_idmap && given.image.kind == ImageKind::Dir {
        found.notice(
            "ids",
            "the file system of the image's folder takes no idmapped mounts: its files belong to nobody inside",
        );
    }
    takes_idmap.then_some(ChildStep::IdmapTree {
        tree: Tree::Layers,
        owner: TreeOwner::Same,
    })
}

#[cfg(test)]
mod tests {
    use super::super::ChildStep;
    use super::super::sample::{self, placed};
    use crate::host::facts::Caller;
    use crate::profile::{Access, Mount, Text, User};

    fn steps(sample: &sample::Sample) -> Vec<String> {
        let steps = sample.plan().with_child;
        let steps = steps.iter().filter(|step| !matches!(step, ChildStep::Cgroup(_)));
        steps.map(ToString::to_string).collect()
    }

    #[test]
    fn root_has_a_range_per_run_or_one_per_store() {
        let mut sample = sample::strict();
        assert_eq!(
            steps(&sample),
            [
                "map ids (65536 of a range of this run's own)",
                "idmap the image (the same ids)"
            ]
        );
        sample.facts.store.idmapped_mounts = false;
        assert_eq!(
            steps(&sample),
            ["map ids (65536 of the range that all runs of the store share)"]
        );
        assert_eq!(
            sample.notices("ids"),
            [
                "the store's file system takes no idmapped mounts: all runs of the store share one range of ids"
            ]
        );
        sample.job.user = placed(User::Named("70000:80000".into()), 1);
        assert_eq!(
            sample.refusals(),
            [
                "the job's user 70000 is outside the ids that its user namespace has; write a `user` with ids from 0 to 65535",
                "the job's group 80000 is outside the ids that its user namespace has; write a `user` with ids from 0 to 65535",
            ]
        );
    }

    #[test]
    fn an_ordinary_user_has_subordinate_ids_or_one() {
        let mut sample = sample::strict();
        sample.facts.caller = Caller::User;
        sample.facts.ids.subordinate_uids = 65536;
        sample.facts.ids.subordinate_gids = 65536;
        assert_eq!(
            steps(&sample),
            ["map ids (65536 subordinate ids, those of the image's files)"]
        );
        sample.job.user = placed(User::Named("root".into()), 1);
        let mounts = &mut sample.job.hold.mounts;
        let source = placed(Text::literal("."), 1);
        let bind = Mount::Bind {
            source,
            access: Access::Ro,
            optional: false,
        };
        mounts.insert("/src".into(), placed(bind, 1));
        assert_eq!(
            steps(&sample),
            ["map ids (0:0 is the caller, the others are its subordinate ids)"]
        );
        assert_eq!(
            sample.notices("ids"),
            [
                "with binds the job's user is the caller: the files that the image gives to user 0 belong to 65536 inside"
            ]
        );
        sample.job.hold.mounts.remove("/src");
        sample.facts.ids.subordinate_gids = 1000;
        sample.image.passwd = "app:x:5:5::/:\n".into();
        sample.image.group = "video:x:44:app\naudio:x:29:app\n".into();
        sample.job.user = placed(User::Named("app".into()), 1);
        assert_eq!(
            steps(&sample),
            ["map ids (5:5 is the caller, there are no others)"]
        );
        assert_eq!(
            sample.notices("ids"),
            [
                "65536 subordinate user ids and 1000 group ids are too few, 65536 of each are needed: the job's user is the only one inside",
                "without subordinate ids the job does not get the supplementary groups 29 44 of the image",
            ]
        );
        sample.facts.ids = crate::host::facts::Ids::default();
        sample.job.user = placed(User::Named("100000".into()), 1);
        assert_eq!(
            steps(&sample),
            ["map ids (100000:0 is the caller, there are no others)"]
        );
        assert_eq!(
            sample.notices("ids"),
            ["the job's user is the only one inside: the caller has no subordinate ids"]
        );
    }
}

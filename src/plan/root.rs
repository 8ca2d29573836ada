//! The root file system: read-only, or with a writable layer in memory or on disk.

use super::given::{Found, Given};
use super::{ChildStep, HostStep, ImageKind, RootMount, Tree, Upper, codes};
use crate::host::facts::Feature;
use crate::profile::{Enforce, Limits, Root};
use crate::units::Bytes;

/// How the root is built, and what must be done for it elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PlannedRoot {
    pub(super) mount: RootMount,
    /// The job may write to it.
    pub(super) writable: bool,
    /// The image's tree, and a writable one of the store.
    pub(super) trees: Vec<Tree>,
    pub(super) before_clone: Option<HostStep>,
    pub(super) with_child: Option<ChildStep>,
}

impl PlannedRoot {
    fn new(mount: RootMount, writable: bool) -> PlannedRoot {
        PlannedRoot {
            mount,
            writable,
            trees: vec![Tree::Layers],
            before_clone: None,
            with_child: None,
        }
    }
}

/// Chooses how the root is built.
pub(super) fn root(given: Given<'_>, found: &mut Found) -> PlannedRoot {
    let wanted = given.job.hold.root.value;
    if given.image.kind == ImageKind::Host {
        return of_host(given, wanted, found);
    }
    match wanted {
        Root::ReadOnly => overlay(given, Upper::MountPoints, found),
        Root::Tmpfs => in_memory(given, found),
        Root::Disk => on_disk(given, found),
    }
}

/// An empty file system in memory that parts of the host are mounted into.
fn of_host(given: Given<'_>, wanted: Root, found: &mut Found) -> PlannedRoot {
    if wanted == Root::Disk {
        found.refuse(
            codes::NO_LAYER,
            given.job.hold.root.span(),
            "the image source `host` has no layers, its root cannot be written on disk",
            "write `root = \"tmpfs\"` or `root = \"read-only\"`",
        );
    }
    let mount = match wanted {
        Root::ReadOnly => RootMount::Tmpfs,
        Root::Tmpfs | Root::Disk => RootMount::WritableTmpfs { size: disk(given) },
    };
    PlannedRoot {
        trees: Vec::new(),
        ..PlannedRoot::new(mount, wanted != Root::ReadOnly)
    }
}

/// An overlay that PID 1 mounts.
fn overlay(given: Given<'_>, upper: Upper, found: &mut Found) -> PlannedRoot {
    let mut root = PlannedRoot::new(RootMount::Overlay(upper), upper != Upper::MountPoints);
    if let Some(reason) = given.lacks(Feature::OverlayInUserNamespace) {
        found.refuse(
            codes::NO_FEATURE,
            given.job.image.span(),
            format!("the image's layers need overlay mounts inside a user namespace: {reason}"),
            "Linux 5.11 has them; the image source `host` needs none",
        );
    }
    match upper {
        Upper::Scratch => root.trees.push(Tree::Scratch),
        Upper::LayerFile => root.before_clone = disk(given).map(|size| HostStep::LayerFile { size }),
        Upper::MountPoints | Upper::Tmpfs(_) => {}
    }
    root
}

fn in_memory(given: Given<'_>, found: &mut Found) -> PlannedRoot {
    let size = disk(given);
    let Some(reason) = given.lacks(Feature::TmpfsUserXattr) else {
        return overlay(given, Upper::Tmpfs(size), found);
    };
    if given.as_root() {
        return PlannedRoot {
            with_child: Some(ChildStep::MountOverlay { size }),
            ..PlannedRoot::new(RootMount::OverlayFromLauncher, true)
        };
    }
    let why = format!("a writable layer in memory needs `user.*` attributes on tmpfs: {reason}");
    scratch(given, why, found)
}

fn on_disk(given: Given<'_>, found: &mut Found) -> PlannedRoot {
    if !given.as_root() {
        let why =
            "a bounded layer on disk needs root: an ordinary user can mount no file system of a sized file";
        return scratch(given, why.to_owned(), found);
    }
    if disk(given).is_none() {
        found.refuse(
            codes::NO_LAYER,
            given.job.hold.root.span(),
            "a writable layer on disk needs a bound",
            "write `disk = \"1GiB\"` in `limits`",
        );
    }
    if !given.facts.store.image_file {
        found.refuse(
            codes::NO_LAYER,
            given.job.hold.root.span(),
            "a writable layer on disk needs loop devices and mkfs.ext4, which this host lacks",
            "install e2fsprogs, or write `root = \"tmpfs\"`",
        );
    }
    overlay(given, Upper::LayerFile, found)
}

/// A folder of the store as the writable layer: nothing bounds it, so it is taken only where limits are optional.
fn scratch(given: Given<'_>, why: String, found: &mut Found) -> PlannedRoot {
    let span = given.job.hold.root.span();
    if !given.facts.store.overlay_upper {
        found.refuse(
            codes::NO_LAYER,
            span,
            format!("{why}; and the store's file system can hold no writable layer"),
            "write `root = \"read-only\"`, or move the store to ext4, xfs or btrfs",
        );
    } else if optional(&given.job.hold.limits) {
        found.notice(
            "limits.disk",
            format!("not applied, the writable layer is a folder of the store: {why}"),
        );
    } else {
        found.refuse(
            codes::NO_LAYER,
            span,
            format!("{why}; and a folder of the store instead would have no bound"),
            "write `root = \"read-only\"`, or `enforce = \"optional\"` in `limits`",
        );
    }
    overlay(given, Upper::Scratch, found)
}

fn disk(given: Given<'_>) -> Option<Bytes> {
    given.job.hold.limits.disk.as_ref().map(|limit| limit.max.value)
}

/// Whether the writable layer may go without its bound: as `disk` says, else as all limits of the cgroup do.
fn optional(limits: &Limits) -> bool {
    if let Some(disk) = &limits.disk {
        return disk.enforce == Enforce::Optional;
    }
    let each = [
        limits.memory.as_ref().map(|limit| limit.enforce),
        limits.pids.as_ref().map(|limit| limit.enforce),
        limits.cpus.as_ref().map(|limit| limit.enforce),
        limits.cpuset.as_ref().map(|limit| limit.enforce),
        limits.cpu_time.as_ref().map(|limit| limit.enforce),
    ];
    let io = limits.io.values().map(|limit| limit.enforce);
    each.into_iter()
        .flatten()
        .chain(io)
        .all(|enforce| enforce == Enforce::Optional)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Sample, limit, placed};
    use super::*;
    use crate::host::facts::{Caller, Support};

    fn with(root: Root, caller: Caller) -> Sample {
        let mut sample = sample::strict();
        sample.job.hold.root = placed(root, 9);
        sample.job.hold.limits.disk = Some(limit(Bytes(64 << 20)));
        sample.facts.caller = caller;
        sample
    }

    fn chosen(sample: &Sample) -> Result<PlannedRoot, Vec<String>> {
        let mut found = Found::default();
        let root = root(sample.given(), &mut found);
        match found.problems.is_empty() {
            true => Ok(root),
            false => Err(sample.refusals()),
        }
    }

    const SIZE: Bytes = Bytes(64 << 20);

    #[test]
    fn a_layer_in_memory_is_mounted_by_whoever_can() {
        let mut sample = with(Root::Tmpfs, Caller::Root);
        assert_eq!(
            chosen(&sample).map(|root| root.mount),
            Ok(RootMount::Overlay(Upper::Tmpfs(Some(SIZE))))
        );
        let no = Support::No("the kernel says ENOTSUP".into());
        sample.facts.kernel_features.insert(Feature::TmpfsUserXattr, no);
        let root = chosen(&sample).expect("the launcher mounts it");
        assert_eq!(root.mount, RootMount::OverlayFromLauncher);
        assert_eq!(
            root.with_child,
            Some(ChildStep::MountOverlay { size: Some(SIZE) })
        );

        sample.facts.caller = Caller::User;
        assert_eq!(
            chosen(&sample).expect_err("required"),
            [
                "a writable layer in memory needs `user.*` attributes on tmpfs: the kernel says ENOTSUP; \
                 and a folder of the store instead would have no bound; \
                 write `root = \"read-only\"`, or `enforce = \"optional\"` in `limits`"
            ]
        );
        sample.job.hold.limits.disk.as_mut().expect("set").enforce = Enforce::Optional;
        let root = chosen(&sample).expect("a folder of the store");
        assert_eq!(
            (root.mount, root.trees),
            (
                RootMount::Overlay(Upper::Scratch),
                vec![Tree::Layers, Tree::Scratch]
            )
        );
        assert_eq!(
            sample.notices("limits.disk"),
            ["not applied, the writable layer is a folder of the store: \
                 a writable layer in memory needs `user.*` attributes on tmpfs: the kernel says ENOTSUP"]
        );
        sample.facts.store.overlay_upper = false;
        assert_eq!(
            chosen(&sample).expect_err("no upper"),
            [
                "a writable layer in memory needs `user.*` attributes on tmpfs: the kernel says ENOTSUP; \
                 and the store's file system can hold no writable layer; \
                 write `root = \"read-only\"`, or move the store to ext4, xfs or btrfs"
            ]
        );
    }

    #[test]
    fn a_layer_on_disk_is_a_sized_file_and_needs_root() {
        let mut sample = with(Root::Disk, Caller::Root);
        let root = chosen(&sample).expect("a sized file");
        assert_eq!(root.before_clone, Some(HostStep::LayerFile { size: SIZE }));
        sample.facts.store.image_file = false;
        sample.job.hold.limits.disk = None;
        assert_eq!(
            chosen(&sample).expect_err("neither"),
            [
                "a writable layer on disk needs a bound; write `disk = \"1GiB\"` in `limits`",
                "a writable layer on disk needs loop devices and mkfs.ext4, which this host lacks; install e2fsprogs, or write `root = \"tmpfs\"`",
            ]
        );
        assert_eq!(
            chosen(&with(Root::Disk, Caller::User)).expect_err("an ordinary user"),
            [
                "a bounded layer on disk needs root: an ordinary user can mount no file system of a sized file; \
                 and a folder of the store instead would have no bound; \
                 write `root = \"read-only\"`, or `enforce = \"optional\"` in `limits`"
            ]
        );
    }

    #[test]
    fn the_hosts_root_is_a_file_system_in_memory() {
        let mut sample = with(Root::ReadOnly, Caller::User);
        sample.image.kind = ImageKind::Host;
        let root = chosen(&sample).expect("read-only");
        assert_eq!(
            (root.mount, root.writable, root.trees),
            (RootMount::Tmpfs, false, Vec::new())
        );
        sample.job.hold.root = placed(Root::Tmpfs, 9);
        assert_eq!(
            chosen(&sample).map(|root| root.mount),
            Ok(RootMount::WritableTmpfs { size: Some(SIZE) })
        );
        sample.job.hold.root = placed(Root::Disk, 9);
        assert_eq!(
            chosen(&sample).expect_err("no layers"),
            [
                "the image source `host` has no layers, its root cannot be written on disk; \
                 write `root = \"tmpfs\"` or `root = \"read-only\"`"
            ]
        );
    }

    #[test]
    fn an_old_kernel_has_no_overlay_inside() {
        let mut sample = with(Root::ReadOnly, Caller::User);
        let no = Support::No("mount: EPERM".into());
        sample
            .facts
            .kernel_features
            .insert(Feature::OverlayInUserNamespace, no);
        assert_eq!(
            chosen(&sample).expect_err("too old"),
            [
                "the image's layers need overlay mounts inside a user namespace: mount: EPERM; \
                 Linux 5.11 has them; the image source `host` needs none"
            ]
        );
    }
}

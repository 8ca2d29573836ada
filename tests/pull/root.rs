//! A root that can be written, in memory: where the kernel's tmpfs lacks `user.*` attributes only root can have it.

use std::os::unix::fs::MetadataExt;

use ringfence::host::facts::{Feature, Support};

use crate::archive::Archive;
use crate::hub::{Hub, Ids, Types, Visit, base};
use crate::registry::Layer;
use crate::support::{Caller, Test};

/// Removes a directory of a lower layer and makes it again, twice over.
const REMAKE: &str = "rm -r /lower && mkdir /lower && ls /lower && echo new > /lower/file && cat /lower/file && \
    rm -r /lower && mkdir -p /lower/inner && ls -A /lower/inner && rm -r /lower && ls / | grep -c lower";

/// What this host says to this caller of a feature.
fn support(visit: &mut Visit, feature: Feature) -> Support {
    visit.facts().kernel_features[&feature].clone()
}

#[test]
fn a_directory_of_a_lower_layer_is_removed_and_made_again() {
    let hub = Hub::start();
    let lower = Archive::new()
        .dir("lower")
        .dir("lower/inner")
        .file("lower/inner/file", "of the image\n");
    let layers = [base!(), Layer::gzip(&lower.end())];
    hub.push("library/layers", Types::Oci, &layers, "{}");
    hub.each(|visit| {
        let remake = Test::command(&["sh", "-c", REMAKE])
            .image("layers")
            .with("root = \"tmpfs\"\nuser = \"root\"")
            .status(1)
            .stdout("new\n0\n");
        let pull = Test::command(&["true"])
            .image("layers")
            .verb("pull")
            .args(&["-q"])
            .pulls();
        visit.run(&pull);
        let plan = Test::command(&["true"])
            .image("layers")
            .with("root = \"tmpfs\"")
            .verb("plan")
            .any_stdout()
            .any_stderr();
        // Whose overlay it is: PID 1's own, or with `trusted.*` attributes the launcher's.
        let is_launchers = |visit: &mut Visit| visit.run(&plan).stdout.contains("mount the root's overlay");
        match (support(visit, Feature::TmpfsUserXattr), visit.caller) {
            (Support::Yes, _) => {
                assert!(!is_launchers(visit));
                visit.run(&remake);
            }
            (Support::No(_), Caller::Root) => {
                assert!(is_launchers(visit));
                visit.run(&remake);
            }
            (Support::No(reason), _) => {
                let ran = visit.run(&remake.clone().status(125).stdout("").any_stderr().report());
                let why = format!(
                    "a writable layer in memory needs `user.*` attributes on tmpfs: {reason}; \
                     and a folder of the store instead would have no bound"
                );
                assert!(ran.stderr.contains(&why), "{}", ran.stderr);
                assert_eq!(ran.value("/verdict"), "refused");
                // Where the manifest lets the bound go, the folder of the store does, and is gone afterwards.
                let folder = remake.with("limits.disk = { max = \"8MiB\", enforce = \"optional\" }");
                let ran = visit.run(&folder.any_stderr());
                let notice =
                    "ringfence: limits.disk: not applied, the writable layer is a folder of the store: ";
                assert!(ran.stderr.contains(notice), "{}", ran.stderr);
            }
        }
        // The image is what it was, to the next run.
        let cat = Test::command(&["cat", "/lower/inner/file"]).image("layers");
        visit.run(&cat.stdout("of the image\n"));
    });
}

/// The job's user is the caller when it is to write to the caller's files; then the image's cannot be its own as well.
#[test]
fn binds_belong_to_the_jobs_user() {
    let hub = Hub::start();
    hub.push("library/plain", Types::Oci, &[base!()], "{}");
    hub.each(|visit| {
        let pull = Test::command(&["true"])
            .image("plain")
            .verb("pull")
            .args(&["-q"])
            .pulls();
        visit.run(&pull);
        let (owner, notice) = match visit.ids() {
            Ids::Subordinate => (
                65536,
                "ringfence: ids: with binds the job's user is the caller: \
                 the files that the image gives to user 0 belong to 65536 inside\n",
            ),
            Ids::Range | Ids::One => (0, ""),
        };
        let script = "stat -c %u /etc/plain /src; touch /src/made; rm /etc/plain";
        let ran = visit.run(
            &Test::command(&["sh", "-c", script])
                .image("plain")
                .with("user = \"root\"\nmounts.\"/src\" = { bind = \"src\", access = \"rw\" }")
                .status(1)
                .stdout(&format!("{owner}\n0\n"))
                .any_stderr(),
        );
        let stderr = ran.caller.without_notice(&ran.stderr);
        assert!(
            stderr.starts_with(&format!("{notice}rm: can't remove '/etc/plain': ")),
            "{stderr}"
        );
        let made = std::fs::metadata(ran.folder.join("src/made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (visit.caller.uid(), visit.caller.gid()));
    });
}

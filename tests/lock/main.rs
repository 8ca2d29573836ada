//! `ringfence lock`, and runs that it pins, through the binary and a registry: as root and as ordinary users.

#[path = "../support/archive.rs"]
mod archive;
#[path = "../pull/hub.rs"]
#[allow(dead_code, unused_macros, unused_imports, reason = "shared with tests/pull")]
mod hub;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with tests/launch")]
mod support;

mod machines;
mod runs;

use std::fs;

use archive::Archive;
use hub::{Hub, Visit};
use registry::{Layer, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Registry, config, digest, manifest};
use ringfence::image::Platform;
use support::Test;

/// Pushes an index with an image for this machine, of `layers`, and one for another; gives the index's digest.
fn push(registry: &Registry, repository: &str, layers: &[Layer], settings: &str) -> String {
    let own = Platform::host();
    let foreign = [Layer::gzip(&Archive::new().file("foreign", repository).end())];
    let mut offers = Vec::new();
    for (architecture, variant, layers) in [
        (own.architecture.as_str(), own.variant.as_str(), layers),
        ("s390x", "", &foreign),
    ] {
        let config = config(architecture, layers, settings);
        let image = manifest(OCI_MANIFEST, OCI_CONFIG, &config, layers);
        registry.put_blob(repository, &config);
        layers
            .iter()
            .for_each(|layer| registry.put_blob(repository, &layer.blob));
        registry.put(
            &format!("{repository}/manifests/{}", digest(&image)),
            OCI_MANIFEST,
            &image,
        );
        let variant = match variant {
            "" => String::new(),
            variant => format!(r#","variant":"{variant}""#),
        };
        offers.push(format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"{variant}}}}}"#,
            digest(&image),
            image.len()
        ));
    }
    // What is made for no platform, and what never runs on Linux, is not locked and not asked for.
    for (os, content) in [("windows", "no one asks for it"), ("unknown", "an attestation")] {
        offers.push(format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":9,"platform":{{"os":"{os}","architecture":"unknown"}}}}"#,
            digest(content.as_bytes())
        ));
    }
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        offers.join(",")
    );
    registry.put_manifest(repository, "latest", OCI_INDEX, index.as_bytes());
    digest(index.as_bytes())
}

fn accounts(motd: &str) -> Layer {
    Layer::gzip(
        &Archive::new()
            .dir("etc")
            .file(
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n",
            )
            .file("etc/group", "root:x:0:\nweb:x:33:web\n")
            .file("etc/motd", motd)
            .end(),
    )
}

const SETTINGS: &str = r#"{"Entrypoint":["/bin/serve"],"Cmd":["--all","a b"],"Env":["PATH=/bin","LEVEL=1"],"WorkingDir":"/srv","User":"web","StopSignal":"SIGINT","Labels":{"never":"read"}}"#;

/// A manifest with a job for each image, and two that have none to lock.
fn jobs(images: &[&str]) -> String {
    let mut text = "schema = 1\n[job.here]\nimage = \"host\"\ncommand = [\"true\"]\n".to_owned();
    for (number, image) in images.iter().enumerate() {
        text += &format!("[job.number-{number}]\nimage = \"{image}\"\n");
    }
    text
}

fn lock(images: &[&str], args: &[&str]) -> Test {
    Test::command(&[]).manifest(&jobs(images)).verb("lock").args(args)
}

/// The text of the lock in the folder of a run.
fn text(ran: &support::Ran) -> String {
    fs::read_to_string(ran.folder.join("ringfence.lock")).unwrap()
}

/// The layer lines of a pull, whose order is another every time, and the rest.
fn said(visit: &Visit, ran: &support::Ran) -> Vec<String> {
    let text = visit.caller.without_notice(&ran.stderr);
    text.lines()
        .filter(|line| !line.contains(": layer "))
        .map(str::to_owned)
        .collect()
}

/// A lock with `…` for the digits of its digests, which are others on every architecture.
fn masked(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |shown, part| shown + "sha256:…" + &part[64..])
}

#[test]
fn a_lock_has_every_platform_and_the_same_text_everywhere() {
    let hub = Hub::start();
    let one = push(&hub.registry, "library/one", &[accounts("one\n")], SETTINGS);
    let two = push(
        &hub.registry,
        "team/two",
        &[accounts("two\n"), accounts("more\n")],
        "{}",
    );
    hub.each(|visit| {
        let images = ["team/two", "one", "docker.io/library/one:latest"];
        let ran = visit.run(&lock(&images, &[]).any_stderr().pulls());
        assert_eq!(
            said(visit, &ran),
            [
                format!("ringfence.lock: docker.io/library/one:latest locked at {one}"),
                format!("ringfence.lock: docker.io/team/two:latest locked at {two}"),
            ]
        );
        let written = text(&ran);
        let own = Platform::host().to_string();
        let shown = masked(&written.replace(&own, "OWN"));
        insta::with_settings!({snapshot_path => "."}, {
            insta::assert_snapshot!("two-images", shown);
        });
        // Windows and attestations are no one's business here, and so are the layers of other machines.
        let asked = hub.registry.paths();
        for content in ["no one asks for it", "an attestation"] {
            assert!(
                !asked
                    .iter()
                    .any(|path| path.ends_with(&digest(content.as_bytes())))
            );
        }
        let foreign = Layer::gzip(&Archive::new().file("foreign", "library/one").end());
        assert!(!asked.iter().any(|path| path.ends_with(&digest(&foreign.blob))));

        // From here on it is the same, and no one is asked.
        hub.registry.forget();
        let inode = |ran: &support::Ran| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(ran.folder.join("ringfence.lock")).unwrap().ino()
        };
        let before = inode(&ran);
        let ran = visit.run(&lock(&images, &[]));
        assert_eq!((text(&ran), inode(&ran)), (written.clone(), before));
        visit.run(&lock(&images, &["--check"]));
        assert_eq!(hub.registry.paths(), Vec::<String>::new());
        // Asked again, it still means the same.
        visit.run(&lock(&images, &["--update"]));
        visit.run(&lock(&images, &["--update", "--check"]));
        assert!(
            !hub.registry
                .paths()
                .iter()
                .any(|path| path.contains("/blobs/") && path.ends_with(&digest(&accounts("one\n").blob)))
        );
    });
}

#[test]
fn what_is_stale_is_said() {
    let hub = Hub::start();
    let one = push(&hub.registry, "library/one", &[accounts("one\n")], SETTINGS);
    push(&hub.registry, "library/two", &[accounts("two\n")], SETTINGS);
    hub.each(|visit| {
        let name = |image: &str| format!("ringfence.lock: docker.io/library/{image}:latest");
        let stale = "ringfence: ringfence.lock is stale; run `ringfence lock`\n";
        let none = format!("ringfence.lock: there is none\n{} is not locked\n", name("one"));
        visit.run(&lock(&["one"], &["--check"]).status(1).stdout(&none).stderr(stale));
        let ran = visit.run(&lock(&["one"], &["-q"]).pulls());
        let first = text(&ran);
        visit.run(&lock(&["one"], &["--check"]));
        let other = format!(
            "{} is not locked\n{} is locked, and no job runs it\n",
            name("two"),
            name("one")
        );
        visit.run(&lock(&["two"], &["--check"]).status(1).stdout(&other).stderr(stale));
        // What is not asked about stays as it is: the entry of `one` is the same text.
        let ran = visit.run(&lock(&["one", "two"], &["-q"]).pulls());
        let both = text(&ran);
        assert!(both.starts_with(&first), "{both}");
        let gone = format!("{} removed\n", name("two"));
        let ran = visit.run(&lock(&["one"], &[]).stderr(&gone));
        assert_eq!(text(&ran), first);
        let hosts = lock(&[], &[]).stderr(&format!("{} removed\n", name("one")));
        let ran = visit.run(&hosts);
        assert_eq!(
            text(&ran),
            "lock = 1\n# Written by `ringfence lock`, for version control. Not to be edited by hand.\n"
        );
        let unknown = "ringfence: lock: no job runs docker.io/library/tow:latest; the jobs run docker.io/library/one:latest\n";
        visit.run(&lock(&["one"], &["--update", "tow"]).status(125).stderr(unknown));
        assert!(one.starts_with("sha256:"));
    });
}

#[test]
fn a_moved_tag_is_one_entry_of_the_diff() {
    let hub = Hub::start();
    let name = "docker.io/library/one:latest";
    push(&hub.registry, "library/two", &[accounts("two\n")], SETTINGS);
    hub.each(|visit| {
        let images = ["one", "two"];
        let old = push(&hub.registry, "library/one", &[accounts("old\n")], SETTINGS);
        let before = text(&visit.run(&lock(&images, &["-q"]).pulls()));
        let new = push(&hub.registry, "library/one", &[accounts("new\n")], SETTINGS);
        // That a tag has moved makes no lock stale: that is what it is for.
        visit.run(&lock(&images, &["--check"]));
        let ran = visit.run(&lock(&images, &[]));
        assert_eq!(text(&ran), before);
        let said = format!("ringfence.lock: {name} is locked at {old}, and is {new} now\n");
        let mend = "ringfence: ringfence.lock is stale; run `ringfence lock --update`\n";
        for args in [&["--check", "--update"][..], &["--check", "--update", "one"]] {
            let ran = visit.run(&lock(&images, args).status(1).stdout(&said).stderr(mend));
            assert_eq!(text(&ran), before);
        }
        visit.run(&lock(&images, &["--check", "--update", "two"]));
        let ran = visit.run(&lock(&images, &["--update", "one"]).any_stderr().pulls());
        assert_eq!(
            self::said(visit, &ran),
            [format!("ringfence.lock: {name} moved from {old} to {new}")]
        );
        let after = text(&ran);
        let entries = |text: &str| text.split("\n[[image]]\n").map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (entries(&before), entries(&after));
        assert_eq!(
            (before.len(), &before[0], &before[2]),
            (after.len(), &after[0], &after[2])
        );
        assert!(
            after[1].contains(&new) && !after[1].contains(&old),
            "{}",
            after[1]
        );
        fs::remove_file(ran.folder.join("ringfence.lock")).unwrap();
    });
}

#[test]
fn a_file_that_is_no_lock_is_never_overwritten() {
    let hub = Hub::start();
    push(&hub.registry, "library/one", &[accounts("one\n")], SETTINGS);
    hub.each(|visit| {
        let folder = visit.run(&lock(&[], &["-q"])).folder;
        let path = folder.join("ringfence.lock");
        let foreign = "ringfence: ringfence.lock: it does not begin with `lock = 1`, so it is no lock and stays as it is\n";
        let newer = "ringfence: ringfence.lock: it has version 2 of the format, this program knows version 1\n";
        let torn = "ringfence: ringfence.lock:2:8: unclosed array table, expected `]]`; take it from version control, or remove it and run `ringfence lock`\n";
        for (content, said) in [("version = 3\n", foreign), ("", foreign), ("lock = 2\n", newer), ("lock = 1\n[[image\n", torn)] {
            fs::write(&path, content).unwrap();
            for args in [&[][..], &["--check"], &["--update"]] {
                visit.run(&lock(&["one"], args).status(125).stderr(said));
            }
            visit.run(&lock(&["one"], &["here"]).verb("run").status(125).stderr(said));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
    });
}

/// What cannot be had leaves the lock as it was, and no file beside it.
#[test]
fn a_failed_lock_changes_nothing() {
    let hub = Hub::start();
    let host = hub.registry.host.clone();
    push(&hub.registry, "one", &[accounts("one\n")], SETTINGS);
    hub.each(|visit| {
        let (one, none) = (format!("{host}/one"), format!("{host}/none"));
        let ran = visit.run(&lock(&[&one], &["-q"]).pulls());
        let before = text(&ran);
        let said =
            format!("ringfence: pull {none}:latest: http://{host}: not found (404): manifest unknown\n");
        let ran = visit.run(&lock(&[&one, &none], &[]).status(125).stderr(&said));
        assert_eq!(text(&ran), before);
        let names: Vec<_> = fs::read_dir(&ran.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".lock"))
            .collect();
        assert_eq!(names, ["ringfence.lock"]);
    });
}

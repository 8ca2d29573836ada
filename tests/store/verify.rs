//! `ringfence image verify`: damage is named where it is, and the next pull mends it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::hub::{HELLO, Hub, Types, Visit, base};
use crate::registry::{Layer, digest};
use crate::support::{Test, skip};
use crate::{image, pull};

const NAME: &str = "docker.io/library/tool:latest";
const SAID: &str = "ringfence: what is damaged counts as absent now; pull or import it again\n";

/// The hexadecimal digits of a digest: a name in the store.
fn hex(digest: &str) -> &str {
    &digest["sha256:".len()..]
}

/// The file of a folder of the store that holds this text.
fn holding(folder: &Path, text: &str) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap();
    let mut files = entries.map(|entry| entry.unwrap().path());
    files
        .find(|path| fs::read_to_string(path).unwrap().contains(text))
        .unwrap()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Without damage nothing is said.
#[track_caller]
fn is_whole(visit: &mut Visit) {
    visit.run(&image(&["verify"]).pulls());
}

/// Damage is named with exit code 1, and is not there the next time.
#[track_caller]
fn is_damaged(visit: &mut Visit, lines: &[String]) {
    let said = lines.concat();
    visit.run(&image(&["verify"]).status(1).stdout(&said).stderr(SAID).pulls());
    is_whole(visit);
}

#[test]
fn damage_is_named_and_mended_by_the_next_pull() {
    let (hub, base) = (Hub::start(), base!());
    let motd = Layer::zstd(
        &Archive::new()
            .dir("etc")
            .file("etc/motd", "first\n")
            .file("etc/motd", "welcome\n")
            .symlink("etc/link", "motd")
            .file("through/was", "x")
            .symlink("through", "etc")
            .file("through/other", "x")
            .file("through/motd.d/a", "x")
            .file("opaque/.wh..wh..opq", "")
            .file("opaque/.wh.gone", "")
            .end(),
    );
    hub.push("library/tool", Types::Oci, &[base, motd.clone()], HELLO);
    hub.each(|visit| {
        is_whole(visit);
        pull(visit, &["tool"]);
        is_whole(visit);
        let store = visit.run(&image(&["list"]).any_stdout()).folder.join("store");
        let layer = format!("layers/{}", hex(&motd.diff_id));
        let root = store.join(&layer).join("fs");
        let file = root.join("etc/motd");
        let said = |path: &str, reason: &str| format!("{layer}/{path}: {reason} ({NAME})\n");
        if fs::File::options().write(true).open(&file).is_err() {
            skip!("the layers' files belong to subordinate ids; only root can harm them from outside");
        }
        type Harm<'a> = (&'a dyn Fn(), String);
        let harms: [Harm<'_>; 9] = [
            (&|| flip(&file), said("fs/etc/motd", "its content has changed")),
            (
                &|| fs::write(&file, "").unwrap(),
                said("fs/etc/motd", "its size is 0, not 8"),
            ),
            (
                &|| fs::remove_file(&file).unwrap(),
                said("fs/etc/motd", "it is missing"),
            ),
            (
                &|| fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap(),
                said("fs/etc/motd", "its mode is 666, not 644"),
            ),
            (
                &|| fs::write(root.join("etc/more"), "x").unwrap(),
                said("fs/etc/more", "it does not belong there"),
            ),
            (
                &|| {
                    fs::remove_file(root.join("etc/link")).unwrap();
                    symlink("ntsc", root.join("etc/link")).unwrap();
                },
                said("fs/etc/link", "its content has changed"),
            ),
            (
                &|| fs::remove_dir_all(root.join("opaque")).unwrap(),
                said("fs/opaque/", "it is missing; 1 more differ"),
            ),
            (
                &|| fs::remove_dir_all(&root).unwrap(),
                said("fs", "it is missing"),
            ),
            (
                &|| fs::remove_file(store.join(&layer).join("listing")).unwrap(),
                said("listing", "it is missing"),
            ),
        ];
        for (harm, said) in harms {
            harm();
            is_damaged(visit, &[said]);
            // The run brings that layer again, and no other one.
            hub.registry.forget();
            let run = Test::command(&["cat", "/etc/motd"]).image("tool");
            visit.run(&run.stdout("welcome\n").any_stderr().pulls());
            let asked = hub.registry.paths();
            let fetched: Vec<_> = asked.iter().filter(|path| path.contains("/blobs/")).collect();
            assert!(
                fetched.iter().any(|path| path.ends_with(&digest(&motd.blob))),
                "{asked:#?}"
            );
            assert!(
                fetched.iter().all(|path| path.ends_with(&digest(&motd.blob))),
                "{asked:#?}"
            );
            is_whole(visit);
        }
    });
}

#[test]
fn all_damage_of_an_image_is_named_with_it() {
    let hub = Hub::start();
    let layers = ["one", "two"].map(|name| Layer::gzip(&Archive::new().file(name, "12345").end()));
    hub.push("library/tool", Types::Oci, &layers, HELLO);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let store = visit.run(&image(&["list"]).any_stdout()).folder.join("store");
        let file = |layer: &Layer, name: &str| format!("layers/{}/fs/{name}", hex(&layer.diff_id));
        let mut files = [file(&layers[0], "one"), file(&layers[1], "two")];
        files.sort();
        if fs::File::options()
            .write(true)
            .open(store.join(&files[0]))
            .is_err()
        {
            skip!("the layers' files belong to subordinate ids; only root can harm them from outside");
        }
        files.iter().for_each(|file| flip(&store.join(file)));
        let lines = files.map(|file| format!("{file}: its content has changed ({NAME})\n"));
        is_damaged(visit, &lines);
        pull(visit, &["tool"]);
        is_whole(visit);
        visit.run(&image(&["remove", "tool"]).any_stderr().pulls());
    });
}

#[test]
fn a_damaged_document_costs_no_layer() {
    let (hub, base) = (Hub::start(), base!());
    hub.push("library/tool", Types::Oci, &[base], HELLO);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let store = visit.run(&image(&["list"]).any_stdout()).folder.join("store");
        let shown = |path: &Path| path.strip_prefix(&store).unwrap().to_str().unwrap().to_owned();
        let mended = |visit: &mut Visit| {
            hub.registry.forget();
            pull(visit, &["tool"]);
            let asked = hub.registry.paths();
            assert!(
                asked.iter().filter(|path| path.contains("/blobs/")).count() <= 1,
                "{asked:#?}"
            );
            is_whole(visit);
            let run = Test::command(&["cat", "/etc/plain"])
                .image("tool")
                .args(&["--offline"]);
            visit.run(&run.stdout("not a program\n"));
        };
        // The index is of no use once the image is there, so it is no image's.
        for (part, of) in [
            ("\"layers\":[{", format!(" ({NAME})")),
            ("diff_ids", format!(" ({NAME})")),
            ("\"manifests\":", String::new()),
        ] {
            let path = holding(&store.join("blobs"), part);
            flip(&path);
            let found = digest(&fs::read(&path).unwrap());
            is_damaged(
                visit,
                &[format!(
                    "{}: its content has the digest {found}{of}\n",
                    shown(&path)
                )],
            );
            mended(visit);
        }
        let path = holding(&store.join("blobs"), "diff_ids");
        fs::remove_file(&path).unwrap();
        is_damaged(visit, &[format!("{}: it is missing ({NAME})\n", shown(&path))]);
        mended(visit);
        let record = holding(&store.join("images"), "");
        for changed in ["PATH", "worker"] {
            let text = fs::read_to_string(&record).unwrap();
            assert!(text.contains(changed));
            fs::write(&record, text.replace(changed, "TOOLS")).unwrap();
            is_damaged(
                visit,
                &[format!(
                    "{}: it is not what the image says ({NAME})\n",
                    shown(&record)
                )],
            );
            mended(visit);
        }
        let tag = holding(&store.join("tags"), NAME);
        for (path, of) in [(record, format!(" ({NAME})")), (tag, String::new())] {
            fs::write(&path, "{").unwrap();
            is_damaged(visit, &[format!("{}: it cannot be read{of}\n", shown(&path))]);
            mended(visit);
        }
    });
}

/// A run goes on with what it has; afterwards the damage is mended as any other.
#[test]
fn what_a_run_uses_stays() {
    let (hub, base) = (Hub::start(), base!());
    hub.push("library/tool", Types::Oci, &[base], HELLO);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let folder = visit.run(&image(&["list"]).any_stdout()).folder;
        let config = holding(&folder.join("store/blobs"), "diff_ids");
        // The job reads until its image has been verified.
        let script = "{ while ! [ -e tried ]; do sleep 0.05; done; echo; } | \"$@\" & while ! [ -e src/runs ]; do sleep 0.05; done; \
            echo >> store/blobs/${config##*/}; $1 image verify --json; echo \"exit $?\"; touch tried; wait";
        let script = format!("config={}; {script}", config.display());
        let job = "schema = 1\n[job.test]\nimage = \"tool\"\nuser = \"root\"\n\
             command = [\"sh\", \"-c\", \"touch /src/runs; read line; echo still here\"]\n\
             [job.test.mounts.\"/src\"]\nbind = \"src\"\naccess = \"rw\"\n";
        let test = Test::command(&[]).manifest(job).wrapped(&["sh", "-c", &script, "sh"]);
        let ran = visit.run(&test.any_stdout().any_stderr().pulls());
        let (json, rest) = ran.stdout.split_once("]\n").unwrap();
        assert_eq!(rest, "exit 1\nstill here\n", "{}", ran.stderr);
        let found = digest(&fs::read(&config).unwrap());
        let seen: serde_json::Value = serde_json::from_str(&format!("{json}]")).unwrap();
        let blob = format!("blobs/{}", config.file_name().unwrap().to_str().unwrap());
        let reason = format!("its content has the digest {found}");
        let wanted = serde_json::json!([{ "path": blob, "reason": reason, "images": [NAME], "in-use": true }]);
        assert_eq!(seen, wanted);
        let said = "ringfence: what a run uses stays until it has ended; verify again then\n";
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        is_damaged(visit, &[format!("{blob}: {reason} ({NAME})\n")]);
        fs::remove_file(folder.join("tried")).unwrap();
        fs::remove_file(folder.join("src/runs")).unwrap();
    });
}

//! `ringfence image import` and `export`, held against skopeo and umoci.

use std::fs;
use std::path::Path;
use std::process::Command;

use ringfence::image::Platform;

use crate::archive::Archive;
use crate::hub::{Hub, Ids, Types, Visit, base};
use crate::made::Made;
use crate::registry::{Fault, Layer, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, config, digest, manifest};
use crate::support::{Caller, Test, callers, skip};
use crate::{SETTINGS, image, layer, names, pull};

fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What a command prints; it must succeed.
#[track_caller]
pub(crate) fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn made() -> Made {
    let motd = Layer::gzip(&Archive::new().file("etc/motd", "welcome\n").end());
    Made::new(
        &[layer("base", 5000), motd],
        r#"{"Cmd":["true"],"Env":["PATH=/bin"]}"#,
    )
}

/// The digest that skopeo sees for an image.
fn seen(folder: &Path, name: &str) -> String {
    digest(sh(folder, &format!("skopeo inspect --raw {name}")).as_bytes())
}

/// The digest of an image of the store.
fn digest_of(visit: &mut Visit, name: &str) -> String {
    let ran = visit.run(&image(&["inspect", "--json", name]).any_stdout());
    let sheet: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    sheet["digest"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_imported_is_exported_byte_for_byte() {
    if !has("skopeo") || !has("umoci") {
        skip!("no skopeo or no umoci");
    }
    let (hub, made) = (Hub::start(), made());
    hub.each(|visit| {
        let folder = visit.run(&image(&["list"]).any_stdout()).folder;
        made.write_layout(&folder.join("layout"));
        let copy = "skopeo --insecure-policy copy -q oci:layout:v1";
        sh(&folder, &format!("{copy} oci-archive:oci.tar:v1; {copy} docker-archive:docker.tar:some/image:v1; chmod -R a+rX ."));
        let wanted = made.digest();
        let is = format!("example.org/it:1: {wanted}, 2 layers unpacked\n");
        let ran = visit.run(&image(&["import", "layout", "example.org/it:1"]).any_stderr().pulls());
        assert!(ran.stderr.ends_with(&is), "{}", ran.stderr);
        // The same blobs in another wrapping are the same image.
        let again = "example.org/it:2: ";
        let ran = visit.run(&image(&["import", "oci.tar", "example.org/it:2"]).any_stderr().pulls());
        assert!(ran.stderr.contains(again), "{}", ran.stderr);
        visit.run(&image(&["import", "-q", "docker.tar", "example.org/docker"]).pulls());
        // Compression of the whole is no part of an image.
        sh(&folder, "gzip -k oci.tar; zstd -q oci.tar; gzip -k docker.tar; zstd -q docker.tar; chmod a+r *.gz *.zst");
        let of_docker = digest_of(visit, "example.org/docker");
        for (file, digest) in [
            ("oci.tar.gz", &wanted),
            ("oci.tar.zst", &wanted),
            ("docker.tar.gz", &of_docker),
            ("docker.tar.zst", &of_docker),
        ] {
            let ran = visit.run(&image(&["import", file, "example.org/packed"]).any_stderr().pulls());
            assert!(ran.stderr.ends_with(&format!("example.org/packed:latest: {digest}, 0 layers unpacked\n")), "{file}: {}", ran.stderr);
            // A manifest of Docker's own type stays one, and other tools look for none in a layout.
            if digest == &wanted {
                visit.run(&image(&["export", "--offline", "example.org/packed", "oci:packed:v1"]));
                assert_eq!(seen(&folder, "oci:packed:v1"), wanted);
            }
            visit.run(&image(&["remove", "example.org/packed"]).any_stderr().pulls());
        }
        sh(&folder, "rm -r packed *.gz *.zst");
        // The store alone is enough from here on.
        sh(&folder, "mv layout was; mv oci.tar was.tar; mv docker.tar docker-was.tar");
        for target in ["oci:out:v1", "oci:out:v2", "archive:out.tar"] {
            visit.run(&image(&["export", "--offline", "example.org/it:1", target]));
        }
        assert_eq!(seen(&folder, "oci:out:v1"), wanted);
        assert_eq!(seen(&folder, "oci:out:v2"), wanted);
        assert_eq!(seen(&folder, "oci-archive:out.tar"), wanted);
        // Every blob is the same file; the layout has the image under two names.
        sh(&folder, "diff -r was/blobs out/blobs");
        assert_eq!(sh(&folder, "umoci ls --layout out"), "v1\nv2\n");
        let unpack = "umoci unpack --rootless --image out:v1 bundle; cat bundle/rootfs/etc/motd; chmod -R u+rwX bundle; rm -r bundle";
        assert_eq!(sh(&folder, unpack), "welcome\n");
        // As an archive of `docker save` it has the same configuration, and the names that Docker would use.
        let config = |archive: &str| sh(&folder, &format!("skopeo inspect --config --raw docker-archive:{archive} | sha256sum"));
        assert_eq!(config("out.tar"), config("docker-was.tar"));
        assert!(sh(&folder, "tar -xOf out.tar manifest.json").contains(r#""RepoTags":["example.org/it:1","example.org/it:2"]"#));
        // A second export writes the same bytes.
        visit.run(&image(&["export", "example.org/it:2", "archive:again.tar"]));
        sh(&folder, "cmp out.tar again.tar");
        // And an export is imported as what it was.
        visit.run(&image(&["remove", "example.org/it:1", "example.org/it:2"]).any_stderr().pulls());
        for from in ["out.tar", "oci:out:v2"] {
            let ran = visit.run(&image(&["import", from, "example.org/it:3"]).any_stderr().pulls());
            assert!(ran.stderr.contains(&format!("example.org/it:3: {wanted}, ")), "{}", ran.stderr);
        }
        // What `docker save` had: the configuration is the same, and the layers by their diff ids.
        visit.run(&image(&["export", "example.org/docker", "archive:docker-out.tar"]));
        assert_eq!(config("docker-out.tar"), config("docker-was.tar"));
        let layers = "skopeo inspect --raw docker-archive:";
        assert_eq!(sh(&folder, &format!("{layers}docker-out.tar")), sh(&folder, &format!("{layers}docker-was.tar")));
        sh(&folder, "rm -r was out *.tar");
    });
}

/// A pull keeps no compressed layer; an export asks for it again, and says so where it may not.
#[test]
fn what_was_pulled_is_asked_for_again() {
    if !has("skopeo") {
        skip!("no skopeo");
    }
    let hub = Hub::start();
    let layers = [layer("base", 5000), layer("more", 700)];
    hub.push("library/tool", Types::Oci, &layers, SETTINGS);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let offline = image(&["export", "--offline", "tool", "oci:out:v1"]);
        let ran = visit.run(&offline.status(125).any_stderr());
        let start = "ringfence: export sha256:";
        let why = format!(
            ": layer {} is in the store unpacked only; docker.io/library/tool:latest: no network may be used (--offline)",
            digest(&layers[0].blob)
        );
        assert!(ran.stderr.starts_with(start) && ran.stderr.contains(&why), "{}", ran.stderr);
        hub.registry.forget();
        visit.run(&image(&["export", "tool", "oci:out:v1"]));
        let asked = hub.registry.paths();
        for layer in &layers {
            assert!(asked.iter().any(|path| path.ends_with(&digest(&layer.blob))), "{asked:#?}");
        }
        let ran = visit.run(&image(&["inspect", "tool", "--json"]).any_stdout());
        let sheet: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(seen(&ran.folder, "oci:out:v1"), sheet["digest"].as_str().unwrap());
        fs::remove_dir_all(ran.folder.join("out")).unwrap();
    });
}

/// What came wrong from one place, and right from another, is in the export once.
#[test]
fn wrong_bytes_have_no_place_in_an_export() {
    if !has("skopeo") {
        skip!("no skopeo");
    }
    let hub = Hub::start();
    let layers = [layer("base", 5000), layer("more", 700)];
    hub.push("library/tool", Types::Oci, &layers, SETTINGS);
    let wrong = digest(&layers[0].blob);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        visit.run(&image(&["export", "tool", "archive:right.tar"]));
        hub.registry.fault(&wrong, Fault::OtherBytesOnce);
        let ran = visit.run(&image(&["export", "tool", "archive:out.tar"]));
        sh(&ran.folder, "cmp right.tar out.tar");
        hub.registry.fault(&wrong, Fault::OtherBytesOnce);
        visit.run(&image(&["export", "tool", "oci:out:v1"]));
        sh(
            &ran.folder,
            "skopeo --insecure-policy copy -q oci:out:v1 dir:copy",
        );
        // Where nobody has the right ones nothing is left: not of an archive, and not of a new layout.
        hub.registry.fault(&wrong, Fault::OtherBytes);
        let found: Vec<u8> = layers[0].blob.iter().map(|byte| byte ^ 1).collect();
        for target in ["archive:no.tar", "oci:no"] {
            let ran = visit.run(&image(&["export", "tool", target]).status(125).any_stderr());
            let reason = format!("the content has the digest {}, not {wrong}", digest(&found));
            assert!(ran.stderr.contains(&reason), "{}", ran.stderr);
        }
        assert_eq!(sh(&ran.folder, "ls -d no* || :"), "");
        hub.registry.fault(&wrong, Fault::BusyOnce("0".to_owned()));
        sh(&ran.folder, "rm -r right.tar out.tar out copy");
        visit.run(&image(&["remove", "tool"]).any_stderr().pulls());
    });
}

#[test]
fn a_target_without_room_is_one_error_and_no_trace() {
    let (hub, made) = (Hub::start(), made());
    let room =
        "mount -t tmpfs -o size=16k none small && \"$@\"; status=$?; find small -mindepth 1; exit $status";
    for caller in callers(Some(&[Caller::Root])) {
        hub.visit(caller, |visit| {
            let folder = visit.run(&image(&["list"]).any_stdout()).folder;
            made.write_layout(&folder.join("layout"));
            fs::create_dir(folder.join("small")).unwrap();
            let large = Layer::plain(&Archive::new().file("large", &"x".repeat(100_000)).end());
            let other = Made::new(&[large], "{}");
            other.write_layout(&folder.join("large"));
            visit.run(&image(&["import", "-q", "large", "it"]).pulls());
            for (target, place) in [
                ("archive:small/out.tar", "small/out.tar"),
                ("oci:small/out", "small/out"),
                ("dir:small/out", "small/out.PID.part/large"),
            ] {
                let ran = visit.run(
                    &image(&["export", "it", target])
                        .in_mounts(room)
                        .status(125)
                        .any_stderr(),
                );
                // The number of a process.
                let masked = match ran
                    .stderr
                    .split_once("out.")
                    .filter(|_| target.starts_with("dir:"))
                {
                    Some((before, after)) => {
                        format!(
                            "{before}out.PID{}",
                            after.trim_start_matches(|c: char| c.is_ascii_digit())
                        )
                    }
                    None => ran.stderr.clone(),
                };
                let said = format!(
                    "ringfence: export {}: {}: no space left on device\n",
                    other.digest(),
                    folder.join(place).display()
                );
                assert_eq!(masked, said);
            }
        });
    }
}

#[test]
fn what_cannot_be_imported_or_exported_is_said() {
    let (hub, made) = (Hub::start(), made());
    hub.push("library/tool", Types::Oci, &[layer("base", 100)], SETTINGS);
    hub.each(|visit| {
        let folder = visit.run(&image(&["list"]).any_stdout()).folder;
        fs::create_dir(folder.join("rootfs")).unwrap();
        fs::write(folder.join("rootfs/file"), "x").unwrap();
        fs::create_dir(folder.join("hidden")).unwrap();
        fs::write(folder.join("hidden/.wh.x"), "").unwrap();
        made.write_layout(&folder.join("layout"));
        for (args, said) in [
            (&["import", "none.tar"][..], "pull archive:none.tar: {folder}/none.tar: no such file or directory"),
            (&["import", "rootfs"], "image import: rootfs is no OCI layout; a folder that is a root file system is imported as `dir:rootfs`, and runs as it is with `image = \"dir:rootfs\"`"),
            (&["import", "--platform", "arm", "rootfs"], "--platform `arm` is not a platform; write for example `linux/arm64`"),
            (&["import", "--platform", "linux/s390x", "layout"], "pull oci:layout: there is no image for linux/s390x; it offers {own}"),
            (&["import", "dir:hidden"], "pull dir:hidden: {folder}/hidden/.wh.x: its name begins with `.wh.`, which hides a file in an image"),
            (&["import", "oci:layout:v2"], "pull oci:layout:v2: it holds no image `v2`; it holds v1"),
            (&["import", "layout", "Upper"], "`Upper` is not an image reference: `Upper` is not a part of a repository's name (a-z and 0-9, between them one of . _ __ or dashes)"),
            (&["export", "tool", "oci:out"], "image tool is not in the store; `ringfence image list` shows what is"),
            (&["export", "tool", "out.tar"], "image export: `out.tar` is no target; write `oci:DIR[:TAG]`, `archive:FILE` or `dir:DIR`"),
        ] {
            let said = said.replace("{own}", &Platform::host().to_string());
            visit.run(&image(args).status(125).stderr(&format!("ringfence: {said}\n")).pulls());
        }
        visit.run(&image(&["import", "-q", "layout", "it"]).pulls());
        assert_eq!(names(visit), ["docker.io/library/it:latest", &format!("oci:{}/layout", folder.display())]);
        let ran = visit.run(&image(&["export", "it", "oci:rootfs"]).status(125).any_stderr());
        assert!(ran.stderr.ends_with("rootfs: it is no OCI layout, and not empty\n"), "{}", ran.stderr);
        assert_eq!(fs::read_dir(folder.join("rootfs")).unwrap().count(), 1);
        let ran = visit.run(&image(&["export", "it", "archive:no/such/x.tar"]).status(125).any_stderr());
        assert!(ran.stderr.ends_with("no/such/x.tar: no such file or directory\n"), "{}", ran.stderr);
        visit.run(&Test::command(&["true"]).verb("check").any_stderr());
        fs::remove_dir_all(folder.join("layout")).unwrap();
        fs::remove_dir_all(folder.join("rootfs")).unwrap();
        fs::remove_dir_all(folder.join("hidden")).unwrap();
        visit.run(&image(&["remove", "it"]).any_stderr().pulls());
    });
}

/// A root file system becomes an image of one layer: the same for the same files, as other tools read it too.
#[test]
fn a_folder_is_imported_as_an_image() {
    if !has("umoci") {
        skip!("no umoci");
    }
    let (hub, base) = (Hub::start(), base!());
    hub.each(|visit| {
        let folder = visit.run(&image(&["list"]).any_stdout()).folder;
        let make = "mkdir -p root/bin root/etc root/proc root/sys root/dev root/tmp; cp /bin/busybox root/bin; ln -s busybox root/bin/sh; \
            ln root/bin/busybox root/bin/cat; echo welcome > root/etc/motd; ln -s ../nowhere root/etc/link; chmod 1777 root/tmp; \
            find root -exec touch -hd 2024-01-02 {} +; chmod -R a+rX root";
        sh(&folder, make);
        if visit.ids() != Ids::Range {
            // What is the caller's is root's in the image.
            sh(&folder, "chown -hR 65534:65534 root");
        }
        visit.run(&image(&["import", "-q", "dir:root", "made"]).pulls());
        let digest = |visit: &mut Visit, name: &str| {
            let ran = visit.run(&image(&["inspect", "--json", name]).any_stdout());
            let sheet: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(sheet["layers"].as_array().unwrap().len(), 1);
            sheet["digest"].clone()
        };
        visit.run(&image(&["import", "-q", "dir:root", "again"]).pulls());
        assert_eq!(digest(visit, "made"), digest(visit, "again"));
        visit.run(&image(&["export", "made", "oci:out:own"]));
        sh(&folder, "mv root was");
        let job = Test::command(&["sh", "-c", "cat /etc/motd"]).image("made").args(&["--offline"]);
        visit.run(&job.stdout("welcome\n"));
        let unpack = "umoci unpack --rootless --image out:own bundle; cd bundle/rootfs; find . ! -type d -printf '%P %y %m %l %T@\\n' | sort; cat etc/motd; stat -c %h bin/cat";
        let listed = "cd was; find . ! -type d -printf '%P %y %m %l %T@\\n' | sort; cat etc/motd; stat -c %h bin/cat";
        assert_eq!(sh(&folder, unpack), sh(&folder, listed));
        visit.run(&image(&["remove", "made", "again"]).any_stderr().pulls());
        sh(&folder, "chmod -R u+rwX bundle; rm -r was out bundle");
    });
    drop(base);
}

/// The images of one name for two machines come in and go out one by one.
#[test]
fn an_image_for_another_machine_is_imported_and_exported() {
    if !has("skopeo") {
        skip!("no skopeo");
    }
    let hub = Hub::start();
    hub.each(|visit| {
        let folder = visit.run(&image(&["list"]).any_stdout()).folder;
        let own = Platform::host().architecture;
        let mut offers = Vec::new();
        let blobs = folder.join("layout/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| fs::write(blobs.join(&digest(bytes)[7..]), bytes).unwrap();
        for architecture in [own.as_str(), "s390x"] {
            let layer = Layer::plain(&Archive::new().file("machine", architecture).end());
            let config = config(architecture, std::slice::from_ref(&layer), "{}");
            let manifest = manifest(OCI_MANIFEST, OCI_CONFIG, &config, std::slice::from_ref(&layer));
            offers.push(serde_json::json!({
                "mediaType": OCI_MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
                "platform": { "os": "linux", "architecture": architecture },
            }));
            [&layer.blob, &config, &manifest].into_iter().for_each(|bytes| put(bytes));
        }
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": offers }).to_string();
        put(index.as_bytes());
        let entry = serde_json::json!({ "mediaType": OCI_INDEX, "digest": digest(index.as_bytes()), "size": index.len() });
        let top = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        fs::write(folder.join("layout/index.json"), top).unwrap();
        fs::write(folder.join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        visit.run(&image(&["import", "-q", "layout", "both"]).pulls());
        visit.run(&image(&["import", "-q", "--platform", "linux/s390x", "layout", "both"]).pulls());
        visit.run(&image(&["export", "both", "oci:out:own"]));
        visit.run(&image(&["export", "--platform", "linux/s390x", "both", "oci:out:other"]));
        for (tag, architecture) in [("own", own.as_str()), ("other", "s390x")] {
            let config = sh(&folder, &format!("skopeo inspect --config --raw oci:out:{tag}"));
            assert!(config.contains(&format!(r#""architecture":"{architecture}""#)), "{config}");
        }
        sh(&folder, "rm -r layout out");
        visit.run(&image(&["remove", "both"]).any_stderr().pulls());
        visit.run(&image(&["remove", "both"]).any_stderr().pulls());
    });
}

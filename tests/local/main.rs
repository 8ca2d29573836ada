//! Layouts and archives as images, through the binary: as root and as ordinary users.

#[path = "../support/archive.rs"]
mod archive;
#[path = "../pull/hub.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/pull")]
mod hub;
mod made;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with tests/launch")]
mod support;

mod refusals;

use std::fs;
use std::path::Path;
use std::process::Command;

use archive::Archive;
use hub::{Visit, base};
use made::Made;
use registry::Layer;
use support::{Test, callers, skip};

/// What an image of these tests does.
const HELLO: &str = r#"{"Cmd":["cat","/etc/motd"],"Env":["PATH=/bin"],"WorkingDir":"/etc","User":"worker"}"#;

fn motd(text: &str) -> Layer {
    Layer::zstd(&Archive::new().file("etc/motd", text).end())
}

/// Runs tests in a room that `make` has filled, for every caller that there is.
#[track_caller]
fn each(make: impl Fn(&Path) + Clone + Send + Sync + 'static, tests: impl Fn(&mut Visit)) {
    for caller in callers(None) {
        let make = make.clone();
        match Test::command(&["true"]).setup(make).room(caller) {
            Ok(room) => tests(&mut Visit::new(caller, room)),
            Err(reason) => skip!("{caller:?}: {reason}"),
        }
    }
}

fn run(image: &str, args: &[&str]) -> Test {
    let manifest = format!("schema = 1\n[job.test]\nimage = \"{image}\"\n");
    Test::command(&[]).manifest(&manifest).args(args)
}

/// Whether a program that makes images is there.
fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

#[track_caller]
fn sh(folder: &Path, script: &str) {
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
}

#[test]
fn every_form_of_one_image_runs() {
    let made = Made::new(&[base!(), motd("welcome\n")], HELLO);
    let forms = made.clone();
    each(
        move |folder| forms.write_all(folder),
        |visit| {
            for image in [
                "oci:layout",
                "oci:layout:v1",
                "archive:layout.tar",
                "archive:layout.tar.gz",
                "archive:saved.tar",
                "archive:saved.tar.zst",
            ] {
                let absent = format!("ringfence: image {image} is not in the store; run `ringfence pull`\n");
                let first = visit.run(
                    &run(image, &[])
                        .verb("plan")
                        .any_stdout()
                        .any_stderr()
                        .maybe_status(125),
                );
                let said = visit.caller.without_notice(&first.stderr);
                assert!(first.status == 0 || said == absent, "{image}: {said}");
                // What stands on this machine needs no network.
                let ran = visit.run(
                    &run(image, &["--offline"])
                        .stdout("welcome\n")
                        .any_stderr()
                        .pulls(),
                );
                // The second time it is there, and nothing is unpacked or said.
                visit.run(&run(image, &[]).stdout("welcome\n"));
                let plan = visit.run(&run(image, &[]).verb("plan").any_stdout());
                assert!(plan.stdout.contains(image), "{}", plan.stdout);
                let digest = match image.contains("saved") {
                    true => made.saved_digest(),
                    false => made.digest(),
                };
                assert!(
                    plan.stdout.contains(&digest[..19]),
                    "{image}: {digest}\n{}",
                    plan.stdout
                );
                drop(ran);
            }
            // Layers are shared, whatever they came in: two forms of compression are two images of the same layers.
            let folder = visit.run(&run("host", &["--", "true"])).folder;
            assert_eq!(fs::read_dir(folder.join("store/layers")).unwrap().count(), 2);
        },
    );
}

/// What skopeo and umoci write is read as they meant it.
#[test]
fn images_of_other_tools_run() {
    if !has("skopeo") || !has("umoci") {
        skip!("no skopeo or no umoci");
    }
    // No archive of Docker's takes zstd.
    let motd = Layer::gzip(&Archive::new().file("etc/motd", "welcome\n").end());
    let made = Made::new(&[base!(), motd], HELLO);
    each(
        move |folder| {
            made.write_layout(&folder.join("layout"));
            let copy = "skopeo --insecure-policy copy -q oci:layout:v1";
            sh(
                folder,
                &format!(
                    "{copy} oci:copied:x; {copy} oci-archive:oci.tar:x; {copy} docker-archive:docker.tar:a/b:c"
                ),
            );
            // Two names in one layout, one of them with a layer more.
            sh(
                folder,
                "cp -r layout umoci; umoci unpack --rootless --image umoci:v1 bundle; echo changed > bundle/rootfs/etc/motd; \
                 umoci repack --image umoci:v2 bundle; chmod -R u+rwX bundle; rm -r bundle",
            );
        },
        |visit| {
            for (image, text) in [
                ("oci:copied:x", "welcome\n"),
                ("archive:oci.tar", "welcome\n"),
                ("archive:docker.tar", "welcome\n"),
                ("oci:umoci:v1", "welcome\n"),
                ("oci:umoci:v2", "changed\n"),
            ] {
                visit.run(&run(image, &["--offline"]).stdout(text).any_stderr().pulls());
            }
            let several =
                "ringfence: pull oci:umoci: it holds several images; name one of v1, v2 after a colon\n";
            visit.run(&run("oci:umoci", &[]).status(125).stderr(several));
        },
    );
}

#[test]
fn a_layout_and_an_archive_are_locked_as_a_tag_is() {
    let base = base!();
    let first = Made::new(&[base.clone(), motd("first\n")], HELLO);
    let second = Made::new(&[base, motd("second\n")], HELLO);
    let (one, two) = (first.clone(), second.clone());
    each(
        move |folder| {
            one.write_all(folder);
            two.write_layout(&folder.join("next"));
            fs::write(folder.join("next.tar"), two.saved()).unwrap();
        },
        |visit| {
            let folder = visit.run(&run("host", &["--", "true"])).folder;
            for (image, file, next, was, is) in [
                ("oci:layout", "layout", "next", first.digest(), second.digest()),
                (
                    "archive:saved.tar",
                    "saved.tar",
                    "next.tar",
                    first.saved_digest(),
                    second.saved_digest(),
                ),
            ] {
                let ran = visit.run(&run(image, &[]).verb("lock").any_stderr().pulls());
                let said = visit.caller.without_notice(&ran.stderr);
                assert!(
                    said.ends_with(&format!("ringfence.lock: {image} locked at {was}\n")),
                    "{said}"
                );
                let old = folder.join("old");
                fs::rename(folder.join(file), &old).unwrap();
                sh(&folder, &format!("cp -r {next} {file}"));
                // The store has what is locked.
                visit.run(&run(image, &["--locked"]).stdout("first\n"));
                let moved = format!("ringfence.lock: {image} is locked at {was}, and is {is} now\n");
                let mend = "ringfence: ringfence.lock is stale; run `ringfence lock --update`\n";
                let check = run(image, &["--check", "--update"]).verb("lock");
                visit.run(&check.status(1).stdout(&moved).stderr(mend));
                visit.run(&run(image, &["-q", "--update"]).verb("lock").pulls());
                visit.run(&run(image, &["--locked"]).stdout("second\n"));
                fs::remove_file(folder.join("ringfence.lock")).unwrap();
                sh(&folder, "rm -r old");
            }
        },
    );
}

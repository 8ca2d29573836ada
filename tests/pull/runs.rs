//! Images that run.

use crate::archive::{Archive, Header};
use crate::hub::{HELLO, Hub, Ids, Types, base};
use crate::registry::{Layer, digest};
use crate::support::Test;

/// The example of README.md, word for word.
const PYTHON: &str = include_str!("../../manifests/python.toml");

fn motd() -> Layer {
    Layer::zstd(&Archive::new().file("etc/motd", "welcome\n").end())
}

/// What a pull says of its layers, in no order.
fn sorted(stderr: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = stderr.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_main_example_is_pulled_through_a_mirror_once() {
    let (hub, layers) = (Hub::start(), [base!(), motd()]);
    hub.push("library/python", Types::Oci, &layers, HELLO);
    hub.each(|visit| {
        let name = "docker.io/library/python:latest";
        hub.registry.forget();
        let hello = Test::command(&[])
            .manifest(PYTHON)
            .stdout("hello from the image\n");
        let absent = format!("ringfence: image {name} is not in the store; run `ringfence pull`\n");
        let offline = hello.clone().args(&["--offline"]);
        visit.run(&offline.clone().stdout("").status(125).stderr(&absent));
        assert_eq!(hub.registry.paths(), Vec::<String>::new());

        let ran = visit.run(&hello.clone().any_stderr().pulls());
        let line = |number: usize| {
            let size = layers[number - 1].blob.len();
            format!("{name}: layer {number} of 2, {size} bytes")
        };
        assert_eq!(
            sorted(&ran.caller.without_notice(&ran.stderr)),
            [line(1), line(2)]
        );
        let asked = hub.registry.paths();
        assert_eq!(
            asked
                .iter()
                .filter(|path| path.contains("/library/python/blobs/"))
                .count(),
            3
        );
        assert!(asked.iter().any(|path| path.starts_with("/token")));

        // From here on no one needs the registry.
        hub.registry.forget();
        visit.run(&hello);
        visit.run(&offline);
        let words = ["--", "cat", "motd", "/etc/motd"];
        visit.run(&hello.clone().args(&words).stdout("welcome\nwelcome\n"));
        assert_eq!(hub.registry.paths(), Vec::<String>::new());
    });
}

#[test]
fn dockers_media_types_and_a_pinned_digest() {
    let (hub, layers) = (Hub::start(), [base!(), motd()]);
    let index = hub.push("team/tool", Types::Docker, &layers, HELLO);
    hub.each(|visit| {
        let pinned = format!("docker.io/team/tool@{index}");
        let test = Test::command(&["cat", "/etc/motd"])
            .image(&pinned)
            .stdout("welcome\n");
        visit.run(&test.clone().any_stderr().pulls());
        hub.registry.forget();
        visit.run(&test);
        // What a pull by digest has brought needs no request for its tag's index by digest either.
        visit.run(
            &Test::command(&["true"])
                .args(&["--offline"])
                .image(&pinned)
                .report(),
        );
        assert_eq!(hub.registry.paths(), Vec::<String>::new());
    });
}

/// Whiteouts, opaque directories, owners and modes, as the job sees them.
#[test]
fn a_job_sees_what_the_layers_mean() {
    let file = |name: &'static [u8], mode: u32| Header {
        name,
        mode,
        ..Header::default()
    };
    let base = base!();
    let program = std::fs::read("/bin/busybox").unwrap();
    let owned = Header {
        uid: 1000,
        gid: 1001,
        ..file(b"x/owned", 0o640)
    };
    let layers = [
        Archive::new()
            .file("x/a/gone", "x")
            .file("x/a/stays", "x")
            .file("x/b/hidden", "x")
            .file("x/b/deep/hidden", "x")
            .file("x/c/hidden", "x")
            .file("x/d", "x"),
        Archive::new()
            .file("x/a/.wh.gone", "")
            .file("x/b/.wh..wh..opq", "")
            .file("x/b/new", "x")
            .file("x/.wh.c", "")
            .file("x/c/new", "x")
            .file("x/.wh.d", "")
            .dir("x/d")
            .entry(owned, b"x")
            .entry(file(b"setuid/id", 0o6755), &program),
    ];
    let [lower, upper] = layers.map(Archive::end);
    let (hub, name) = (Hub::start(), "docker.io/library/seen:latest");
    let layers = [base, Layer::gzip(&lower), Layer::zstd(&upper)];
    hub.push("library/seen", Types::Oci, &layers, "{}");
    hub.each(|visit| {
        visit.run(&Test::command(&[]).verb("pull").args(&["-q", name]).pulls());
        let seen = "/x\n/x/a\n/x/a/stays\n/x/b\n/x/b/new\n/x/c\n/x/c/new\n/x/d\n/x/owned\n";
        visit.run(
            &Test::command(&["sh", "-c", "find /x | sort"])
                .image(name)
                .stdout(seen),
        );
        // Who has one id has it for all files: the job's user.
        let (owner, is_kept) = match visit.ids() {
            Ids::One => ("65532:65532", false),
            Ids::Range | Ids::Subordinate => ("1000:1001", true),
        };
        let ran = visit.run(
            &Test::command(&["stat", "-c", "%u:%g %a", "/x/owned", "/setuid/id"])
                .image(name)
                .any_stdout(),
        );
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines[0], format!("{owner} 640"));
        assert!(lines[1].ends_with(" 755"), "{}", ran.stdout);
        let id = Test::command(&["/setuid/id", "-u"]).image(name);
        visit.run(&id.stdout("65532\n"));
        // Its owner can read the file, another user not.
        let read = Test::command(&["cat", "/x/owned"]).image(name);
        visit.run(&read.clone().with("user = \"worker\"").stdout("x"));
        if is_kept {
            let refused = "cat: can't open '/x/owned': Permission denied\n";
            visit.run(&read.status(1).stderr(refused));
        }
    });
}

/// An index under its digest and another one's bytes under the same name: the bytes decide.
#[test]
fn a_pinned_digest_is_held_against_the_registry() {
    let (hub, layers) = (Hub::start(), [base!()]);
    let index = hub.push("team/tool", Types::Oci, &layers, HELLO);
    hub.registry
        .fault(&format!("manifests/{index}"), crate::registry::Fault::OtherBytes);
    let pinned = format!("{}/team/tool@{index}", hub.registry.host);
    hub.each(|visit| {
        let ran = visit.run(
            &Test::command(&["true"])
                .image(&pinned)
                .status(125)
                .any_stderr()
                .pulls(),
        );
        let stderr = ran.caller.without_notice(&ran.stderr);
        let found = stderr
            .strip_prefix(&format!(
                "ringfence: pull {pinned}: http://{}: the content has the digest ",
                hub.registry.host
            ))
            .and_then(|rest| rest.strip_suffix(&format!(", not {index}\n")))
            .unwrap_or_else(|| panic!("{stderr}"));
        assert!(
            found.len() == digest(b"").len() && found.starts_with("sha256:"),
            "{stderr}"
        );
    });
}

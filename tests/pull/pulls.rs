//! `ringfence pull`, and many at once.

use crate::archive::Archive;
use crate::hub::{HELLO, Hub, Types, base};
use crate::registry::{Layer, digest};
use crate::support::Test;

#[test]
fn what_is_fetched_is_said() {
    let base = base!();
    let layers = [
        base.clone(),
        Layer::zstd(&Archive::new().file("etc/motd", "welcome\n").end()),
    ];
    let (hub, name) = (Hub::start(), "docker.io/library/one:latest");
    hub.push("library/one", Types::Oci, &layers, HELLO);
    hub.push("library/two", Types::Oci, &layers[..1], HELLO);
    let manifest = |repository: &str| {
        let paths = hub.registry.paths();
        let path = paths
            .iter()
            .rev()
            .find_map(|path| path.strip_prefix(&format!("/v2/library/{repository}/manifests/sha256:")));
        format!("sha256:{}", path.expect("it was asked for"))
    };
    hub.each(|visit| {
        let pull = Test::command(&["true"]).image("one").verb("pull");
        let ran = visit.run(&pull.clone().any_stderr().pulls());
        let (one, sizes) = (manifest("one"), layers.each_ref().map(|layer| layer.blob.len()));
        let mut lines: Vec<&str> = ran.stderr.lines().collect();
        lines[..2].sort_unstable();
        assert_eq!(
            lines,
            [
                format!("{name}: layer 1 of 2, {} bytes", sizes[0]),
                format!("{name}: layer 2 of 2, {} bytes", sizes[1]),
                format!("{name}: {one}, 2 layers fetched"),
            ]
        );
        let nothing = format!("{name}: {one}, 0 layers fetched\n");
        visit.run(&pull.clone().stderr(&nothing));
        visit.run(&pull.clone().args(&["-q"]));
        // Layers are shared between images.
        let ran = visit.run(&pull.args(&["two", "two:latest"]).any_stderr().pulls());
        let two = manifest("two");
        assert_eq!(
            ran.stderr,
            format!("docker.io/library/two:latest: {two}, 0 layers fetched\n")
        );
    });
}

/// All of them run; one of them fetches.
#[test]
fn several_at_once_fetch_each_layer_once() {
    let layers = [
        base!(),
        Layer::gzip(&Archive::new().file("a", "x").end()),
        Layer::zstd(&Archive::new().file("b", "x").end()),
    ];
    let hub = Hub::start();
    hub.push("library/busy", Types::Oci, &layers, HELLO);
    hub.each(|visit| {
        hub.registry.forget();
        // What the host offers is found out once, and not by three at once on a machine that may be slow.
        visit.facts();
        let script = "for i in 1 2 3; do \"$@\" & done; wait";
        let test = Test::command(&["sh", "-c", "echo ran"])
            .image("busy")
            .wrapped(&["sh", "-c", script, "sh"]);
        visit.run(&test.stdout("ran\nran\nran\n").any_stderr().pulls());
        for layer in &layers {
            let path = format!("/v2/library/busy/blobs/{}", digest(&layer.blob));
            let asked = hub.registry.paths();
            // The first request has no token yet.
            let given = hub
                .registry
                .log()
                .into_iter()
                .filter(|logged| logged.path == path && logged.authorization.is_some());
            assert_eq!(given.count(), 1, "{asked:#?}");
        }
    });
}

/// On a terminal there are bars, and they go away again.
#[test]
fn a_terminal_sees_a_bar_for_each_layer() {
    let layers = [
        base!(),
        Layer::plain(&Archive::new().file("a", &"0123456789".repeat(500_000)).end()),
    ];
    let hub = Hub::start();
    hub.push("library/bars", Types::Oci, &layers, HELLO);
    hub.each(|visit| {
        // script(1) gives the program a terminal, and copies what that shows.
        let script = "TERM=xterm exec script -qec \"$*\" /dev/null";
        let test = Test::command(&["true"]).image("bars").verb("pull");
        let test = test.wrapped(&["sh", "-c", script, "sh"]).any_stdout().pulls();
        let ran = visit.run(&test);
        let short = |layer: &Layer| digest(&layer.blob)["sha256:".len()..][..12].to_owned();
        for part in [
            &short(&layers[0]),
            &short(&layers[1]),
            "all layers",
            "MiB",
            "/s, ",
            " left",
        ] {
            assert!(ran.stdout.contains(part), "{part} is not in {:?}", ran.stdout);
        }
        let last = ran
            .stdout
            .trim_end()
            .rsplit(['\r', '\n', 'K', 'J'])
            .next()
            .unwrap_or_default();
        assert!(
            last.contains("docker.io/library/bars:latest: sha256:"),
            "{:?}",
            ran.stdout
        );
    });
}

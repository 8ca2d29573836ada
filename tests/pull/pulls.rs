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

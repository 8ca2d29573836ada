//! `ringfence image`: the store's images listed, removed, brought in and taken out, through the binary.

#[path = "../support/archive.rs"]
mod archive;
#[path = "../pull/hub.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with tests/pull")]
mod hub;
#[path = "../local/made.rs"]
#[allow(dead_code, reason = "shared with tests/local")]
mod made;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with tests/launch")]
mod support;

mod folder;
mod prune;
mod transfer;
mod verify;

use std::fs;

use archive::Archive;
use hub::{Hub, Types, Visit};
use registry::Layer;
use support::Test;

const SETTINGS: &str =
    r#"{"Cmd":["true"],"Env":["PATH=/bin"],"User":"web","WorkingDir":"/srv","StopSignal":"SIGINT"}"#;

/// A layer with a file of so many bytes.
fn layer(name: &str, bytes: usize) -> Layer {
    Layer::gzip(&Archive::new().file(name, &"x".repeat(bytes)).end())
}

/// The words after `ringfence image`.
fn image(args: &[&str]) -> Test {
    Test::command(&[]).verb("image").args(args)
}

/// Pulls images and says nothing.
fn pull(visit: &mut Visit, images: &[&str]) {
    visit.run(&Test::command(&[]).verb("pull").args(&["-q"]).args(images).pulls());
}

/// The names in the list, with their sizes.
fn listed(visit: &mut Visit) -> Vec<(String, u64, u64)> {
    let ran = visit.run(&image(&["list", "--json"]).any_stdout());
    let list: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut found = Vec::new();
    for image in list.as_array().unwrap() {
        let number = |key: &str| image[key].as_u64().unwrap();
        for name in image["names"].as_array().unwrap() {
            let name = name.as_str().unwrap().to_owned();
            if !name.contains('@') {
                found.push((name, number("size"), number("own")));
            }
        }
    }
    found.sort();
    found
}

fn names(visit: &mut Visit) -> Vec<String> {
    listed(visit).into_iter().map(|(name, _, _)| name).collect()
}

/// How many unpacked layers the store has.
fn layers(visit: &mut Visit) -> usize {
    let folder = visit.run(&image(&["list"]).any_stdout()).folder;
    fs::read_dir(folder.join("store/layers")).map_or(0, Iterator::count)
}

#[test]
fn sizes_are_shared_and_own() {
    let hub = Hub::start();
    let (base, more) = (layer("base", 5000), layer("more", 700));
    hub.push("library/one", Types::Oci, std::slice::from_ref(&base), SETTINGS);
    hub.push("library/two", Types::Oci, &[base, more], SETTINGS);
    hub.each(|visit| {
        visit.run(&image(&["list"]).stdout("IMAGE  DIGEST  SIZE  OWN  USED\n"));
        visit.run(&image(&["list", "--json"]).stdout("[]\n"));
        pull(visit, &["one", "two"]);
        let name = |image: &str| format!("docker.io/library/{image}:latest");
        assert_eq!(listed(visit), [(name("one"), 5000, 0), (name("two"), 5700, 700)]);
        let ran = visit.run(&image(&["list"]).any_stdout());
        let rows: Vec<Vec<&str>> = ran
            .stdout
            .lines()
            .map(|line| {
                line.split("  ")
                    .filter(|cell| !cell.is_empty())
                    .map(str::trim)
                    .collect()
            })
            .collect();
        assert_eq!(rows[0], ["IMAGE", "DIGEST", "SIZE", "OWN", "USED"]);
        assert_eq!(
            (rows[1][0], rows[1][2], rows[1][3]),
            (name("one").as_str(), "5.0 kB", "0 B")
        );
        assert_eq!(
            (rows[2][0], rows[2][2], rows[2][3]),
            (name("two").as_str(), "5.7 kB", "700 B")
        );
        assert!(rows[1][4].ends_with(" ago"), "{}", ran.stdout);

        let ran = visit.run(&image(&["inspect", "two", "--json"]).any_stdout());
        let sheet: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(sheet["user"], "web");
        assert_eq!(sheet["stop-signal"], "SIGINT");
        assert_eq!(sheet["layers"].as_array().unwrap().len(), 2);
        let digest = sheet["digest"].as_str().unwrap();
        let by_digits = visit.run(&image(&["inspect", &digest[7..19], "--json"]).any_stdout());
        assert_eq!(by_digits.stdout, ran.stdout);
        let ran = visit.run(&image(&["inspect", digest]).any_stdout());
        assert_eq!(
            toml::from_str::<toml::Table>(&ran.stdout).unwrap()["own"].as_integer(),
            Some(700)
        );
        let absent = "ringfence: image three is not in the store; `ringfence image list` shows what is\n";
        visit.run(&image(&["inspect", "three"]).status(125).stderr(absent));
    });
}

#[test]
fn an_image_goes_with_its_last_name_and_its_own_layers() {
    let hub = Hub::start();
    let (base, more) = (layer("base", 5000), layer("more", 700));
    hub.push("library/one", Types::Oci, std::slice::from_ref(&base), SETTINGS);
    hub.push("library/alias", Types::Oci, std::slice::from_ref(&base), SETTINGS);
    hub.push("library/two", Types::Oci, &[base, more], SETTINGS);
    hub.each(|visit| {
        pull(visit, &["one", "alias", "two"]);
        let name = |image: &str| format!("docker.io/library/{image}:latest");
        let none = "ringfence: image tow is not in the store; `ringfence image list` shows what is\n";
        visit.run(&image(&["remove", "two", "tow"]).status(125).stderr(none));
        assert_eq!(names(visit).len(), 3);
        visit.run(
            &image(&["remove", "two"])
                .stderr("1 layer removed, 700 B\n")
                .pulls(),
        );
        assert_eq!(names(visit), [name("alias"), name("one")]);
        visit.run(
            &image(&["remove", "alias"])
                .stderr("0 layers removed, 0 B\n")
                .pulls(),
        );
        assert_eq!((names(visit), layers(visit)), (vec![name("one")], 1));
        visit.run(
            &image(&["remove", "one"])
                .stderr("1 layer removed, 5.0 kB\n")
                .pulls(),
        );
        assert_eq!((names(visit), layers(visit)), (Vec::new(), 0));
        // What was removed is fetched again, and not taken for there.
        pull(visit, &["one"]);
        assert_eq!(names(visit), [name("one")]);
        pull(visit, &["alias"]);
        visit.run(&image(&["remove", "one", "alias"]).any_stderr().pulls());
        assert_eq!(layers(visit), 0);
    });
}

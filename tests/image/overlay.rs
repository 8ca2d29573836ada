//! The layers as overlayfs shows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch;
use crate::archive::Archive;
use crate::pull::{Folder, pull_with};
use crate::registry::{Layer, Registry};

/// Skips a test, or fails where skipping is forbidden.
fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
    assert_ne!(
        std::env::var("RINGFENCE_TESTS").as_deref(),
        Ok("require"),
        "skipped: {reason}"
    );
}

/// What a shell says in new namespaces, on an overlay of the layers; none when there can be no such namespaces.
fn in_overlay(
    at: &Path,
    layers: &[PathBuf],
    unshare: &[&str],
    options: &str,
    script: &str,
) -> Option<String> {
    let allowed = Command::new("unshare")
        .args(unshare)
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        skipped("namespaces are not allowed here");
        return None;
    }
    let lower: Vec<&str> = layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
    let script = format!(
        "mount -t overlay -o {options}lowerdir={} none {1} && cd {1} && {script}",
        lower.join(":"),
        at.display()
    );
    let output = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn overlayfs_shows_what_the_image_means() {
    let (registry, folder) = (Registry::start(), Folder::new("overlay"));
    let layers = [
        Archive::new()
            .file("a/gone", "x")
            .file("a/stays", "x")
            .file("b/hidden", "x")
            .file("c/hidden", "x")
            .file("d", "x"),
        Archive::new()
            .file("a/.wh.gone", "")
            .file("b/.wh..wh..opq", "")
            .file("b/new", "x"),
        Archive::new()
            .file(".wh.c", "")
            .file("c/new", "x")
            .file(".wh.d", "")
            .dir("d")
            .file("e", "x"),
    ];
    let layers: Vec<Layer> = layers
        .into_iter()
        .map(|archive| Layer::gzip(&archive.end()))
        .collect();
    registry.push("x", "latest", &arch(), &layers, "{}");
    let name = format!("{}/x", registry.host);
    let is_root = nix::unistd::geteuid().is_root();
    pull_with(
        &folder,
        &name,
        if is_root {
            &[("RINGFENCE_TEST_KEPT", "1")]
        } else {
            &[]
        },
    )
    .unwrap();
    let want = "./a/stays\n./b/new\n./c/new\n./e\n";
    let script = "find . -type f -o -type c | LC_ALL=C sort";
    let layers = folder.layers(&name);
    let at = folder.0.join("root");
    fs::create_dir(&at).unwrap();
    // In a user namespace only `user` attributes count, elsewhere only `trusted` ones.
    if let Some(seen) = in_overlay(&at, &layers, &["-Urm"], "userxattr,", script) {
        assert_eq!(seen, want);
    }
    if !is_root {
        // Root's own pass over these tests has it.
        eprintln!("skipped: an overlay with trusted attributes, which takes root");
        return;
    }
    if let Some(seen) = in_overlay(&at, &layers, &["-m"], "", script) {
        assert_eq!(seen, want);
    }
}

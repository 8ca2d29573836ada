//! Layers whose links lead out of their image: whole pulls, in one layer and across two, change nothing beside the store.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::arch;
use crate::archive::Archive;
use crate::pull::{Folder, pull};
use crate::registry::{Layer, Registry, digest};

/// Ways out of a layer's tree, and what is tried through them.
type Through = fn(Archive) -> Archive;

const THROUGH: [Through; 6] = [
    |archive| archive.file("a/canary", "evil"),
    |archive| archive.dir("a/made"),
    |archive| archive.file("a/x/y/z", "evil"),
    |archive| archive.file("a/.wh.canary", ""),
    |archive| archive.symlink("a/link", "x"),
    |archive| archive.hard_link("b", "a/canary"),
];

#[test]
fn thirty_traversals_change_nothing_beside_the_store() {
    let (registry, folder) = (Registry::start(), Folder::new("traversals"));
    let outside = folder.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "canary").unwrap();
    let seen = || {
        let names: Vec<_> = fs::read_dir(&outside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let (folder, file) = (
            fs::metadata(&outside).unwrap(),
            fs::metadata(outside.join("canary")).unwrap(),
        );
        let text = fs::read_to_string(outside.join("canary")).unwrap();
        (
            names,
            folder.mode(),
            folder.mtime_nsec(),
            file.mode(),
            file.nlink(),
            file.mtime_nsec(),
            text,
        )
    };
    let before = seen();
    let (mut refused, mut pulled) = (0, 0);
    // From layers/HEX/fs, and from staging/NAME/fs.
    let targets = [
        "../../../../outside",
        "/",
        outside.to_str().unwrap(),
        "/proc/self/root",
        "/proc/self/cwd",
    ];
    for (target, way) in targets.iter().enumerate() {
        for (number, through) in THROUGH.iter().enumerate() {
            let link = Archive::new().symlink("a", way);
            let one = vec![Layer::gzip(&through(link.clone()).end())];
            let two = vec![
                Layer::gzip(&link.end()),
                Layer::zstd(&through(Archive::new()).end()),
            ];
            for (kind, layers) in [("one", one), ("two", two)] {
                let name = format!("{kind}{target}{number}");
                registry.push(&name, "latest", &arch(), &layers, "{}");
                match pull(&folder, &format!("{}/{name}", registry.host)) {
                    Ok(_) => pulled += 1,
                    Err(error) => {
                        refused += 1;
                        let is_known = error.ends_with(": its folder is a file or a dangling link")
                            || error.ends_with(": it is a hard link to a file that its layer does not hold");
                        assert!(is_known && !error.contains('\n'), "{way}: {error}");
                    }
                }
                assert_eq!(seen(), before, "{name}: {way}");
            }
        }
    }
    assert_eq!((refused, pulled), (30, 30));
    assert_eq!(fs::read_dir(folder.store().join("staging")).unwrap().count(), 0);
}

/// 5,000 folders, each in the last one. No path is long enough to name them: links lead there.
#[test]
fn a_path_of_5000_levels_is_confined() {
    let (registry, folder) = (Registry::start(), Folder::new("deep"));
    let deep = "d/".repeat(1666);
    let mut archive = Archive::new();
    for (link, from) in [("a", ""), ("b", "a/"), ("c", "b/")] {
        let path = format!("{from}{deep}");
        let target = path.trim_end_matches('/');
        archive = archive.pax(&[("path", path.as_bytes())]).dir("x");
        archive = archive.pax(&[("linkpath", target.as_bytes())]).symlink(link, "x");
    }
    let layer = Layer::zstd(&archive.file("c/bottom", "reached\n").end());
    registry.push("deep", "latest", &arch(), &[layer], "{}");
    let name = format!("{}/deep", registry.host);
    pull(&folder, &name).unwrap();
    let bottom = folder.layers(&name)[0].join("c/bottom");
    assert_eq!(fs::read_to_string(bottom).unwrap(), "reached\n");
    let image = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence"));
        command
            .arg("image")
            .args(words)
            .env("RINGFENCE_STORE", folder.store());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(image(&["verify"]), "");
    assert_eq!(image(&["remove", &name]), "1 layer removed, 8 B\n");
    assert_eq!(fs::read_dir(folder.store().join("layers")).unwrap().count(), 0);

    let path = "d/".repeat(5000);
    let layer = Layer::gzip(&Archive::new().pax(&[("path", path.as_bytes())]).dir("x").end());
    registry.push("deeper", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    let name = format!("{}/deeper:latest", registry.host);
    let shown = format!("{}…", &path[..200]);
    let said = format!(
        "pull {name}: layer {}: entry `{shown}`: its name is longer than 4095 bytes",
        digest(&layer.blob)
    );
    assert_eq!(pull(&folder, &name).unwrap_err(), said);
}

//! Layouts and archives that are damaged, hostile, or not what they seem: one clear error, and a store as it was.

use std::fs;
use std::os::unix::fs::symlink;

use crate::archive::Archive;
use crate::made::Made;
use crate::registry::{Layer, digest};
use crate::{each, run};

fn small() -> Made {
    Made::new(&[Layer::gzip(&Archive::new().file("a", "x").end())], "{}")
}

#[test]
fn a_layout_is_held_to_its_digests() {
    let made = small();
    let hex = |bytes: &[u8]| digest(bytes)[7..].to_owned();
    let layer = made.layers[0].blob.clone();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let (config, manifest, layer_file) = (blob(&made.config), blob(&made.manifest), blob(&layer));
    let mut other = layer.clone();
    *other.last_mut().unwrap() ^= 1;
    let cases: Vec<(&str, String, Option<Vec<u8>>, String)> = vec![
        (
            "oci:x",
            "oci-layout".into(),
            None,
            "oci-layout: there is no such file".into(),
        ),
        (
            "oci:x",
            "index.json".into(),
            None,
            "index.json: there is no such file".into(),
        ),
        (
            "oci:x",
            "index.json".into(),
            Some(b"{".to_vec()),
            "index.json: not valid: EOF while parsing an object at line 1 column 1".into(),
        ),
        (
            "oci:x",
            "index.json".into(),
            Some(br#"{"manifests":[]}"#.to_vec()),
            "it holds no image".into(),
        ),
        (
            "oci:x:v2",
            "other".into(),
            Some(Vec::new()),
            "it holds no image `v2`; it holds v1".into(),
        ),
        (
            "oci:x",
            manifest.clone(),
            None,
            format!("{manifest}: there is no such file"),
        ),
        (
            "oci:x",
            manifest.clone(),
            Some(b"{}".to_vec()),
            format!(
                "{manifest}: the content has the digest {}, not {}",
                digest(b"{}"),
                made.digest()
            ),
        ),
        (
            "oci:x",
            config.clone(),
            Some(b"x".to_vec()),
            format!(
                "{config}: the content has the digest {}, not {}",
                digest(b"x"),
                digest(&made.config)
            ),
        ),
        (
            "oci:x",
            layer_file.clone(),
            None,
            format!("{layer_file}: there is no such file"),
        ),
        (
            "oci:x",
            layer_file.clone(),
            Some(b"short".to_vec()),
            format!(
                "{layer_file}: it has 5 bytes where its manifest says {}",
                layer.len()
            ),
        ),
        (
            "oci:x",
            layer_file.clone(),
            Some(other.clone()),
            format!(
                "layer {}: the content has the digest {}",
                digest(&layer),
                digest(&other)
            ),
        ),
    ];
    each(
        |_| {},
        |visit| {
            let folder = visit.run(&run("host", &["--", "true"])).folder;
            for (image, file, content, error) in &cases {
                let layout = folder.join("x");
                made.write_layout(&layout);
                fs::remove_file(layout.join(file)).ok();
                if let Some(content) = content {
                    fs::write(layout.join(file), content).unwrap();
                }
                let said = format!("ringfence: pull {image}: {error}\n");
                visit.run(&run(image, &[]).status(125).stderr(&said).pulls());
                fs::remove_dir_all(&layout).unwrap();
            }
            let none = format!(
                "ringfence: pull oci:none: {}/none: no such file or directory\n",
                folder.display()
            );
            visit.run(&run("oci:none", &[]).status(125).stderr(&none).pulls());
            let left = fs::read_dir(folder.join("store/layers")).unwrap().count();
            assert_eq!(left, 0);
        },
    );
}

/// A link in a layout could bring a file of the host into an image (GHSA-r3h2-rgqf-9hv9).
#[test]
fn links_out_of_a_layout_are_not_followed() {
    let made = small();
    let manifest = format!("blobs/sha256/{}", &made.digest()[7..]);
    let copy = made.clone();
    each(
        move |folder| {
            copy.write_layout(&folder.join("x"));
            copy.write_layout(&folder.join("y"));
        },
        |visit| {
            let folder = visit.run(&run("host", &["--", "true"])).folder;
            let (blob, blobs) = (folder.join("x").join(&manifest), folder.join("y/blobs"));
            fs::rename(&blob, folder.join("outside")).unwrap();
            symlink(folder.join("outside"), &blob).unwrap();
            fs::rename(&blobs, folder.join("blobs")).unwrap();
            symlink(folder.join("blobs"), &blobs).unwrap();
            for image in ["oci:x", "oci:y"] {
                let said = format!(
                    "ringfence: pull {image}: {manifest}: it is a symbolic link, and those are not followed\n"
                );
                visit.run(&run(image, &[]).status(125).stderr(&said).pulls());
            }
        },
    );
}

#[test]
fn an_archive_says_what_is_wrong_with_it() {
    let made = small();
    let saved = made.saved();
    let cut = &saved[..saved.len() / 2];
    let json = |text: &str| Archive::new().file("manifest.json", text).end();
    let twice = Archive::new()
        .file("manifest.json", "[]")
        .file("./manifest.json", "[]")
        .end();
    let circle = Archive::new()
        .symlink("manifest.json", "a")
        .symlink("a", "manifest.json")
        .end();
    let outside = Archive::new().symlink("manifest.json", "../../etc/passwd").end();
    let neither = "it is neither an archive of `docker save` nor an OCI layout: it has no `manifest.json` and no `oci-layout`";
    let several = r#"[{"Config":"a.json","RepoTags":["a:1"],"Layers":[]},{"Config":"b.json","RepoTags":["b:1"],"Layers":[]}]"#;
    let file = "{folder}/x.tar: ";
    let cases: Vec<(Vec<u8>, String)> = vec![
        (
            b"no archive at all, whatever it is called".repeat(40),
            format!("{file}it is not a tar archive"),
        ),
        (cut.to_vec(), format!("{file}its archive breaks off")),
        (Vec::new(), format!("{file}its archive breaks off")),
        (Archive::new().file("some", "file").end(), neither.into()),
        (outside, neither.into()),
        (twice, format!("{file}it has two entries `manifest.json`")),
        (circle, "manifest.json: its links lead in a circle".into()),
        (
            json("{}"),
            "manifest.json: not valid: invalid type: map, expected a sequence at line 1 column 0".into(),
        ),
        (json("[]"), "it holds no image".into()),
        (
            json(several),
            "it holds several images (a:1, b:1); save the one that is meant by itself".into(),
        ),
        (
            json(r#"[{"Config":"none.json","Layers":[]}]"#),
            "none.json: there is no such file".into(),
        ),
        (
            json(r#"[{"Config":"../../etc/passwd","Layers":[]}]"#),
            "../../etc/passwd: there is no such file".into(),
        ),
        (
            zstd::encode_all(cut, 1).unwrap(),
            format!("{file}its archive breaks off"),
        ),
        (
            zstd::encode_all(&saved[..], 1).unwrap()[..100].to_vec(),
            format!("{file}its zstd data is damaged: "),
        ),
    ];
    each(
        |_| {},
        |visit| {
            let folder = visit.run(&run("host", &["--", "true"])).folder;
            let run = run("archive:x.tar", &[]).status(125).any_stderr().pulls();
            for (content, error) in &cases {
                fs::write(folder.join("x.tar"), content).unwrap();
                let ran = visit.run(&run);
                let error = error.replace("{folder}", &folder.display().to_string());
                let said = visit.caller.without_notice(&ran.stderr);
                assert!(
                    said.starts_with(&format!("ringfence: pull archive:x.tar: {error}")),
                    "{said}\nwanted {error}"
                );
            }
        },
    );
}

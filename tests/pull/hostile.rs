//! Images that are made to break what pulls them: confined, or refused with one error, within bounds.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::archive::Archive;
use crate::hub::{HELLO, Hub, Types, base};
use crate::registry::{DOCKER_LAYER_GZIP, Layer, OCI_LAYER, digest};
use crate::support::{Caller, Test};

#[test]
fn five_hundred_layers_run_and_one_more_is_refused() {
    let (hub, base) = (Hub::start(), base!());
    let one = |number: usize| Layer::gzip(&Archive::new().file(&format!("n/{number:03}"), "x").end());
    let mut layers: Vec<Layer> = (1..=500).map(one).collect();
    layers.insert(0, base);
    hub.push("library/more", Types::Oci, &layers, HELLO);
    layers.pop();
    hub.push("library/most", Types::Oci, &layers, HELLO);
    let names: String = (1..500).map(|number| format!("{number:03}\n")).collect();
    hub.visit(Caller::Root, |visit| {
        let run = Test::command(&["ls", "/n"]).image("most");
        visit.run(&run.stdout(&names).any_stderr().pulls());
        hub.registry.forget();
        let name = hub.name("library/more");
        let said = "the image has 501 layers, at most 500 can be mounted";
        let refused = Test::command(&["true"]).image(&name).status(125);
        visit.run(
            &refused
                .stderr(&format!("ringfence: pull {name}: {said}\n"))
                .pulls(),
        );
        let asked = hub.registry.paths();
        assert!(asked.iter().all(|path| !path.contains("/blobs/")), "{asked:#?}");
    });
}

/// A file of so many zeros and what comes before it.
fn zeros(archive: Archive, mebibytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let size = (mebibytes << 20).to_string();
    let header = archive.pax(&[("size", size.as_bytes())]);
    let header = header.entry(
        crate::archive::Header {
            name: b"zeros",
            size: Some(mebibytes << 20),
            ..Default::default()
        },
        b"",
    );
    std::iter::once(header.cut()).chain((0..mebibytes).map(|_| vec![0; 1 << 20]))
}

/// A gigabyte and more of zeros in a megabyte and less: it ends at the bound, and neither memory nor disk keep any of it.
#[test]
fn a_bomb_is_one_error_within_bounds() {
    let (hub, base) = (Hub::start(), base!());
    let mut one = GzEncoder::new(Vec::new(), Compression::best());
    let mut members = Vec::new();
    let mut frames = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for part in zeros(Archive::new(), 1100) {
        one.write_all(&part).unwrap();
        frames.write_all(&part).unwrap();
        let mut member = GzEncoder::new(Vec::new(), Compression::best());
        member.write_all(&part).unwrap();
        members.extend(member.finish().unwrap());
    }
    // A frame whose window is 2 GiB (RFC 8878, 3.1.1.1.2), with one block that is empty and the last.
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
    let too_large = "it unpacks to more than 1073741824 bytes, which is out of proportion";
    let zstd = format!("{OCI_LAYER}+zstd");
    let bombs = [
        ("gzip", DOCKER_LAYER_GZIP, one.finish().unwrap(), too_large),
        ("members", DOCKER_LAYER_GZIP, members, too_large),
        ("zstd", &zstd, frames.finish().unwrap(), too_large),
        (
            "window",
            &zstd,
            window,
            "its zstd data is damaged: Frame requires too much memory for decoding",
        ),
    ];
    for (name, media_type, blob, _) in &bombs {
        assert!(blob.len() < 6 << 20, "{name} has {} bytes", blob.len());
        let layer = Layer {
            media_type: (*media_type).to_owned(),
            blob: blob.clone(),
            diff_id: digest(b""),
        };
        hub.push(
            &format!("library/{name}"),
            Types::Oci,
            &[base.clone(), layer],
            HELLO,
        );
    }
    hub.visit(Caller::Root, |visit| {
        for (name, _, blob, reason) in &bombs {
            let image = hub.name(&format!("library/{name}"));
            let said = format!("ringfence: pull {image}: layer {}: {reason}\n", digest(blob));
            // No more memory than half of what the bomb would take.
            let bounded = ["prlimit", "--as=536870912"];
            let refused = Test::command(&["true"])
                .image(&image)
                .wrapped(&bounded)
                .status(125);
            let ran = visit.run(&refused.any_stderr().pulls());
            // The layer below may have come before, and said so.
            assert!(ran.stderr.ends_with(&said), "{name}: {}", ran.stderr);
            let left = std::fs::read_dir(ran.folder.join("store/layers"))
                .unwrap()
                .count();
            assert_eq!(left, 0, "{name} left a layer");
            assert_eq!(
                std::fs::read_dir(ran.folder.join("store/staging"))
                    .unwrap()
                    .count(),
                0
            );
        }
    });
}

//! What must hold for any bytes: the bodies of the fuzz targets, and the replay of their corpus.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::manifest::{Document, MOST_LAYERS, choose};
use super::platform::Platform;
use super::reference::Reference;
use super::store::{Ownership, remove};
use super::unpack::{LIMITS, Limits, Owners, unpack};

/// A reference that is taken means the same when it is written out and read again, and stays one line.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(reference) = Reference::parse(text) {
        let full = reference.to_string();
        assert_eq!(Reference::parse(&full).as_ref(), Ok(&reference), "{full}");
        // A tag may hold two dots, `3..1`; no part of a path that is made of them may be those.
        assert!(
            !full.split(['/', ':', '@']).any(|part| part == "..")
                && full.bytes().all(|byte| byte.is_ascii_graphic()),
            "{full:?}"
        );
    }
}

/// A document that is taken is within our bounds.
pub fn manifest(bytes: &[u8]) {
    match Document::parse(bytes, None) {
        Ok(Document::Image(image)) => {
            assert!(image.layers.len() <= MOST_LAYERS);
            assert!(image.layers.iter().all(|(blob, _)| blob.size > 0));
        }
        Ok(Document::Index(offers)) => drop(choose(&offers, &Platform::host())),
        Err(error) => assert!(error.to_string().len() < 2000),
    }
}

/// An archive changes nothing outside of its folder, whether it is taken or not, and what it made can be removed.
pub fn layer(bytes: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!(
        "ringfence-fuzz-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let base = std::env::temp_dir().join(&unique);
    let listed = || {
        let mut names: Vec<PathBuf> = fs::read_dir(&base)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        names
    };
    fs::create_dir_all(base.join("fs")).unwrap();
    fs::write(base.join("canary"), "canary").unwrap();
    let before = listed();
    let limits = Limits {
        bytes: 16 << 20,
        entries: 10_000,
        ..LIMITS
    };
    let owners = Owners {
        ownership: Ownership::Single,
        count: 65536,
    };
    let open = |name: &str| fs::File::open(base.join(name)).unwrap();
    if let Err(error) = unpack(bytes, open("fs").as_fd(), open("").as_fd(), owners, &limits) {
        assert!(!error.to_string().contains('\u{1b}') && error.to_string().len() < 2000);
    }
    assert_eq!(listed(), before);
    assert_eq!(fs::read_to_string(base.join("canary")).unwrap(), "canary");
    let parent = fs::File::open(std::env::temp_dir()).unwrap();
    let name = |end: &str| std::ffi::CString::new(format!("{unique}{end}")).unwrap();
    remove(parent.as_fd(), &name(""), parent.as_fd(), &name(".grave")).unwrap();
}

#[cfg(test)]
pub(crate) mod tests {
    /// Every input of a corpus, and each of them cut short and with a byte changed.
    pub(crate) fn replay(target: &str, check: fn(&[u8])) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/").to_owned() + target;
        let mut count = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            check(&input);
            for step in 1..8 {
                let at = input.len() * step / 8;
                check(&input[..at]);
                let mut changed = input.clone();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << (step % 8);
                }
                check(&changed);
            }
            count += 1;
        }
        assert!(count >= 5, "the corpus of {target} is missing");
    }

    #[test]
    fn the_corpus_of_references_holds() {
        replay("reference", super::reference);
    }

    #[test]
    fn the_corpus_of_manifests_holds() {
        replay("manifest", super::manifest);
    }

    #[test]
    fn the_corpus_of_layers_holds() {
        replay("layer", super::layer);
    }
}

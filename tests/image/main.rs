//! Pulling from a registry into a store, as a user sees it: what is there afterwards, or the whole message.

#[path = "../support/archive.rs"]
mod archive;
#[path = "../local/made.rs"]
#[allow(dead_code, reason = "shared with tests/local")]
mod made;
#[path = "../support/pull.rs"]
mod pull;
#[path = "../support/registry.rs"]
mod registry;

mod distribution;
mod faults;
mod hostile;
mod kills;
mod network;
mod overlay;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use archive::Archive;
use pull::{Folder, pull, pull_with};
use registry::{DOCKER_CONFIG, DOCKER_MANIFEST, Fault, Layer, OCI_INDEX, OCI_MANIFEST, Registry, digest};
use ringfence::image::Platform;

fn arch() -> String {
    Platform::host().architecture
}

fn small() -> Vec<Layer> {
    vec![
        Layer::gzip(
            &Archive::new()
                .dir("etc")
                .file("etc/passwd", "root:x:0:0::/root:\n")
                .file("old/file", "x")
                .end(),
        ),
        Layer::zstd(
            &Archive::new()
                .file("bin/true", "#!")
                .file("old/.wh.file", "")
                .end(),
        ),
        Layer::plain(
            &Archive::new()
                .file("etc/group", "root:x:0:\n")
                .file("old/.wh..wh..opq", "")
                .end(),
        ),
    ]
}

#[test]
fn an_image_is_pulled_and_found_again() {
    let (registry, folder) = (Registry::start(), Folder::new("found"));
    let layers = small();
    let manifest = registry.push(
        "a/b",
        "v1",
        &arch(),
        &layers,
        r#"{"Cmd":["true"],"Env":["A=1","B"],"User":"root","Labels":{"run.oci.handler":"x"}}"#,
    );
    let name = format!("{}/a/b:v1", registry.host);
    let report = pull(&folder, &name).unwrap();
    assert_eq!(report.fetched_layers, 3);
    assert_eq!(
        report.fetched_bytes,
        layers.iter().map(|layer| layer.blob.len() as u64).sum::<u64>()
    );
    let image = folder.image(&name);
    assert_eq!(image, report.image);
    assert_eq!(
        (image.reference.as_str(), image.digest.to_string()),
        (name.as_str(), digest(&manifest))
    );
    assert_eq!(image.config.cmd, ["true"]);
    assert_eq!(image.config.env, [("A".to_owned(), "1".to_owned())].into());
    assert_eq!(image.config.env_refused, ["B"]);
    assert_eq!(image.accounts.users[0].name, "root");
    assert_eq!(image.accounts.groups[0].name, "root");
    assert!(!serde_json::to_string(&image).unwrap().contains("run.oci"));
    let dirs = folder.layers(&name);
    assert_eq!(fs::read_to_string(dirs[0].join("old/file")).unwrap(), "x");
    assert!(
        fs::symlink_metadata(dirs[1].join("old/file"))
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert_eq!(fs::read_to_string(dirs[1].join("bin/true")).unwrap(), "#!");
    assert!(
        fs::read_dir(folder.store().join("staging"))
            .unwrap()
            .next()
            .is_none()
    );
    assert_eq!(fs::metadata(folder.store()).unwrap().mode() & 0o7777, 0o700);

    // The same tag again: one request, for the manifest. By digest: none at all.
    registry.forget();
    assert_eq!(pull(&folder, &name).unwrap().fetched_layers, 0);
    assert_eq!(registry.paths(), ["/v2/a/b/manifests/v1"]);
    registry.forget();
    let pinned = format!("{}/a/b@{}", registry.host, digest(&manifest));
    assert_eq!(
        pull(&folder, &pinned).unwrap().image.digest.to_string(),
        digest(&manifest)
    );
    assert_eq!(registry.paths(), Vec::<String>::new());

    // Another image with one layer more: that one alone is fetched.
    let mut more = small();
    more.push(Layer::gzip(&Archive::new().file("new", "x").end()));
    registry.push("c", "latest", &arch(), &more, "{}");
    assert_eq!(
        pull(&folder, &format!("{}/c", registry.host))
            .unwrap()
            .fetched_layers,
        1
    );

    // The same in Docker's media types.
    let config = registry::config(&arch(), &layers[..1], "{}");
    let manifest = registry::manifest(DOCKER_MANIFEST, DOCKER_CONFIG, &config, &layers[..1]);
    registry.put_blob("d", &config);
    registry.put_manifest("d", "latest", DOCKER_MANIFEST, &manifest);
    let report = pull(&folder, &format!("{}/d", registry.host)).unwrap();
    assert_eq!((report.fetched_layers, report.image.layers.len()), (0, 1));
}

#[test]
fn an_index_gives_the_image_for_this_machine() {
    let (registry, folder) = (Registry::start(), Folder::new("index"));
    let own = registry.push("x", "own", &arch(), &small(), "{}");
    let entry = |bytes: &[u8], architecture: &str| {
        format!(
            r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            digest(bytes),
            bytes.len()
        )
    };
    let index = |entries: &[String]| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
            entries.join(",")
        )
    };
    let both = index(&[entry(b"never asked for", "s390x"), entry(&own, &arch())]);
    registry.put_manifest("x", "latest", OCI_INDEX, both.as_bytes());
    let name = format!("{}/x", registry.host);
    assert_eq!(
        pull(&folder, &name).unwrap().image.digest.to_string(),
        digest(&own)
    );
    registry.forget();
    assert_eq!(pull(&folder, &name).unwrap().fetched_layers, 0);
    assert_eq!(registry.paths(), ["/v2/x/manifests/latest"]);

    let other = index(&[entry(b"1", "s390x"), entry(b"2", "riscv32")]);
    registry.put_manifest("x", "other", OCI_INDEX, other.as_bytes());
    assert_eq!(
        pull(&folder, &format!("{name}:other")).unwrap_err(),
        format!(
            "pull {name}:other: there is no image for {}; it offers linux/riscv32, linux/s390x",
            Platform::host()
        )
    );
    registry.push("x", "alone", "s390x", &small(), "{}");
    assert_eq!(
        pull(&folder, &format!("{name}:alone")).unwrap_err(),
        format!(
            "pull {name}:alone: there is no image for {}; it offers linux/s390x",
            Platform::host()
        )
    );
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_broke() {
    let (registry, folder) = (Registry::start(), Folder::new("resume"));
    let layer = Layer::plain(&Archive::new().file("big", &"0123456789".repeat(100_000)).end());
    registry.push("x", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    registry.fault(&digest(&layer.blob), Fault::CutOnce(500_000));
    pull(&folder, &format!("{}/x", registry.host)).unwrap();
    let asked: Vec<_> = registry
        .log()
        .into_iter()
        .filter(|logged| logged.path.ends_with(&digest(&layer.blob)))
        .collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].range.as_deref(), Some("bytes=500000-"));

    registry.push("y", "latest", &arch(), &small(), "{}");
    registry.fault("/v2/y/manifests/latest", Fault::BusyOnce("1".to_owned()));
    pull(&folder, &format!("{}/y", registry.host)).unwrap();
}

#[test]
fn a_token_is_fetched_with_the_credential_of_its_registry_alone() {
    let (registry, folder) = (Registry::start(), Folder::new("token"));
    registry.push("x", "latest", &arch(), &small(), "{}");
    // user:password
    let login = "Basic dXNlcjpwYXNzd29yZA==";
    registry.ask_for_token(&format!("http://{}/token", registry.host), Some(login));
    let name = format!("{}/x", registry.host);
    assert_eq!(
        pull(&folder, &name).unwrap_err(),
        format!(
            "pull {name}:latest: http://{0}: access refused (401): the token service refuses; if the image exists, log in with `docker login {0}`",
            registry.host
        )
    );
    fs::create_dir_all(folder.0.join(".docker")).unwrap();
    let auths = format!(
        r#"{{"auths":{{"{}":{{"auth":"dXNlcjpwYXNzd29yZA=="}}}}}}"#,
        registry.host
    );
    fs::write(folder.0.join(".docker/config.json"), auths).unwrap();
    registry.forget();
    pull(&folder, &name).unwrap();
    for logged in registry.log() {
        let is_token = logged
            .path
            .starts_with("/token?scope=repository%3Ax%3Apull&service=test");
        match logged.authorization.as_deref() {
            Some("Bearer secret-token") => assert!(!is_token),
            Some(other) => assert!(is_token && other == login, "{logged:?}"),
            None => assert!(!is_token),
        }
    }

    // A realm on another host is asked, but sees no credential (CVE-2026-33540); nor does the host of a redirect.
    let (elsewhere, folder) = (Registry::start(), Folder(folder.0.join("second")));
    fs::create_dir_all(&folder.0).unwrap();
    registry.ask_for_token(&format!("https://{}/token", elsewhere.host), Some(login));
    let auth = [(
        "REGISTRY_AUTH_FILE",
        folder.0.parent().unwrap().join(".docker/config.json"),
    )];
    let auth: Vec<(&str, &str)> = auth
        .iter()
        .map(|(name, path)| (*name, path.to_str().unwrap()))
        .collect();
    assert!(
        pull_with(&folder, &name, &auth)
            .unwrap_err()
            .contains(": token service https://")
    );
    assert!(
        elsewhere
            .log()
            .iter()
            .all(|logged| logged.authorization.is_none())
    );

    registry.ask_for_token(&format!("http://{}/token", registry.host), Some(login));
    for layer in small() {
        elsewhere.put_blob("x", &layer.blob);
        let blob = digest(&layer.blob);
        registry.fault(
            &blob,
            Fault::Redirect(format!("http://{}/v2/x/blobs/{blob}", elsewhere.host)),
        );
    }
    pull_with(&folder, &name, &auth).unwrap();
    assert_eq!(elsewhere.log().len(), 3);
    assert!(
        elsewhere
            .log()
            .iter()
            .all(|logged| logged.authorization.is_none())
    );
    std::mem::forget(folder);
}

#[test]
fn mirrors_are_asked_in_turn() {
    let (empty, full, folder) = (Registry::start(), Registry::start(), Folder::new("mirrors"));
    full.push("library/x", "latest", &arch(), &small(), "{}");
    let mirrors = format!(
        "http://{} http://{} http://{}",
        empty.host, full.host, "127.0.0.1:9"
    );
    // The name is the last mirror's, so that nothing beyond the loopback is ever asked.
    pull_with(
        &folder,
        "127.0.0.1:9/library/x",
        &[("RINGFENCE_TEST_MIRRORS", &mirrors)],
    )
    .unwrap();
    assert!(
        empty
            .paths()
            .contains(&"/v2/library/x/manifests/latest".to_owned())
    );
    let error = pull_with(
        &folder,
        "127.0.0.1:9/library/y",
        &[("RINGFENCE_TEST_MIRRORS", &mirrors)],
    )
    .unwrap_err();
    assert_eq!(
        error,
        format!(
            "pull 127.0.0.1:9/library/y:latest: http://{}: not found (404): manifest unknown; \
             http://{}: not found (404): manifest unknown; http://127.0.0.1:9: connection refused",
            empty.host, full.host
        )
    );
}

#[test]
fn many_processes_fetch_each_blob_once() {
    let (registry, folder) = (Registry::start(), Folder::new("many"));
    let shared = Layer::gzip(&Archive::new().file("shared", &"shared".repeat(100_000)).end());
    for image in 0..3 {
        let own = Layer::gzip(&Archive::new().file("own", &format!("{image}")).end());
        registry.push(
            &format!("i{image}"),
            "latest",
            &arch(),
            &[shared.clone(), own],
            "{}",
        );
    }
    std::thread::scope(|scope| {
        for process in 0..50 {
            let (folder, host) = (&folder, &registry.host);
            scope.spawn(move || pull(folder, &format!("{host}/i{}", process % 3)).unwrap());
        }
    });
    for image in 0..3 {
        assert_eq!(folder.layers(&format!("{}/i{image}", registry.host)).len(), 2);
    }
    let mut fetched = registry.paths();
    fetched.retain(|path| path.contains("/blobs/"));
    fetched.sort();
    // The shared layer, and a layer and a configuration of each image.
    assert_eq!(fetched.len(), 7, "{fetched:#?}");
}

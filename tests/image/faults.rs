//! What a registry can do wrong: one message each, and the store as it was.

use crate::archive::Archive;
use crate::pull::{Folder, pull};
use crate::registry::{self, Fault, Layer, OCI_MANIFEST, Registry, digest};
use crate::{arch, small};

#[test]
fn each_fault_of_a_registry_is_one_message_and_leaves_the_store_alone() {
    let (registry, folder) = (Registry::start(), Folder::new("faults"));
    registry.push("good", "latest", &arch(), &small(), "{}");
    pull(&folder, &format!("{}/good", registry.host)).unwrap();
    let before = folder.listing();
    let at = format!("http://{}", registry.host);
    let refusal = |name: &str| {
        let image = format!("{}/{name}:latest", registry.host);
        let error = pull(&folder, &image).unwrap_err();
        assert_eq!(folder.listing(), before, "{name} changed the store");
        error
            .strip_prefix(&format!("pull {image}: "))
            .unwrap_or_else(|| panic!("{error}"))
            .to_owned()
    };
    assert_eq!(
        refusal("absent"),
        format!("{at}: not found (404): manifest unknown")
    );
    for (name, fault, want) in [
        (
            "denied",
            Fault::Status(401),
            format!(
                "{at}: access refused (401): scripted; if the image exists, log in with `docker login {}`",
                registry.host
            ),
        ),
        (
            "broken",
            Fault::Status(500),
            format!("{at}: it answers 500: scripted"),
        ),
        ("silent", Fault::Silence, format!("{at}: no answer within 1 s")),
        (
            "page",
            Fault::Status(302),
            format!("{at}: redirect to : not an address of https"),
        ),
        (
            "inner",
            Fault::Redirect("http://169.254.169.254/x".to_owned()),
            format!("{at}: redirect to http://169.254.169.254/x: it leads into a private network"),
        ),
    ] {
        registry.fault(name, fault);
        assert_eq!(refusal(name), want);
    }
    assert_eq!(
        pull(&folder, "127.0.0.1:1/x").unwrap_err(),
        "pull 127.0.0.1:1/x:latest: http://127.0.0.1:1: connection refused"
    );

    let fresh = |name: &str| Layer::gzip(&Archive::new().file(name, "x").end());
    let layer = fresh("wrong-digest");
    registry.push(
        "wrong-digest",
        "latest",
        &arch(),
        std::slice::from_ref(&layer),
        "{}",
    );
    registry.fault(&digest(&layer.blob), Fault::OtherBytes);
    let found: Vec<u8> = layer.blob.iter().map(|byte| byte ^ 1).collect();
    assert_eq!(
        refusal("wrong-digest"),
        format!(
            "layer {}: the content has the digest {}",
            digest(&layer.blob),
            digest(&found)
        )
    );

    let page = b"<html>please log in</html>".repeat(50);
    let layer = Layer {
        blob: Layer::gzip(&page).blob,
        ..Layer::gzip(&page)
    };
    registry.push(
        "login-layer",
        "latest",
        &arch(),
        std::slice::from_ref(&layer),
        "{}",
    );
    assert_eq!(
        refusal("login-layer"),
        format!("layer {}: it is not a tar archive", digest(&layer.blob))
    );

    let layer = Layer {
        blob: page.clone(),
        ..Layer::gzip(&page)
    };
    registry.push("no-gzip", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    assert_eq!(
        refusal("no-gzip"),
        format!(
            "layer {}: its gzip data is damaged: invalid gzip header",
            digest(&layer.blob)
        )
    );

    let layer = Layer {
        diff_id: digest(b"other"),
        ..fresh("wrong-diff-id")
    };
    registry.push(
        "wrong-diff-id",
        "latest",
        &arch(),
        std::slice::from_ref(&layer),
        "{}",
    );
    assert_eq!(
        refusal("wrong-diff-id"),
        format!(
            "layer {}: unpacked it has the digest {}, its image says {}",
            digest(&layer.blob),
            digest(&Archive::new().file("wrong-diff-id", "x").end()),
            digest(b"other")
        )
    );

    // A transfer that breaks for good takes the layers with it that were whole before.
    let (whole, broken) = (fresh("whole"), fresh("cut-off"));
    registry.push(
        "cut-off",
        "latest",
        &arch(),
        &[whole.clone(), broken.clone()],
        "{}",
    );
    registry.fault(&digest(&broken.blob), Fault::Status(500));
    assert_eq!(refusal("cut-off"), format!("{at}: it answers 500: scripted"));
    assert!(
        registry
            .paths()
            .iter()
            .any(|path| path.ends_with(&digest(&whole.blob))),
        "the other layer was not fetched"
    );

    let layer = fresh("chart");
    let chart = registry::manifest(
        OCI_MANIFEST,
        "application/vnd.cncf.helm.config.v1+json",
        b"{}",
        &[layer],
    );
    registry.put_manifest("chart", "latest", OCI_MANIFEST, &chart);
    assert_eq!(
        refusal("chart"),
        "it is not a container image but a Helm chart (application/vnd.cncf.helm.config.v1+json)"
    );
}

#[test]
fn a_pinned_digest_is_the_digest_of_the_bytes() {
    let (registry, folder) = (Registry::start(), Folder::new("pinned"));
    let manifest = registry.push("x", "v", &arch(), &small(), "{}");
    let wanted = digest(b"another manifest");
    registry.put(&format!("x/manifests/{wanted}"), OCI_MANIFEST, &manifest);
    let name = format!("{}/x@{wanted}", registry.host);
    assert_eq!(
        pull(&folder, &name).unwrap_err(),
        format!(
            "pull {name}: http://{}: the content has the digest {}, not {wanted}",
            registry.host,
            digest(&manifest)
        )
    );
}

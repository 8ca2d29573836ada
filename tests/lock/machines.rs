//! What a lock says of other machines than the one that wrote it.

use std::fs;

use ringfence::image::Platform;

use crate::archive::Archive;
use crate::hub::{Hub, Visit};
use crate::registry::{Layer, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, config, digest, manifest};
use crate::support::Test;
use crate::text;

const SETTINGS: &str = r#"{"Cmd":["/bin/serve"],"Env":["PATH=/bin"],"User":"web","WorkingDir":"/srv"}"#;

/// The two machines that plans are made for: this one, and the other.
fn machines() -> [(Platform, &'static str); 2] {
    let both = ["x86_64", "aarch64"].map(|name| (Platform::of(name), name));
    match both[0].0 == Platform::host() {
        true => both,
        false => [both[1].clone(), both[0].clone()],
    }
}

/// The layer of an image in which `web` has this number.
fn layer(web: u32) -> Layer {
    let passwd = format!("root:x:0:0::/root:/bin/sh\nweb:x:{web}:{web}::/srv:/bin/sh\n");
    let archive = Archive::new().dir("etc").file("etc/passwd", &passwd);
    Layer::gzip(
        &archive
            .file("etc/group", &format!("root:x:0:\nweb:x:{web}:\n"))
            .end(),
    )
}

/// Pushes an index with an image for each machine, in which `web` is another user.
fn push(hub: &Hub, repository: &str) {
    let mut offers = Vec::new();
    for ((platform, _), web) in machines().into_iter().zip([33, 44]) {
        let layers = [layer(web)];
        let config = config(&platform.architecture, &layers, SETTINGS);
        let image = manifest(OCI_MANIFEST, OCI_CONFIG, &config, &layers);
        hub.registry.put_blob(repository, &config);
        hub.registry.put_blob(repository, &layers[0].blob);
        let name = format!("{repository}/manifests/{}", digest(&image));
        hub.registry.put(&name, OCI_MANIFEST, &image);
        offers.push(serde_json::json!({
            "mediaType": OCI_MANIFEST, "digest": digest(&image), "size": image.len(), "platform": platform,
        }));
    }
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": offers });
    hub.registry
        .put_manifest(repository, "latest", OCI_INDEX, index.to_string().as_bytes());
}

fn command(verb: &'static str, manifest: &str, args: &[&str]) -> Test {
    Test::command(&[]).manifest(manifest).verb(verb).args(args)
}

/// Writes what this host offers as `other.toml`, as though it were the other machine.
fn write_facts(visit: &mut Visit) {
    let ran = visit.run(&Test::command(&[]).verb("facts").any_stdout());
    let [(_, own), (_, other)] = machines();
    let facts = ran
        .stdout
        .replace(&format!("arch = \"{own}\""), &format!("arch = \"{other}\""));
    assert_ne!(facts, ran.stdout);
    fs::write(ran.folder.join("other.toml"), facts).unwrap();
}

#[test]
fn a_lock_of_one_machine_is_enough_for_the_plan_of_another() {
    let hub = Hub::start();
    push(&hub, "library/tool");
    let manifest = "schema = 1\n[job.test]\nimage = \"tool\"\n";
    hub.each(|visit| {
        write_facts(visit);
        let plan = command("plan", manifest, &["--facts", "other.toml"]).any_stdout();
        let [_, (other, _)] = machines();
        let unlocked = format!(
            "ringfence: image docker.io/library/tool:latest: it is not locked for {other}; run `ringfence lock`\n"
        );
        visit.run(&plan.clone().status(125).stderr(&unlocked));
        let ran = visit.run(&command("lock", manifest, &[]).any_stderr().pulls());
        let layer = format!("docker.io/library/tool:latest for {other}: layer 1 of 1, ");
        assert!(ran.stderr.contains(&layer), "{}", ran.stderr);
        let written = text(&ran);
        for web in ["33:33", "44:44"] {
            assert!(written.contains(&format!("    \"web:x:{web}::/srv:\",\n")), "{written}");
        }
        // The other machine's image was read and is gone; this one's is there.
        let list = Test::command(&[]).verb("image").args(&["list", "--json"]).any_stdout();
        let ran = visit.run(&list);
        let list: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(fs::read_dir(ran.folder.join("store/layers")).unwrap().count(), 1);
        visit.run(&Test::command(&[]).verb("image").args(&["verify"]).pulls());

        // From the lock alone, for both machines.
        let prune = Test::command(&[]).verb("image").args(&["prune", "--down-to", "0B"]);
        visit.run(&prune.any_stdout().any_stderr().pulls());
        hub.registry.forget();
        let ran = visit.run(&plan);
        assert!(ran.stdout.contains("as           44:44"), "{}", ran.stdout);
        let ran = visit.run(&command("plan", manifest, &[]).any_stdout());
        assert!(ran.stdout.contains("as           33:33"), "{}", ran.stdout);
        assert_eq!(hub.registry.paths(), Vec::<String>::new());

        // A lock of an older version lacks them: it is said, and mended.
        let lines = |line: &&str| !line.contains(":44:");
        let older: Vec<&str> = written.lines().filter(lines).collect();
        let section = format!("[image.platform.\"{other}\"]");
        let older = older.join("\n") + "\n";
        let (before, of_other) = older.split_once(&section).unwrap();
        let (kept, rest) = of_other.split_once("passwd = [").unwrap();
        let rest = rest.split_once("\n\n").map_or("", |(_, rest)| rest);
        fs::write(ran.folder.join("ringfence.lock"), format!("{before}{section}{kept}\n{rest}")).unwrap();
        let lacking = format!(
            "ringfence: image docker.io/library/tool:latest: its users and groups for {other} are not locked; run `ringfence lock`\n"
        );
        visit.run(&plan.clone().status(125).stderr(&lacking));
        let ran = visit.run(&command("lock", manifest, &["-q"]).pulls());
        assert_eq!(text(&ran), written);
        fs::remove_file(ran.folder.join("ringfence.lock")).unwrap();
    });
}

/// What `plan --all` plans is locked: the images of the matrix too, for each of its platforms.
#[test]
fn the_images_of_a_matrix_are_locked() {
    let hub = Hub::start();
    push(&hub, "library/one");
    push(&hub, "library/two");
    let manifest = "schema = 1\n[matrix]\nimages = [\"one\", \"two\"]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
        [job.test]\nimage = \"one\"\n";
    hub.each(|visit| {
        let ran = visit.run(&command("lock", manifest, &[]).any_stderr().pulls());
        let said = visit.caller.without_notice(&ran.stderr);
        for name in ["one", "two"] {
            let locked = format!("ringfence.lock: docker.io/library/{name}:latest locked at sha256:");
            assert!(said.contains(&locked), "{said}");
        }
        visit.run(&command("lock", manifest, &["--check"]));
        let ran = visit.run(&command("plan", manifest, &["--all"]).any_stdout());
        let users: Vec<&str> = ran
            .stdout
            .lines()
            .filter(|line| line.starts_with("as  "))
            .collect();
        let wanted = match Platform::host().architecture.as_str() {
            "amd64" => ["33:33", "44:44", "33:33", "44:44"],
            _ => ["44:44", "33:33", "44:44", "33:33"],
        };
        assert_eq!(users.len(), 4, "{}", ran.stdout);
        assert!(
            users.iter().zip(wanted).all(|(line, user)| line.contains(user)),
            "{users:?}"
        );
    });
}

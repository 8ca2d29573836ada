//! `ringfence schema`: what an editor is told, checked with the validator that editors use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// taplo, as `.ci/run install` puts it there, or from PATH; the skip is said once here.
fn taplo() -> Option<PathBuf> {
    let ours = Path::new(ROOT).join("target/tools/bin/taplo");
    let found = [ours, PathBuf::from("taplo")]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok());
    if found.is_none() {
        assert_ne!(
            std::env::var("RINGFENCE_TESTS").as_deref(),
            Ok("require"),
            "taplo is missing"
        );
        eprintln!("skipped: taplo is missing (python3 -m pip install taplo)");
    }
    found
}

/// The schema of a manifest or a plan, in a file of the test's own.
fn schema(of: &str, name: &str) -> PathBuf {
    let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["schema", of])
        .output()
        .expect("ringfence");
    assert!(out.status.success(), "{out:?}");
    let path = std::env::temp_dir().join(format!("ringfence-schema-{name}-{}.json", std::process::id()));
    fs::write(&path, out.stdout).expect("a file");
    path
}

fn check(taplo: &Path, schema: &Path, manifest: &Path) -> Output {
    // A manifest of another place, so that no configuration of this folder is read.
    Command::new(taplo)
        .args(["check", "--no-auto-config", "--schema"])
        .arg(format!("file://{}", schema.display()))
        .arg(manifest)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("taplo")
}

fn manifests(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join(folder)).expect(folder);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(!paths.is_empty(), "{folder} is empty");
    paths
}

#[test]
fn every_manifest_of_this_repository_is_valid() {
    let Some(taplo) = taplo() else { return };
    let schema = schema("manifest", "valid");
    let mut paths = manifests("manifests");
    paths.extend(manifests("src/profile/builtin"));
    paths.push(Path::new(ROOT).join("benches/true.toml"));
    for path in paths {
        let out = check(&taplo, &schema, &path);
        assert!(
            out.status.success(),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&out.stderr)
        );
    }
    fs::remove_file(schema).expect("the schema");
}

/// What a schema can see at all, it sees: keys, types, words and units.
#[test]
fn wrong_keys_types_words_and_units_are_invalid() {
    let Some(taplo) = taplo() else { return };
    let schema = schema("manifest", "invalid");
    for name in [
        "unknown-keys",
        "wrong-types",
        "network-mode-none",
        "units",
        "command-is-a-string",
        "cpus-in-quotes",
        "mounts-as-a-list",
        "namespaces-always-on",
    ] {
        let path = Path::new(ROOT).join(format!("tests/bad/{name}.toml"));
        assert!(path.is_file(), "{name}");
        let out = check(&taplo, &schema, &path);
        assert_eq!(out.status.code(), Some(1), "{name} passes as valid");
    }
    fs::remove_file(schema).expect("the schema");
}

/// Plans as TOML hold what plans as JSON hold, so the validator of TOML sees both.
#[test]
fn every_recorded_plan_is_valid() {
    let Some(taplo) = taplo() else { return };
    let schema = schema("plan", "plan");
    let mut checked = 0;
    for snapshot in fs::read_dir(Path::new(ROOT).join("tests/plans")).expect("plans") {
        let path = snapshot.expect("an entry").path();
        if !path.to_string_lossy().ends_with(".toml.snap") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a snapshot");
        let plan = text.splitn(3, "---\n").nth(2).expect("a plan");
        let file = std::env::temp_dir().join(format!("ringfence-schema-plan-{}.toml", std::process::id()));
        for (plan, valid) in [
            (plan.to_owned(), true),
            (plan.replacen("plan = 1", "plan = 2", 1), false),
        ] {
            fs::write(&file, plan).expect("a file");
            let out = check(&taplo, &schema, &file);
            let said = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.success(), valid, "{}: {said}", path.display());
        }
        fs::remove_file(file).expect("the plan");
        checked += 1;
    }
    fs::remove_file(schema).expect("the schema");
    assert!(checked >= 2, "{checked}");
}

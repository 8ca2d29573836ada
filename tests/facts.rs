//! What the probe finds on the machine that runs the tests, in a process of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ringfence::host::facts::{Caller, Facts, Feature, PathKind, Support};

/// A folder of the test's own, open to the caller alone; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringfence-facts-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        for folder in ["run", "store"] {
            fs::create_dir(path.join(folder)).unwrap();
            fs::set_permissions(path.join(folder), fs::Permissions::from_mode(0o700)).unwrap();
        }
        Folder(path)
    }

    fn cache(&self) -> PathBuf {
        self.0.join("run/facts-cache")
    }

    /// What `ringfence facts` says; with the store and the run state in this folder, and a manifest that binds `paths`.
    fn facts(&self, paths: &[&str]) -> Facts {
        let mut manifest = "schema = 1\n[job.test]\nimage = \"host\"\ncommand = [\"true\"]\n".to_owned();
        for (index, path) in paths.iter().enumerate() {
            let mount = format!("[job.test.mounts.\"/bind/{index}\"]\nbind = \"{path}\"\naccess = \"ro\"\n");
            manifest.push_str(&mount);
        }
        fs::write(self.0.join("ringfence.toml"), manifest).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .args(["facts", "test"])
            .env("RINGFENCE_STORE", self.0.join("store"))
            .env("RINGFENCE_RUN", self.0.join("run"))
            .current_dir(&self.0)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        Facts::from_toml(&String::from_utf8(out.stdout).unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Whether the host has a user namespace; says so when not, and fails where tests may not be skipped.
fn has_user_namespace(facts: &Facts) -> bool {
    match &facts.kernel_features[&Feature::UserNamespace] {
        Support::Yes => true,
        Support::No(reason) => {
            assert_ne!(
                std::env::var("RINGFENCE_TESTS").as_deref(),
                Ok("require"),
                "{reason}"
            );
            eprintln!("skipped: {reason}");
            false
        }
    }
}

#[test]
fn tries_what_a_run_needs_and_leaves_nothing_behind() {
    let folder = Folder::new("tries");
    let facts = folder.facts(&[]);
    let is_root = nix::unistd::geteuid().is_root();
    assert_eq!(facts.kernel_features.len(), 7);
    if has_user_namespace(&facts) {
        assert_eq!(facts.caller == Caller::Root, is_root);
        assert_eq!(facts.kernel_features[&Feature::ProcMount], Support::Yes);
        assert_eq!(
            facts.kernel_features[&Feature::OverlayInUserNamespace],
            Support::Yes
        );
        assert!(folder.cache().exists());
    }
    let left: Vec<_> = fs::read_dir(folder.0.join("store")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(folder.0.to_str().unwrap()), "{mounts}");
}

#[test]
fn looks_at_the_paths_of_a_job() {
    let folder = Folder::new("paths");
    fs::write(folder.0.join("file"), "").unwrap();
    symlink("file", folder.0.join("link")).unwrap();
    symlink("round", folder.0.join("round")).unwrap();
    symlink("/proc", folder.0.join("proc")).unwrap();
    let facts = folder.facts(&[".", "file", "link", "none", "round", "proc"]);
    let kind = |path: &str| facts.path[path].kind;
    assert_eq!(kind("."), PathKind::Directory);
    assert_eq!(kind("file"), PathKind::File);
    assert_eq!(kind("link"), PathKind::File);
    assert_eq!(kind("none"), PathKind::Missing);
    assert_eq!(kind("round"), PathKind::Denied);
    assert!(facts.path["file"].owned);
    assert_eq!(facts.path["proc"].file_system, "proc");
    assert!(!facts.path["proc"].idmapped_mounts);
    // The store is in the same folder, so it takes what the folder takes.
    assert_eq!(facts.path["."].idmapped_mounts, facts.store.idmapped_mounts);
}

/// A kept answer that the host would never give, so that a test sees where an answer came from.
fn plant(cache: &Path) {
    let text = fs::read_to_string(cache).unwrap();
    let planted = text.replace(r#""proc-mount":"yes""#, r#""proc-mount":{"no":"planted"}"#);
    assert_ne!(planted, text);
    fs::write(cache, planted).unwrap();
}

fn proc_mount(folder: &Folder) -> Support {
    folder.facts(&[]).kernel_features[&Feature::ProcMount].clone()
}

#[test]
fn keeps_answers_and_trusts_only_its_own_file() {
    let folder = Folder::new("cache");
    if !has_user_namespace(&folder.facts(&[])) {
        return;
    }
    let cache = folder.cache();
    let mode = |mode| fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);

    plant(&cache);
    assert_eq!(proc_mount(&folder), Support::No("planted".into()), "kept");

    mode(0o620);
    assert_eq!(proc_mount(&folder), Support::Yes, "others may write");
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);

    plant(&cache);
    let kept = folder.0.join("kept");
    fs::rename(&cache, &kept).unwrap();
    symlink(&kept, &cache).unwrap();
    assert_eq!(proc_mount(&folder), Support::Yes, "a link");
    assert!(fs::symlink_metadata(&cache).unwrap().is_file());

    for broken in ["", "{", "[]", r#"{"key":{},"tried":{}}"#] {
        fs::write(&cache, broken).unwrap();
        assert_eq!(proc_mount(&folder), Support::Yes, "{broken}");
    }

    plant(&cache);
    let text = fs::read_to_string(&cache).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&cache, text.replace(boot.trim(), "another boot")).unwrap();
    assert_eq!(proc_mount(&folder), Support::Yes, "another boot");
}

#[test]
fn a_file_system_not_met_before_is_tried_though_the_rest_is_kept() {
    let folder = Folder::new("idmap");
    symlink("/proc", folder.0.join("proc")).unwrap();
    let facts = folder.facts(&[]);
    if !has_user_namespace(&facts) {
        return;
    }
    let of = |path: &str| folder.facts(&[path]).path[path].idmapped_mounts;
    assert!(!of("proc"));
    assert_eq!(of("."), facts.store.idmapped_mounts);
    assert_eq!(of("."), facts.store.idmapped_mounts);
}

/// What prints changes nothing: neither the folder of run state nor the store appears.
#[test]
fn looking_makes_no_folder() {
    let folder = Folder::new("looking");
    for name in ["run", "store"] {
        fs::remove_dir(folder.0.join(name)).unwrap();
    }
    let manifest = "schema = 1\n[job.test]\nimage = \"host\"\ncommand = [\"true\"]\n";
    fs::write(folder.0.join("ringfence.toml"), manifest).unwrap();
    for verb in ["facts", "plan", "doctor", "check"] {
        let out = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .arg(verb)
            .env("RINGFENCE_STORE", folder.0.join("store"))
            .env("RINGFENCE_RUN", folder.0.join("run"))
            .current_dir(&folder.0)
            .output()
            .unwrap();
        let left: Vec<_> = fs::read_dir(&folder.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["ringfence.toml"], "{verb}: {out:?}");
    }
}

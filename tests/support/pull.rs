//! Pulling in a process of its own, into a store of one test.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by several tests; names say it"
)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringfence::image::{
    Address, Credentials, Event, Image, Ownership, Platform, Reference, Registries, Report, Request, Store,
    pull_in_child,
};

/// A folder on a file system that can hold a store: beside the one that is set, else the one for temporary files.
fn base() -> PathBuf {
    let store = std::env::var_os("RINGFENCE_STORE").map(PathBuf::from);
    store
        .and_then(|store| store.parent().map(Path::to_owned))
        .unwrap_or_else(std::env::temp_dir)
}

/// A folder of one test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = base().join(format!("ringfence-image-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Every path of the store with its size, but for the file of locks.
    pub fn listing(&self) -> Vec<(PathBuf, u64)> {
        pub fn walk(folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let (path, meta) = entry
                    .map(|entry| (entry.path(), entry.metadata().unwrap()))
                    .unwrap();
                found.push((path.clone(), if meta.is_file() { meta.len() } else { 0 }));
                if meta.is_dir() {
                    walk(&path, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.store(), &mut found);
        found.retain(|(path, _)| !path.ends_with("locks"));
        found.sort();
        found
    }

    pub fn image(&self, text: &str) -> Image {
        let store = Store::open(&self.store()).unwrap().unwrap();
        let reference = Reference::parse(text).unwrap();
        store
            .find(&reference, &Platform::host())
            .unwrap()
            .expect("the image is in the store")
    }

    pub fn layers(&self, text: &str) -> Vec<PathBuf> {
        let store = Store::open(&self.store()).unwrap().unwrap();
        store.lease(&self.image(text)).unwrap().layer_dirs().to_vec()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Pulls in a process of its own, as the program does: this test binary again, with one thread.
pub fn pull(folder: &Folder, image: &str) -> Result<Report, String> {
    pull_with(folder, image, &[])
}

/// The process that pulls, started by `wrapper` where that is not empty.
pub fn command(wrapper: &[&str], folder: &Folder, image: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
    words.push(own.into_os_string());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args([
            "--exact",
            "pull::pulls",
            "--ignored",
            "--test-threads=1",
            "--nocapture",
        ])
        .env("RINGFENCE_TEST_STORE", folder.store())
        .env("RINGFENCE_TEST_IMAGE", image)
        .env("HOME", &folder.0)
        .env_remove("REGISTRY_AUTH_FILE");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

pub fn pull_with(folder: &Folder, image: &str, environment: &[(&str, &str)]) -> Result<Report, String> {
    let output = command(&[], folder, image)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |mark: &str| {
        text.lines()
            .find_map(|line| line.split_once(mark))
            .map(|(_, rest)| rest.to_owned())
    };
    match (line("REPORT "), line("ERROR ")) {
        (Some(report), None) => Ok(serde_json::from_str(&report).unwrap()),
        (None, Some(error)) => Err(error),
        _ => panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Not a test by itself: what `pull` runs.
#[test]
#[ignore = "run by the other tests"]
pub fn pulls() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(store), Some(image)) = (variable("RINGFENCE_TEST_STORE"), variable("RINGFENCE_TEST_IMAGE"))
    else {
        return;
    };
    let reference = Reference::parse(&image).unwrap();
    let mirrors =
        variable("RINGFENCE_TEST_MIRRORS").unwrap_or_else(|| format!("http://{}", reference.registry()));
    let registry = ringfence::image::Registry {
        mirrors: mirrors
            .split(' ')
            .map(|mirror| Address::parse(mirror).unwrap())
            .collect(),
        ca: variable("RINGFENCE_TEST_CA").map(PathBuf::from),
        token_hosts: variable("RINGFENCE_TEST_TOKEN_HOST").into_iter().collect(),
        timeout: Some(std::time::Duration::from_secs(
            match variable("RINGFENCE_TEST_PATIENT") {
                Some(_) => 60,
                None => 1,
            },
        )),
    };
    let request = Request {
        registries: Registries([(reference.registry().to_owned(), registry)].into()),
        reference,
        platform: Platform::host(),
        credentials: Credentials::from_environment(),
    };
    let ownership = match variable("RINGFENCE_TEST_KEPT") {
        Some(_) => Ownership::Kept,
        None => Ownership::Single,
    };
    // The test harness runs this in a thread; what pulls must have none beside it.
    #[expect(unsafe_code, reason = "the child only pulls and ends")]
    // SAFETY: the harness's other thread waits for this one and holds no lock of the allocator.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None)),
        nix::unistd::ForkResult::Child => {
            match pull_in_child(Path::new(&store), ownership, &request, |_: Event| {}) {
                Ok(report) => println!("\nREPORT {}", serde_json::to_string(&report).unwrap()),
                Err(error) => println!("\nERROR {error}"),
            }
            std::process::exit(0);
        }
    }
}

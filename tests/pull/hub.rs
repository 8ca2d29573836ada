//! What the tests pull: small images of a static busybox, in a registry that stands in for Docker Hub.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use ringfence::host::facts::{self, Facts};
use ringfence::image::Platform;

use crate::archive::{Archive, Header};
use crate::registry::{
    DOCKER_CONFIG, DOCKER_MANIFEST, Layer, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Registry, config, digest,
    manifest,
};
use crate::support::{Caller, Ran, Room, Test, callers};

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What an image of these tests is configured to do when a manifest names no command.
pub(crate) const HELLO: &str =
    r#"{"Cmd":["/bin/sh","-c","echo hello from the image"],"Env":["PATH=/bin"],"WorkingDir":"/etc"}"#;

/// The names under which busybox is found.
const APPLETS: [&str; 14] = [
    "sh", "ls", "cat", "id", "stat", "rm", "mkdir", "rmdir", "find", "sort", "grep", "touch", "chown", "true",
];

/// The media types of an image.
#[derive(Clone, Copy)]
pub(crate) enum Types {
    /// The Open Container Initiative's.
    Oci,
    /// Docker's own, older ones.
    Docker,
}

/// A registry that asks for tokens, and is Docker Hub's mirror to those who read its [`Hub::settings`].
pub(crate) struct Hub {
    pub(crate) registry: Registry,
}

impl Hub {
    pub(crate) fn start() -> Hub {
        let registry = Registry::start();
        registry.ask_for_token(&format!("http://{}/token", registry.host), None);
        Hub { registry }
    }

    /// A config.toml: as a mirror of Docker Hub, and under its own name by plain http.
    pub(crate) fn settings(&self) -> String {
        let host = &self.registry.host;
        format!(
            "[registry.\"docker.io\"]\nmirrors = [\"http://{host}\"]\n\
             [registry.\"{host}\"]\nmirrors = [\"http://{host}\"]\n"
        )
    }

    /// The full name of an image. Names of Docker Hub lead to the real one when its mirror refuses; this one does not.
    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}:latest", self.registry.host)
    }

    /// Pushes an index with an image for this machine and one for another; gives the index's digest.
    pub(crate) fn push(&self, repository: &str, types: Types, layers: &[Layer], settings: &str) -> String {
        let (of_index, of_manifest, of_config) = match types {
            Types::Oci => (OCI_INDEX, OCI_MANIFEST, OCI_CONFIG),
            Types::Docker => (DOCKER_LIST, DOCKER_MANIFEST, DOCKER_CONFIG),
        };
        let own = Platform::host().architecture;
        let config = config(&own, layers, settings);
        let image = manifest(of_manifest, of_config, &config, layers);
        let offer = |bytes: &[u8], architecture: &str| {
            format!(
                r#"{{"mediaType":"{of_manifest}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                digest(bytes),
                bytes.len()
            )
        };
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{of_index}","manifests":[{},{}]}}"#,
            offer(b"never asked for", "s390x"),
            offer(&image, &own)
        );
        self.registry.put_blob(repository, &config);
        layers
            .iter()
            .for_each(|layer| self.registry.put_blob(repository, &layer.blob));
        self.registry.put(
            &format!("{repository}/manifests/{}", digest(&image)),
            of_manifest,
            &image,
        );
        self.registry
            .put_manifest(repository, "latest", of_index, index.as_bytes());
        digest(index.as_bytes())
    }

    /// Runs tests one after another in a room, for every caller that there is.
    #[track_caller]
    pub(crate) fn each(&self, tests: impl Fn(&mut Visit)) {
        for caller in callers(None) {
            self.visit(caller, &tests);
        }
    }

    /// The same for one caller.
    #[track_caller]
    pub(crate) fn visit(&self, caller: Caller, tests: impl Fn(&mut Visit)) {
        let settings = self.settings();
        let room = Test::command(&["true"])
            .setup(move |folder: &Path| {
                fs::write(folder.join("config.toml"), &settings).unwrap();
                fs::create_dir(folder.join("src")).unwrap();
            })
            .room(caller);
        match room {
            Ok(room) => tests(&mut Visit::new(caller, room)),
            Err(reason) => crate::support::skip!("{caller:?}: {reason}"),
        }
    }
}

/// Which ids a caller's jobs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// As root: a range.
    Range,
    /// As an ordinary user: those of /etc/subuid.
    Subordinate,
    /// As an ordinary user without any: the caller's own.
    One,
}

/// One caller with a store of its own.
pub(crate) struct Visit {
    pub(crate) caller: Caller,
    room: Option<Room>,
}

impl Visit {
    /// A caller in a room of its own.
    pub(crate) fn new(caller: Caller, room: Room) -> Visit {
        Visit {
            caller,
            room: Some(room),
        }
    }

    /// Runs a test; the store is what the runs before have made it.
    #[track_caller]
    pub(crate) fn run(&mut self, test: &Test) -> Ran {
        let (ran, room) = test.run_in(self.room.take().expect("its last run passed"), self.caller);
        self.room = Some(room);
        ran
    }

    /// What this host offers this caller.
    #[track_caller]
    pub(crate) fn facts(&mut self) -> Facts {
        let ran = self.run(&Test::command(&[]).verb("facts").any_stdout());
        Facts::from_toml(&ran.stdout).unwrap()
    }

    /// Which ids the caller's jobs have.
    #[track_caller]
    pub(crate) fn ids(&mut self) -> Ids {
        let facts = self.facts();
        match (facts.caller, facts.ids.subordinate_uids >= 65536) {
            (facts::Caller::Root, _) => Ids::Range,
            (facts::Caller::User, true) => Ids::Subordinate,
            (facts::Caller::User, false) => Ids::One,
        }
    }
}

/// A busybox that asks for no dynamic linker (PT_INTERP, see elf(5)).
fn busybox() -> Option<&'static [u8]> {
    static BUSYBOX: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    BUSYBOX
        .get_or_init(|| {
            let bytes = fs::read("/bin/busybox").ok()?;
            let number = |at: usize, length: usize| {
                let bytes = bytes.get(at..at + length).unwrap_or_default();
                bytes
                    .iter()
                    .rev()
                    .fold(0, |number, byte| number << 8 | usize::from(*byte))
            };
            let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
            let is_static = count > 0 && (0..count).all(|index| number(table + index * size, 4) != 3);
            is_static.then_some(bytes)
        })
        .as_deref()
}

/// The lowest layer of every image: busybox under its names, and accounts. None when there is no static busybox.
pub(crate) fn lowest() -> Option<Layer> {
    static BASE: OnceLock<Option<Layer>> = OnceLock::new();
    BASE.get_or_init(|| {
        let header = Header {
            name: b"bin/busybox",
            mode: 0o755,
            ..Header::default()
        };
        let archive = Archive::new().dir("bin").entry(header, busybox()?);
        let archive = APPLETS.iter().fold(archive, |archive, applet| {
            archive.symlink(&format!("bin/{applet}"), "busybox")
        });
        let archive = archive
            .dir("etc")
            .file(
                "etc/passwd",
                "root:x:0:0::/:/bin/sh\nworker:x:1000:1001::/:/bin/sh\n",
            )
            .file("etc/group", "root:x:0:\nworkers:x:1001:\n")
            .file("etc/plain", "not a program\n");
        Some(Layer::gzip(&archive.end()))
    })
    .clone()
}

/// The lowest layer; the test ends with the reason where there can be none.
macro_rules! base {
    () => {
        match crate::hub::lowest() {
            Some(layer) => layer,
            None => crate::support::skip!("no static /bin/busybox (package busybox-static)"),
        }
    };
}
pub(crate) use base;

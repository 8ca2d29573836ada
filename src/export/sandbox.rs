//! A plan seen from outside: what holds in the sandbox, without the order in which it is made.

use std::collections::{BTreeMap, BTreeSet};

use super::network::Network;
use super::{Loss, Refusal};
use crate::plan::{
    Cgroup, ChildStep, HostStep, Id, IdMapping, InitStep, Mounted, Plan, PlannedImage, RootMount, Tree,
    Upper, Watch, WorkloadStep,
};
use crate::profile::{Capability, Namespace, Piece, Rlimit, RlimitValue, Text};
use crate::seccomp::{Arch, Policy};
use crate::units::Bytes;

/// What a plan leaves open, as this machine has it.
pub(crate) struct Values<'a> {
    /// The folder that holds the manifest, absolute.
    pub(crate) manifest_dir: &'a str,
    /// The value of a declared variable; none where it is not set.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a variable's value is never written out.
    pub(crate) secret: &'a dyn Fn(&str) -> bool,
    /// The caller's user and group.
    pub(crate) caller: (u32, u32),
    /// The first id of the host that a range of 65536 begins with.
    pub(crate) base: u32,
    /// The processor, for compiled filters.
    pub(crate) arch: Arch,
    /// Variables that the job takes out of the image's environment.
    pub(crate) unset: Vec<String>,
    /// What the root file system is made of.
    pub(crate) rootfs: Rootfs,
}

/// What the root file system is made of, for an engine that takes a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rootfs {
    /// An empty one, with what is mounted in it (image `host`).
    Empty,
    /// This folder (image `dir:`, or an image of one layer in the store).
    Folder(String),
    /// Layers of the store, which must be laid over each other first.
    Layers,
}

/// What holds in the sandbox.
pub(crate) struct Sandbox<'a> {
    pub(crate) job: &'a str,
    pub(crate) image: &'a PlannedImage,
    pub(crate) rootfs: Rootfs,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<&'a str, String>,
    /// Variables of the image that the job must not see.
    pub(crate) unset: Vec<String>,
    pub(crate) workdir: String,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) groups: &'a [u32],
    pub(crate) capabilities: &'a BTreeSet<Capability>,
    pub(crate) ambient: bool,
    pub(crate) init: bool,
    pub(crate) namespaces: &'a BTreeSet<Namespace>,
    pub(super) network: Network<'a>,
    pub(crate) mapping: &'a IdMapping,
    pub(crate) caller: (u32, u32),
    /// The first id of the host for a range.
    pub(crate) base: u32,
    pub(crate) arch: Arch,
    pub(crate) hostname: Option<&'a str>,
    /// The bound of what the job writes to its root; none where it cannot.
    pub(crate) writable: Option<Option<Bytes>>,
    pub(crate) sysfs: bool,
    pub(crate) mounts: Vec<Mount<'a>>,
    pub(crate) sysctls: Vec<(&'a str, &'a str)>,
    pub(crate) masked: &'a [String],
    pub(crate) read_only: &'a [String],
    pub(crate) cgroup: Cgroup,
    pub(crate) rlimits: BTreeMap<Rlimit, RlimitValue>,
    pub(crate) watch: &'a Watch,
    pub(crate) seccomp: Option<&'a Policy>,
    pub(crate) landlock: bool,
    /// What cannot leave ringfence, whatever the engine: values of secrets.
    pub(super) losses: Vec<Loss>,
}

/// Something at a place inside.
pub(crate) struct Mount<'a> {
    pub(crate) at: &'a str,
    pub(crate) what: Place<'a>,
}

/// What stands at a place inside; proc, dev and sys, which every engine makes, are not among them.
pub(crate) enum Place<'a> {
    Tmpfs {
        size: Bytes,
        mode: u32,
        exec: bool,
    },
    Bind {
        source: String,
        read_only: bool,
        optional: bool,
        /// Its owner's files appear as the job's.
        idmapped: bool,
    },
    Copy {
        source: String,
    },
    File(String),
    Link(&'a str),
}

impl<'a> Sandbox<'a> {
    /// The sandbox of a plan.
    ///
    /// # Errors
    /// When a variable is not set.
    pub(crate) fn of(plan: &'a Plan, values: &Values<'_>) -> Result<Sandbox<'a>, Refusal> {
        let mut losses = Vec::new();
        let text = |text: &Text| {
            let expanded = text.expand(values.manifest_dir, |name| match (values.secret)(name) {
                true => Some(format!("${{{name}}}")),
                false => (values.variable)(name),
            });
            expanded.map_err(|name| Refusal(format!("variable {name}: not set in the environment")))
        };
        let is_secret = |text: &Text| {
            let secret = |piece: &Piece| matches!(piece, Piece::Environment(name) if (values.secret)(name));
            text.0.iter().any(secret)
        };
        let argv = plan.exec.argv.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if plan.exec.argv.iter().any(is_secret) {
            losses.push(secret("command"));
        }
        let mut env = BTreeMap::new();
        for (name, value) in &plan.exec.env {
            match is_secret(value) {
                true => losses.push(secret(&format!("env.{name}"))),
                false => drop(env.insert(name.as_str(), text(value)?)),
            }
        }
        let none: &'static BTreeSet<Capability> = const { &BTreeSet::new() };
        let mut sandbox = Sandbox {
            job: &plan.job,
            image: &plan.image,
            rootfs: values.rootfs.clone(),
            argv,
            env,
            unset: values.unset.clone(),
            workdir: "/".to_owned(),
            user: 0,
            group: 0,
            groups: &[],
            capabilities: none,
            ambient: false,
            init: plan.exec.init,
            namespaces: &plan.namespaces,
            network: Network::of(plan.namespaces.contains(&Namespace::Net), &plan.network),
            mapping: &IdMapping::Range,
            caller: values.caller,
            base: values.base,
            arch: values.arch,
            hostname: None,
            writable: None,
            sysfs: false,
            mounts: Vec::new(),
            sysctls: Vec::new(),
            masked: &[],
            read_only: &[],
            cgroup: Cgroup::default(),
            rlimits: BTreeMap::new(),
            watch: &plan.watch,
            seccomp: None,
            landlock: false,
            losses,
        };
        let number = |id: &Id, own: u32| match id {
            Id::Number(number) => *number,
            Id::Caller => own,
        };
        let mut layer_file = None;
        for step in &plan.before_clone {
            match step {
                HostStep::Cgroup(cgroup) => sandbox.cgroup = cgroup.clone(),
                HostStep::LayerFile { size } => layer_file = Some(*size),
                HostStep::TakeTree(_) => {}
            }
        }
        let (mut launchers, mut idmapped) = (None, Vec::new());
        for step in &plan.with_child {
            match step {
                ChildStep::Cgroup(cgroup) => sandbox.cgroup = cgroup.clone(),
                ChildStep::MapIds(mapping) => sandbox.mapping = mapping,
                ChildStep::MountOverlay { size } => launchers = *size,
                ChildStep::IdmapTree { tree, .. } => idmapped.push(tree),
            }
        }
        for step in &plan.init {
            match step {
                InitStep::Hostname(name) => sandbox.hostname = Some(name),
                InitStep::Root(root) => {
                    sandbox.writable = match root {
                        RootMount::Overlay(Upper::MountPoints) | RootMount::Tmpfs => None,
                        RootMount::Overlay(Upper::Tmpfs(size)) | RootMount::WritableTmpfs { size } => {
                            Some(*size)
                        }
                        RootMount::Overlay(Upper::LayerFile) => Some(layer_file),
                        RootMount::Overlay(Upper::Scratch) => Some(None),
                        RootMount::OverlayFromLauncher => Some(launchers),
                    }
                }
                InitStep::Mount { at, what } => {
                    if let Some(what) = place(what, &idmapped, values.manifest_dir, &text)? {
                        sandbox.mounts.push(Mount { at, what });
                    }
                    sandbox.sysfs |= matches!(what, Mounted::Sysfs);
                }
                InitStep::Sysctl { name, value } => sandbox.sysctls.push((name, value)),
                InitStep::Mask(paths) => sandbox.masked = paths,
                InitStep::ReadOnly(paths) => sandbox.read_only = paths,
                InitStep::RootReadOnly => sandbox.writable = None,
                _ => {}
            }
        }
        for step in &plan.workload {
            match step {
                WorkloadStep::Rlimits(limits) => sandbox.rlimits.clone_from(limits),
                WorkloadStep::Credentials {
                    user,
                    group,
                    groups,
                    capabilities,
                    ambient,
                } => {
                    sandbox.user = number(user, values.caller.0);
                    sandbox.group = number(group, values.caller.1);
                    sandbox.groups = groups;
                    sandbox.capabilities = capabilities;
                    sandbox.ambient = *ambient;
                }
                WorkloadStep::Workdir(path) => sandbox.workdir = text(path)?,
                WorkloadStep::Landlock(_) => sandbox.landlock = true,
                WorkloadStep::Seccomp(policy) => sandbox.seccomp = Some(policy),
                _ => {}
            }
        }
        Ok(sandbox)
    }

    /// The one line of the id maps of users and of groups: inside, outside, how many.
    pub(super) fn id_maps(&self, span: u32) -> ((u32, u32, u32), (u32, u32, u32)) {
        match self.mapping {
            IdMapping::Range | IdMapping::SharedRange => ((0, self.base, span), (0, self.base, span)),
            _ => ((self.user, self.caller.0, 1), (self.group, self.caller.1, 1)),
        }
    }

    /// The image's name in a registry, by digest where that is known.
    ///
    /// # Errors
    /// For an image that no other engine can fetch.
    pub(super) fn registry_image(&self, engine: &str) -> Result<String, Refusal> {
        let reference = &self.image.reference;
        if self.rootfs == Rootfs::Empty || reference.contains(':') && reference.starts_with("dir:") {
            return Err(Refusal(format!(
                "image {reference} has no name in a registry, which {engine} needs; push it to one, or export an oci-bundle"
            )));
        }
        Ok(match &self.image.digest {
            Some(digest) => {
                let path_at = reference.rfind('/').map_or(0, |slash| slash + 1);
                let name = reference.split('@').next().unwrap_or(reference);
                let end = name[path_at..]
                    .find(':')
                    .map_or(name.len(), |colon| path_at + colon);
                format!("{}@{digest}", &name[..end])
            }
            None => reference.clone(),
        })
    }
}

fn secret(about: &str) -> Loss {
    Loss {
        about: about.to_owned(),
        text: "it holds a secret, which is not written out".to_owned(),
    }
}

fn place<'a>(
    what: &'a Mounted,
    idmapped: &[&Tree],
    manifest_dir: &str,
    text: &dyn Fn(&Text) -> Result<String, Refusal>,
) -> Result<Option<Place<'a>>, Refusal> {
    let source = |tree: &Tree| match tree {
        Tree::Bind { source, optional, .. } => {
            let source = text(source)?;
            match source.starts_with('/') {
                true => Ok((source, *optional)),
                // Relative to the manifest's folder, as everywhere.
                false => match source.trim_start_matches("./") {
                    "" | "." => Ok((manifest_dir.to_owned(), *optional)),
                    below => Ok((format!("{manifest_dir}/{below}"), *optional)),
                },
            }
        }
        Tree::Layers | Tree::Scratch => Ok((String::new(), false)),
    };
    Ok(Some(match what {
        Mounted::Proc | Mounted::Sysfs | Mounted::Dev => return Ok(None),
        Mounted::Tmpfs { size, mode, exec } => Place::Tmpfs {
            size: *size,
            mode: *mode,
            exec: *exec,
        },
        Mounted::Bind { tree, read_only } => {
            let (source, optional) = source(tree)?;
            Place::Bind {
                source,
                read_only: *read_only,
                optional,
                idmapped: idmapped.contains(&tree),
            }
        }
        Mounted::Copy { tree, .. } => Place::Copy {
            source: source(tree)?.0,
        },
        Mounted::File { text: content } => Place::File(text(content)?),
        Mounted::Link { target } => Place::Link(target),
    }))
}

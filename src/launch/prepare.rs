//! From a plan to everything that a start needs: strings in C form, open trees, ids, the control group.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, fstat};

use super::error::{LaunchError, io_words, words};
use super::ids::{self, Maps, RangeConfig};
use super::run_dir::RunDir;
use super::scratch::Scratch;
use super::{layer_file, overlay, probe, signals, source};
use crate::cgroup::{self, Controller, CpuQuota, Group, IoLimit, Limits, Site, Version};
use crate::net::bridge::Networks;
use crate::plan::{ChildStep, HostStep, InitStep, Mounted, Plan, Tree, WorkloadStep, unfit_workdir};
use crate::profile::{Claim, Text};
use crate::seccomp;
use crate::stage::{Bound, Source};
use crate::sys::mount::open_tree;

/// What a plan leaves open, as this machine has it.
pub(crate) struct Context<'a> {
    /// The folder that holds the manifest, absolute.
    pub(crate) manifest_dir: &'a Path,
    /// The value of a declared variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The image's unpacked layers, lowest first; the folder of a `dir:` image.
    pub(crate) layers: Vec<PathBuf>,
    /// A folder of the store for what is thrown away at the end.
    pub(crate) scratch: &'a Path,
    /// Where control groups can be made.
    pub(crate) site: &'a Site,
    /// Run state.
    pub(crate) run_dir: &'a RunDir,
    /// Networks of jobs.
    pub(crate) networks: Networks,
    /// Ranges of ids for root's runs.
    pub(crate) ids: RangeConfig,
    /// The processor, whose numbers system calls have.
    pub(crate) arch: seccomp::Arch,
    /// Whether the job gets a terminal of its own.
    pub(crate) tty: bool,
    /// Whether a receipt will be written, for which more is looked at.
    pub(crate) receipt: bool,
    /// Whether it will be asked what the job tried to reach.
    pub(crate) connections: bool,
    /// The job's streams; none are the caller's own.
    pub(crate) streams: Option<[OwnedFd; 3]>,
    /// What to ask where the job's program would be executed; none for a job that runs.
    pub(crate) claims: &'a [Claim],
}

/// A plan with everything that its start needs; nothing of the job exists yet but perhaps its control group.
pub(crate) struct Prepared {
    pub(super) plan: Rc<Plan>,
    pub(super) bound: Bound,
    pub(super) maps: Maps,
    /// Those that the launcher is sent, blocked since before anything was made.
    pub(super) signals: SignalFd,
    pub(super) group: Option<Group>,
    /// What the group is to hold that is made beside PID 1.
    pub(super) group_limits: Limits,
    /// Where the group stands, and perhaps those of dead runs.
    pub(super) site: Option<Site>,
    pub(super) trees: BTreeMap<Tree, Vec<OwnedFd>>,
    pub(super) layer_file: Option<OwnedFd>,
    /// Removed at the end: the upper layer of an ordinary user's writable root.
    pub(super) scratch: Option<Scratch>,
    /// The job's streams; none are the caller's own.
    pub(super) streams: Option<[OwnedFd; 3]>,
    /// Networks of jobs.
    pub(super) networks: Networks,
    /// Whether it will be asked what the job tried to reach.
    pub(super) wants_connections: bool,
}

/// Binds `plan` to this machine and does its first phase.
///
/// # Errors
/// The step that failed and why; what had been made is gone again.
pub(crate) fn prepare(plan: Rc<Plan>, mut context: Context<'_>) -> Result<Prepared, LaunchError> {
    let streams = context.streams.take();
    let context = &context;
    let signals = signals::block().map_err(|errno| LaunchError::setup("signals", words(errno)))?;
    let mapping = plan.with_child.iter().find_map(|step| match step {
        ChildStep::MapIds(mapping) => Some(mapping),
        _ => None,
    });
    let mapping = mapping.ok_or_else(|| LaunchError::setup("plan", "it maps no ids"))?;
    let maps = Maps::reserve(mapping, context.run_dir, context.ids)?;
    if plan
        .with_child
        .iter()
        .any(|step| matches!(step, ChildStep::MountOverlay { .. }))
    {
        overlay::own_namespace().map_err(|errno| LaunchError::setup("mount namespace", words(errno)))?;
    }
    let mut bound = bind(&plan, context, maps.setgroups())?;
    let mut made = Made::default();
    let total = plan.before_clone.len();
    for (index, step) in plan.before_clone.iter().enumerate() {
        let done = act(step, context, &maps, &mut made);
        done.map_err(|cause| LaunchError::step("host", index, total, step, cause))?;
    }
    for step in &plan.init {
        if let InitStep::TakeTree(tree) = step {
            let sources = sources(tree, context, &mut made)?;
            bound.sources.insert(tree.clone(), sources);
        }
    }
    let group_limits = match plan.cgroup() {
        Some(wanted) if made.group.is_none() => {
            made.site = Some(context.site.clone());
            limits(wanted, context).map_err(|cause| LaunchError::setup("control group", cause))?
        }
        _ => Limits::default(),
    };
    let Made {
        group,
        site,
        trees,
        layer_file,
        scratch,
    } = made;
    Ok(Prepared {
        plan,
        bound,
        maps,
        signals,
        group,
        group_limits,
        site,
        trees,
        layer_file,
        scratch,
        streams,
        networks: context.networks.clone(),
        wants_connections: context.connections,
    })
}

#[derive(Default)]
struct Made {
    group: Option<Group>,
    site: Option<Site>,
    trees: BTreeMap<Tree, Vec<OwnedFd>>,
    layer_file: Option<OwnedFd>,
    scratch: Option<Scratch>,
}

fn act(step: &HostStep, context: &Context<'_>, maps: &Maps, made: &mut Made) -> Result<(), String> {
    match step {
        HostStep::Cgroup(wanted) => {
            let limits = limits(wanted, context)?;
            let site = made.site.insert(context.site.clone());
            made.group = Some(make_group(site, &limits)?);
        }
        HostStep::TakeTree(tree) => {
            let mut taken = Vec::new();
            for path in paths(tree, context).map_err(|error| error.to_string())? {
                if let Some(place) = look(tree, &path, context)? {
                    taken.push(open_tree(place.as_fd(), c"").map_err(words)?);
                }
            }
            made.trees.insert(tree.clone(), taken);
        }
        HostStep::LayerFile { size } => {
            let owner = maps.base.ok_or("a layer file needs a range of ids")?;
            made.layer_file = Some(layer_file::make(context.scratch, *size, owner)?);
        }
    }
    Ok(())
}

/// Makes the run's own control group.
pub(super) fn make_group(site: &Site, limits: &Limits) -> Result<Group, String> {
    let name = format!("{}{}", cgroup::PREFIX, run_id());
    Group::create(site, &name, limits).map_err(|error| error.to_string())
}

/// Opens the place of a tree for reference only; none where an optional one is missing.
fn look(tree: &Tree, path: &Path, context: &Context<'_>) -> Result<Option<OwnedFd>, String> {
    let opened = match tree {
        Tree::Bind { .. } => {
            let text = path.to_str().ok_or("the path is not valid UTF-8")?;
            source::open_source(context.manifest_dir, text)
        }
        Tree::Layers | Tree::Scratch => open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()),
    };
    match opened {
        Err(Errno::ENOENT) if is_optional(tree) => Ok(None),
        opened => opened.map(Some).map_err(source::words),
    }
}

fn is_optional(tree: &Tree) -> bool {
    matches!(tree, Tree::Bind { optional: true, .. })
}

/// The run's name among control groups: unique on this host for as long as anything of it can be left.
fn run_id() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}

fn limits(wanted: &crate::plan::Cgroup, context: &Context<'_>) -> Result<Limits, String> {
    let mut io = Vec::new();
    for (device, limit) in &wanted.io {
        let (major, minor) = device_number(device, context)?;
        io.push(IoLimit {
            major,
            minor,
            read_bytes: limit.read.map(|bytes| bytes.0),
            write_bytes: limit.write.map(|bytes| bytes.0),
            read_ops: limit.read_ops,
            write_ops: limit.write_ops,
        });
    }
    let limited = Limits {
        memory: wanted.memory.map(|bytes| bytes.0),
        pids: wanted.pids,
        cpu: wanted.cpus.map(|share| CpuQuota::from_millicpus(share.0)),
        cpuset: wanted.cpuset.clone(),
        io,
        devices: wanted.devices,
        ..Limits::default()
    };
    let version = |number: u8| if number == 1 { Version::V1 } else { Version::V2 };
    let named = |(name, number): (&String, &u8)| Controller::from_name(name, version(*number));
    let count = wanted.controllers.iter().filter_map(named).collect();
    Ok(Limits { count, ..limited })
}

/// The number of a block device that the manifest names by path or as `major:minor`.
fn device_number(text: &str, context: &Context<'_>) -> Result<(u64, u64), String> {
    if let Some((major, minor)) = text.split_once(':')
        && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
    {
        return Ok((major, minor));
    }
    let path = context.manifest_dir.join(text);
    let seen = fs::metadata(&path).map_err(|error| format!("{}: {}", path.display(), io_words(&error)))?;
    Ok((
        nix::sys::stat::major(seen.rdev()),
        nix::sys::stat::minor(seen.rdev()),
    ))
}

/// Where a tree stands on the host.
fn paths(tree: &Tree, context: &Context<'_>) -> Result<Vec<PathBuf>, LaunchError> {
    match tree {
        Tree::Layers => Ok(context.layers.clone()),
        Tree::Bind { source, .. } => Ok(vec![context.manifest_dir.join(expand(source, context)?)]),
        Tree::Scratch => Ok(Vec::new()),
    }
}

/// What the launcher sees where PID 1 will take a tree.
fn sources(tree: &Tree, context: &Context<'_>, made: &mut Made) -> Result<Vec<Source>, LaunchError> {
    let found = if *tree == Tree::Scratch {
        let folder = Scratch::make(context.scratch, &run_id())
            .map_err(|cause| LaunchError::setup("writable layer", cause))?;
        vec![made.scratch.insert(folder).path().to_owned()]
    } else {
        paths(tree, context)?
    };
    let mut sources = Vec::new();
    for path in found {
        // The plan's own words for it: a variable's value may be a secret.
        let failed = |cause: String| match tree {
            Tree::Bind { source, .. } => LaunchError::Step {
                at: format!("bind {source}"),
                cause,
                keys: tree.keys(),
            },
            Tree::Layers | Tree::Scratch => LaunchError::setup(path.display().to_string(), cause),
        };
        let Some(place) = look(tree, &path, context).map_err(failed)? else {
            continue;
        };
        let seen = fstat(&place).map_err(|errno| failed(words(errno)))?;
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| failed("the path holds a NUL".to_owned()))?;
        sources.push(Source {
            path: name,
            identity: (seen.st_dev, seen.st_ino),
        });
    }
    Ok(sources)
}

fn expand(text: &Text, context: &Context<'_>) -> Result<String, LaunchError> {
    let folder = context.manifest_dir.to_str().ok_or_else(|| {
        LaunchError::setup(
            context.manifest_dir.display().to_string(),
            "the manifest's folder is not valid UTF-8",
        )
    })?;
    let expanded = text.expand(folder, context.variable);
    expanded.map_err(|name| LaunchError::setup(format!("variable {name}"), "not set in the environment"))
}

/// Every string of the plan as the kernel takes it.
fn bind(plan: &Plan, context: &Context<'_>, setgroups: bool) -> Result<Bound, LaunchError> {
    let c_string = |what: &str, text: String| {
        CString::new(text).map_err(|_| LaunchError::setup(what.to_owned(), "it holds a NUL"))
    };
    let mut argv = Vec::new();
    for word in &plan.exec.argv {
        argv.push(c_string("command", expand(word, context)?)?);
    }
    let mut env = Vec::new();
    let mut search = String::new();
    for (name, value) in &plan.exec.env {
        let value = expand(value, context)?;
        if name == "PATH" {
            search.clone_from(&value);
        }
        env.push(c_string(name, format!("{name}={value}"))?);
    }
    let first = argv
        .first()
        .and_then(|word| word.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let programs = candidates(&first, &search);
    let programs = programs
        .into_iter()
        .map(|path| c_string("command", path))
        .collect::<Result<_, _>>()?;
    let mut files = BTreeMap::new();
    for step in &plan.init {
        if let InitStep::Mount {
            at,
            what: Mounted::File { text },
        } = step
        {
            files.insert(at.clone(), expand(text, context)?);
        }
    }
    let mut workdir = "/".to_owned();
    for step in &plan.workload {
        if let WorkloadStep::Workdir(path) = step {
            workdir = expand(path, context)?;
            // The planner could not look into a variable. The message must not either: it may be a secret.
            if let Some(why) = unfit_workdir(&workdir) {
                return Err(LaunchError::setup(format!("workdir {path}"), why));
            }
        }
    }
    Ok(Bound {
        argv,
        programs,
        env,
        workdir,
        files,
        sources: BTreeMap::new(),
        caller: ids::caller(),
        setgroups,
        arch: context.arch,
        tty: context.tty,
        receipt: context.receipt,
        probes: probe::prepared(context.claims, &run_id())?,
    })
}

/// The files that execvp(3) would try: the word itself when it has a slash, else one in each folder of PATH.
fn candidates(word: &str, search: &str) -> Vec<String> {
    if word.contains('/') {
        return vec![word.to_owned()];
    }
    let folders = search
        .split(':')
        .map(|folder| if folder.is_empty() { "." } else { folder });
    folders.map(|folder| format!("{folder}/{word}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_without_a_slash_is_looked_up() {
        assert_eq!(candidates("sh", "/usr/bin:/bin"), ["/usr/bin/sh", "/bin/sh"]);
        assert_eq!(candidates("./sh", "/usr/bin"), ["./sh"]);
    }
}

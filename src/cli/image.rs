//! Images for jobs: found in the store, fetched where that is allowed, or taken from the host.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::args::Pull;
use super::failure::Failure;
use super::lock::Pins;
use super::project::Project;
use super::puller::{self, Puller};
use super::say;
use super::settings::Settings;
use super::survey::survey;
use crate::host::facts::{Caller, Facts, Feature, Support};
use crate::image::{Digest, Lease, Ownership, Platform, Source, Store, StoreError};
use crate::plan::{Image, ImageConfig, ImageKind};

/// The most of a folder's `/etc/passwd` that is read.
const LONGEST_FILE: u64 = 1 << 20;

/// How often an image is looked for that others remove meanwhile.
const ATTEMPTS: u32 = 3;

/// Subordinate ids that a store of an ordinary user needs to keep owners.
const IDS: u32 = 65536;

/// An image as the planner and the launcher take it.
pub(super) struct Found {
    /// What a plan may depend on.
    pub(super) image: Image,
    /// Its unpacked layers, lowest first.
    pub(super) layers: Vec<PathBuf>,
    /// Keeps the layers in the store while they are used.
    _lease: Option<Lease>,
}

/// How far the search for an image must and may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// What a plan depends on, and be it the word of the lock.
    Lock,
    /// The store.
    Store,
    /// The registries as well.
    Network,
}

/// Finds the image of a job.
///
/// # Errors
/// When it is not in the store and may not be fetched, or cannot be.
pub(super) fn find(
    source: &Source,
    project: &Project,
    pins: Option<&Pins>,
    settings: &Settings,
    facts: &Facts,
    reach: Reach,
) -> Result<Found, Failure> {
    match source {
        Source::Host => Ok(Found {
            image: Image::host(),
            layers: Vec::new(),
            _lease: None,
        }),
        Source::Dir(folder) => of_folder(source, &project.dir.join(folder)),
        Source::Registry(_) | Source::Oci { .. } | Source::Archive(_) => {
            let puller = Puller {
                settings,
                facts,
                base: &project.dir,
                quiet: false,
            };
            of_store(source, pins, &puller, reach)
        }
    }
}

fn of_store(
    source: &Source,
    pins: Option<&Pins>,
    puller: &Puller<'_>,
    reach: Reach,
) -> Result<Found, Failure> {
    let (request, platform) = (source.to_string(), puller::platform(puller.facts));
    let pin = pins
        .map(|pins| pins.get(&request, &platform))
        .transpose()?
        .flatten();
    let manifest = pin.map(|pin| pin.manifest());
    // What stands on this machine needs no network.
    let may_bring = match reach {
        Reach::Lock => false,
        Reach::Store => !matches!(source, Source::Registry(_)),
        Reach::Network => true,
    };
    for _ in 0..ATTEMPTS {
        let (image, store) = match puller.known(source, manifest)? {
            Some(known) => known,
            None if may_bring => {
                let brought = puller.bring(source, manifest)?;
                (brought.image, store_at(puller.settings)?)
            }
            None => {
                let locked = pin.and_then(|pin| pin.image(&request));
                return match locked.filter(|_| reach == Reach::Lock) {
                    Some(image) => Ok(Found {
                        image: planned(&image),
                        layers: Vec::new(),
                        _lease: None,
                    }),
                    None if platform != Platform::host() => Err(Failure::Image(format!(
                        "image {request}: {}; run `ringfence lock`",
                        match pin {
                            Some(_) => format!("its users and groups for {platform} are not locked"),
                            None => format!("it is not locked for {platform}"),
                        }
                    ))),
                    None => Err(Failure::Image(format!(
                        "image {request} is not in the store; run `ringfence pull`"
                    ))),
                };
            }
        };
        let image = crate::image::Image {
            reference: request.clone(),
            ..image
        };
        if let Some(pin) = pin {
            pin.check(&image)?;
        }
        let lease = match store.lease(&image) {
            // Between the look and the lease another process has removed it.
            Err(StoreError::Gone { .. }) => continue,
            lease => lease.map_err(|error| Failure::Image(error.to_string()))?,
        };
        return Ok(Found {
            layers: lease.layer_dirs().to_vec(),
            image: planned(&image),
            _lease: Some(lease),
        });
    }
    Err(Failure::Image(format!(
        "image {request}: it was removed from the store {ATTEMPTS} times while it was about to be used"
    )))
}

/// The store, which something has just been written to.
fn store_at(settings: &Settings) -> Result<Store, Failure> {
    Store::open(&settings.store)
        .map_err(|error| Failure::Image(error.to_string()))?
        .ok_or_else(|| Failure::Image(format!("image store {}: it has gone", settings.store.display())))
}

/// The parts of a stored image that a plan may depend on.
fn planned(image: &crate::image::Image) -> Image {
    let config = &image.config;
    let file = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect();
    Image {
        reference: image.reference.clone(),
        kind: ImageKind::Layers,
        digest: Some(image.digest.to_string()),
        layers: image
            .layers
            .iter()
            .map(|layer| layer.diff_id.to_string())
            .collect(),
        config: ImageConfig {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            working_dir: config.working_dir.clone(),
            user: config.user.clone(),
            stop_signal: Some(config.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        },
        passwd: file(image.accounts.passwd()),
        group: file(image.accounts.group()),
    }
}

/// A folder that is a root file system.
fn of_folder(source: &Source, folder: &Path) -> Result<Found, Failure> {
    let failed = |cause: String| Failure::Image(format!("image {source}: {}: {cause}", folder.display()));
    let root = open(
        folder,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failed(crate::launch::words(errno)))?;
    let image = Image {
        reference: source.to_string(),
        kind: ImageKind::Dir,
        digest: None,
        layers: Vec::new(),
        config: ImageConfig::default(),
        passwd: inside(&root, "etc/passwd").map_err(failed)?,
        group: inside(&root, "etc/group").map_err(failed)?,
    };
    Ok(Found {
        image,
        layers: vec![folder.to_owned()],
        _lease: None,
    })
}

/// A small regular file of a root file system, links resolved inside it; empty when there is none (security: T-C7).
fn inside(root: impl AsFd, path: &str) -> Result<String, String> {
    use std::io::Read;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(root, path, how) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(String::new()),
        opened => opened.map_err(|errno| format!("{path}: {}", crate::launch::words(errno)))?,
    };
    let seen = fstat(&file).map_err(|errno| format!("{path}: {}", crate::launch::words(errno)))?;
    if seen.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(format!("{path}: not a regular file"));
    }
    let mut text = Vec::new();
    let read = std::fs::File::from(file)
        .take(LONGEST_FILE)
        .read_to_end(&mut text);
    read.map_err(|error| format!("{path}: {}", crate::launch::io_words(&error)))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whose the files of this caller's store are.
///
/// # Errors
/// When the host could not be asked: a new store keeps for good what is decided here, so that nothing is guessed.
pub(super) fn ownership(settings: &Settings, facts: &Facts) -> Result<Ownership, Failure> {
    if let Some(Support::No(reason)) = facts.kernel_features.get(&Feature::UserNamespace) {
        return Err(Failure::Image(format!(
            "image store {}: whose files it is to hold cannot be told without a user namespace: {reason}",
            settings.store.display()
        )));
    }
    Ok(match facts.caller {
        Caller::Root if facts.store.idmapped_mounts => Ownership::Kept,
        Caller::Root => Ownership::Shifted {
            base: settings.ids.base,
        },
        Caller::User if facts.ids.subordinate_uids >= IDS && facts.ids.subordinate_gids >= IDS => {
            Ownership::Subordinate
        }
        Caller::User => Ownership::Single,
    })
}

/// `ringfence pull`.
pub(super) fn pull(args: &Pull) -> Result<u8, Failure> {
    let settings = Settings::load()?;
    let facts = survey(&settings, None)?.facts;
    let (wanted, base) = wanted(args)?;
    let puller = Puller {
        settings: &settings,
        facts: &facts,
        base: &base,
        quiet: args.quiet,
    };
    for (source, manifest) in wanted {
        if matches!(source, Source::Dir(_) | Source::Host) {
            continue;
        }
        let report = puller.bring(&source, manifest)?;
        if !args.quiet {
            say(&format!(
                "{source}: {}, {} fetched",
                report.image.digest,
                counted(report.fetched_layers as u64, "layer")
            ));
            if report.lost.owners > 0 {
                say(&format!("{source}: {}", of_nobody(report.lost.owners)));
            }
        }
    }
    Ok(0)
}

/// `1 layer`, `2 layers`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// What is said of files whose owner could not be kept.
pub(super) fn of_nobody(files: u64) -> String {
    format!("{} of users who have no id here", counted(files, "file"))
}

/// What is pulled: a source, and the manifest that it must be.
type Wanted = (Source, Option<Digest>);

/// The images that are named, or of the jobs that are, or of all jobs; each once.
fn wanted(args: &Pull) -> Result<(Vec<Wanted>, PathBuf), Failure> {
    // Images can be pulled without a manifest.
    let project = match Project::open(args.file.file.as_deref()) {
        Ok(project) => Some(project),
        Err(failure) if args.names.is_empty() || args.file.file.is_some() => return Err(failure),
        Err(_) => None,
    };
    let mut sources = Vec::new();
    let mut add = |source| {
        if !sources.contains(&source) {
            sources.push(source);
        }
    };
    let names: Vec<String> = match &project {
        Some(project) if args.names.is_empty() => project.manifest.jobs().map(str::to_owned).collect(),
        _ => args.names.clone(),
    };
    for name in &names {
        match &project {
            Some(project) if project.manifest.jobs().any(|job| job == name) => {
                add(as_locked(project.job(name)?.image.value, project)?)
            }
            _ => add((
                Source::parse(name).map_err(|error| Failure::Image(error.to_string()))?,
                None,
            )),
        }
    }
    let base = match project {
        Some(project) => project.dir,
        None => PathBuf::new(),
    };
    Ok((sources, base))
}

/// The image of a job, and the manifest that is locked of it, if one is.
fn as_locked(source: Source, project: &Project) -> Result<Wanted, Failure> {
    let pins = Pins::of(project, false)?.filter(|_| !matches!(source, Source::Dir(_) | Source::Host));
    let pin = pins
        .as_ref()
        .map(|pins| pins.get(&source.to_string(), &Platform::host()))
        .transpose()?
        .flatten();
    let manifest = pin.map(|pin| pin.manifest());
    Ok((source, manifest))
}

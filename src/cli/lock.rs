//! `ringfence lock`, and what a lock means for every other command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::args::Lock as Args;
use super::failure::Failure;
use super::project::Project;
use super::puller::{Puller, platform};
use super::settings::Settings;
use super::survey::survey;
use super::{print, say};
use crate::host::facts::Facts;
use crate::image::{Accounts, Digest, Image, Platform, Source};
use crate::lock::{Change, Lock, Locked, LockedImage};
use crate::seccomp::Arch;

/// The largest lock that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// The file of a lock, beside its manifest.
struct LockFile {
    path: PathBuf,
    /// What it holds; none when there is no file.
    lock: Option<Lock>,
}

impl LockFile {
    /// Reads the lock of a manifest; none for a job that has no manifest.
    ///
    /// # Errors
    /// When the file is there and is no lock, or a damaged one.
    fn of(project: &Project) -> Result<Option<LockFile>, Failure> {
        let Some(path) = project.lock_path() else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| {
            Failure::text(format!("{}: {}", path.display(), crate::launch::io_words(&error)))
        };
        let mut text = String::new();
        let lock = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            opened => {
                let file = opened.map_err(failed)?;
                file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
                let lock = Lock::parse(&text);
                Some(lock.map_err(|error| Failure::text(format!("{}{error}", path.display())))?)
            }
        };
        Ok(Some(LockFile { path, lock }))
    }

    /// Writes it whole: its old content or its new one is there at any time, also after a loss of power.
    fn write(&self, lock: &Lock) -> Result<(), Failure> {
        let (path, text) = (&self.path, lock.to_text());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let written = File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
            });
        written.map_err(|error| {
            // What is left of it is of no use; the error is what counts.
            std::fs::remove_file(&temporary).ok();
            Failure::text(format!(
                "write {}: {}",
                path.display(),
                crate::launch::io_words(&error)
            ))
        })
    }
}

/// What a manifest's lock says of the images of its jobs.
pub(super) struct Pins {
    /// Its file, for messages.
    name: String,
    lock: Lock,
    /// Whether an image that is not locked may not be run.
    required: bool,
}

impl Pins {
    /// The lock beside a manifest; none where there is no file.
    ///
    /// # Errors
    /// When the file is no lock, a damaged one, or not there although it is `required`.
    pub(super) fn of(project: &Project, required: bool) -> Result<Option<Pins>, Failure> {
        let Some(file) = LockFile::of(project)? else {
            return Ok(None);
        };
        let name = file.path.display().to_string();
        match file.lock {
            Some(lock) => Ok(Some(Pins { name, lock, required })),
            None if required => Err(Failure::Image(format!(
                "{name}: there is none, and --locked was given; run `ringfence lock`"
            ))),
            None => Ok(None),
        }
    }

    /// What an image was for a machine when it was locked; none, with a word about it, when it is not locked and need
    /// not be.
    ///
    /// # Errors
    /// When it must be locked and is not, or not for that machine.
    pub(super) fn get(&self, request: &str, machine: &Platform) -> Result<Option<Pin<'_>>, Failure> {
        let name = &self.name;
        let Some(locked) = self.lock.images.get(request) else {
            let missing = format!("{name}: {request} is not locked");
            if self.required {
                return Err(Failure::Image(format!(
                    "{missing}, and --locked was given; run `ringfence lock`"
                )));
            }
            say(&format!("ringfence: {missing}; run `ringfence lock`"));
            return Ok(None);
        };
        let (platform, image) = locked.image(machine).ok_or_else(|| {
            let offered = locked.offered();
            Failure::Image(format!(
                "{name}: {request} has no image for {machine}; it offers {offered}"
            ))
        })?;
        Ok(Some(Pin {
            file: name,
            platform,
            image,
        }))
    }
}

/// The image that a job runs, as it is locked.
#[derive(Clone, Copy)]
pub(super) struct Pin<'a> {
    file: &'a str,
    platform: &'a Platform,
    image: &'a LockedImage,
}

impl Pin<'_> {
    /// The digest of its manifest.
    pub(super) fn manifest(&self) -> Digest {
        self.image.manifest
    }

    /// The image as a plan takes it; none while its accounts are not known.
    pub(super) fn image(&self, request: &str) -> Option<Image> {
        self.image.image(request, self.platform)
    }

    /// Holds the image of the store against the lock.
    ///
    /// # Errors
    /// When the lock says something else about the same manifest: it was edited.
    pub(super) fn check(&self, stored: &Image) -> Result<(), Failure> {
        match self.image.differs(stored) {
            None => Ok(()),
            Some(what) => Err(Failure::Image(format!(
                "{}: `{what}` of {} is not what its manifest {} has; take it from version control, or remove it and run `ringfence lock`",
                self.file, stored.reference, stored.digest
            ))),
        }
    }
}

/// Writes the lock of a manifest, or says what is stale in it.
pub(super) fn lock(args: &Args) -> Result<u8, Failure> {
    let project = Project::open(args.file.file.as_deref())?;
    let file = LockFile::of(&project)?.ok_or_else(|| Failure::text("the manifest has no file"))?;
    let old = file.lock.clone().unwrap_or_default();
    let wanted = requests(&project)?;
    let requests: BTreeSet<String> = wanted.keys().cloned().collect();
    let moving = moving(args, &requests)?;
    let mut changes = old.stale(&requests);
    if args.check && moving.is_empty() {
        return answer(&file, &changes);
    }
    let settings = Settings::load()?;
    let facts = survey(&settings, None)?.facts;
    let puller = Puller {
        settings: &settings,
        facts: &facts,
        base: &project.dir,
        quiet: args.quiet,
    };
    let mut new = Lock::default();
    for (request, source) in &wanted {
        let before = old.images.get(request);
        let mut locked = match before {
            Some(before) if !moving.contains(request) => before.clone(),
            _ => Locked::new(puller.resolve(source)?, before),
        };
        if let Some(before) = before.filter(|before| before.index != locked.index) {
            changes.push(Change::Moved {
                request: request.clone(),
                from: before.index,
                to: locked.index,
            });
        }
        if !args.check {
            accounts(&mut locked, source, &puller)?;
        }
        new.images.insert(request.clone(), locked);
    }
    if args.check {
        return answer(&file, &changes);
    }
    if file.lock.as_ref() != Some(&new) {
        file.write(&new)?;
    }
    if !args.quiet {
        for change in &changes {
            say(&done(&file, change, &new));
        }
    }
    Ok(0)
}

/// The users and groups of its images for every machine that a plan can be made for, this one last. They stand in the layers:
/// on another machine a plan would have to ask a registry for them.
fn accounts(locked: &mut Locked, source: &Source, puller: &Puller<'_>) -> Result<(), Failure> {
    let own = puller.facts.arch;
    let others = Arch::ALL.into_iter().filter(|arch| *arch != own);
    for arch in others.chain([own]) {
        let facts = Facts {
            arch,
            ..puller.facts.clone()
        };
        let of_machine = Puller {
            facts: &facts,
            ..*puller
        };
        let Some(platform) = locked
            .image(&platform(&facts))
            .map(|(platform, _)| platform.clone())
        else {
            continue;
        };
        if let Some(image) = locked.platforms.get_mut(&platform)
            && image.accounts.is_none()
        {
            image.accounts = Some(known(&of_machine, source, image.manifest, arch == own)?);
        }
    }
    Ok(())
}

/// The users and groups of an image. One that is brought for another machine does not stay in the store.
fn known(puller: &Puller<'_>, source: &Source, manifest: Digest, stays: bool) -> Result<Accounts, Failure> {
    if let Some((image, _)) = puller.known(source, Some(manifest))? {
        return Ok(image.accounts);
    }
    let image = puller.bring(source, Some(manifest))?.image;
    if !stays {
        puller.take_out(manifest)?;
    }
    Ok(image.accounts)
}

/// Every image that a job, or a cell of the matrix, runs and that can be locked, by what is asked for. A folder and this
/// machine have no digest.
fn requests(project: &Project) -> Result<BTreeMap<String, Source>, Failure> {
    let mut wanted = BTreeMap::new();
    let mut add = |source: Source| {
        if matches!(
            source,
            Source::Registry(_) | Source::Oci { .. } | Source::Archive(_)
        ) {
            wanted.insert(source.to_string(), source);
        }
    };
    for name in project.manifest.jobs() {
        add(project.job(name)?.image.value);
        for variant in project.manifest.variants(name) {
            add(project.with(variant.manifest).job(name)?.image.value);
        }
    }
    Ok(wanted)
}

/// The requests whose meaning is to be looked up again.
fn moving(args: &Args, wanted: &BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
    let named = match args.update.as_deref() {
        None => return Ok(BTreeSet::new()),
        Some([]) => return Ok(wanted.clone()),
        Some(named) => named,
    };
    let known = |text: &String| {
        let source = Source::parse(text).map_err(|error| Failure::Image(error.to_string()))?;
        let request = source.to_string();
        match wanted.contains(&request) {
            true => Ok(request),
            false => {
                let jobs: Vec<&str> = wanted.iter().map(String::as_str).collect();
                Err(Failure::text(format!(
                    "lock: no job runs {request}; the jobs run {}",
                    if jobs.is_empty() {
                        "no image that can be locked".to_owned()
                    } else {
                        jobs.join(", ")
                    }
                )))
            }
        }
    };
    named.iter().map(known).collect()
}

/// What `--check` says: nothing and 0, or what is stale and 1.
fn answer(file: &LockFile, changes: &[Change]) -> Result<u8, Failure> {
    if changes.is_empty() && file.lock.is_some() {
        return Ok(0);
    }
    let name = file.path.display();
    let mut text = String::new();
    if file.lock.is_none() {
        text += &format!("{name}: there is none\n");
    }
    for change in changes {
        text += &match change {
            Change::Missing(request) => format!("{name}: {request} is not locked\n"),
            Change::Unused(request) => format!("{name}: {request} is locked, and no job runs it\n"),
            Change::Moved { request, from, to } => {
                format!("{name}: {request} is locked at {from}, and is {to} now\n")
            }
        };
    }
    print(&text)?;
    let moved = changes
        .iter()
        .any(|change| matches!(change, Change::Moved { .. }));
    let mend = if moved {
        "ringfence lock --update"
    } else {
        "ringfence lock"
    };
    say(&format!("ringfence: {name} is stale; run `{mend}`"));
    Ok(1)
}

fn done(file: &LockFile, change: &Change, new: &Lock) -> String {
    let name = file.path.display();
    match change {
        Change::Missing(request) => {
            let index = new.images.get(request).map(|image| image.index.to_string());
            format!("{name}: {request} locked at {}", index.unwrap_or_default())
        }
        Change::Unused(request) => format!("{name}: {request} removed"),
        Change::Moved { request, from, to } => format!("{name}: {request} moved from {from} to {to}"),
    }
}

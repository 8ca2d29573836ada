//! `ringfence export`: the same plan for another engine, with a list of what that cannot express.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::args::{Engine, Export as Args};
use super::failure::Failure;
use super::image::{self, Found, Reach};
use super::lock::Pins;
use super::project::Project;
use super::settings::Settings;
use super::survey::{Asked, Survey, survey, values};
use super::{print, say};
use crate::export::{self, Exported, Place, Rootfs, Sandbox, Target, Values};
use crate::image::{Renumber, Source, flatten};
use crate::launch::io_words;
use crate::plan::{self, IdMapping, Request};

/// Exports the plan of a job; 1 with `--strict` when the engine cannot express all of it, and then nothing is written.
pub(super) fn export(args: &Args) -> Result<u8, Failure> {
    let target = target(args.to);
    let output = args.output.as_deref();
    if target == Target::OciBundle && output.is_none() {
        return Err(Failure::text("an oci-bundle is a folder: name it with --output"));
    }
    let project = Project::open(args.file.file.as_deref())?;
    let job = project.job(project.job_name(args.job.as_deref())?)?;
    let settings = Settings::load()?;
    let Survey { facts, .. } = survey(&settings, Some((&project, Asked::by(&job))))?;
    // An engine that fetches the image itself needs no more of it than the lock's word.
    let reach = match target {
        Target::Docker | Target::Compose | Target::Kubernetes => Reach::Lock,
        Target::OciBundle | Target::Bwrap | Target::Nsjail => Reach::Store,
    };
    let pins = Pins::of(&project, false)?;
    let found = image::find(
        &job.image.value,
        &project,
        pins.as_ref(),
        &settings,
        &facts,
        reach,
    )?;
    let planned = plan::plan(&job, &facts, &found.image, &Request::default());
    let plan = planned.map_err(|problems| Failure::Manifest(project.render(&problems)))?;
    let variables = values(&job);
    let manifest_dir = project
        .dir
        .to_str()
        .ok_or_else(|| Failure::text("the manifest's folder is not valid UTF-8"))?;
    let values = Values {
        manifest_dir,
        variable: &|name| variables.get(name).cloned().flatten(),
        secret: &|name| job.variables.get(name).is_some_and(|variable| variable.secret),
        caller: (geteuid().as_raw(), getegid().as_raw()),
        base: settings.ids.base,
        arch: facts.arch,
        unset: job.unset.keys().cloned().collect(),
        rootfs: rootfs(&job.image.value, &found)?,
    };
    let failed =
        |refusal: export::Refusal| Failure::text(format!("export --to {}: {refusal}", target.name()));
    let sandbox = Sandbox::of(&plan, &values).map_err(failed)?;
    let exported = export::export(target, &sandbox, output.is_some()).map_err(failed)?;
    for loss in &exported.losses {
        say(&format!("ringfence: not expressed: {loss}"));
    }
    if args.strict && !exported.losses.is_empty() {
        return Ok(1);
    }
    let Some(folder) = output else {
        print(&exported.text)?;
        return Ok(0);
    };
    write(folder, &exported)?;
    if target == Target::OciBundle {
        let shift = match sandbox.mapping {
            IdMapping::Range => Some(settings.ids.base),
            // The store's files have these ids already.
            IdMapping::SharedRange => Some(0),
            _ => None,
        };
        fill(&folder.join("rootfs"), &sandbox, &found, shift)?;
    }
    Ok(0)
}

fn target(engine: Engine) -> Target {
    match engine {
        Engine::OciBundle => Target::OciBundle,
        Engine::Docker => Target::Docker,
        Engine::Compose => Target::Compose,
        Engine::Kubernetes => Target::Kubernetes,
        Engine::Bwrap => Target::Bwrap,
        Engine::Nsjail => Target::Nsjail,
    }
}

/// What the root file system is made of.
fn rootfs(source: &Source, found: &Found) -> Result<Rootfs, Failure> {
    Ok(match (source, found.layers.as_slice()) {
        (Source::Host, _) => Rootfs::Empty,
        (_, [one]) => Rootfs::Folder(
            one.to_str()
                .ok_or_else(|| Failure::text("the image's folder is not valid UTF-8"))?
                .to_owned(),
        ),
        _ => Rootfs::Layers,
    })
}

/// Writes the main file and those beside it into a folder, made where it is missing; nothing that is there is replaced.
fn write(folder: &Path, exported: &Exported) -> Result<(), Failure> {
    make(folder)?;
    let main = (exported.name.to_owned(), exported.text.clone());
    for (name, text) in std::iter::once(&main).chain(&exported.beside) {
        let path = folder.join(name);
        let failed = |error: std::io::Error| wrong(&path, &error);
        if let Some(parent) = path.parent() {
            make(parent)?;
        }
        let mut file = fs::File::create_new(&path).map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
        if exported.executable && *name == main.0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
    }
    Ok(())
}

/// Fills a bundle's root file system: the image, or for the image `host` the places that are mounted on.
fn fill(rootfs: &Path, sandbox: &Sandbox<'_>, found: &Found, shift: Option<u32>) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o755)
        .create(rootfs)
        .map_err(|error| wrong(rootfs, &error))?;
    if sandbox.rootfs != Rootfs::Empty {
        let shifted = |id: u32| id.saturating_add(shift.unwrap_or_default());
        let owners: Renumber<'_> = shift.is_some().then_some(&shifted);
        let left_out =
            flatten(&found.layers, rootfs, owners).map_err(|(path, error)| wrong(&path, &error))?;
        for mount in &sandbox.mounts {
            if let (Place::Tmpfs { mode, .. }, Some(path)) = (&mount.what, plain_folder(rootfs, mount.at)) {
                set_mode(&path, *mode)?;
            }
        }
        if left_out.files > 0 {
            say(&format!(
                "ringfence: not expressed: image: {} devices and sockets are left out",
                left_out.files
            ));
        }
        return Ok(());
    }
    let mut made = vec![rootfs.to_owned()];
    let mut folder = |at: &str| {
        let mut path = rootfs.to_owned();
        for name in at.split('/').filter(|name| !name.is_empty()) {
            path.push(name);
            if !path.exists() {
                fs::create_dir(&path).map_err(|error| wrong(&path, &error))?;
                made.push(path.clone());
            }
        }
        Ok::<PathBuf, Failure>(path)
    };
    for at in ["/proc", "/dev"] {
        folder(at)?;
    }
    let mut links = Vec::new();
    for mount in &sandbox.mounts {
        let parent = mount.at.rfind('/').map_or("", |slash| &mount.at[..slash]);
        let is_file = match &mount.what {
            Place::Tmpfs { mode, .. } => {
                set_mode(&folder(mount.at)?, *mode)?;
                false
            }
            Place::Bind { source, .. } | Place::Copy { source } => !Path::new(source).is_dir(),
            Place::File(_) => true,
            Place::Link(target) => {
                links.push((folder(parent)?.join(&mount.at[parent.len() + 1..]), *target));
                continue;
            }
        };
        if is_file {
            let path = folder(parent)?.join(&mount.at[parent.len() + 1..]);
            fs::write(&path, "").map_err(|error| wrong(&path, &error))?;
            links.push((path, ""));
        } else {
            folder(mount.at)?;
        }
    }
    for (path, target) in links {
        if !target.is_empty() {
            symlink(target, &path).map_err(|error| wrong(&path, &error))?;
        }
        made.push(path);
    }
    if let Some(base) = shift {
        for path in made {
            lchown(&path, Some(base), Some(base)).map_err(|error| wrong(&path, &error))?;
        }
    }
    Ok(())
}

/// A place of the root file system that is a folder without a link on the way to it.
fn plain_folder(rootfs: &Path, at: &str) -> Option<PathBuf> {
    let mut path = rootfs.to_owned();
    for name in at.split('/').filter(|name| !name.is_empty()) {
        path.push(name);
        if !fs::symlink_metadata(&path).ok()?.is_dir() {
            return None;
        }
    }
    Some(path)
}

/// runc gives what it mounts in memory the access bits of the folder below (`rootfs_linux.go`, mountToRootfs).
fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| wrong(path, &error))
}

fn make(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| wrong(folder, &error))
}

fn wrong(path: &Path, error: &std::io::Error) -> Failure {
    Failure::text(format!("export {}: {}", path.display(), io_words(error)))
}

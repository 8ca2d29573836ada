//! `ringfence image import` and `export`.

use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::super::image::{counted, of_nobody, ownership};
use super::super::puller::progress;
use super::super::say;
use super::super::settings::Settings;
use super::super::survey::survey;
use super::{Export as ExportArgs, Import as ImportArgs, find_for, open};
use crate::image::{
    Credentials, Export, Exported, Import, Inventory, Lost, Platform, Reference, Source, export_in_child,
    import_in_child,
};

/// The image source that is this machine.
const HOST: &str = "host";

/// Brings the image of a layout, an archive or a folder into the store, with all that an export needs.
pub(super) fn import(args: &ImportArgs) -> Result<u8, Failure> {
    let name = args.name.as_deref().map(Reference::parse).transpose();
    let name = name.map_err(|error| Failure::Image(error.to_string()))?;
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(Failure::Image(
            "image import: a name has no digest: that is what the image has".to_owned(),
        ));
    }
    let platform = platform(args.platform.as_deref())?.unwrap_or_else(Platform::host);
    let import = Import {
        source: source(&args.from)?,
        base: current_folder()?,
        platform,
        manifest: None,
        name,
        keep: true,
    };
    let settings = Settings::load()?;
    let facts = survey(&settings, None)?.facts;
    let ownership = ownership(&settings, &facts)?;
    let report = progress(import.source.to_string(), args.quiet, |show| {
        import_in_child(&settings.store, ownership, &import, show)
    })?;
    if !args.quiet {
        let name = import
            .name
            .map_or_else(|| import.source.to_string(), |name| name.to_string());
        let layers = counted(report.fetched_layers as u64, "layer");
        say(&format!("{name}: {}, {layers} unpacked", report.image.digest));
        if report.lost.owners > 0 {
            say(&format!("{name}: {}", of_nobody(report.lost.owners)));
        }
    }
    Ok(0)
}

/// Writes an image of the store into a layout, an archive or a folder.
pub(super) fn export(args: &ExportArgs) -> Result<u8, Failure> {
    if args.image == HOST {
        return Err(Failure::Image(
            "image export: `host` is this machine itself, and no store holds it".to_owned(),
        ));
    }
    let target = Source::parse(&args.to).map_err(|error| Failure::Image(error.to_string()))?;
    if !matches!(target, Source::Oci { .. } | Source::Archive(_) | Source::Dir(_)) {
        return Err(Failure::Image(format!(
            "image export: `{}` is no target; write `oci:DIR[:TAG]`, `archive:FILE` or `dir:DIR`",
            args.to
        )));
    }
    let settings = Settings::load()?;
    let inventory = open(&settings)?.map_or_else(Inventory::default, |(_, inventory)| inventory);
    let platform = platform(args.platform.as_deref())?;
    let (digest, held) = find_for(&inventory, &args.image, platform.as_ref())?;
    let export = Export {
        image: digest,
        names: held.names.clone(),
        target,
        base: current_folder()?,
        registries: (!args.offline).then(|| settings.registries.clone()),
        credentials: Credentials::from_environment(),
    };
    let exported = export_in_child(&settings.store, &export);
    let exported = exported.map_err(|error| Failure::Image(error.to_string()))?;
    for missing in missing(exported) {
        say(&format!("{}: {missing}", export.target));
    }
    Ok(0)
}

/// What a folder does not hold of an image.
fn missing(exported: Exported) -> Vec<String> {
    let Lost {
        devices,
        owners,
        xattrs,
        setid,
    } = exported.lost;
    let of_layers = [
        (devices, "device"),
        (setid, "file with set-id bits"),
        (xattrs, "attribute"),
    ];
    let of_layers = of_layers.iter().filter(|(number, _)| *number > 0);
    let of_layers: Vec<String> = of_layers.map(|(number, noun)| counted(*number, noun)).collect();
    let mut missing = Vec::new();
    if !of_layers.is_empty() {
        missing.push(format!(
            "its layers had more, which no store keeps: {}",
            of_layers.join(", ")
        ));
    }
    if owners > 0 {
        missing.push(format!(
            "{} of users who have no id here",
            counted(owners, "file")
        ));
    }
    if exported.xattrs > 0 {
        let attributes = counted(exported.xattrs, "attribute");
        missing.push(format!("{attributes} that its file system does not take"));
    }
    missing
}

/// The platform that is asked for.
fn platform(text: Option<&str>) -> Result<Option<Platform>, Failure> {
    let parsed = text.map(|text| {
        text.parse().map_err(|()| {
            Failure::Usage(format!(
                "ringfence: --platform `{text}` is not a platform; write for example `linux/arm64`"
            ))
        })
    });
    parsed.transpose()
}

/// What a path is, or a source as manifests write it.
fn source(text: &str) -> Result<Source, Failure> {
    let path = Path::new(text);
    if path.is_dir() {
        return match path.join("oci-layout").exists() {
            true => Ok(Source::Oci {
                dir: text.to_owned(),
                tag: None,
            }),
            false => Err(Failure::Image(format!(
                "image import: {text} is no OCI layout; a folder that is a root file system is imported as `dir:{text}`, and runs as it is with `image = \"dir:{text}\"`"
            ))),
        };
    }
    if text == HOST && !path.exists() {
        return Err(Failure::Image(
            "image import: `host` is this machine itself; a job runs on it as it is with `image = \"host\"`"
                .to_owned(),
        ));
    }
    match Source::parse(text) {
        Ok(source @ (Source::Oci { .. } | Source::Archive(_) | Source::Dir(_))) => Ok(source),
        _ => Ok(Source::Archive(text.to_owned())),
    }
}

fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::text(format!("current folder: {error}")))
}

//! `ringfence import`: what other tools run, as a manifest.

use std::io::Read;

use super::args::{Import as Args, Tool};
use super::failure::Failure;
use super::{print, say};
use crate::import::{self, Imported};
use crate::launch::io_words;
use crate::manifest;
use crate::profile;

/// Prints the manifest; 1 with `--strict` when it does not say everything, and then nothing is printed.
pub(super) fn import(args: &Args) -> Result<u8, Failure> {
    let imported = imported(args)?;
    for left in &imported.left_out {
        say(&format!("ringfence: left out: {left}"));
    }
    if args.strict && !imported.left_out.is_empty() {
        return Ok(1);
    }
    print(&imported.manifest)?;
    // What was wrong there is wrong here, and said as `check` would: the text is printed all the same, to be mended.
    if let Some(problems) = profile::check(&imported.manifest).filter(|found| found.has_errors()) {
        return Err(Failure::Manifest(problems.render(
            "imported",
            &imported.manifest,
            false,
        )));
    }
    Ok(0)
}

fn imported(args: &Args) -> Result<Imported, Failure> {
    let name = |tool| match tool {
        Tool::Docker => "docker",
        Tool::Compose => "compose",
        Tool::Devcontainer => "devcontainer",
    };
    let failed =
        |refusal: import::Refusal| Failure::text(format!("import --from {}: {refusal}", name(args.from)));
    match args.from {
        Tool::Docker => {
            if args.file.is_some() || args.words.is_empty() {
                return Err(Failure::text(
                    "import --from docker takes the line after `--`: `ringfence import --from docker -- docker run …`",
                ));
            }
            import::docker(&args.words).map_err(failed)
        }
        Tool::Compose => import::compose(&read(args)?).map_err(failed),
        Tool::Devcontainer => import::devcontainer(&read(args)?).map_err(failed),
    }
}

/// The file, or standard input; no larger than a manifest may be.
fn read(args: &Args) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = manifest::MAX_BYTES as u64;
    let (name, read) = match &args.file {
        Some(path) => {
            let opened = std::fs::File::open(path);
            let read = opened.and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
            (path.display().to_string(), read)
        }
        None => {
            let read = std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes);
            ("standard input".to_owned(), read)
        }
    };
    let failed = |cause: String| Failure::text(format!("import {name}: {cause}"));
    read.map_err(|error| failed(io_words(&error)))?;
    if bytes.len() as u64 > most {
        return Err(failed(format!("larger than {most} bytes, the most that is read")));
    }
    String::from_utf8(bytes).map_err(|_| failed("not UTF-8".to_owned()))
}

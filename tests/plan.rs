//! Every job of the example manifests, planned for every recorded host: through the library's public face, and by a
//! thread that may open nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringfence::host::facts::{Caller, Facts};
use ringfence::plan::{Image, Plan, Request, plan};
use ringfence::problem::Problems;
use ringfence::{manifest, profile};

/// A manifest, a host or an image, by the stem of its file.
struct File {
    name: String,
    text: String,
}

fn files(folder: &str) -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(!paths.is_empty(), "{} has no files", folder.display());
    let file = |path: PathBuf| File {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        text: fs::read_to_string(&path).expect("a text"),
    };
    paths.into_iter().map(file).collect()
}

fn facts(file: &File) -> Facts {
    Facts::from_toml(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.name))
}

/// What `image = "…"` means here: `host`, or the recorded image of that name.
fn image(text: &str, images: &[(String, Image)]) -> Image {
    let name = text.trim_matches('"').split(':').next().unwrap_or_default();
    match name {
        "host" => Image::host(),
        name => {
            let found = images.iter().find(|(image, _)| image == name);
            found
                .unwrap_or_else(|| panic!("tests/images/{name}.toml is missing"))
                .1
                .clone()
        }
    }
}

fn images() -> Vec<(String, Image)> {
    let read = |file: File| {
        let image = toml::from_str(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.name));
        (file.name, image)
    };
    files("tests/images").into_iter().map(read).collect()
}

/// Every job of a manifest as a host would run it.
fn plans(text: &str, facts: &Facts, images: &[(String, Image)]) -> Vec<(String, Result<Plan, Problems>)> {
    let manifest = manifest::parse(text).expect("the examples are right");
    let planned = |name: &str| {
        let job = profile::resolve(&manifest, name).expect("the examples are right");
        let image = image(&text[job.image.span().expect("it was written")], images);
        (name.to_owned(), plan(&job, facts, &image, &Request::default()))
    };
    manifest.jobs().map(planned).collect()
}

/// Plans and refusals of a whole manifest, as a person would read them.
fn sheet(file: &File, facts: &Facts, images: &[(String, Image)]) -> String {
    let name = format!("manifests/{}.toml", file.name);
    let shown = |(job, planned): (String, Result<Plan, Problems>)| match planned {
        Ok(plan) => plan.to_string(),
        Err(problems) => format!(
            "job {job} is refused\n\n{}",
            problems.render(&name, &file.text, false)
        ),
    };
    let sheets: Vec<String> = plans(&file.text, facts, images).into_iter().map(shown).collect();
    sheets.join("\n----\n\n")
}

#[test]
fn every_example_on_every_host() {
    let images = images();
    let hosts = files("tests/hosts");
    for manifest in files("manifests") {
        for host in &hosts {
            let mut settings = insta::Settings::clone_current();
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.set_snapshot_path("plans");
            settings.bind(|| {
                let name = format!("{}@{}", manifest.name, host.name);
                insta::assert_snapshot!(name, sheet(&manifest, &facts(host), &images));
            });
        }
    }
}

/// The format that other programs read, one plan of each kind of caller.
#[test]
fn json_and_toml_are_stable() {
    let hello = files("manifests")
        .into_iter()
        .find(|file| file.name == "hello")
        .expect("hello.toml");
    for host in files("tests/hosts") {
        if !["root-v1", "rootless-v2-subids"].contains(&host.name.as_str()) {
            continue;
        }
        let (_, planned) = plans(&hello.text, &facts(&host), &images()).remove(0);
        let plan = planned.expect("hello runs on both");
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_snapshot_path("plans");
        settings.bind(|| {
            insta::assert_snapshot!(format!("hello@{}.json", host.name), plan.to_json());
            insta::assert_snapshot!(format!("hello@{}.toml", host.name), plan.to_toml());
        });
    }
}

/// Nothing in a plan is of the machine that made it: the same facts give the same bytes, and no host path is in them.
#[test]
fn a_plan_is_the_same_everywhere() {
    let images = images();
    let here = env!("CARGO_MANIFEST_DIR");
    for host in files("tests/hosts") {
        let facts = facts(&host);
        for file in files("manifests") {
            let first = sheet(&file, &facts, &images);
            assert_eq!(first, sheet(&file, &facts, &images));
            assert!(!first.contains(here), "{}", file.name);
            assert!(
                !first.contains(&facts.kernel),
                "{}: the kernel's release decides nothing",
                file.name
            );
        }
    }
}

/// As root nothing of a plan is done with the caller's ids, and as an ordinary user nothing with privilege.
#[test]
fn who_takes_trees_follows_the_caller() {
    let images = images();
    for host in files("tests/hosts") {
        let facts = facts(&host);
        for file in files("manifests") {
            for plan in plans(&file.text, &facts, &images)
                .into_iter()
                .filter_map(|(_, plan)| plan.ok())
            {
                let host_takes = plan
                    .before_clone
                    .iter()
                    .any(|step| step.to_string().starts_with("take "));
                let init_takes = plan.init.iter().any(|step| step.to_string().starts_with("take "));
                assert_eq!(
                    (host_takes, init_takes),
                    (facts.caller == Caller::Root, facts.caller == Caller::User),
                    "{} on {}",
                    plan.job,
                    host.name
                );
            }
        }
    }
}

/// Set in the child process of a test: what it does behind a filter that lets nothing be opened.
const ROOM: &str = "RINGFENCE_TEST_ROOM";

/// Everything from the manifest's text to the plan's, in a process whose thread the kernel kills on any call that
/// could look at the machine.
#[test]
fn the_planner_opens_nothing() {
    match std::env::var(ROOM).as_deref() {
        Ok("plan") => {
            let (images, hosts, manifests) = (images(), files("tests/hosts"), files("manifests"));
            room::close();
            let mut planned = 0;
            for host in &hosts {
                let facts = facts(host);
                for file in &manifests {
                    sheet(file, &facts, &images);
                    for (_, plan) in plans(&file.text, &facts, &images) {
                        planned += plan.map_or(0, |plan| plan.to_json().len() + plan.to_toml().len());
                    }
                }
            }
            std::process::exit(if planned > 0 { 0 } else { 1 })
        }
        Ok(_) => {
            room::close();
            drop(fs::metadata("/"));
            std::process::exit(0)
        }
        Err(_) => {}
    }
    let run = |what: &str| {
        let mut again = Command::new(std::env::current_exe().expect("this test"));
        let again = again.args(["--exact", "the_planner_opens_nothing", "--test-threads=1"]);
        again.env(ROOM, what).output().expect("this test again")
    };
    let looks = run("look");
    if looks.status.code() == Some(room::UNAVAILABLE) {
        assert_ne!(
            std::env::var("RINGFENCE_TESTS").as_deref(),
            Ok("require"),
            "no seccomp filters"
        );
        eprintln!("skipped: the kernel has no seccomp filters");
        return;
    }
    // The room is closed: a thread that looks at the root directory is killed.
    assert_eq!(looks.status.signal(), Some(nix::libc::SIGSYS), "{looks:?}");
    let plans = run("plan");
    assert_eq!(plans.status.code(), Some(0), "{plans:?}");
}

/// A room without a door: a seccomp filter with which a thread can compute and end, and nothing else.
mod room {
    use std::collections::BTreeMap;

    use nix::libc;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    /// The exit code where the kernel takes no filter.
    pub(crate) const UNAVAILABLE: i32 = 77;

    /// Memory, locks, and the end. getrandom(2) seeds the hash sets of messages.
    const ALLOWED: [libc::c_long; 11] = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_exit_group,
    ];

    pub(crate) fn close() {
        let rules: BTreeMap<_, _> = ALLOWED.iter().map(|number| (*number, Vec::new())).collect();
        let arch = std::env::consts::ARCH
            .try_into()
            .expect("an architecture of seccompiler");
        let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch);
        let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
        if seccompiler::apply_filter(&program).is_err() {
            std::process::exit(UNAVAILABLE);
        }
    }
}

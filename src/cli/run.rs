//! `ringfence run`: plan, then launch, then say how it ended.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

use super::args::Run as Args;
use super::explain;
use super::failure::Failure;
use super::image::{self, Reach};
use super::lock::Pins;
use super::project::Project;
use super::settings::Settings;
use super::survey::{Asked, Survey, survey, values};
use super::{print, say};
use crate::launch::{self, Context, Ended, Exit, LaunchError, Published};
use crate::net::bridge::Networks;
use crate::plan::{self, Plan, Request};
use crate::profile::{self, Explained, Explanation, Job};
use crate::report::receipt::Receipt;
use crate::report::verdict::{End, Hit, Verdict, end, judge};

/// The exit code of a run that its wall limit ended (contract: exit codes).
const WALL: u8 = 124;

/// Runs a job; the exit code is the job's own, 124, 126, 127 or 128 + n.
pub(super) fn run(args: Args) -> Result<u8, Failure> {
    // Opened first: a receipt that cannot be written must not be noticed after the job has run.
    let mut report = args.report.as_deref().map(create).transpose()?;
    let failure = match run_job(&args, &mut report) {
        Ok(code) => return Ok(code),
        Err(failure) => failure,
    };
    if let Some(file) = &mut report {
        let job = args.job.as_deref();
        let receipt = Receipt::refused(job, failure.verdict(), failure.exit_code(), failure.to_string());
        if let Err(cause) = write(file, &receipt) {
            say(&cause);
        }
    }
    Err(failure)
}

fn run_job(args: &Args, report: &mut Option<File>) -> Result<u8, Failure> {
    let project = match &args.adhoc.image {
        Some(image) => Project::of_image(&args.adhoc, image, &args.args)?,
        None => Project::open(args.file.file.as_deref())?,
    };
    if args.adhoc.save {
        print(project.text())?;
        return Ok(0);
    }
    let job = project.job(project.job_name(args.job.as_deref())?)?;
    let settings = Settings::load()?;
    let reach = if args.offline {
        Reach::Store
    } else {
        Reach::Network
    };
    let run_dir = settings.run_dir()?;
    let Survey { facts, site } = survey(&settings, Some((&project, Asked::by(&job))))?;
    let pins = Pins::of(&project, args.locked)?;
    let found = image::find(
        &job.image.value,
        &project,
        pins.as_ref(),
        &settings,
        &facts,
        reach,
    )?;
    let request = Request {
        args: (!args.args.is_empty() && args.adhoc.image.is_none()).then(|| args.args.clone()),
        tty: args.tty,
    };
    let planned = plan::plan(&job, &facts, &found.image, &request);
    let plan = planned.map_err(|problems| Failure::Manifest(project.render(&problems)))?;
    let plan = Rc::new(plan);
    if args.record && plan.network.is_empty() {
        let why = "--record: this job has no network of its own whose connections are counted; it needs `network.mode = \"bridge\"`";
        return Err(Failure::text(why.to_owned()));
    }
    launch::keep_from_job(&plan)?;
    for notice in &plan.notices {
        say(&format!("ringfence: {}: {}", notice.about, notice.text));
    }
    let variables = values(&job);
    let context = Context {
        manifest_dir: &project.dir,
        variable: &|name| variables.get(name).cloned().flatten(),
        layers: found.layers,
        scratch: &settings.store,
        run_dir: &run_dir,
        networks: Networks::of(run_dir.path(), settings.pool),
        site: &site,
        ids: settings.ids,
        arch: facts.arch,
        tty: args.tty,
        receipt: args.report.is_some(),
        connections: args.report.is_some() || args.record,
        streams: None,
        claims: &[],
    };
    let started = launch::prepare(Rc::clone(&plan), context).and_then(|prepared| prepared.start());
    let running = started.map_err(|error| located(error, &project, &job))?;
    for port in running.published().iter().filter(|port| port.chosen) {
        let Published { at, protocol, to, .. } = port;
        say(&format!(
            "ringfence: published: {at} ({protocol}, to {to} inside)"
        ));
    }
    for notice in running.network_notices() {
        say(&format!("ringfence: network: {notice}"));
    }
    let exit = running.wait();
    let code = finish(&project, &job, &plan, &exit, report);
    if args.record {
        let connections = exit.connections.unwrap_or_default();
        let entries = connections.entries(&job.name);
        say(match entries.trim_end() {
            "" => "# This run needed no entry.",
            entries => entries,
        });
    }
    Ok(code)
}

/// Says what the exit code alone does not, and writes the receipt. The job has run, so the code is its own from here on,
/// whatever happens to the receipt: 125 would say that it never started.
fn finish(project: &Project, job: &Job, plan: &Plan, exit: &Exit, report: &mut Option<File>) -> u8 {
    let (verdict, mut hits) = judge(plan, exit);
    let wanted = report.is_some() || !hits.is_empty();
    let explanation = wanted
        .then(|| profile::explain(&project.manifest, &job.name).ok())
        .flatten();
    for hit in &mut hits {
        hit.at = explanation
            .as_ref()
            .and_then(|explanation| place(project, explanation, hit.key));
    }
    let code = exit_code(exit);
    for hit in &hits {
        say(&sentence(verdict, hit));
    }
    for trouble in &exit.undo {
        say(&format!("ringfence: after the job's end: {trouble}"));
    }
    if let Some(file) = report {
        let lines = |keys: &[String]| {
            let explanation = explanation.iter();
            let values =
                explanation.flat_map(|explanation| keys.iter().flat_map(|key| explanation.under(key)));
            let held = values.filter_map(|value| value.holds().filter(|setting| !setting.removes));
            held.map(|setting| explain::place(setting, project)).collect()
        };
        let receipt = Receipt::of(plan, exit, verdict, code, hits, &lines);
        let written = receipt.map_err(|error| format!("ringfence: receipt: {error}"));
        if let Err(cause) = written.and_then(|receipt| write(file, &receipt)) {
            say(&cause);
        }
    }
    code
}

/// The contract's exit code of a job that was started.
pub(super) fn exit_code(exit: &Exit) -> u8 {
    match (exit.ended, end(exit.status)) {
        (Ended::Wall, _) => WALL,
        (_, End::Code(code)) => u8::try_from(code).unwrap_or(u8::MAX),
        (_, End::Signal(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    }
}

/// `ringfence: oom: limits.memory = 64MiB (peak 67108864B, 1 killed), ci.toml:12:10`.
fn sentence(verdict: Verdict, hit: &Hit) -> String {
    let ended = if verdict.limit() == Some(hit.key) {
        verdict.to_string()
    } else {
        "limit touched".to_owned()
    };
    let at = hit.at.as_ref().map(|at| format!(", {at}")).unwrap_or_default();
    format!(
        "ringfence: {ended}: {} = {} ({}){at}",
        hit.key, hit.value, hit.observed
    )
}

/// Where a key was written, by the manifest or a built-in profile.
fn place(project: &Project, explanation: &Explanation, key: &str) -> Option<String> {
    let setting = explanation.holds(key)?;
    (!setting.removes).then(|| explain::place(setting, project))
}

/// The error of a step with the line of the manifest that asked for it.
fn located(error: LaunchError, project: &Project, job: &Job) -> Failure {
    let explanation = profile::explain(&project.manifest, &job.name).ok();
    let found = explanation.iter().find_map(|explanation| {
        let values = error.keys().iter().flat_map(|key| explanation.under(key));
        let mut written = values.filter_map(Explained::holds);
        written
            .find(|setting| setting.built_in.is_none() && !setting.removes)
            .map(|setting| explain::place(setting, project))
    });
    Failure::Launch { error, at: found }
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path)
        .map_err(|error| Failure::text(format!("report {}: {}", path.display(), launch::io_words(&error))))
}

/// Writes the receipt; the whole message when that cannot be done.
fn write(file: &mut File, receipt: &Receipt) -> Result<(), String> {
    let text =
        serde_json::to_string_pretty(receipt).map_err(|error| format!("ringfence: report: {error}"))?;
    file.write_all((text + "\n").as_bytes())
        .map_err(|error| format!("ringfence: report: {}", launch::io_words(&error)))
}

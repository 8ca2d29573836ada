//! `ringfence test`: a job's expectations, held against what its real sandbox does.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::errno::Errno;

use super::args::{Test as Args, TestFormat};
use super::failure::Failure;
use super::image::{self, Reach};
use super::lock::Pins;
use super::print;
use super::project::Project;
use super::run::exit_code;
use super::settings::Settings;
use super::survey::{Asked, Survey, survey, values};
use crate::expect::{End, Format, Outcome, Seen, Tested, judge, judge_end};
use crate::launch::{self, Context, Exit, LaunchError};
use crate::net::bridge::Networks;
use crate::plan::{self, Plan, Request};
use crate::profile::{Claim, Job};
use crate::report::verdict;
use crate::stage::probe::{EMPTY, NO_ADDRESS};

/// The most of each stream that an expression is matched against.
const MATCHED: u64 = 16 << 20;

/// Tests every job that is asked for; 1 when an expectation does not hold.
pub(super) fn test(args: &Args) -> Result<u8, Failure> {
    let project = Project::open(args.file.file.as_deref())?;
    let jobs = match &args.job {
        Some(name) => vec![project.job(name)?],
        None => {
            let all = project.manifest.jobs().map(|name| project.job(name));
            all.filter(|job| job.as_ref().map_or(true, |job| !job.expect.is_empty()))
                .collect::<Result<_, _>>()?
        }
    };
    if jobs.iter().all(|job| job.expect.is_empty()) {
        return Err(Failure::text(
            "nothing is expected; write a table `[[job.NAME.expect]]`, such as `cannot-read = \"/etc/shadow\"`",
        ));
    }
    let settings = Settings::load()?;
    let reach = if args.offline {
        Reach::Store
    } else {
        Reach::Network
    };
    let tested = jobs.iter().map(|job| held(&project, &settings, job, reach));
    let tested = tested.collect::<Result<Vec<_>, _>>()?;
    let format = match args.format {
        TestFormat::Text => Format::Text,
        TestFormat::Tap => Format::Tap,
        TestFormat::Junit => Format::Junit,
        TestFormat::Json => Format::Json,
    };
    print(&format.render(&tested))?;
    Ok(u8::from(tested.iter().any(|job| job.failures() > 0)))
}

/// The expectations of one job: those about its sandbox in one run of it, those about its end in another.
fn held(project: &Project, settings: &Settings, job: &Job, reach: Reach) -> Result<Tested, Failure> {
    let run_dir = settings.run_dir()?;
    let Survey { facts, site } = survey(settings, Some((project, Asked::by(job))))?;
    let pins = Pins::of(project, false)?;
    let found = image::find(&job.image.value, project, pins.as_ref(), settings, &facts, reach)?;
    let planned = plan::plan(job, &facts, &found.image, &Request::default());
    let plan = planned.map_err(|problems| Failure::Manifest(project.render(&problems)))?;
    launch::keep_from_job(&plan)?;
    let variables = values(job);
    let claims = job.expect.iter().map(|claim| claim.value.clone());
    let (of_end, of_sandbox): (Vec<Claim>, Vec<Claim>) = claims.partition(Claim::is_about_the_end);
    let start = |plan: Plan, streams, claims| {
        let context = Context {
            manifest_dir: &project.dir,
            variable: &|name| variables.get(name).cloned().flatten(),
            layers: found.layers.clone(),
            scratch: &settings.store,
            run_dir: &run_dir,
            networks: Networks::of(run_dir.path(), settings.pool),
            site: &site,
            ids: settings.ids,
            arch: facts.arch,
            tty: false,
            connections: false,
            receipt: false,
            streams: Some(streams),
            claims,
        };
        Ok(launch::prepare(Rc::new(plan), context)?.start()?.wait())
    };
    let mut answers = Vec::new();
    if !of_sandbox.is_empty() {
        // The job's time is its own; what is asked has bounds of its own.
        let mut asked = plan.clone();
        asked.watch.wall_ms = None;
        answers = start(asked, [null()?, null()?, null()?], &of_sandbox)?.answers;
    }
    let end = match of_end.as_slice() {
        [] => None,
        _ => {
            let (output, errors) = (launch::anonymous_file()?, launch::anonymous_file()?);
            let streams = [null()?, copy(&output)?, copy(&errors)?];
            Some(end_of(&plan, start(plan.clone(), streams, &[]), output, errors)?)
        }
    };
    let mut answers = answers.into_iter();
    let outcome = |claim: &crate::profile::Placed<Claim>| {
        let (met, seen) = match &end {
            Some(end) if claim.value.is_about_the_end() => judge_end(&claim.value, end),
            _ => judge(&claim.value, &seen(&claim.value, answers.next())),
        };
        Outcome {
            expect: claim.value.to_string(),
            met,
            seen,
            at: claim
                .span()
                .map(|span| project.place(span.start))
                .unwrap_or_default(),
        }
    };
    Ok(Tested {
        job: job.name.clone(),
        expectations: job.expect.iter().map(outcome).collect(),
    })
}

/// How the job ended, with what it has said. A command that cannot be executed is an end as well: 126 or 127.
fn end_of(plan: &Plan, ran: Result<Exit, LaunchError>, output: File, errors: File) -> Result<End, Failure> {
    let (code, verdict) = match ran {
        Ok(exit) => (exit_code(&exit), verdict::judge(plan, &exit).0),
        Err(error) if error.exit_code() != super::failure::FAILED => {
            (error.exit_code(), verdict::Verdict::Setup)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(End {
        code,
        verdict: verdict.to_string(),
        output: said(output)?,
        errors: said(errors)?,
    })
}

/// What the answer to a claim's probe means.
fn seen(claim: &Claim, answer: Option<i32>) -> Seen {
    match (claim, answer) {
        (_, None) => Seen::NoAnswer,
        // The kernel's error numbers; what is below is an id with its highest bit set.
        (_, Some(errno @ -4095..=-1)) => Seen::Refused(launch::words(Errno::from_raw(-errno))),
        (Claim::Path { .. }, Some(EMPTY)) => Seen::Empty,
        (Claim::Connect { .. }, Some(NO_ADDRESS)) => Seen::NoAddress,
        (Claim::Path { .. } | Claim::Connect { .. }, Some(_)) => Seen::Done,
        (_, Some(number)) => Seen::Number(number.cast_unsigned()),
    }
}

fn null() -> Result<OwnedFd, Failure> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    opened
        .map(OwnedFd::from)
        .map_err(|error| Failure::text(format!("/dev/null: {}", launch::io_words(&error))))
}

fn copy(file: &File) -> Result<OwnedFd, Failure> {
    let copied = file.try_clone().map(OwnedFd::from);
    copied.map_err(|error| Failure::text(format!("output of the job: {}", launch::io_words(&error))))
}

/// The text of a stream from its start, as far as it is looked at.
fn said(mut file: File) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(MATCHED).read_to_end(&mut bytes));
    read.map_err(|error| Failure::text(format!("output of the job: {}", launch::io_words(&error))))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_number_or_the_kernels_error() {
        assert_eq!(seen(&Claim::Uid(1), Some(7)), Seen::Number(7));
        assert_eq!(
            seen(&Claim::Uid(1), Some(-2)),
            Seen::Refused("no such file or directory".into())
        );
        assert_eq!(
            seen(&Claim::Uid(1), Some(0x8000_0001_u32.cast_signed())),
            Seen::Number(0x8000_0001)
        );
        assert_eq!(seen(&Claim::Uid(1), None), Seen::NoAnswer);
    }
}

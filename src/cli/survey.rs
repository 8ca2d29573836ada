//! `ringfence facts` and `ringfence doctor`: what this host offers.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use super::args::{Doctor, Facts as FactsArgs};
use super::failure::Failure;
use super::print;
use super::project::Project;
use super::settings::Settings;
use crate::cgroup::Site;
use crate::host::doctor::examine;
use crate::host::facts::Facts;
use crate::host::probe::{self, Context};
use crate::launch::RunDir;
use crate::profile::{Job, Questions};

/// What was learnt of this host.
pub(super) struct Survey {
    /// What a plan may depend on.
    pub(super) facts: Facts,
    /// Where control groups can be made, for the launcher: looked for once.
    pub(super) site: Site,
}

/// What jobs of a project ask of the host.
#[derive(Default)]
pub(super) struct Asked {
    questions: Questions,
    variables: BTreeMap<String, Option<String>>,
}

impl Asked {
    /// What one job asks.
    pub(super) fn by(job: &Job) -> Asked {
        Asked {
            questions: job.questions(),
            variables: values(job),
        }
    }

    /// What another job of the same project asks besides.
    pub(super) fn add(&mut self, job: &Job) {
        let Asked { questions, variables } = Asked::by(job);
        self.questions.paths.extend(questions.paths);
        self.questions.host_root |= questions.host_root;
        self.variables.extend(variables);
    }
}

/// Asks the host what jobs must know; without a project, what any job may need. What had to be tried is kept where there
/// is a folder of run state.
///
/// # Errors
/// When the folder of run state is not this user's.
pub(super) fn survey(settings: &Settings, asked: Option<(&Project, Asked)>) -> Result<Survey, Failure> {
    let (project, asked) = asked.unzip();
    let Asked { questions, variables } = asked.unwrap_or_else(any_job);
    let site = Site::find();
    let cgroup = probe::control_groups(&site);
    let run_dir = settings.existing_run_dir()?;
    let context = Context {
        manifest_dir: project.map_or_else(|| std::path::Path::new("/"), |project| &project.dir),
        store: &settings.store,
        run: run_dir.as_ref().map(RunDir::path),
        first_id: settings.ids.base,
        variables: &variables,
        cgroup: &cgroup,
    };
    Ok(Survey {
        facts: probe::probe(&questions, &context),
        site,
    })
}

/// What any job may ask, whatever its manifest says.
fn any_job() -> Asked {
    let questions = Questions {
        host_root: true,
        ..Questions::default()
    };
    Asked {
        questions,
        ..Asked::default()
    }
}

/// The declared variables of a job with their values; none where the environment has none and there is no default.
pub(super) fn values(job: &Job) -> BTreeMap<String, Option<String>> {
    let value = |variable: &crate::profile::Variable| {
        std::env::var(&variable.env)
            .ok()
            .or_else(|| variable.default.clone())
    };
    job.variables
        .iter()
        .map(|(name, variable)| (name.clone(), value(variable)))
        .collect()
}

/// `ringfence facts [JOB]`.
pub(super) fn facts(args: &FactsArgs) -> Result<u8, Failure> {
    let settings = Settings::load()?;
    let facts = match (&args.job, &args.file.file) {
        (None, None) => survey(&settings, None)?.facts,
        (job, file) => {
            let project = Project::open(file.as_deref())?;
            let job = project.job(project.job_name(job.as_deref())?)?;
            survey(&settings, Some((&project, Asked::by(&job))))?.facts
        }
    };
    print(&facts.to_toml())?;
    Ok(0)
}

/// `ringfence doctor`.
pub(super) fn doctor(_args: &Doctor) -> Result<u8, Failure> {
    let facts = survey(&Settings::load()?, None)?.facts;
    print(&examine(&facts, &probe::extras()).render(std::io::stdout().is_terminal()))?;
    Ok(0)
}

//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs jobs in sandboxes that a manifest describes and a plan shows.
#[derive(Debug, Parser)]
#[command(name = "ringfence", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What a run is for, in a line.
const RUN: &str = "Plan a job and run it, pulling what is missing";

/// `ringfence run` and nothing else: to build the parser of every verb takes a start a fiftieth of its time.
#[derive(Debug, Parser)]
#[command(name = "ringfence run", bin_name = "ringfence run", about = RUN)]
struct RunAlone {
    #[command(flatten)]
    run: Run,
}

impl Command {
    /// Reads the words of the command line, the program's name first.
    ///
    /// # Errors
    /// clap's, which is also how help is asked for.
    pub(super) fn parse(words: &[OsString]) -> Result<Command, clap::Error> {
        match words.get(1) {
            Some(verb) if verb == "run" => Ok(Command::Run(RunAlone::try_parse_from(&words[1..])?.run)),
            _ => Ok(Cli::try_parse_from(words)?.command),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(about = RUN)]
    Run(Run),
    /// Print what a run would do, and do nothing
    Plan(Plan),
    /// Report every problem in the manifest
    Check(Check),
    /// Say where a value comes from: file, line, and the chain of profiles
    Explain(Explain),
    /// Say what a change does to the sandbox: looser, tighter, neutral or unknown
    Diff(Diff),
    /// Print what this host offers, as TOML
    Facts(Facts),
    /// Say what works on this host, what does not, and what to do about it
    Doctor(Doctor),
    /// Hold a job's expectations against what its sandbox does
    Test(Test),
    /// Print a job's plan for another engine, and what that cannot express
    Export(Export),
    /// Print what another tool runs as a manifest, and what that cannot say
    Import(Import),
    /// Fetch images into the store
    Pull(Pull),
    /// Print the JSON Schema of a manifest or a plan, for editors and programs
    Schema(Schema),
    /// Write which bytes each image is into ringfence.lock, or say what is stale there
    Lock(Lock),
    /// The images of the store
    #[command(subcommand)]
    Image(super::store::Command),
    /// Reap and forward signals as PID 1, as tini does
    #[command(disable_help_flag = true)]
    Init {
        /// tini's options, then the program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// Where the manifest is.
#[derive(Debug, Args)]
pub(super) struct File {
    /// The manifest; default: ringfence.toml here or in a parent folder
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// A job without a manifest.
#[derive(Debug, Args)]
pub(super) struct Adhoc {
    /// Run this image without a manifest
    #[arg(long, value_name = "IMAGE", conflicts_with = "file")]
    pub(super) image: Option<String>,
    /// The profile that holds it
    #[arg(long, value_name = "PROFILE", requires = "image")]
    pub(super) profile: Option<String>,
    /// Print the manifest that this would be, and run nothing
    #[arg(long, requires = "image")]
    pub(super) save: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The job; not needed when the manifest has one
    pub(super) job: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
    #[command(flatten)]
    pub(super) adhoc: Adhoc,
    /// Give the job a terminal of its own
    #[arg(short = 't', long)]
    pub(super) tty: bool,
    /// Write the receipt, one JSON object, to FILE
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Say at the end which entries of network.allow this run would have needed
    #[arg(long)]
    pub(super) record: bool,
    /// Run only what ringfence.lock names
    #[arg(long, conflicts_with = "image")]
    pub(super) locked: bool,
    /// Use no network to find the image
    #[arg(long)]
    pub(super) offline: bool,
    /// Words that replace the job's command
    #[arg(last = true)]
    pub(super) args: Vec<String>,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// A sheet for a reader
    Text,
    /// JSON
    Json,
    /// TOML
    Toml,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The job; not needed when the manifest has one
    pub(super) job: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
    #[command(flatten)]
    pub(super) adhoc: Adhoc,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: Format,
    /// Plan for the host of this file, which `ringfence facts` wrote, and not for this one; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) facts: Vec<PathBuf>,
    /// Every job of the manifest
    #[arg(long, conflicts_with = "job")]
    pub(super) all: bool,
    /// Below each step, the lines of the manifest that it comes from
    #[arg(long, conflicts_with_all = ["format", "write", "check"])]
    pub(super) lines: bool,
    /// Plan for a job with a terminal of its own
    #[arg(short = 't', long)]
    pub(super) tty: bool,
    /// Store each plan as DIR/JOB[@HOST].plan.txt, with DIR/index.toml
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    pub(super) write: Option<PathBuf>,
    /// Compare with the plans that --write stored; exit 1 where they differ
    #[arg(long, value_name = "DIR")]
    pub(super) check: Option<PathBuf>,
    /// Words that replace the job's command
    #[arg(last = true)]
    pub(super) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) file: File,
}

/// How changes are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum DiffFormat {
    /// A line each
    Text,
    /// A table for a review comment
    Markdown,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// A manifest, plans as JSON or TOML, or REV:FILE of a git revision
    pub(super) old: String,
    /// What it has become
    pub(super) new: String,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: DiffFormat,
    /// Exit 1 when a change is looser
    #[arg(long)]
    pub(super) deny_looser: bool,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The value, or a table of values: `limits.memory`, `mounts./tmp`; default: all of them. Or the code of an error: `RF0105`
    pub(super) path: Option<String>,
    /// The job; not needed when the manifest has one
    pub(super) job: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What a schema is of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SchemaOf {
    /// A manifest
    Manifest,
    /// A plan as JSON
    Plan,
}

#[derive(Debug, Args)]
pub(super) struct Schema {
    /// What the schema is of
    #[arg(value_enum, default_value = "manifest")]
    pub(super) of: SchemaOf,
}

#[derive(Debug, Args)]
pub(super) struct Facts {
    /// The job whose paths and variables are looked at as well
    pub(super) job: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {}

/// How the result of `test` is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum TestFormat {
    /// A list for a reader
    Text,
    /// The Test Anything Protocol, version 14
    Tap,
    /// JUnit's XML
    Junit,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The job; default: every job with expectations
    pub(super) job: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: TestFormat,
    /// Use no network to find the image
    #[arg(long)]
    pub(super) offline: bool,
}

/// The engines of `export`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Engine {
    /// A folder for runc and crun
    OciBundle,
    /// A Job and a NetworkPolicy
    Kubernetes,
    /// A compose file
    Compose,
    /// A `docker run` line
    Docker,
    /// A script for bubblewrap
    Bwrap,
    /// A configuration of nsjail
    Nsjail,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The job; not needed when the manifest has one
    pub(super) job: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
    /// The engine
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(super) to: Engine,
    /// Write into this folder, with the files that belong to it, and not to standard output
    #[arg(long, value_name = "FOLDER")]
    pub(super) output: Option<PathBuf>,
    /// Exit 1, and write nothing, when the engine cannot express everything
    #[arg(long)]
    pub(super) strict: bool,
}

/// The tools of `import`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Tool {
    /// A `docker run` line, after `--`
    Docker,
    /// A compose file
    Compose,
    /// A devcontainer.json
    Devcontainer,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The tool
    #[arg(long, value_enum, value_name = "TOOL")]
    pub(super) from: Tool,
    /// The file; default: standard input
    pub(super) file: Option<PathBuf>,
    /// Exit 1, and print no manifest, when it does not say everything
    #[arg(long)]
    pub(super) strict: bool,
    /// The words of the line
    #[arg(last = true)]
    pub(super) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// Jobs of the manifest, or images; default: every job
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) file: File,
    /// Print nothing while fetching
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Lock {
    #[command(flatten)]
    pub(super) file: File,
    /// Change nothing; exit 1 where the lock would change, and say what is stale
    #[arg(long)]
    pub(super) check: bool,
    /// Look up again what these images mean; without any, all of them
    #[arg(long, value_name = "IMAGE", num_args = 0..)]
    pub(super) update: Option<Vec<String>>,
    /// Print nothing while fetching
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_run_alone_reads_and_says_what_the_whole_command_line_would() {
        for line in [
            "ringfence run",
            "ringfence run job -f a.toml -t --report r -- ls -l",
            "ringfence run --image busybox --profile dev -- true",
            "ringfence run --help",
            "ringfence run -h",
            "ringfence run --imge busybox",
            "ringfence run one two",
            "ringfence run --save",
            "ringfence run --version",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let alone = Command::parse(&words).map_err(|error| error.to_string());
            let whole = Cli::try_parse_from(&words).map(|cli| cli.command);
            let whole = whole.map_err(|error| error.to_string());
            assert_eq!(format!("{alone:#?}"), format!("{whole:#?}"), "{line:?}");
        }
    }

    #[test]
    fn the_parser_holds_together() {
        Cli::command().debug_assert();
        RunAlone::command().debug_assert();
    }
}

//! The command line: one function per verb, all printing, exit codes.

mod args;
mod ceiling;
mod check;
mod diff;
mod explain;
mod export;
mod failure;
mod image;
mod import;
mod lock;
mod plan;
mod progress;
mod project;
mod puller;
mod run;
mod schema;
mod settings;
mod store;
mod survey;
mod test;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use self::args::Command;
use self::failure::Failure;
use crate::sys;

/// Names under which this program is its own init (contract: `ringfence init`).
const INIT_NAMES: [&str; 2] = ["tini", "docker-init"];

/// Runs the command line and returns the exit code.
///
/// Hidden from the library's face: launching clones, and must own its process.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(rest) = as_init(&args) {
        return crate::init::main(rest.into_iter());
    }
    let code = match start(&args) {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.to_string());
            failure.exit_code()
        }
    };
    ExitCode::from(code)
}

/// The arguments of `init`, name first, when this is a call of it.
fn as_init(args: &[OsString]) -> Option<Vec<OsString>> {
    let name = args
        .first()
        .map(std::path::Path::new)
        .and_then(std::path::Path::file_name);
    if name.is_some_and(|name| INIT_NAMES.iter().any(|init| name == *init)) {
        return Some(args.to_vec());
    }
    if args.get(1).is_some_and(|verb| verb == "init") {
        let name = OsString::from("ringfence init");
        return Some(std::iter::once(name).chain(args[2..].iter().cloned()).collect());
    }
    None
}

fn start(args: &[OsString]) -> Result<u8, Failure> {
    if sys::process::is_secure_execution() {
        return Err(Failure::text(
            "ringfence must not be setuid, setgid or carry file capabilities; remove them",
        ));
    }
    let command = match Command::parse(args) {
        Ok(command) => command,
        Err(error) if error.use_stderr() => return Err(Failure::Usage(error.to_string())),
        Err(error) => {
            print(&error.to_string())?;
            return Ok(0);
        }
    };
    // Whatever the caller left open must not reach a job (CVE-2024-21626); our own descriptors are made so anyway.
    sys::process::cloexec_from(3)
        .map_err(|errno| Failure::text(format!("mark inherited descriptors: {errno}")))?;
    sys::signal::report_children().map_err(|errno| Failure::text(format!("SIGCHLD: {errno}")))?;
    if !matches!(command, Command::Run(_) | Command::Init { .. }) {
        settings::sweep();
    }
    match command {
        Command::Run(args) => run::run(args),
        Command::Plan(args) => plan::plan(args),
        Command::Check(args) => check::check(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Facts(args) => survey::facts(&args),
        Command::Doctor(args) => survey::doctor(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::Import(args) => import::import(&args),
        Command::Export(args) => export::export(&args),
        Command::Test(args) => test::test(&args),
        Command::Pull(args) => image::pull(&args),
        Command::Lock(args) => lock::lock(&args),
        Command::Image(command) => store::image(&command),
        // Reached only when `init` is not the first word; its own parser reads the rest.
        Command::Init { .. } => Err(Failure::Usage("`init` must be the first word".to_owned())),
    }
}

/// Writes to standard output: what the user asked for.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::text(format!("standard output: {error}"))),
    }
}

/// Writes to standard error: what is said about it.
fn say(text: &str) {
    // There is no other place to say that this one is closed.
    writeln!(io::stderr().lock(), "{}", text.trim_end()).ok();
}

/// Whether messages may carry colour: on a terminal, and unless NO_COLOR is set (no-color.org).
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

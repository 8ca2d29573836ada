//! One transaction of nftables: `nft -f -` (nft(8)).

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::trusted;

/// Where distributions put it.
const PLACES: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];

/// What is said where it is not.
pub(crate) const MISSING: &str = "nft is not installed (package nftables)";

/// nft(8), if it is installed and root's own.
pub(crate) fn program() -> Option<&'static Path> {
    trusted::program(&PLACES)
}

/// Loads a text into the tables of this process's network namespace: all of it or nothing.
///
/// # Errors
/// That nft is not there, or its first words.
pub(super) fn load(text: &str) -> Result<(), String> {
    run(program().ok_or(MISSING)?, text)
}

/// The same by a program that was found before: in a user namespace nothing looks like root's.
pub(super) fn run(program: &'static Path, text: &str) -> Result<(), String> {
    start(program, text)?.finish()
}

/// A transaction under way; one that is dropped is waited for.
#[derive(Debug)]
pub(super) struct Loading {
    program: &'static Path,
    child: Option<Child>,
    written: io::Result<()>,
}

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has its whole text, so it ends by itself.
            child.wait().ok();
        }
    }
}

/// Starts a transaction, so that something else can be done meanwhile: half of its time nft takes to start.
pub(super) fn start(program: &'static Path, text: &str) -> Result<Loading, String> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let input = child.stdin.take();
    Ok(Loading {
        program,
        child: Some(child),
        // One that ends early has said why, which is read at the end.
        written: input.map_or(Ok(()), |mut input| input.write_all(text.as_bytes())),
    })
}

impl Loading {
    /// Waits until it is done.
    ///
    /// # Errors
    /// nft's first words.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let program = self.program;
        let failed = |error: io::Error| format!("{}: {error}", program.display());
        let Some(child) = self.child.take() else {
            return Ok(());
        };
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return std::mem::replace(&mut self.written, Ok(())).map_err(failed);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or("it says nothing");
        Err(format!("nft: {}", line.trim()))
    }
}

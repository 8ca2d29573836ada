//! Credential helpers: programs that keep passwords elsewhere, by Docker's protocol.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::credentials::{Credential, CredentialError};
use crate::image::store::errno;
use crate::sys::fork::{self, Child};
use crate::sys::process::keep_only;

/// The longest answer of a helper, in bytes.
const LARGEST: u64 = 1 << 20;

/// Where helpers are, and what they are given.
#[derive(Clone, Debug, Default)]
pub(super) struct Helpers {
    /// The absolute folders of `$PATH`.
    folders: Vec<PathBuf>,
    environment: Vec<(String, OsString)>,
    /// The process that runs them in the place of this one.
    outside: Option<Arc<Mutex<UnixStream>>>,
}

/// What a helper that is meant to be run outside is asked.
#[derive(Serialize, Deserialize)]
struct Question {
    helper: String,
    server: String,
}

/// What it answered there.
#[derive(Serialize, Deserialize)]
enum Answer {
    Found(Credential),
    None,
    Failed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl Helpers {
    pub(super) fn from_environment() -> Helpers {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let folders = set("PATH").map(|path| {
            std::env::split_paths(&path)
                .filter(|folder| folder.is_absolute())
                .collect()
        });
        // What the helpers of desktops need to find the secret service; nothing else of the environment.
        let environment = ["HOME", "PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), set(name)?)))
            .collect();
        Helpers {
            folders: folders.unwrap_or_default(),
            environment,
            outside: None,
        }
    }

    #[cfg(test)]
    pub(super) fn in_folders(folders: Vec<PathBuf>) -> Helpers {
        Helpers {
            folders,
            ..Helpers::default()
        }
    }

    /// Helpers that a child runs which stays in the user namespace of now. In another one the caller has another number, by
    /// which no secret service knows it (dbus-specification, "EXTERNAL").
    pub(super) fn outside(&self) -> Result<(Helpers, Child), Errno> {
        let (asks, answers) = UnixStream::pair().map_err(|error| errno(&error))?;
        let child = fork::run(|| {
            match keep_only(&[answers.as_fd()])
                .and_then(|()| self.serve(&answers).map_err(|error| errno(&error)))
            {
                Ok(()) => 0,
                Err(_) => 125,
            }
        })?;
        let helpers = Helpers {
            outside: Some(Arc::new(Mutex::new(asks))),
            ..self.clone()
        };
        Ok((helpers, child))
    }

    /// Answers one question a line, until nobody can ask any more.
    fn serve(&self, socket: &UnixStream) -> io::Result<()> {
        for line in BufReader::new(socket).lines() {
            let Question { helper, server } = serde_json::from_str(&line?)?;
            let answer = match self.run(&helper, &server) {
                Ok(Some(credential)) => Answer::Found(credential),
                Ok(None) => Answer::None,
                Err(CredentialError::Helper { reason, .. }) => Answer::Failed(reason),
                Err(other) => Answer::Failed(other.to_string()),
            };
            send(socket, &answer)?;
        }
        Ok(())
    }

    /// The credential that a helper keeps for a server.
    ///
    /// # Errors
    /// When there is no such helper, or it fails.
    pub(super) fn ask(&self, helper: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(outside) = &self.outside else {
            return self.run(helper, server);
        };
        let failed = |reason: String| CredentialError::Helper {
            helper: crate::image::printable(helper, 60),
            reason,
        };
        let socket = outside.lock().unwrap_or_else(PoisonError::into_inner);
        let question = Question {
            helper: helper.to_owned(),
            server: server.to_owned(),
        };
        let mut line = String::new();
        let answered = send(&socket, &question)
            .and_then(|()| BufReader::new(&*socket).take(2 * LARGEST).read_line(&mut line))
            .and_then(|_| Ok(serde_json::from_str(&line)?));
        match answered.map_err(|error: io::Error| failed(format!("its process: {error}")))? {
            Answer::Found(credential) => Ok(Some(credential)),
            Answer::None => Ok(None),
            Answer::Failed(reason) => Err(failed(reason)),
        }
    }

    /// Runs a helper by Docker's protocol: the server's name on standard input, JSON on standard output.
    fn run(&self, helper: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
        let failed = |reason: String| CredentialError::Helper {
            helper: crate::image::printable(helper, 60),
            reason,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if helper.is_empty() || !helper.bytes().all(plain) {
            return Err(failed("its name is not one of a program".to_owned()));
        }
        let name = format!("docker-credential-{helper}");
        let executable = |file: &PathBuf| {
            file.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let program = self
            .folders
            .iter()
            .map(|folder| folder.join(&name))
            .find(executable)
            .ok_or_else(|| failed("not found in PATH".to_owned()))?;
        let io = |error: io::Error| failed(error.to_string());
        let mut child = Command::new(program)
            .arg("get")
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io)?;
        if let Some(mut input) = child.stdin.take() {
            // A helper that answers without reading closes its end first; its answer counts.
            match input.write_all(server.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(io(error)),
                _ => {}
            }
        }
        let mut answer = Vec::new();
        if let Some(output) = child.stdout.take() {
            output.take(LARGEST).read_to_end(&mut answer).map_err(io)?;
        }
        let status = child.wait().map_err(io)?;
        if !status.success() {
            let said = String::from_utf8_lossy(&answer);
            // The protocol's fixed text for "none kept" (docker-credential-helpers, credentials/error.go).
            if said.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(match said.trim() {
                "" => status.to_string(),
                said => crate::image::printable(said, 200),
            }));
        }
        let answer: HelperAnswer = serde_json::from_slice(&answer)
            .map_err(|_| failed("its answer is not the JSON of a credential".to_owned()))?;
        Ok(match answer.username.as_str() {
            _ if answer.secret.is_empty() => None,
            "<token>" => Some(Credential::Refresh(answer.secret)),
            _ => Some(Credential::Password {
                user: answer.username,
                password: answer.secret,
            }),
        })
    }
}

fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

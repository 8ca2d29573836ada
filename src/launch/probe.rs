//! Claims as the questions that the stage asks the kernel.

use std::ffi::CString;

use nix::sys::socket::UnixAddr;

use super::error::{LaunchError, words};
use crate::profile::{Claim, Peer, Protocol, Try};
use crate::stage::probe::{Name, Probe};

/// The questions of `claims`, in their order; those about the job's end have none. `run` makes the names of files unique.
///
/// # Errors
/// When a path holds a NUL.
pub(super) fn prepared(claims: &[Claim], run: &str) -> Result<Vec<Probe>, LaunchError> {
    let probes = claims.iter().filter_map(|claim| of(claim, run));
    probes.collect()
}

fn of(claim: &Claim, run: &str) -> Option<Result<Probe, LaunchError>> {
    let c_string = |text: String| {
        CString::new(text).map_err(|_| LaunchError::setup(format!("expectation {claim}"), "it holds a NUL"))
    };
    Some(match claim {
        Claim::Path { access, path, .. } => match access {
            Try::Read => c_string(path.clone()).map(Probe::Read),
            Try::Write => {
                let inside = format!("{}/.ringfence-{run}", path.trim_end_matches('/'));
                c_string(path.clone()).and_then(|path| {
                    let inside = c_string(inside)?;
                    Ok(Probe::Write { path, inside })
                })
            }
        },
        Claim::Connect { to, .. } => match to {
            Peer::Address { at, protocol } => Ok(match protocol {
                Protocol::Tcp => Probe::Tcp(*at),
                Protocol::Udp => Probe::Udp(*at),
            }),
            Peer::Name { name, port, protocol } => {
                let datagram = *protocol == Protocol::Udp;
                let known = Name::new(name).map(|name| Probe::Name {
                    name,
                    port: *port,
                    datagram,
                });
                known
                    .ok_or_else(|| LaunchError::setup(format!("expectation {claim}"), "DNS has no such name"))
            }
            Peer::Unix(path) => UnixAddr::new(path.as_str())
                .map(Probe::Unix)
                .map_err(|errno| LaunchError::setup(format!("expectation {claim}"), words(errno))),
        },
        Claim::Uid(_) => Ok(Probe::Uid),
        Claim::Gid(_) => Ok(Probe::Gid),
        Claim::LacksCapability(capability) => Ok(Probe::Capability(*capability as u8)),
        Claim::Processes(_) => Ok(Probe::Processes),
        Claim::ExitCode(_) | Claim::Verdict(_) | Claim::OutputMatches(_) | Claim::ErrorsMatch(_) => {
            return None;
        }
    })
}

//! ringfence: from a manifest to a plan that one can review, and from the plan to a sandbox.
//!
//! The library's public face is the way to the plan, so that other people's tests can snapshot plans; launching is the
//! program's, because it clones and must own its process.

pub mod ceiling;
mod cgroup;
mod cli;
pub mod diff;
pub mod egress;
mod expect;
mod export;
pub mod host;
pub mod image;
mod import;
mod init;
mod launch;
pub mod lock;
pub mod manifest;
mod net;
pub mod plan;
pub mod problem;
pub mod profile;
mod report;
pub mod seccomp;
mod stage;
mod sys;
pub mod units;

#[doc(hidden)]
pub use cli::main;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub use net::resolver::fuzz;

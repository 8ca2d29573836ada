//! Images from a registry, pulled and run through the binary: as root and as ordinary users, whoever can be had.

#[path = "../support/archive.rs"]
mod archive;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/launch")]
mod support;

mod credentials;
mod hostile;
mod hub;
mod pulls;
mod refusals;
mod root;
mod runs;

//! Jobs in real sandboxes, started through the binary: as root and as ordinary users, whoever can be had.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "tests/root.rs uses the rest")]
mod support;

mod ends;
mod faults;
mod files;
mod isolation;
mod limits;
mod security;
mod streams;

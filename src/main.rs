//! The `ringfence` program: everything is in the library's hidden command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringfence::main(std::env::args_os())
}

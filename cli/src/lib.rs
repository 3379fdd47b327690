//! The command line of Orama Functions: `orama serve`, `orama demo` and `orama function …`.
//!
//! [`run`] is the whole program. [`manifest`] is public so that a fuzz target can reach the parser of `function.yaml`.

mod args;
mod client;
mod commands;
mod compiler;
mod credentials;
mod error;
pub mod manifest;
mod output;
mod project;

use clap::Parser;
use std::process::ExitCode;

/// Runs the command that the process was started with.
///
/// Results go to standard output, everything else to standard error. The exit code is 0 when it worked, 1 when it
/// failed, 2 for wrong usage, 3 when the node knows no such thing, 4 when it refuses the credential, 5 when it cannot
/// be reached.
#[must_use]
pub fn run() -> ExitCode {
    let args = args::Args::parse();
    let json = args.json();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(json);
            error.exit().into()
        }
    }
}

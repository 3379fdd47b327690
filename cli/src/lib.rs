//! The command line of Orama Functions: `orama serve`, `orama function …` and the rest.
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
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => return not_understood(&error),
    };
    let json = args.json();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(json);
            error.exit().into()
        }
    }
}

/// Prints help, a version, or what is wrong with the arguments.
fn not_understood(error: &clap::Error) -> ExitCode {
    let mut words = std::env::args_os();
    let sets_a_secret = words.any(|word| word == "secrets") && words.any(|word| word == "set");
    if error.use_stderr() && sets_a_secret {
        // clap repeats the argument that it did not expect, which may be a part of the value.
        output::note(&format!(
            "error: {} (in the arguments of `secrets set`, which are not repeated here)\n  \
             quote a value with spaces; `orama function secrets set --help` has examples",
            error.kind()
        ));
    } else {
        drop(error.print());
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

//! The command line of Orama Functions: `orama serve`, `orama function …` and the other commands.
//!
//! [`program`] expands to the whole `main.rs` of a binary, which calls [`run`]. [`manifest`] is public so that a fuzz target can
//! reach the parser of `function.yaml`.

mod args;
mod client;
mod commands;
mod compiler;
mod credentials;
mod error;
mod gateway;
pub mod manifest;
mod output;
mod project;

use clap::Parser;
use orama_runtime::child;
use std::process::ExitCode;

#[doc(hidden)]
pub use mimalloc::MiMalloc;

/// The whole `main.rs` of an `orama` binary: the allocator, and `main`, which calls [`run`].
///
/// The shipped binary and the one that the tests of the node start both use it, so they are the same. The library itself sets no
/// allocator, because fuzz targets bring their own.
#[macro_export]
macro_rules! program {
    () => {
        // Deploys and answers allocate in bursts on many threads, where mimalloc is faster than the system's allocator.
        #[global_allocator]
        static ALLOCATOR: $crate::MiMalloc = $crate::MiMalloc;

        fn main() -> std::process::ExitCode {
            $crate::run()
        }
    };
}

/// Runs the command that the process was started with, or becomes the child that a node started this program as.
///
/// Results go to standard output, everything else to standard error. The exit code is 0 when the command succeeded, 1 when it
/// failed, 2 for wrong usage, 3 when the node does not have what was named, 4 when the credential is missing or refused, 5 when
/// the node cannot be reached.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(code) = child::dispatch(orama_server::CHILDREN) {
        return code;
    }
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
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

/// Prints the help, the version, or what is wrong with the arguments.
fn refuse(error: &clap::Error) -> ExitCode {
    let mut words = std::env::args_os();
    let sets_a_secret = words.any(|word| word == "secrets") && words.any(|word| word == "set");
    if error.use_stderr() && sets_a_secret {
        // clap repeats an unexpected argument, which may be part of the secret.
        output::note(&format!(
            "error: {} in the arguments of `secrets set`, which are not shown here as they may hold the secret\n  \
             put quotes around a value with spaces; `orama function secrets set --help` has examples",
            error.kind()
        ));
    } else {
        drop(error.print());
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

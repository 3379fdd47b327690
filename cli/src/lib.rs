//! The command line of Orama Functions: `orama serve`, `orama function …` and the other commands.
//!
//! [`program`] expands to the whole `main.rs` of a binary, which calls [`run`]. [`manifest`] is public so that a fuzz target can
//! reach the parser of `function.yaml`.

mod args;
mod client;
mod commands;
mod compiler;
mod contexts;
mod credentials;
mod error;
mod gateway;
pub mod manifest;
mod migrations;
mod origin;
mod output;
mod project;
mod sdk;
mod suggest;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use error::{CliError, Exit};
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
    if !error.use_stderr() {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let after_secrets = words.iter().skip_while(|word| *word != "secrets");
    if after_secrets.skip(1).any(|word| word == "set") && error.kind() != ErrorKind::InvalidSubcommand {
        // clap repeats an unexpected argument, which may be part of the secret.
        let message = format!(
            "{} in the arguments of `secrets set`, which are not shown here as they may hold the secret",
            error.kind()
        );
        let hint = "put quotes around a value with spaces; `orama function secrets set --help` has examples";
        CliError::usage(message).hint(hint).report(json);
        return Exit::Usage.into();
    }
    let elsewhere =
        (error.kind() == ErrorKind::InvalidSubcommand).then(|| elsewhere(error, &words)).flatten();
    if json {
        let rendered = error.render().to_string();
        let (message, rest) = rendered.split_once("\n\n").unwrap_or((&rendered, ""));
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let hint = elsewhere
            .unwrap_or_else(|| output::one_line(&rest.split_whitespace().collect::<Vec<_>>().join(" ")));
        CliError::usage(output::one_line(message)).hint(hint).report(true);
    } else {
        drop(error.print());
        if let Some(elsewhere) = elsewhere {
            output::note(&elsewhere);
        }
    }
    Exit::Usage.into()
}

/// What to call instead of a subcommand that is not where it was looked for.
fn elsewhere(error: &clap::Error, words: &[String]) -> Option<String> {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let end = words.iter().position(|word| word == wrong)?;
    let path: Vec<String> =
        words.iter().take(end + 1).filter(|word| !word.starts_with('-')).cloned().collect();
    suggest::commands(&path)
}

//! The commands for setting up: the SDK, the version, completions and man pages.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// What a new function is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Template {
    /// Go: takes JSON and answers with JSON
    Json,
    /// Go: a web service of net/http
    Http,
    /// Go: takes signed deliveries of other services, each once
    Webhook,
    /// Go: runs by the clock
    Cron,
    /// Go: answers the messages of a WebSocket
    Socket,
    /// Rust: takes JSON and answers with JSON
    Rust,
    /// C: counts its input; `make` builds it with Zig's C compiler
    C,
}

#[derive(Subcommand)]
pub enum SdkCommand {
    /// Write the Go SDK of this version over an older one in a function's folder
    #[command(after_help = "\
Files of orama/ that were changed since they were written are not overwritten without --force.

Examples:
  orama sdk update
  orama sdk update ./hello --force")]
    Update {
        /// The function's folder
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Overwrite changed files
        #[arg(long, short)]
        force: bool,
    },
}

#[derive(Args)]
pub struct Version {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

#[derive(Args)]
pub struct Man {
    /// An existing folder for the pages
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

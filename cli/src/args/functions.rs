//! Arguments of `orama function`.

use super::{
    AliasesCommand, Connection, Entries, FunctionTest, OneFunction, Rollback, SecretsCommand, Since, Status,
    Target, Template, Traffic, TriggersCommand, Update,
};
use clap::{Args, Subcommand, ValueEnum};
use orama_runtime::names::{AliasName, FunctionName};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum FunctionCommand {
    /// Create a new function: a folder with its code and function.yaml
    #[command(after_help = "\
A name starts with a letter, continues with letters, digits, '-' and '_', and has at most 63 characters. Nothing is overwritten. \
The templates of Go bring the SDK along, in the folder orama/, which `orama sdk update` renews.

Examples:
  orama function init hello
  orama function init site --template http")]
    Init {
        /// Name of the function and of its folder
        #[arg(value_parser = FunctionName::new)]
        name: FunctionName,
        /// What it is made from
        #[arg(long, short, value_enum, default_value_t = Template::Json)]
        template: Template,
    },
    /// Compile a function's Go or Rust code to function.wasm
    #[command(after_help = "\
For Go, the command uses TinyGo when it is installed (small modules that start fast), and standard Go otherwise. For Rust (a \
folder with a Cargo.toml) it runs cargo with the target wasm32-wasip1. A failed build removes function.wasm, so that an \
outdated one is not deployed.

Examples:
  orama function build
  orama function build ./hello --compiler go")]
    Build(Build),
    /// Build a function and run the cases of testdata/*.json on a node of its own
    #[command(after_help = "\
Each case is a JSON file: what there is before (env, secrets, sql, cache), a request or an input, and what is expected of the \
answer, of published messages, of rows, of the cache and of the log. Each runs in a namespace of its own, on a node that is gone \
afterwards. Exit code 1 means that a case failed. docs/CLI.md has the format.

Examples:
  orama function test
  orama function test ./hello --run 'greets*' --json")]
    Test(FunctionTest),
    /// Deploy a function: build it, and upload it as a new version
    #[command(after_help = "\
function.yaml holds the name and the limits. The command always asks the compiler for the module, so it is never outdated. A \
folder without Go or Rust code but with a function.wasm (from any compiler for WASI preview1) is deployed as it is. Each deploy creates \
a new version; older versions can still be invoked as name@version.

Examples:
  orama function deploy
  orama function deploy ./hello --json
  orama function deploy --alias canary")]
    Deploy {
        #[command(flatten)]
        build: Build,
        /// Set an alias to the new version. The live version does not change, unless the alias is `live`
        #[arg(long, value_name = "ALIAS", value_parser = AliasName::new)]
        alias: Option<AliasName>,
        /// What the version is for, as `versions` shows it [default: the message of the folder's git commit]
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        /// An entry of `environments` in function.yaml
        #[arg(long = "env", value_name = "NAME")]
        environment: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Invoke a function and print its output
    #[command(after_help = "\
The input is --data, else standard input. The output is printed exactly as the function wrote it.

Examples:
  orama function invoke hello --data '{\"name\": \"World\"}'
  orama function invoke hello@2 --data @input.json
  echo '{\"name\": \"World\"}' | orama function invoke hello")]
    Invoke {
        /// The function; @VERSION or @ALIAS names one version
        function: Target,
        /// The input: JSON or any other text, or @FILE to read a file
        #[arg(long, short, value_name = "JSON|@FILE")]
        data: Option<String>,
        /// Show the status and the headers of the answer, on standard error
        #[arg(long, short)]
        include: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the deployed functions
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a function: version, content id, limits
    #[command(after_help = "\
Examples:
  orama function get hello
  orama function get hello@2 --json")]
    Get {
        /// The function; @VERSION names an older version
        function: Target,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a function with all its versions, or one version
    #[command(after_help = "\
The command asks for confirmation on a terminal; without a terminal it needs --force.

Examples:
  orama function delete hello
  orama function delete hello@2 --force")]
    #[command(visible_alias = "rm")]
    Delete {
        /// The function, with @VERSION to delete that version only
        function: Target,
        /// Delete without confirmation
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a function's invocations and their log messages, newest first
    #[command(after_help = "\
With --follow the command shows the latest invocations, oldest first, and then each new one when it ends, until Ctrl-C (exit \
code 0). With --json each invocation is one object on a line. If the node restarts, the command waits for it.

Examples:
  orama function logs hello
  orama function logs hello --follow
  orama function logs hello --since 15m --status error
  orama function logs hello --request-id 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    Logs {
        /// The function; @VERSION selects one version's invocations
        function: Target,
        /// Keep showing invocations when they end
        #[arg(long, short)]
        follow: bool,
        /// Largest number of invocations; with --follow, of earlier ones [default: the node's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Only invocations that started after a time (2026-02-23T19:00:00Z) or an age (90s, 15m, 2h, 1d)
        #[arg(long, value_name = "TIME|AGO")]
        since: Option<Since>,
        /// Only invocations with this outcome
        #[arg(long)]
        status: Option<Status>,
        /// Only the invocation with this request id
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what the invocations of a function, or of all, had in common: errors, durations, where the time went
    #[command(after_help = "\
Without a function there is one line for each: the newest version that ran, the share of invocations that failed, and the median \
before that version. With a function: each version, the phases of its runs, its errors by code, and its callers, those with the \
most failures first. Percentiles are at most an eighth too high.

Examples:
  orama function stats
  orama function stats hello --since 1d
  orama function stats hello@3 --json")]
    Stats {
        /// The function; @VERSION selects one version [default: all functions]
        function: Option<Target>,
        /// Only invocations since a time (2026-02-23T19:00:00Z) or an age (15m, 2h, 1d) [default: an hour]
        #[arg(long, value_name = "TIME|AGO")]
        since: Option<Since>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List a function's versions; each can be invoked
    Versions {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        name: FunctionName,
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change a function's settings without an upload, as a new version
    Update(Update),
    /// Let a disabled function run again
    Enable(OneFunction),
    /// Let a function run no more, until it is enabled
    #[command(after_help = "\
Invocations are refused with 403. Triggered runs fail, are retried as `retry` says, and become dead letters.

Example:
  orama function disable hello")]
    Disable(OneFunction),
    /// Make an older version live
    Rollback(Rollback),
    /// Give versions names that can be invoked as name@alias
    Aliases {
        #[command(subcommand)]
        command: AliasesCommand,
    },
    /// Spread the calls of a function's name over versions by weight
    Traffic(Traffic),
    /// Set, list and delete the namespace's encrypted secrets; functions read them with get_secret
    Secrets {
        #[command(subcommand)]
        command: SecretsCommand,
    },
    /// Run a function for each message to a topic; show and replay its dead letters
    Triggers {
        #[command(subcommand)]
        command: TriggersCommand,
    },
}

#[derive(Args)]
pub struct Build {
    /// The function's folder
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Compiler for the Go code
    #[arg(long, value_enum, default_value_t = CompilerChoice::Auto)]
    pub compiler: CompilerChoice,
    /// How goroutines run in a module that TinyGo builds
    #[arg(long, value_enum, default_value_t = SchedulerChoice::Auto)]
    pub scheduler: SchedulerChoice,
}

/// How goroutines run in a module that TinyGo builds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum SchedulerChoice {
    /// None if the function uses neither goroutines nor timers, else asyncify
    Auto,
    /// No goroutines: smaller modules that start faster; a timer makes the function fail
    None,
    /// TinyGo's default: goroutines and timers work
    Asyncify,
}

/// The compiler for the Go code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CompilerChoice {
    /// TinyGo if it is installed, else standard Go
    Auto,
    /// TinyGo: small modules that start fast; parts of the standard library are missing
    Tinygo,
    /// Standard Go: the whole language and library; larger modules
    Go,
}

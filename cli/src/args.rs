//! Every command and flag, with the help that `--help` prints.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use orama_runtime::names::FunctionName;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod services;
mod transfer;
mod values;

pub use services::{
    KeysCommand, MasterKeyCommand, NamespaceCommand, PubsubCommand, Role, SecretsCommand, TriggersCommand,
};
pub use transfer::{Export, Import};
pub use values::{Id, Since, Status, Target};

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 not authorised, 5 the node cannot be reached";

/// Serverless WebAssembly functions on your own machines.
#[derive(Parser)]
#[command(name = "orama", version, propagate_version = true, after_help = EXIT_CODES, after_long_help = concat!("\
First steps:
  orama demo                                 see it work: a node, a function, an answer
  orama serve                                run a node
  orama function init hello && cd hello      a new function
  orama function deploy                      build it and hand it to the node
  orama function invoke hello --data '{\"name\": \"World\"}'

Environment:
  ORAMA_HOME         where a node keeps its data and credentials.json [default: ~/.orama]
  ORAMA_GATEWAY_URL  the node that the function commands talk to
  ORAMA_API_KEY      the key that they show it
  ORAMA_NAMESPACE    the namespace that they ask for

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 not authorised, 5 the node cannot be reached"))]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Whether results and errors are to be JSON.
    pub fn json(&self) -> bool {
        match &self.command {
            Command::Serve(_) | Command::Demo(_) => false,
            Command::Export(args) => args.json,
            Command::Import(args) => args.json,
            Command::Function(group) => group.json,
            Command::Pubsub(group) => group.json,
            Command::Namespace(group) => group.json,
            Command::Keys(group) => group.json,
            Command::Secrets(group) => group.json,
        }
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a node: serve functions over HTTP until SIGTERM or Ctrl-C
    #[command(after_help = "\
Every option can also stand in the config file (TOML) or in an ORAMA_... variable; a flag wins over a variable, a variable \
over the file. `listening on http://ADDR` is printed once requests are served; logs go to standard error (ORAMA_LOG sets \
the filter, for example ORAMA_LOG=debug). The first start writes credentials.json into the home folder.

Examples:
  orama serve
  orama serve --listen 0.0.0.0:6001 --home /var/lib/orama
  orama serve --config /etc/orama.toml --workers 4
  orama serve --config /etc/orama.toml --check")]
    Serve(Serve),
    /// See it work: start a node, deploy a bundled Go function, invoke it, go on serving
    #[command(after_help = "\
The function is built from its Go source when TinyGo or Go is installed; otherwise the copy that was built with this \
program is deployed. When the default port is taken, a free one is used.

Examples:
  orama demo
  orama demo --home /tmp/orama-demo --listen 127.0.0.1:7000")]
    Demo(Demo),
    /// Write everything that a node keeps to one file, also while it runs
    #[command(after_help = "\
The file holds all namespaces, keys, functions with every version, their code, secrets, triggers, waiting and dead jobs, \
stored objects, invocation records and the namespaces' databases. Secrets stay encrypted; their master key is in the file \
only with --with-secrets-key. With a config that names servers, what they keep is exported.

Examples:
  orama export --output node.tar
  orama export --home /var/lib/orama --output node.tar --with-secrets-key
  orama export --config /etc/orama.toml --output cluster.tar")]
    Export(Export),
    /// Bring an exported file into an empty home or an empty cluster
    #[command(after_help = "\
Everything is checked before anything is written. When it was interrupted, run the same command again. Start nodes afterwards.

Examples:
  orama import --home /var/lib/orama2 node.tar
  orama import --config /etc/orama.toml node.tar")]
    Import(Import),
    /// Write, build, deploy, invoke and inspect functions, their secrets and triggers
    #[command(visible_alias = "fn")]
    Function(Group<FunctionCommand>),
    /// Publish messages, which run the functions with a trigger on their topic
    Pubsub(Group<PubsubCommand>),
    /// Create, list and delete namespaces (with an operator's key)
    Namespace(Group<NamespaceCommand>),
    /// Create, list and delete API keys
    Keys(Group<KeysCommand>),
    /// Change the key under which secrets are stored (with an operator's key); `orama function secrets` sets secrets
    Secrets(Group<MasterKeyCommand>),
}

#[derive(ClapArgs)]
pub struct Serve {
    /// Config file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to serve on; port 0 takes any free one [default: 127.0.0.1:6001]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where data and credentials.json are kept [default: $ORAMA_HOME or ~/.orama]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Cores that serve requests [default: all]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// Check the configuration, say what it means, and end: nothing is started and nothing is asked
    #[arg(long)]
    pub check: bool,
}

#[derive(ClapArgs)]
pub struct Demo {
    /// Address to serve on [default: 127.0.0.1:6001, or a free port when that is taken]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where data and credentials.json are kept [default: $ORAMA_HOME or ~/.orama]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// Commands that talk about one thing, all of which can print JSON.
#[derive(ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub struct Group<C: Subcommand> {
    /// Print JSON: the result on standard output, an error as one object on standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: C,
}

#[derive(Subcommand)]
pub enum FunctionCommand {
    /// Start a new function: a folder with Go code and function.yaml
    #[command(after_help = "\
Names start with a letter and go on with letters, digits, '-' and '_', at most 63 characters. Nothing is overwritten.

Example:
  orama function init hello")]
    Init {
        /// The function's name, and the folder's
        #[arg(value_parser = FunctionName::new)]
        name: FunctionName,
    },
    /// Compile a function's Go code to function.wasm
    #[command(after_help = "\
TinyGo is used where it is installed (small modules that start fast), standard Go otherwise. A failed build leaves no \
function.wasm behind, so that an old one is not deployed by mistake.

Examples:
  orama function build
  orama function build ./hello --compiler go")]
    Build(Build),
    /// Deploy a function: build it if its code changed, upload it, get a new version
    #[command(after_help = "\
function.yaml says the name and the limits. The module is built first when a source is newer than function.wasm. A folder \
without Go code but with a function.wasm (made by any compiler for WASI preview1) is deployed as it is. Each deploy makes a \
new version; older ones can still be invoked as name@version.

Examples:
  orama function deploy
  orama function deploy ./hello --json")]
    Deploy {
        #[command(flatten)]
        build: Build,
        #[command(flatten)]
        connection: Connection,
    },
    /// Invoke a function and print what it answers
    #[command(after_help = "\
The input is --data, else what stands on standard input. The answer goes to standard output as the function wrote it.

Examples:
  orama function invoke hello --data '{\"name\": \"World\"}'
  orama function invoke hello@2 --data @input.json
  echo '{\"name\": \"World\"}' | orama function invoke hello")]
    Invoke {
        /// The function, with @VERSION for another than the newest
        function: Target,
        /// The input: JSON (any text), or @FILE to read it from a file
        #[arg(long, short, value_name = "JSON|@FILE")]
        data: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the deployed functions
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show one function: version, content id, limits
    #[command(after_help = "\
Examples:
  orama function get hello
  orama function get hello@2 --json")]
    Get {
        /// The function, with @VERSION for another than the newest
        function: Target,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a function with all its versions, or one version
    #[command(after_help = "\
Asks on a terminal; anywhere else --force is needed.

Examples:
  orama function delete hello
  orama function delete hello@2 --force")]
    Delete {
        /// The function, with @VERSION to delete that version only
        function: Target,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a function's invocations and what they logged, newest first
    #[command(after_help = "\
With --follow the latest invocations come oldest first, and then each as it ends, until Ctrl-C (exit code 0). With --json \
that is one object a line for each invocation. While the node restarts the command waits for it.

Examples:
  orama function logs hello
  orama function logs hello --follow
  orama function logs hello --since 15m --status error
  orama function logs hello --request-id 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    Logs {
        /// The function, with @VERSION for one version's invocations
        function: Target,
        /// Go on showing invocations as they end
        #[arg(long, short)]
        follow: bool,
        /// How many invocations at most, with --follow of those that are there already [default: the node's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Only what started after: a time (2026-02-23T19:00:00Z) or how long ago (90s, 15m, 2h, 1d)
        #[arg(long, value_name = "TIME|AGO")]
        since: Option<Since>,
        /// Only invocations that ended so
        #[arg(long)]
        status: Option<Status>,
        /// Only this invocation
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List a function's versions, all of which can be invoked
    Versions {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        name: FunctionName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Set, list and delete the encrypted secrets that functions of the namespace read with get_secret
    Secrets {
        #[command(subcommand)]
        command: SecretsCommand,
    },
    /// Run a function for each message to a topic; look at and replay messages on which it failed
    Triggers {
        #[command(subcommand)]
        command: TriggersCommand,
    },
}

#[derive(ClapArgs)]
pub struct Build {
    /// The function's folder
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// What compiles the Go code
    #[arg(long, value_enum, default_value_t = CompilerChoice::Auto)]
    pub compiler: CompilerChoice,
    /// How goroutines run in a module that TinyGo builds
    #[arg(long, value_enum, default_value_t = SchedulerChoice::Auto)]
    pub scheduler: SchedulerChoice,
}

/// How goroutines run in a module that TinyGo builds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum SchedulerChoice {
    /// None where the function has neither goroutines nor timers, else asyncify
    Auto,
    /// No goroutines: smaller modules that start faster; a timer makes the function fail
    None,
    /// TinyGo's own default: everything it supports
    Asyncify,
}

/// What compiles the Go code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CompilerChoice {
    /// TinyGo when it is installed, else standard Go
    Auto,
    /// TinyGo: small modules that start fast, not all of the standard library
    Tinygo,
    /// Standard Go: everything Go has, larger modules
    Go,
}

/// Which node to talk to, with which key.
#[derive(ClapArgs, Default)]
pub struct NodeAccess {
    /// The node's address [env: ORAMA_GATEWAY_URL] [default: credentials.json, else http://127.0.0.1:6001]
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub gateway_url: Option<String>,
    /// The API key [env: ORAMA_API_KEY] [default: credentials.json]
    #[arg(long, value_name = "KEY", help_heading = "Connection")]
    pub api_key: Option<String>,
}

/// The same, and which namespace to act in.
#[derive(ClapArgs, Default)]
pub struct Connection {
    #[command(flatten)]
    pub node: NodeAccess,
    /// The namespace, where the key may choose one [env: ORAMA_NAMESPACE] [default: the key's]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub namespace: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_short_form_and_flags_behind_the_command_work() {
        for arguments in [
            &["fn", "list", "--json", "--api-key", "k"][..],
            &["fn", "secrets", "set", "A", "v", "--json"],
            &["function", "triggers", "--json", "list", "hello"],
            &["keys", "list", "--json"],
            &["namespace", "list", "--json"],
            &["pubsub", "publish", "t", "1", "--json"],
            &["secrets", "rotate-key", "--json"],
        ] {
            let args = Args::try_parse_from([&["orama"], arguments].concat());
            assert!(args.is_ok_and(|args| args.json()), "{arguments:?}");
        }
        assert!(Args::try_parse_from(["orama", "fn", "invoke", "9lives"]).is_err());
    }
}

//! Every command and flag, with the help that `--help` prints.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod contexts;
mod db;
mod dev;
mod functions;
mod history;
mod in_use;
mod services;
mod setup;
mod transfer;
mod values;

pub use contexts::{ContextCommand, Login, Whoami};
pub use db::DbCommand;
pub use dev::{Dev, FunctionTest};
pub use functions::{Build, CompilerChoice, FunctionCommand, SchedulerChoice};
pub use history::{Audit, Level, Logs};
pub use in_use::{AliasesCommand, OneFunction, Rollback, Traffic, Update};
pub use services::{
    Change, KeysCommand, MasterKeyCommand, NamespaceCommand, NewKey, PubsubCommand, SecretsCommand,
    TriggersCommand,
};
pub use setup::{Completions, Man, SdkCommand, Template, Version};
pub use transfer::{Export, Import};
pub use values::{Expiry, Id, Listen, Since, Status, Target};

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 not authorised, 5 the node cannot be reached";

/// Serverless WebAssembly functions on your own machines.
#[derive(Parser)]
#[command(name = "orama", bin_name = "orama", version, after_help = EXIT_CODES, after_long_help = concat!("\
First steps:
  orama demo                                 start a node, deploy a function and invoke it
  orama dev                                  run the functions of this folder, and build them when they change
  orama serve                                run a node
  orama function init hello && cd hello      write a new function
  orama function deploy                      build it and deploy it to the node
  orama function invoke hello --data '{\"name\": \"World\"}'

Environment:
  ORAMA_HOME         the folder of a node's data and credentials.json [default: ~/.orama]
  ORAMA_GATEWAY_URL  the address of the node to use
  ORAMA_API_KEY      the API key to send
  ORAMA_NAMESPACE    the namespace to use
  ORAMA_CONTEXT      the context to use, of those that `orama login` saved

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 not authorised, 5 the node cannot be reached"))]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Whether results and errors are printed as JSON.
    pub fn json(&self) -> bool {
        match &self.command {
            Command::Serve(args) => args.json,
            Command::Demo(_) | Command::Dev(_) | Command::Completions(_) | Command::Man(_) => false,
            Command::Version(args) => args.json,
            Command::Sdk(group) => group.json,
            Command::Export(args) => args.json,
            Command::Import(args) => args.json,
            Command::Function(group) => group.json,
            Command::Db(group) => group.json,
            Command::Login(args) => args.json,
            Command::Context(group) => group.json,
            Command::Whoami(args) => args.json,
            Command::Logs(args) => args.json,
            Command::Audit(args) => args.json,
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
Every option is also a key of the config file (TOML) and an ORAMA_... variable; a flag overrides a variable, and a variable \
overrides the file. The node prints `listening on http://ADDR` when it serves requests. It logs to standard error; ORAMA_LOG \
sets the filter, for example ORAMA_LOG=debug. On SIGHUP it reads the config file again and takes over what it can: the filter of \
the log, the access log, and the issuers of tokens with their keys. docs/CONFIG.md lists every key. The first start writes credentials.json into the home folder.

Examples:
  orama serve
  orama serve --listen 0.0.0.0:6001 --home /var/lib/orama
  orama serve --config /etc/orama.toml --workers 4
  orama serve --config /etc/orama.toml --check")]
    Serve(Serve),
    /// Start a node, deploy a bundled Go function, invoke it, and keep serving
    #[command(after_help = "\
The demo builds the function from its Go source when TinyGo or Go is installed; otherwise it deploys a bundled module. When \
the default port is in use, it takes a free one.

Examples:
  orama demo
  orama demo --home /tmp/orama-demo --listen 127.0.0.1:7000")]
    Demo(Demo),
    /// Run a node for the functions of a folder; build and swap them in as their sources change
    #[command(after_help = "\
Each folder with a function.yaml, at any depth, is a function. The node's data are in .orama/dev of the first DIR, which git \
ignores; nothing else is touched. The logs of all functions are shown as they come. When a build fails, the version before \
serves on. Keys: i or Enter invokes again, f fires the schedules, b builds everything, q or Ctrl-C ends. Where standard input is \
no terminal, its lines are the keys: `i hello {\"name\": \"World\"}`, `f hello`.

Examples:
  orama dev
  orama dev ./api ./jobs --listen :7000
  orama dev --env-file .env --data '{\"name\": \"World\"}'")]
    Dev(Dev),
    /// Write all data of a node to one file; the node may run meanwhile
    #[command(after_help = "\
The file holds all namespaces, API keys, functions with every version, modules, secrets, triggers, waiting jobs, dead letters, \
stored objects, invocation records, the audit trail and the namespaces' databases. Secrets stay encrypted; the file holds their \
master key only with --with-secrets-key. With a config that names servers, the command exports the data of those servers.

Examples:
  orama export --output node.tar
  orama export --home /var/lib/orama --output node.tar --with-secrets-key
  orama export --config /etc/orama.toml --output cluster.tar")]
    Export(Export),
    /// Import an exported file into an empty home or an empty cluster
    #[command(after_help = "\
The command checks the whole file before it writes anything. If it is interrupted, run it again. Start nodes afterwards.

Examples:
  orama import --home /var/lib/orama2 node.tar
  orama import --config /etc/orama.toml node.tar")]
    Import(Import),
    /// Create, build, deploy, invoke and inspect functions, their secrets and triggers
    #[command(visible_alias = "fn")]
    Function(Group<FunctionCommand>),
    /// Query, dump, restore and migrate a namespace's database
    Db(Group<DbCommand>),
    /// Publish messages; functions with a trigger on the topic run for each
    Pubsub(Group<PubsubCommand>),
    /// Create, list and delete namespaces (needs an operator's key)
    Namespace(Group<NamespaceCommand>),
    /// Save the address and the key of a node, and use them from now on
    Login(Login),
    /// List, choose and forget the nodes that were logged in to
    Context(Group<ContextCommand>),
    /// Show the node, the namespace and the key that commands use
    Whoami(Whoami),
    /// Create, list and delete API keys
    Keys(Group<KeysCommand>),
    Logs(Logs),
    Audit(Audit),
    /// Rotate the master key of all secrets (needs an operator's key); see `orama function secrets` to set secrets
    Secrets(Group<MasterKeyCommand>),
    /// Renew the Go SDK in a function's folder
    Sdk(Group<SdkCommand>),
    /// Show the version, the commit, its date, the target and the engine
    Version(Version),
    /// Print the completions for a shell
    #[command(after_help = "\
Examples:
  orama completions bash > ~/.local/share/bash-completion/completions/orama
  orama completions zsh > ~/.zfunc/_orama
  orama completions fish > ~/.config/fish/completions/orama.fish")]
    Completions(Completions),
    /// Write the man pages into a folder
    #[command(after_help = "\
Example:
  orama man ~/.local/share/man/man1")]
    Man(Man),
}

#[derive(ClapArgs)]
pub struct Serve {
    /// Config file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, such as 0.0.0.0:6001 or localhost:6001; :PORT is on 127.0.0.1, port 0 a free one [default:
    /// 127.0.0.1:6001]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Listen>,
    /// Folder of the data and credentials.json [default: $ORAMA_HOME or ~/.orama]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Number of cores that serve requests [default: all]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// Print every key with its value and where it was said, check the files that are named, and exit; nothing is started and no
    /// server is contacted
    #[arg(long)]
    pub check: bool,
    /// With --check: print JSON
    #[arg(long, requires = "check")]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct Demo {
    /// Address to listen on [default: 127.0.0.1:6001, or a free port when that is in use]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Listen>,
    /// Folder of the data and credentials.json [default: $ORAMA_HOME or ~/.orama]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// A group of commands. Each can print JSON.
#[derive(ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub struct Group<C: Subcommand> {
    /// Print JSON: the result on standard output, an error as one object on standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: C,
}

/// How much of a list is shown.
#[derive(ClapArgs)]
pub struct Entries {
    /// The largest number of entries; all of them unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// Which node to use, with which key.
#[derive(ClapArgs, Default)]
pub struct NodeAccess {
    /// The node's address [env: ORAMA_GATEWAY_URL] [default: credentials.json, else http://127.0.0.1:6001]
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub gateway_url: Option<String>,
    /// The API key [env: ORAMA_API_KEY] [default: credentials.json, for the node that it names]
    #[arg(long, value_name = "KEY", help_heading = "Connection")]
    pub api_key: Option<String>,
    /// The context to use, of those that `orama login` saved; `local` is the node of this machine [env: ORAMA_CONTEXT]
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub context: Option<String>,
}

/// Which node and namespace to use, with which key.
#[derive(ClapArgs, Default)]
pub struct Connection {
    #[command(flatten)]
    pub node: NodeAccess,
    /// The namespace, if the key permits a choice [env: ORAMA_NAMESPACE] [default: the key's]
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
    fn the_short_form_and_flags_after_the_command_work() {
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

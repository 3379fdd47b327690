//! The commands for secrets, triggers, messages, namespaces and keys.

use super::{Connection, Entries, Expiry, Id, NodeAccess};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use orama_runtime::names::{FunctionName, Namespace, SecretName};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand)]
pub enum SecretsCommand {
    /// Set a secret; later invocations read the new value
    #[command(
        group(ArgGroup::new("source").required(true).args(["value", "from_file", "env_file"])),
        override_usage = "orama function secrets set [OPTIONS] <NAME> <VALUE | - | --from-file <PATH>>\n       orama function secrets set [OPTIONS] --env-file <PATH>",
        after_help = "\
The node encrypts the value and never shows it. A line break at the end of a file or of standard input is part of the value. \
Other users of the machine can see an argument while the command runs, and the shell's history keeps it; use --from-file or \
standard input to avoid both.

Examples:
  orama function secrets set APNS_KEY_ID ABC123DEF
  orama function secrets set APNS_AUTH_KEY --from-file ./AuthKey_ABC123.p8
  printf %s \"$TOKEN\" | orama function secrets set TOKEN -
  orama function secrets set --env-file .env"
    )]
    Set {
        /// The secret's name, as functions pass it to get_secret
        #[arg(value_parser = SecretName::new, required_unless_present = "env_file", conflicts_with = "env_file")]
        name: Option<SecretName>,
        /// The value, or - to read it from standard input
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// Read the value from a file (UTF-8 text, such as a PEM)
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
        /// Set each secret of a file with NAME=VALUE lines
        #[arg(long, value_name = "PATH")]
        env_file: Option<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the names of the namespace's secrets; the values are never shown
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a secret
    #[command(after_help = "\
The command asks for confirmation on a terminal; without a terminal it needs --force.

Examples:
  orama function secrets delete APNS_KEY_ID
  orama function secrets delete APNS_KEY_ID --force")]
    #[command(visible_alias = "rm")]
    Delete {
        /// The secret's name
        #[arg(value_parser = SecretName::new)]
        name: SecretName,
        /// Delete without confirmation
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand)]
pub enum TriggersCommand {
    /// Run a function for each message that is published to a topic, or by the clock
    #[command(
        group(ArgGroup::new("source").required(true).args(["topic", "schedule"])),
        after_help = "\
For a message, the function reads {\"topic\", \"data\", \"namespace\", \"trigger_depth\", \"timestamp\"} from standard input; for a \
schedule, {\"trigger\", \"schedule\", \"scheduled_at\", \"trigger_id\"}. A failed run is retried as `retry` in function.yaml says; \
after the last attempt the message is kept as a dead letter. Triggers may stand in function.yaml too.

Examples:
  orama function triggers add call-push-handler --topic calls:invite
  orama pubsub publish calls:invite '{\"calleeId\": \"user123\"}'
  orama function triggers add audit --topic 'calls:**'
  orama function triggers add report --schedule '*/5 * * * *'
  orama function triggers add report --schedule '0 9 * * MON-FRI' --timezone Europe/Berlin"
    )]
    Add {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The topic, or a pattern: * stands for anything between two colons, ** for anything
        #[arg(long)]
        topic: Option<String>,
        /// A cron expression: minute, hour, day of month, month, day of week; or six fields with seconds first
        #[arg(long, value_name = "CRON")]
        schedule: Option<String>,
        /// The time zone of the schedule [default: UTC]
        #[arg(long, value_name = "ZONE", conflicts_with = "topic")]
        timezone: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List a function's triggers
    #[command(visible_alias = "ls")]
    List {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        connection: Connection,
    },
    /// Stop a trigger from firing; what waits already still runs
    #[command(after_help = "\
Example:
  orama function triggers pause report 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    Pause {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The trigger's id, from `triggers list`
        id: Id,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let a paused trigger fire again; what was due meanwhile is not made up
    #[command(after_help = "\
Example:
  orama function triggers resume report 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    Resume {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The trigger's id, from `triggers list`
        id: Id,
        #[command(flatten)]
        connection: Connection,
    },
    /// Fire a trigger now, also a paused one
    #[command(after_help = "\
Examples:
  orama function triggers fire report 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10
  orama function triggers fire call-push-handler 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e11 --data '{\"calleeId\": \"user123\"}'")]
    Fire {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The trigger's id, from `triggers list`
        id: Id,
        /// The topic of the message, for a trigger on a pattern
        #[arg(long)]
        topic: Option<String>,
        /// The message: any JSON value, or - to read it from standard input [default: null]
        #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
        data: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a trigger, without confirmation
    #[command(after_help = "\
Example:
  orama function triggers delete call-push-handler 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    #[command(visible_alias = "rm")]
    Delete {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The trigger's id, from `triggers list`
        id: Id,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show dead letters: messages on which every attempt failed, newest first
    #[command(after_help = "\
With --json the output includes the messages' data.

Examples:
  orama function triggers dead-letters call-push-handler
  orama function triggers dead-letters call-push-handler --limit 5 --json")]
    DeadLetters {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// Largest number of dead letters [default: the node's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Run the function again for a dead letter, or for all of them
    #[command(
        group(ArgGroup::new("which").required(true).args(["id", "all"])),
        override_usage = "orama function triggers replay [OPTIONS] <FUNCTION> <ID | --all>",
        after_help = "\
Examples:
  orama function triggers replay call-push-handler 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10
  orama function triggers replay call-push-handler --all"
    )]
    Replay {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The dead letter's id, from `triggers dead-letters`
        id: Option<Id>,
        /// All dead letters of the function
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand)]
pub enum PubsubCommand {
    /// Publish a message to a topic
    #[command(after_help = "\
The message is JSON and is published exactly as given. When the command succeeds, the message is stored, and the functions \
with a trigger on the topic will run for it.

Examples:
  orama pubsub publish calls:invite '{\"calleeId\": \"user123\", \"callType\": \"video\"}'
  orama pubsub publish numbers 42
  orama pubsub publish reminders '{\"user\": 7}' --delay 10m
  orama pubsub publish calls:invite - < invite.json")]
    Publish {
        /// The topic
        topic: String,
        /// The message: any JSON value, or - to read it from standard input
        #[arg(value_name = "JSON", allow_hyphen_values = true)]
        data: String,
        /// Publish it after this time, such as 90s, 10m or 2h; 30 days at most
        #[arg(long, value_name = "TIME", value_parser = delay)]
        delay: Option<Duration>,
        /// Publish it at this time (RFC 3339)
        #[arg(long, value_name = "TIME", conflicts_with = "delay")]
        at: Option<Timestamp>,
        #[command(flatten)]
        connection: Connection,
    },
}

fn delay(text: &str) -> Result<Duration, String> {
    let given: SignedDuration =
        text.parse().map_err(|_| "write a number and a unit, such as 90s, 10m or 2h".to_owned())?;
    Duration::try_from(given).map_err(|_| "a delay cannot be negative".to_owned())
}

/// What of a namespace's limits is changed.
#[derive(Args)]
pub struct Change {
    /// Set one; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Give one its default again; may be repeated
    #[arg(long, value_name = "NAME")]
    pub unset: Vec<String>,
}

/// Limits of one kind of a namespace, to show or to change.
#[derive(Args)]
pub struct LimitsOf {
    /// The namespace; that of the credential unless given
    #[arg(value_parser = Namespace::new)]
    pub name: Option<Namespace>,
    #[command(flatten)]
    pub change: Change,
    #[command(flatten)]
    pub node: NodeAccess,
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as functions=20")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Subcommand)]
pub enum NamespaceCommand {
    /// Create a namespace, with its own functions, data, secrets and keys
    #[command(after_help = "\
Example:
  orama namespace create team-a
  orama keys create --role admin --namespace team-a")]
    Create {
        /// The name: a letter, then letters, digits, '-' and '_'; at most 63 characters
        #[arg(value_parser = Namespace::new)]
        name: Namespace,
        #[command(flatten)]
        node: NodeAccess,
    },
    /// List the namespaces
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        node: NodeAccess,
    },
    /// Show how much of each quota a namespace uses
    #[command(after_help = "\
Needs an admin's key of the namespace, or an operator's.

Examples:
  orama namespace usage
  orama namespace usage team-a --json")]
    Usage {
        /// The namespace; that of the credential unless given
        #[arg(value_parser = Namespace::new)]
        name: Option<Namespace>,
        #[command(flatten)]
        node: NodeAccess,
    },
    /// Show a namespace's quotas, or change them
    #[command(after_help = "\
Changes need an operator's key, and leave the other quotas as they are. docs/HTTP.md lists the quotas.

Examples:
  orama namespace quotas team-a
  orama namespace quotas team-a --set functions=20 --set module_bytes=1048576
  orama namespace quotas team-a --unset functions")]
    Quotas(LimitsOf),
    /// Show a namespace's rates, or change them
    #[command(after_help = "\
Changes need an operator's key, and leave the other rates as they are. They hold on all nodes within a second. docs/OPERATIONS.md \
lists the rates.

Examples:
  orama namespace rates team-a
  orama namespace rates team-a --set requests_per_namespace='100/s burst 500' --set deploys_per_key=off
  orama namespace rates team-a --unset requests_per_namespace")]
    Rates(LimitsOf),
    /// Delete a namespace with everything in it
    #[command(after_help = "\
The command asks for confirmation on a terminal; without a terminal it needs --force.

Examples:
  orama namespace delete team-a
  orama namespace delete team-a --force")]
    #[command(visible_alias = "rm")]
    Delete {
        /// The namespace
        #[arg(value_parser = Namespace::new)]
        name: Namespace,
        /// Delete without confirmation
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        node: NodeAccess,
    },
}

/// A key to be created.
#[derive(Args)]
pub struct NewKey {
    /// What the key may do
    #[arg(long, value_enum)]
    pub role: Role,
    /// What the key is called in lists
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// When it expires: an age from now on (90m, 24h, 30d) or a time (2027-01-01T00:00:00Z) [default: never]
    #[arg(long, value_name = "TIME|AFTER")]
    pub expires: Option<Expiry>,
    /// A function that it is for; may be repeated. Without it, the key is for all functions of the namespace
    #[arg(long = "function", value_name = "NAME", value_parser = FunctionName::new)]
    pub functions: Vec<FunctionName>,
}

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Create an API key, which is shown only once
    #[command(after_help = "\
Standard output holds the key alone, for scripts. The node keeps only its hash.

Examples:
  orama keys create --role invoke
  orama keys create --role deploy --name ci --function hello --expires 30d
  KEY=$(orama keys create --role admin --namespace team-a)")]
    Create {
        #[command(flatten)]
        key: NewKey,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the ids and roles of the namespace's keys
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a key, without confirmation; the node refuses it from then on. An operator may delete keys of every namespace
    #[command(after_help = "\
Example:
  orama keys delete 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    #[command(visible_alias = "rm")]
    Delete {
        /// The key's id, from `keys list`
        id: Id,
        #[command(flatten)]
        connection: Connection,
    },
}

/// What a key may do in its namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Role {
    /// Everything in the namespace, keys included
    Admin,
    /// Deploy, inspect and invoke functions, set secrets and triggers
    Deploy,
    /// Invoke functions and publish messages
    Invoke,
}

#[derive(Subcommand)]
pub enum MasterKeyCommand {
    /// Create a new master key and encrypt every secret with it, while functions keep reading them
    #[command(after_help = "\
Example:
  orama secrets rotate-key")]
    RotateKey {
        #[command(flatten)]
        node: NodeAccess,
    },
}

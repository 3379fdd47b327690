//! The commands for what functions use: secrets, triggers, messages, and who may do what.

use super::{Connection, Id, NodeAccess};
use clap::{ArgGroup, Subcommand, ValueEnum};
use orama_runtime::names::{FunctionName, Namespace, SecretName};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum SecretsCommand {
    /// Set a secret; the next invocation reads the new value
    #[command(
        group(ArgGroup::new("source").required(true).args(["value", "from_file"])),
        override_usage = "orama function secrets set [OPTIONS] <NAME> <VALUE | - | --from-file <PATH>>",
        after_help = "\
The value is stored encrypted and never shown again. It is taken as it is, with a line break at its end where a file or \
standard input has one. An argument can be seen by other users of the machine while the command runs, and stays in the \
shell's history: --from-file or standard input keep it out of both.

Examples:
  orama function secrets set APNS_KEY_ID ABC123DEF
  orama function secrets set APNS_AUTH_KEY --from-file ./AuthKey_ABC123.p8
  printf %s \"$TOKEN\" | orama function secrets set TOKEN -"
    )]
    Set {
        /// The secret's name, as get_secret is given it
        #[arg(value_parser = SecretName::new)]
        name: SecretName,
        /// The value, or - to read it from standard input
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// Take the value from a file (UTF-8 text, such as a PEM)
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the names of the namespace's secrets; values are never shown
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a secret
    #[command(after_help = "\
Asks on a terminal; anywhere else --force is needed.

Examples:
  orama function secrets delete APNS_KEY_ID
  orama function secrets delete APNS_KEY_ID --force")]
    Delete {
        /// The secret's name
        #[arg(value_parser = SecretName::new)]
        name: SecretName,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand)]
pub enum TriggersCommand {
    /// Run a function for each message that is published to a topic
    #[command(after_help = "\
The function reads {\"topic\", \"data\", \"namespace\", \"trigger_depth\", \"timestamp\"} from standard input. What fails is tried \
again as function.yaml's `retry` says, and then kept as a dead letter.

Examples:
  orama function triggers add call-push-handler --topic calls:invite
  orama pubsub publish calls:invite '{\"calleeId\": \"user123\"}'")]
    Add {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The topic; a function may have several triggers
        #[arg(long)]
        topic: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// List a function's triggers
    List {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a trigger; does not ask
    #[command(after_help = "\
Example:
  orama function triggers delete call-push-handler 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
    Delete {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// The trigger's id, from `triggers list`
        id: Id,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show messages on which the function failed, also when tried again, newest first
    #[command(after_help = "\
With --json the messages' data is shown as well.

Examples:
  orama function triggers dead-letters call-push-handler
  orama function triggers dead-letters call-push-handler --limit 5 --json")]
    DeadLetters {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        function: FunctionName,
        /// How many at most [default: the node's]
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
The message is JSON, and is handed on as it stands. When the command ends, the message is stored: functions with a trigger on \
the topic will run for it.

Examples:
  orama pubsub publish calls:invite '{\"calleeId\": \"user123\", \"callType\": \"video\"}'
  orama pubsub publish numbers 42
  orama pubsub publish calls:invite - < invite.json")]
    Publish {
        /// The topic
        topic: String,
        /// The message: any JSON value, or - to read it from standard input
        #[arg(value_name = "JSON", allow_hyphen_values = true)]
        data: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand)]
pub enum NamespaceCommand {
    /// Create a namespace: functions, data, secrets and keys of its own
    #[command(after_help = "\
Example:
  orama namespace create team-a
  orama keys create --role admin --namespace team-a")]
    Create {
        /// The name: a letter, then letters, digits, '-' and '_', at most 63 characters
        #[arg(value_parser = Namespace::new)]
        name: Namespace,
        #[command(flatten)]
        node: NodeAccess,
    },
    /// List the namespaces
    List {
        #[command(flatten)]
        node: NodeAccess,
    },
    /// Delete a namespace with everything in it
    #[command(after_help = "\
Asks on a terminal; anywhere else --force is needed.

Examples:
  orama namespace delete team-a
  orama namespace delete team-a --force")]
    Delete {
        /// The namespace
        #[arg(value_parser = Namespace::new)]
        name: Namespace,
        /// Do not ask
        #[arg(long, short)]
        force: bool,
        #[command(flatten)]
        node: NodeAccess,
    },
}

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Create an API key; it is shown once
    #[command(after_help = "\
The key alone goes to standard output, so that a script can take it. The node keeps only its hash.

Examples:
  orama keys create --role invoke
  KEY=$(orama keys create --role admin --namespace team-a)")]
    Create {
        /// What the key may do
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the namespace's keys; the keys themselves are never shown
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a key, which is refused from then on; does not ask. An operator's key reaches those of every namespace
    #[command(after_help = "\
Example:
  orama keys delete 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10")]
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
    /// Everything, keys included
    Admin,
    /// Deploy, inspect and invoke functions, set secrets and triggers
    Deploy,
    /// Invoke functions and publish messages
    Invoke,
}

#[derive(Subcommand)]
pub enum MasterKeyCommand {
    /// Make a new master key and store every secret under it, while functions go on reading them
    #[command(after_help = "\
Example:
  orama secrets rotate-key")]
    RotateKey {
        #[command(flatten)]
        node: NodeAccess,
    },
}

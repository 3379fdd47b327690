//! Runs each command: one module per command.

mod audit;
mod build;
mod confirm;
mod contexts;
mod db;
mod delete;
mod demo;
mod deploy;
mod dev;
mod env_file;
mod follow;
mod function_test;
mod in_use;
mod init;
mod input;
mod inspect;
mod invoke;
mod keys;
mod limits;
mod logs;
mod namespace;
mod namespace_logs;
mod pages;
mod pubsub;
mod sdk;
mod secrets;
mod serve;
mod setup;
mod stats;
mod transfer;
mod triggers;

use crate::args::{
    Args, Command, Connection, FunctionCommand, KeysCommand, MasterKeyCommand, NamespaceCommand, NodeAccess,
    PubsubCommand, SdkCommand, SecretsCommand, TriggersCommand,
};
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{CliError, Result};
use orama_runtime::limits::MAX_BODY_MB;
use orama_runtime::web::Cors;
use serde::Deserialize;

/// Runs one command.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Serve(serve) => serve::run(serve),
        Command::Demo(demo) => demo::run(demo),
        Command::Dev(dev) => dev::run(dev),
        Command::Export(args) => transfer::export(&args),
        Command::Import(args) => transfer::import(&args),
        Command::Function(group) => run_function(group.command, group.json),
        Command::Db(group) => db::run(connect, group.command, group.json),
        Command::Login(args) => contexts::login(&args),
        Command::Context(group) => contexts::context(&group.command, group.json),
        Command::Whoami(args) => contexts::whoami(&args),
        Command::Pubsub(group) => {
            let PubsubCommand::Publish { topic, data, delay, at, connection } = group.command;
            let when = pubsub::When { delay, at };
            pubsub::publish(&connect(&connection)?, &topic, data, &when, group.json)
        }
        Command::Namespace(group) => run_namespace(group.command, group.json),
        Command::Keys(group) => run_keys(group.command, group.json),
        Command::Logs(args) => namespace_logs::run(args),
        Command::Audit(args) => audit::run(&connect(&args.connection)?, &args),
        Command::Secrets(group) => {
            let MasterKeyCommand::RotateKey { node } = group.command;
            secrets::rotate_key(&connect_to(node)?, group.json)
        }
        Command::Sdk(group) => {
            let SdkCommand::Update { dir, force } = group.command;
            sdk::update(&dir, force, group.json)
        }
        Command::Version(args) => setup::version(args.json),
        Command::Completions(args) => setup::completions(args.shell),
        Command::Man(args) => setup::man(&args.dir),
    }
}

fn run_function(command: FunctionCommand, json: bool) -> Result<()> {
    use FunctionCommand as F;
    match command {
        F::Init { name, template } => init::run(&name, template, json),
        F::Build(build) => build::run(&build, json),
        F::Test(test) => function_test::run(&test, json),
        F::Deploy { build, alias, message, environment, connection } => {
            let version = deploy::NewVersion { alias, message, environment };
            deploy::run(&build, version, &connect(&connection)?, json)
        }
        F::Update(args) => in_use::update(&connect(&args.connection)?, &args, json),
        F::Enable(of) => in_use::enable(&connect(&of.connection)?, &of, true, json),
        F::Disable(of) => in_use::enable(&connect(&of.connection)?, &of, false, json),
        F::Rollback(args) => in_use::rollback(&connect(&args.connection)?, &args, json),
        F::Aliases { command } => in_use::aliases(connect, command, json),
        F::Traffic(args) => in_use::traffic(&connect(&args.connection)?, &args, json),
        F::Invoke { function, data, include, connection } => {
            // A public function needs no key, so a node that the saved key is not for may answer as well.
            let client = Client::new(Credentials::find(&connection)?)?;
            invoke::run(&client, &function, data.as_deref(), include, json)
        }
        F::List { entries, connection } => inspect::list(&connect(&connection)?, entries.limit, json),
        F::Get { function, connection } => inspect::get(&connect(&connection)?, &function, json),
        F::Versions { name, entries, connection } => {
            inspect::versions(&connect(&connection)?, &name, entries.limit, json)
        }
        F::Delete { function, force, connection } => {
            delete::run(&connect(&connection)?, &function, force, json)
        }
        F::Logs { function, follow, limit, since, status, request_id, connection } => {
            let filter = logs::Filter { limit, since: since.map(|since| since.0), status, request_id };
            if follow {
                return follow::run(connection, &function, filter, json);
            }
            logs::run(&connect(&connection)?, &function, &filter, json)
        }
        F::Stats { function, since, connection } => {
            stats::run(&connect(&connection)?, function.as_ref(), since.map(|since| since.0), json)
        }
        F::Secrets { command } => run_secrets(command, json),
        F::Triggers { command } => run_triggers(command, json),
    }
}

fn run_secrets(command: SecretsCommand, json: bool) -> Result<()> {
    use SecretsCommand as S;
    match command {
        S::Set { name, value, from_file, env_file, connection } => {
            // The values are read first, so that a file that cannot be read is reported before anything else.
            let values = match (name, env_file) {
                (Some(name), None) => vec![(name, secrets::value(value, from_file.as_deref())?)],
                (_, Some(file)) => secrets::values(&file)?,
                (None, None) => return Err(CliError::usage("give a name and a value, or --env-file")),
            };
            let client = connect(&connection)?;
            values.iter().try_for_each(|(name, value)| secrets::set(&client, name, value, json))
        }
        S::List { entries, connection } => secrets::list(&connect(&connection)?, entries.limit, json),
        S::Delete { name, force, connection } => secrets::delete(&connect(&connection)?, &name, force, json),
    }
}

fn run_triggers(command: TriggersCommand, json: bool) -> Result<()> {
    use TriggersCommand as T;
    match command {
        T::Add { function, topic, schedule, timezone, connection } => {
            let source = triggers::Source { topic, cron_expression: schedule, timezone };
            triggers::add(&connect(&connection)?, &function, &source, json)
        }
        T::List { function, entries, connection } => {
            triggers::list(&connect(&connection)?, &function, entries.limit, json)
        }
        T::Pause { function, id, connection } => {
            triggers::enable(&connect(&connection)?, &function, &id, false, json)
        }
        T::Resume { function, id, connection } => {
            triggers::enable(&connect(&connection)?, &function, &id, true, json)
        }
        T::Fire { function, id, topic, data, connection } => {
            let message = triggers::Firing { topic, data };
            triggers::fire(&connect(&connection)?, &function, &id, message, json)
        }
        T::Delete { function, id, connection } => {
            triggers::delete(&connect(&connection)?, &function, &id, json)
        }
        T::DeadLetters { function, limit, connection } => {
            triggers::dead_letters(&connect(&connection)?, &function, limit, json)
        }
        T::Replay { function, id, all: _, connection } => {
            triggers::replay(&connect(&connection)?, &function, id.as_ref(), json)
        }
    }
}

fn run_namespace(command: NamespaceCommand, json: bool) -> Result<()> {
    use NamespaceCommand as N;
    match command {
        N::Create { name, node } => namespace::create(&connect_to(node)?, &name, json),
        N::List { entries, node } => namespace::list(&connect_to(node)?, entries.limit, json),
        N::Usage { name, node } => namespace::usage(&connect_to(node)?, name.as_ref(), json),
        N::Quotas(of) => {
            limits::run(&connect_to(of.node)?, of.name.as_ref(), limits::QUOTAS, &of.change, json)
        }
        N::Rates(of) => limits::run(&connect_to(of.node)?, of.name.as_ref(), limits::RATES, &of.change, json),
        N::Delete { name, force, node } => namespace::delete(&connect_to(node)?, &name, force, json),
    }
}

fn run_keys(command: KeysCommand, json: bool) -> Result<()> {
    use KeysCommand as K;
    match command {
        K::Create { key, connection } => keys::create(&connect(&connection)?, &key, json),
        K::List { entries, connection } => keys::list(&connect(&connection)?, entries.limit, json),
        K::Delete { id, connection } => {
            keys::delete(&connect(&connection)?, &id, connection.namespace.is_some(), json)
        }
    }
}

/// Prepares requests to the chosen node. A key that was saved for another node is refused before anything is sent.
fn connect(connection: &Connection) -> Result<Client> {
    Client::new(Credentials::find(connection)?.require_own_key()?)
}

/// Does the same for commands that are about the node and take no namespace.
fn connect_to(node: NodeAccess) -> Result<Client> {
    connect(&Connection { node, namespace: None })
}

const fn default_max_body() -> u32 {
    MAX_BODY_MB.default
}

/// What was told of a version's sources.
#[derive(Deserialize)]
struct SourceInfo {
    #[serde(default)]
    commit: Option<String>,
    #[serde(default)]
    branch: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    is_dirty: Option<bool>,
}

/// The fields of the API's function object that commands show.
#[derive(Deserialize)]
struct FunctionInfo {
    name: String,
    namespace: String,
    version: u32,
    wasm_cid: String,
    memory_limit_mb: u32,
    timeout_seconds: u32,
    is_public: bool,
    retry_count: u32,
    retry_delay_seconds: u32,
    start: String,
    // A node of an earlier version does not tell them.
    #[serde(default)]
    concurrency: u32,
    #[serde(default)]
    keep_versions: u32,
    #[serde(default)]
    internal: bool,
    #[serde(default = "default_max_body")]
    max_body: u32,
    #[serde(default)]
    cors: Option<Cors>,
    #[serde(default)]
    start_note: Option<String>,
    status: String,
    #[serde(default)]
    key_id: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    updated_from: Option<u32>,
    #[serde(default)]
    source: Option<SourceInfo>,
    created_at: String,
    updated_at: String,
}

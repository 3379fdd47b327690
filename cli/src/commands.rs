//! One module a command; this one hands over to it.

mod build;
mod delete;
mod demo;
mod deploy;
mod init;
mod inspect;
mod invoke;
mod logs;
mod serve;

use crate::args::{Args, Command, Connection, FunctionCommand};
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::Result;
use serde::Deserialize;

/// Runs one command.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Serve(serve) => serve::run(serve),
        Command::Demo(demo) => demo::run(demo),
        Command::Function(function) => run_function(function.command, function.json),
    }
}

fn run_function(command: FunctionCommand, json: bool) -> Result<()> {
    use FunctionCommand as F;
    match command {
        F::Init { name } => init::run(&name, json),
        F::Build(build) => build::run(&build, json),
        F::Deploy { build, connection } => deploy::run(&build, &connect(&connection)?, json),
        F::Invoke { function, data, connection } => {
            invoke::run(&connect(&connection)?, &function, data.as_deref(), json)
        }
        F::List { connection } => inspect::list(&connect(&connection)?, json),
        F::Get { function, connection } => inspect::get(&connect(&connection)?, &function, json),
        F::Versions { name, connection } => inspect::versions(&connect(&connection)?, &name, json),
        F::Delete { function, force, connection } => {
            delete::run(&connect(&connection)?, &function, force, json)
        }
        F::Logs { function, limit, since, status, request_id, connection } => {
            let filter = logs::Filter { limit, since, status, request_id };
            logs::run(&connect(&connection)?, &function, &filter, json)
        }
    }
}

fn connect(connection: &Connection) -> Result<Client> {
    Client::new(Credentials::find(connection)?)
}

/// The function object of the API, as far as it is shown.
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
    status: String,
    created_at: String,
    updated_at: String,
}

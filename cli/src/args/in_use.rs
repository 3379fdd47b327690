//! Arguments of the commands that say which versions of a function are in use, and that change it without its code.

use super::Connection;
use super::values::Target;
use clap::{Args, Subcommand};
use orama_runtime::names::{AliasName, FunctionName};

/// `orama function update`.
#[derive(Args)]
#[command(after_help = "\
The keys are those of function.yaml, and `alias` and those of the deploy form in docs/HTTP.md. What is not given stays. The \
result is a new version with the same module.

Examples:
  orama function update hello --set timeout=60 --set public=true
  orama function update hello --env GREETING=Hi --unset-env OLD_NAME
  orama function update hello@2 --set memory=128 --alias canary")]
pub struct Update {
    /// The function; @VERSION begins from an older version
    pub function: Target,
    /// Change a key of function.yaml; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::services::assignment)]
    pub set: Vec<(String, String)>,
    /// Set a variable of the environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::services::assignment)]
    pub env: Vec<(String, String)>,
    /// Remove a variable of the environment; may be repeated
    #[arg(long, value_name = "NAME")]
    pub unset_env: Vec<String>,
    /// Set an alias to the new version. The live version does not change, unless the alias is `live`
    #[arg(long, value_name = "ALIAS", value_parser = AliasName::new)]
    pub alias: Option<AliasName>,
    #[command(flatten)]
    pub connection: Connection,
}

/// `orama function enable` and `disable`.
#[derive(Args)]
pub struct OneFunction {
    /// The function
    #[arg(value_parser = FunctionName::new)]
    pub name: FunctionName,
    #[command(flatten)]
    pub connection: Connection,
}

/// `orama function rollback`.
#[derive(Args)]
#[command(after_help = "\
The command sets the alias `live`, and ends a spread of the traffic. Later deploys leave `live` where it is: deploy with `--alias \
live`, or delete the alias to follow the newest version again.

Examples:
  orama function rollback hello
  orama function rollback hello 3
  orama function aliases delete hello live")]
pub struct Rollback {
    /// The function
    #[arg(value_parser = FunctionName::new)]
    pub name: FunctionName,
    /// The version to make live [default: the one before the live one]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
    #[command(flatten)]
    pub connection: Connection,
}

/// `orama function aliases`.
#[derive(Subcommand)]
pub enum AliasesCommand {
    /// List a function's aliases
    #[command(visible_alias = "ls")]
    List(OneFunction),
    /// Make an alias stand for a version
    #[command(after_help = "\
An alias can be invoked as name@alias. The alias `live` is what the name alone stands for; unless it is set, that is the newest \
version.

Examples:
  orama function aliases set hello canary 4
  orama function aliases set hello live 3")]
    Set {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        name: FunctionName,
        /// The alias: a letter, then letters, digits, '-' and '_'
        #[arg(value_parser = AliasName::new)]
        alias: AliasName,
        /// The version
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        version: u32,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete an alias, without confirmation; without `live`, the newest version is live
    #[command(visible_alias = "rm")]
    Delete {
        /// The function
        #[arg(value_parser = FunctionName::new)]
        name: FunctionName,
        /// The alias
        #[arg(value_parser = AliasName::new)]
        alias: AliasName,
        #[command(flatten)]
        connection: Connection,
    },
}

/// `orama function traffic`.
#[derive(Args)]
#[command(after_help = "\
Calls of the name alone are spread by weight, over HTTP, over WebSockets and from other functions. Triggers and schedules run \
the live version. With --sticky, a caller stays with a version as long as the value of the header or cookie and the weights stay \
the same; a caller without it goes by chance.

Examples:
  orama function traffic hello
  orama function traffic hello 3=90 4=10
  orama function traffic hello 3=90 4=10 --sticky header:x-user
  orama function traffic hello --end")]
pub struct Traffic {
    /// The function
    #[arg(value_parser = FunctionName::new)]
    pub name: FunctionName,
    /// Versions and their weights; nothing shows the weights
    #[arg(value_name = "VERSION=WEIGHT", value_parser = weight)]
    pub weights: Vec<(u32, u32)>,
    /// What callers are told apart by: header:NAME or cookie:NAME
    #[arg(long, value_name = "KIND:NAME", requires = "weights")]
    pub sticky: Option<String>,
    /// Send all calls to the live version again
    #[arg(long, conflicts_with = "weights")]
    pub end: bool,
    #[command(flatten)]
    pub connection: Connection,
}

fn weight(text: &str) -> Result<(u32, u32), String> {
    let pair = text.split_once('=').and_then(|(version, weight)| {
        Some((version.parse().ok().filter(|version: &u32| *version > 0)?, weight.parse().ok()?))
    });
    pair.ok_or_else(|| "expected VERSION=WEIGHT, such as 3=90".to_owned())
}

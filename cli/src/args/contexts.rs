//! Arguments of `orama login`, `orama context` and `orama whoami`.

use super::Connection;
use clap::{Args, Subcommand};

/// `orama login`.
#[derive(Args)]
#[command(after_help = "\
The command asks for the API key without showing it, or reads it from standard input without a terminal. It checks the key at the \
node, saves both in contexts.json in the home, and makes the context the one that later commands use.

Examples:
  orama login https://functions.example.org
  orama login https://edge.example.org --name edge --namespace shop < key.txt")]
pub struct Login {
    /// The node's address
    #[arg(value_name = "URL")]
    pub address: String,
    /// The context's name [default: the address's host]
    #[arg(long, value_name = "NAME", value_parser = context_name)]
    pub name: Option<String>,
    /// The namespace to use [default: the key's own]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `orama context`.
#[derive(Subcommand)]
pub enum ContextCommand {
    /// List the contexts
    #[command(visible_alias = "ls")]
    List,
    /// Make a context the one that commands use; `local` is the node of this machine
    #[command(after_help = "\
--context NAME and ORAMA_CONTEXT choose another one for one command.

Examples:
  orama context use edge
  orama context use local")]
    Use {
        /// The context's name
        name: String,
    },
    /// Forget a context and its key, without confirmation
    #[command(visible_alias = "rm")]
    Delete {
        /// The context's name
        name: String,
    },
}

/// `orama whoami`.
#[derive(Args)]
pub struct Whoami {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connection: Connection,
}

fn context_name(text: &str) -> Result<String, String> {
    /// As long as the name of a host may be.
    const MAX: usize = 253;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if text.is_empty() || text.len() > MAX || !text.chars().all(fits) {
        return Err("a name has letters, digits, '.', ':', '-' and '_'".to_owned());
    }
    if text == crate::contexts::LOCAL {
        return Err("the context local is the node of this machine".to_owned());
    }
    Ok(text.to_owned())
}

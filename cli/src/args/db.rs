//! Arguments of `orama db`.

use super::Connection;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum DbCommand {
    /// Run one statement of SQL and print its rows
    #[command(after_help = "\
A statement that begins with SELECT, VALUES, WITH, EXPLAIN or PRAGMA only reads, unless --write is given. Values stand for `?` in \
their order; each is JSON, or else a text.

Examples:
  orama db query 'SELECT id, name FROM users WHERE id > ? LIMIT 10' 7
  orama db query \"INSERT INTO users (name) VALUES (?)\" Ann
  orama db query --json - < report.sql")]
    Query {
        /// The statement, or - to read it from standard input
        #[arg(allow_hyphen_values = true)]
        sql: String,
        /// The values
        #[arg(allow_hyphen_values = true)]
        values: Vec<String>,
        /// Let a statement write that begins like a query, such as WITH … INSERT
        #[arg(long)]
        write: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Write the database as SQL
    #[command(after_help = "\
Up to 10,000 rows of 100 tables are one state of the database. A larger one is read in several calls, and a function that writes \
meanwhile may change what comes later; `orama export` copies one state of any size.

Examples:
  orama db dump > shop.sql
  orama db dump --output shop.sql --namespace shop")]
    Dump {
        /// The file to write [default: standard output]
        #[arg(long, short, value_name = "PATH")]
        output: Option<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Run a file of SQL on an empty database, as `dump` wrote it
    #[command(after_help = "\
Up to 98 statements are one transaction; a larger file is run in several, and what was run stays if a later one fails.

Examples:
  orama db restore shop.sql
  orama db restore --clean --force shop.sql")]
    Restore {
        /// The file, or - for standard input
        file: PathBuf,
        /// Drop everything in the database before
        #[arg(long)]
        clean: bool,
        /// Drop without confirmation
        #[arg(long, short, requires = "clean")]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Run the migrations of a folder that did not run yet
    #[command(after_help = "\
Each file NUMBER_NAME.sql runs once, in the order of the numbers, as one transaction of at most 98 statements. `migrations: \
./migrations` in function.yaml runs them at each deploy, before the version is live.

Examples:
  orama db migrate
  orama db migrate ./migrations --dry-run")]
    Migrate {
        /// The folder
        #[arg(default_value = "migrations")]
        dir: PathBuf,
        /// Show what would run
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        connection: Connection,
    },
}

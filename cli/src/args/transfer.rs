//! Flags of `orama export` and `orama import`.

use clap::Args as ClapArgs;
use std::path::PathBuf;

#[derive(ClapArgs)]
pub struct Export {
    /// Config file (TOML) of the node
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node's home folder [default: $ORAMA_HOME or ~/.orama]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Include the master key of the secrets; whoever has the file can then read them
    #[arg(long)]
    pub with_secrets_key: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
pub struct Import {
    /// The exported file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Config file (TOML) of the node that will use the data
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node's home folder, which must hold no data [default: $ORAMA_HOME or ~/.orama]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

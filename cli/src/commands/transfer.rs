//! `orama export` and `orama import`: move a node's data as one file.

use super::serve::{load, start_logging};
use crate::args::{Export, Import};
use crate::error::{CliError, Result};
use crate::output;
use orama_server::platform::transfer::{self, Manifest};
use orama_server::{Config, Overrides};
use std::path::PathBuf;

/// Runs `orama export`.
pub fn export(args: &Export) -> Result<()> {
    let config = begin(args.config.clone(), args.home.clone())?;
    let manifest = transfer::export(&config.places(), &args.output, args.with_secrets_key)
        .map_err(|error| CliError::failed("the export failed").caused_by(error))?;
    print(&manifest, args.json, &format!("exported to {}", args.output.display()))
}

/// Runs `orama import`.
pub fn import(args: &Import) -> Result<()> {
    let config = begin(args.config.clone(), args.home.clone())?;
    let manifest = transfer::import(&config.places(), &args.file)
        .map_err(|error| CliError::failed("the import failed").caused_by(error))?;
    print(&manifest, args.json, &format!("imported into {}", config.home.display()))
}

fn begin(config_file: Option<PathBuf>, home: Option<PathBuf>) -> Result<Config> {
    start_logging("warn")?;
    load(&Overrides { config_file, home, ..Overrides::default() })
}

fn print(manifest: &Manifest, json: bool, done: &str) -> Result<()> {
    if json {
        let text = serde_json::to_string(manifest)
            .map_err(|error| CliError::failed("the result cannot be shown").caused_by(error))?;
        return output::line(&text);
    }
    output::line(&format!("{done}\n{manifest}"))
}

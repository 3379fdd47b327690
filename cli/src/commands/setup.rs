//! `orama version`, `orama completions` and `orama man`.

use crate::args::Args;
use crate::error::{Result, io};
use crate::output;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;
use std::path::Path;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the build script found out.
const COMMIT: &str = env!("ORAMA_BUILD_COMMIT");
const DATE: &str = env!("ORAMA_BUILD_DATE");
const TARGET: &str = env!("ORAMA_BUILD_TARGET");
const ENGINE: &str = env!("ORAMA_BUILD_ENGINE");

/// Runs `version`.
pub fn version(json: bool) -> Result<()> {
    if json {
        let all =
            json!({ "version": VERSION, "commit": COMMIT, "date": DATE, "target": TARGET, "engine": ENGINE });
        return output::line(&all.to_string());
    }
    output::line(&format!(
        "orama {VERSION}\ncommit  {COMMIT}\ndate    {DATE}\ntarget  {TARGET}\nengine  {ENGINE}"
    ))
}

/// Runs `completions`.
pub fn completions(shell: Shell) -> Result<()> {
    // Into memory first, as a reader that goes away is no error.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "orama", &mut script);
    output::raw(&script)
}

/// Runs `man`.
pub fn man(dir: &Path) -> Result<()> {
    clap_mangen::generate_to(Args::command(), dir).map_err(|error| io("write man pages to", dir, error))
}

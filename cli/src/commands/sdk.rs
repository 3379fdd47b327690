//! `orama sdk`: renews the copy of the Go SDK in a function's folder.

use crate::error::{CliError, Result};
use crate::output;
use crate::sdk;
use serde_json::json;
use std::path::Path;

/// Runs `update`.
pub fn update(dir: &Path, force: bool, json: bool) -> Result<()> {
    if !dir.join("go.mod").is_file() {
        return Err(CliError::failed(format!("there is no go.mod in {}", dir.display()))
            .hint("go to the folder of a function that `orama function init` made, or name one"));
    }
    let sdk::Changes { written, removed } = sdk::update(dir, force)?;
    let path = dir.join(sdk::FOLDER);
    if json {
        let changes = json!({ "path": path, "written": written, "removed": removed });
        return output::line(&changes.to_string());
    }
    if written.is_empty() && removed.is_empty() {
        return output::line(&format!("the SDK in {} is that of this version", path.display()));
    }
    let files = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("\n  {what}  {}", names.join(", ")),
    };
    let changes = files("written", &written) + &files("removed", &removed);
    output::line(&format!("renewed the SDK in {}{changes}", path.display()))
}

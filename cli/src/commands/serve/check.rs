//! `orama serve --check`: prints the configuration, and looks at the files that it names.

use super::misspelt;
use crate::error::{CliError, Result};
use crate::output;
use orama_server::config::{Entry, Loaded, Place, findings};
use serde_json::{Value, json};

/// Prints every key with its value and where it was said. Nothing is started, and no server is asked.
///
/// # Errors
/// When something was found that would keep a node from working; each is told on a line of its own.
pub fn run(loaded: &Loaded, json: bool) -> Result<()> {
    let (entries, findings, warnings) = (loaded.entries(), findings(&loaded.config), misspelt(loaded));
    let notes = loaded.config.remarks();
    if json {
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let report = json!({ "keys": entries, "notes": notes, "warnings": warnings, "findings": findings });
        output::line(&report.to_string())?;
    } else {
        let rows = entries.into_iter().map(|entry| {
            let origin = origin(entry.origin.as_ref());
            vec![entry.key, entry.value.unwrap_or_else(|| "-".to_owned()), origin]
        });
        output::line(&output::table(&["KEY", "VALUE", "FROM"], rows).join("\n"))?;
        for note in notes {
            output::line(&format!("note: {note}"))?;
        }
        warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
        findings.iter().for_each(|finding| output::note(&format!("error: {}", output::one_line(finding))));
    }
    match findings.len() {
        0 if json => Ok(()),
        0 => output::line("the configuration is valid"),
        1 => Err(CliError::failed("one thing is wrong with what the configuration names")),
        count => Err(CliError::failed(format!("{count} things are wrong with what the configuration names"))),
    }
}

fn origin(place: Option<&Place>) -> String {
    match place {
        None => "default".to_owned(),
        Some(Place::Flag) => "flag".to_owned(),
        Some(Place::Variable(name)) => format!("variable {name}"),
        Some(Place::File(path, line)) => format!("{}:{line}", path.display()),
    }
}

fn entry(Entry { key, value, origin, reloads }: &Entry) -> Value {
    let origin = match origin {
        None => json!({ "kind": "default" }),
        Some(Place::Flag) => json!({ "kind": "flag" }),
        Some(Place::Variable(name)) => json!({ "kind": "variable", "variable": name }),
        Some(Place::File(path, line)) => {
            json!({ "kind": "file", "file": path.display().to_string(), "line": line })
        }
    };
    json!({ "key": key, "value": value, "origin": origin, "reloads": reloads })
}

//! Looks at the files and folders that a configuration names, without changing anything.

use super::Config;
use crate::process;
use orama_platform::auth::bootstrap;
use orama_platform::auth::jwt::Issuer;
use orama_platform::{secrets, transfer};
use rustix::fs::{Access, access};
use std::path::Path;

/// What would keep a node from starting, or from working, one line for each; none if nothing was found. Reads files only: no
/// server is asked.
#[must_use]
pub fn findings(config: &Config) -> Vec<String> {
    let mut findings = Vec::new();
    for issuer in &config.issuers {
        findings.extend(Issuer::check_file(issuer).err().map(|error| error.to_string()));
    }
    if config.secrets_keys.is_none() {
        findings.extend(secrets::check_key_file(&config.places()).err().map(|error| {
            match &config.secrets_key_file {
                Some(_) => format!("secrets.key_file: {error}"),
                None => error.to_string(),
            }
        }));
    }
    findings.extend(home(&config.home).err().map(|why| format!("home: {why}")));
    findings.extend(bootstrap::check(&config.home).err().map(|error| format!("home: {error}")));
    if transfer::is_unfinished(&config.home) {
        let home = config.home.display();
        findings
            .push(format!("home: an import into {home} is not finished; run the same `orama import` again"));
    }
    findings
}

/// Whether a node can write into its home, or make it.
fn home(home: &Path) -> Result<(), String> {
    let nearest = home.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(home);
    let data = home.join("data");
    for folder in [nearest, &data].into_iter().filter(|path| path.symlink_metadata().is_ok()) {
        let shown = folder.display();
        if !folder.is_dir() {
            return Err(format!("{shown} is not a folder"));
        }
        access(folder, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| format!("{shown} is not writable: {error}"))?;
        if process::forbids_execution(folder).unwrap_or(false) {
            return Err(format!(
                "{shown} is on a file system mounted noexec, from which compiled functions cannot run"
            ));
        }
    }
    Ok(())
}

//! The first start: creates a namespace, an operator's key, and the credentials file that the CLI reads.

use super::{Role, key_hash};
use crate::registry::{Registry, RegistryError};
use orama_runtime::names::Namespace;
use orama_store::files;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file's name in the home folder.
pub const CREDENTIALS_FILE: &str = "credentials.json";

/// The namespace that the first start creates.
const FIRST_NAMESPACE: &str = "default";

/// Why the credentials file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a credentials file. It may belong to the user, so it is not overwritten.
    #[error("{}: this is not a credentials file ({problem}); move it away and start the node again", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        problem: String,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The name of the first namespace is not valid.
    #[error(transparent)]
    Name(#[from] orama_runtime::names::InvalidName),
}

#[derive(Serialize, Deserialize)]
struct Credentials {
    gateway_url: String,
    api_key: String,
    namespace: String,
}

/// Ensures that `home/credentials.json` has a key that this node knows and the address that it serves.
///
/// The first start creates the namespace `default` and an operator's key for it. Later starts keep the key and write the file
/// only if the address has changed. If this node does not know the file's key (its data were deleted, or the file is from
/// another node), the file is renamed to `credentials.json.replaced` and a new one is written.
///
/// # Errors
/// [`BootstrapError`], which names the file.
pub fn credentials(registry: &Registry, home: &Path, gateway_url: &str) -> Result<(), BootstrapError> {
    let path = home.join(CREDENTIALS_FILE);
    let failed = |source| BootstrapError::File { path: path.clone(), source };
    let namespace = Namespace::new(FIRST_NAMESPACE)?;
    registry.create_namespace(&namespace)?;

    let found = match std::fs::read(&path) {
        Ok(bytes) => Some(parse(&path, &bytes)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(e)),
    };
    let credentials = match found {
        Some(found) if registry.key_of_hash(&key_hash(&found.api_key))?.is_some() => {
            if found.gateway_url == gateway_url {
                return Ok(());
            }
            Credentials { gateway_url: gateway_url.to_owned(), ..found }
        }
        unknown => {
            if unknown.is_some() {
                let kept = home.join(format!("{CREDENTIALS_FILE}.replaced"));
                std::fs::rename(&path, &kept).map_err(failed)?;
                tracing::warn!(file = %kept.display(), "the key in the credentials file is unknown to this node; the old file was kept under this name");
            }
            // The key is stored before the file is written: a crash in between leaves a key whose text is lost, and the next
            // start creates another.
            let (_, key) = registry.create_key(&namespace, Role::Operator)?;
            Credentials {
                gateway_url: gateway_url.to_owned(),
                api_key: key.reveal().to_owned(),
                namespace: namespace.to_string(),
            }
        }
    };
    let mut text = serde_json::to_vec_pretty(&credentials).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    files::write_atomic(&path, &text).map_err(failed)?;
    tracing::info!(file = %path.display(), "wrote the credentials file, which commands on this machine use");
    Ok(())
}

/// Whether the credentials file of a home can be read, where there is one. Changes nothing.
///
/// # Errors
/// [`BootstrapError`], which names the file.
pub fn check(home: &Path) -> Result<(), BootstrapError> {
    let path = home.join(CREDENTIALS_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => parse(&path, &bytes).map(|_| ()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(source) => Err(BootstrapError::File { path, source }),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Credentials, BootstrapError> {
    // serde's message may repeat a value of the file, which may be a key, so only the kind of mistake is reported.
    serde_json::from_slice(bytes).map_err(|e| BootstrapError::Foreign {
        path: path.to_owned(),
        problem: match e.classify() {
            serde_json::error::Category::Data => "it lacks gateway_url, api_key or namespace".to_owned(),
            _ => format!("not JSON, line {}", e.line()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn start(home: &Path, url: &str) -> (Registry, Credentials) {
        let registry = Registry::open(&home.join("data")).unwrap();
        credentials(&registry, home, url).unwrap();
        let text = std::fs::read(home.join(CREDENTIALS_FILE)).unwrap();
        (registry, serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn the_first_start_makes_an_operators_key_that_only_the_owner_can_read() {
        let home = tempfile::tempdir().unwrap();
        let (registry, file) = start(home.path(), "http://127.0.0.1:6001");
        assert_eq!(
            (file.gateway_url.as_str(), file.namespace.as_str()),
            ("http://127.0.0.1:6001", "default")
        );
        let credential = registry.key_of_hash(&key_hash(&file.api_key)).unwrap().unwrap();
        assert_eq!((credential.namespace.as_str(), credential.role), ("default", Role::Operator));
        let mode = home.path().join(CREDENTIALS_FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_port_keeps_the_key() {
        let home = tempfile::tempdir().unwrap();
        let (_, first) = start(home.path(), "http://127.0.0.1:1");
        let (_, second) = start(home.path(), "http://127.0.0.1:2");
        assert_eq!(first.api_key, second.api_key);
        assert_eq!(second.gateway_url, "http://127.0.0.1:2");
    }

    #[test]
    fn lost_data_give_a_new_key_and_keep_the_old_file() {
        let home = tempfile::tempdir().unwrap();
        let (registry, first) = start(home.path(), "http://127.0.0.1:1");
        drop(registry);
        std::fs::remove_dir_all(home.path().join("data")).unwrap();
        let (_, second) = start(home.path(), "http://127.0.0.1:1");
        assert_ne!(first.api_key, second.api_key);
        let kept = std::fs::read_to_string(home.path().join("credentials.json.replaced")).unwrap();
        assert!(kept.contains(&first.api_key));
    }

    #[test]
    fn a_foreign_file_is_left_alone_and_its_content_not_told() {
        let home = tempfile::tempdir().unwrap();
        let registry = Registry::open(&home.path().join("data")).unwrap();
        for content in ["not json s3cret", "{\"api_key\": {\"s3cret\": 1}}"] {
            std::fs::write(home.path().join(CREDENTIALS_FILE), content).unwrap();
            let message = credentials(&registry, home.path(), "http://x").unwrap_err().to_string();
            assert!(message.contains("credentials.json") && !message.contains("s3cret"), "{message}");
            assert_eq!(std::fs::read_to_string(home.path().join(CREDENTIALS_FILE)).unwrap(), content);
        }
    }
}

//! The first start: a namespace, a key for the operator, and the file in which the CLI finds both.

use super::{Role, key_hash};
use crate::registry::{Registry, RegistryError};
use orama_runtime::names::Namespace;
use orama_store::files;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file's name in the home folder.
pub const CREDENTIALS_FILE: &str = "credentials.json";

/// The namespace that a node starts with.
const FIRST_NAMESPACE: &str = "default";

/// Why the credentials file could not be made.
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
    /// The file holds something else. It may be the user's, so it is not overwritten.
    #[error("{}: not a credentials file ({problem}); move it away and start again", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        problem: String,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The first namespace's name is not accepted.
    #[error(transparent)]
    Name(#[from] orama_runtime::names::InvalidName),
}

#[derive(Serialize, Deserialize)]
struct Credentials {
    gateway_url: String,
    api_key: String,
    namespace: String,
}

/// Makes sure that `home/credentials.json` holds a key that this node knows, and the address it serves now.
///
/// The first start makes the namespace `default` and an operator's key for it. Later starts keep the key and write
/// the file only when the address changed. A file whose key this node does not know (its data were deleted, or the file is of
/// another node) is kept beside the new one as `credentials.json.replaced`.
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
        Some(found) if registry.credential(&key_hash(&found.api_key))?.is_some() => {
            if found.gateway_url == gateway_url {
                return Ok(());
            }
            Credentials { gateway_url: gateway_url.to_owned(), ..found }
        }
        unknown => {
            if unknown.is_some() {
                let kept = home.join(format!("{CREDENTIALS_FILE}.replaced"));
                std::fs::rename(&path, &kept).map_err(failed)?;
                tracing::warn!(file = %kept.display(), "the credentials file held a key that this node does not know; it was moved here");
            }
            // The key is stored before the file is written: a crash in between leaves a key that nobody knows, and
            // the next start makes another.
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
    files::write_atomic(&path, &text).map_err(failed)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Credentials, BootstrapError> {
    // serde's own message may repeat a value of the file, which may be a key: only the kind of mistake is told.
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
        let credential = registry.credential(&key_hash(&file.api_key)).unwrap().unwrap();
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

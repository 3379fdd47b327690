//! Where the node is and how to show who asks: flags, then variables, then the file that the node wrote.

use crate::args::Connection;
use crate::error::{CliError, Result, io};
use serde::Deserialize;
use std::env;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a node listens unless it was told otherwise.
pub const DEFAULT_GATEWAY: &str = "http://127.0.0.1:6001";

/// The file's name in the node's home.
const FILE_NAME: &str = "credentials.json";

/// Which node to ask, as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The node's address.
    pub gateway_url: String,
    /// The key to show it. Public functions need none.
    pub api_key: Option<String>,
    /// The namespace to ask for. Without one the key's own is meant.
    pub namespace: Option<String>,
}

// The key stays out of logs and messages.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("gateway_url", &self.gateway_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "(hidden)"))
            .field("namespace", &self.namespace)
            .finish()
    }
}

/// What `credentials.json` holds.
#[derive(Default, Deserialize)]
pub struct File {
    gateway_url: Option<String>,
    api_key: Option<String>,
    namespace: Option<String>,
}

impl Credentials {
    /// Finds the credentials of this process.
    pub fn find(flags: &Connection) -> Result<Self> {
        let file = match home() {
            Some(home) => File::read(&home.join(FILE_NAME))?,
            None => File::default(),
        };
        Ok(Self::resolve(flags, |name| env::var(name).ok(), file))
    }

    /// The credentials that a node wrote into its home.
    pub fn of_home(home: &Path) -> Result<Self> {
        let file = File::read(&home.join(FILE_NAME))?;
        Ok(Self::resolve(&Connection::default(), |_| None, file))
    }

    fn resolve(flags: &Connection, variable: impl Fn(&str) -> Option<String>, file: File) -> Self {
        let given = |flag: &Option<String>, name: &str| {
            flag.clone().or_else(|| variable(name)).filter(|value| !value.is_empty())
        };
        let own_key = given(&flags.node.api_key, "ORAMA_API_KEY");
        // The file's namespace belongs to the file's key: with another key it would ask for what that one cannot see.
        let files_namespace = if own_key.is_none() { file.namespace } else { None };
        Self {
            gateway_url: given(&flags.node.gateway_url, "ORAMA_GATEWAY_URL")
                .or(file.gateway_url)
                .unwrap_or_else(|| DEFAULT_GATEWAY.to_owned()),
            namespace: given(&flags.namespace, "ORAMA_NAMESPACE").or(files_namespace),
            api_key: own_key.or(file.api_key),
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io("read", path, &error)),
        };
        // serde's message may quote what it found, so only the place is shown: the file holds a key.
        serde_json::from_slice(&text).map_err(|error| {
            let (path, line, column) = (path.display(), error.line(), error.column());
            CliError::failed(format!("{path} is not valid (line {line}, column {column})")).hint(
                "it must be a JSON object with \"gateway_url\", \"api_key\" and \"namespace\"; \
                 a node on this machine writes it on its first start",
            )
        })
    }
}

/// `$ORAMA_HOME`, else `~/.orama`.
pub fn home() -> Option<PathBuf> {
    match env::var_os("ORAMA_HOME") {
        Some(home) if !home.is_empty() => Some(PathBuf::from(home)),
        _ => env::home_dir().map(|home| home.join(".orama")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::NodeAccess;

    fn file() -> File {
        File {
            gateway_url: Some("http://file".into()),
            api_key: Some("file-key".into()),
            namespace: Some("file-ns".into()),
        }
    }

    fn flags(gateway_url: Option<&str>, api_key: Option<&str>, namespace: Option<&str>) -> Connection {
        let node = NodeAccess { gateway_url: gateway_url.map(Into::into), api_key: api_key.map(Into::into) };
        Connection { node, namespace: namespace.map(Into::into) }
    }

    fn all_variables(name: &str) -> Option<String> {
        Some(format!("var:{name}"))
    }

    fn seen(found: &Credentials) -> (&str, Option<&str>, Option<&str>) {
        (&found.gateway_url, found.api_key.as_deref(), found.namespace.as_deref())
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let all = flags(Some("http://flag"), Some("flag-key"), Some("flag-ns"));
        let found = Credentials::resolve(&all, all_variables, file());
        assert_eq!(seen(&found), ("http://flag", Some("flag-key"), Some("flag-ns")));

        let found = Credentials::resolve(&Connection::default(), all_variables, file());
        assert_eq!(
            seen(&found),
            ("var:ORAMA_GATEWAY_URL", Some("var:ORAMA_API_KEY"), Some("var:ORAMA_NAMESPACE"))
        );

        let found = Credentials::resolve(&Connection::default(), |_| None, file());
        assert_eq!(seen(&found), ("http://file", Some("file-key"), Some("file-ns")));
    }

    #[test]
    fn each_value_is_found_on_its_own() {
        let found = Credentials::resolve(&flags(Some("http://flag"), None, None), |_| None, file());
        assert_eq!(seen(&found), ("http://flag", Some("file-key"), Some("file-ns")));
    }

    #[test]
    fn another_key_does_not_inherit_the_files_namespace() {
        let found = Credentials::resolve(&flags(None, Some("k"), None), |_| None, file());
        assert_eq!(seen(&found), ("http://file", Some("k"), None));
    }

    #[test]
    fn an_empty_variable_counts_as_unset_and_nothing_at_all_means_the_default_node() {
        let found = Credentials::resolve(&Connection::default(), |_| Some(String::new()), File::default());
        assert_eq!(seen(&found), (DEFAULT_GATEWAY, None, None));
    }

    #[test]
    fn a_damaged_file_is_named_without_showing_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, "{\"api_key\": 12345678}").unwrap();
        let error = Credentials::of_home(dir.path()).unwrap_err().to_string();
        assert!(error.contains(FILE_NAME) && error.contains("line 1"), "{error}");
        assert!(!error.contains("1234"), "{error}");
    }

    #[test]
    fn debug_output_hides_the_key() {
        let found = Credentials::resolve(&Connection::default(), |_| None, file());
        assert!(!format!("{found:?}").contains("file-key"));
    }
}

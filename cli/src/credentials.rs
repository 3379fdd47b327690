//! Which node a command talks to, and with which key: flags first, then variables, then the file that the node wrote.

use crate::args::Connection;
use crate::contexts::Contexts;
use crate::error::{CliError, Exit, Result, io};
use crate::gateway::Gateway;
use serde::{Deserialize, Serialize};
use std::env;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a node listens by default.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:6001";

/// The file's name in the node's home.
const FILE_NAME: &str = "credentials.json";

/// What some editors write before UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Which node to ask, as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The node's address.
    pub gateway: Gateway,
    /// The key to send.
    pub api_key: ApiKey,
    /// The namespace to ask for. Without one the node takes the key's own.
    pub namespace: Option<String>,
}

/// Whether requests carry an API key.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiKey {
    /// Every request carries this one.
    Sent(String),
    /// There is none.
    Missing,
    /// The only key is a saved one, and it was saved for another node.
    SavedFor(Gateway),
}

// The key stays out of logs and messages.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(_) => f.write_str("Sent(hidden)"),
            Self::Missing => f.write_str("Missing"),
            Self::SavedFor(gateway) => write!(f, "SavedFor({gateway})"),
        }
    }
}

/// The content of `credentials.json`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct File {
    /// The node's address.
    pub gateway_url: Option<String>,
    /// The key.
    pub api_key: Option<String>,
    /// The namespace to use.
    pub namespace: Option<String>,
}

// The key stays out of logs and messages.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("gateway_url", &self.gateway_url)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Finds the credentials of this process.
    ///
    /// # Errors
    /// When the file cannot be read, or the address is not valid.
    pub fn find(flags: &Connection) -> Result<Self> {
        let contexts = Contexts::read()?;
        let chosen = non_empty(flags.node.context.clone().or_else(|| env::var("ORAMA_CONTEXT").ok()));
        let file = match contexts.find(chosen.as_deref().unwrap_or(contexts.current()))? {
            Some(file) => file.clone(),
            None => match home() {
                Some(home) => File::read(&home.join(FILE_NAME))?,
                None => File::default(),
            },
        };
        Self::resolve(flags, |name| env::var(name).ok(), file)
    }

    /// Reads the credentials that a node wrote into its home.
    ///
    /// # Errors
    /// When the file cannot be read, or its address is not valid.
    pub fn of_home(home: &Path) -> Result<Self> {
        let file = File::read(&home.join(FILE_NAME))?;
        Self::resolve(&Connection::default(), |_| None, file)
    }

    /// Refuses to go on when the only key was saved for another node.
    ///
    /// # Errors
    /// Not authorised; the message names both nodes.
    pub fn require_own_key(self) -> Result<Self> {
        let ApiKey::SavedFor(saved) = &self.api_key else { return Ok(self) };
        let gateway = &self.gateway;
        let message = format!("the saved API key belongs to {saved} and is not sent to {gateway}");
        Err(CliError::new(Exit::NotAuthorised, message).hint(give_key(gateway)))
    }

    fn resolve(flags: &Connection, variable: impl Fn(&str) -> Option<String>, file: File) -> Result<Self> {
        let given = |flag: &Option<String>, name: &str| non_empty(flag.clone().or_else(|| variable(name)));
        let gateway = given(&flags.node.gateway_url, "ORAMA_GATEWAY_URL");
        let gateway = gateway.map(|text| Gateway::parse(&text)).transpose()?;
        let api_key = given(&flags.node.api_key, "ORAMA_API_KEY");
        let namespace = given(&flags.namespace, "ORAMA_NAMESPACE");
        let saved = || {
            let text = non_empty(file.gateway_url);
            Gateway::parse(text.as_deref().unwrap_or(DEFAULT_GATEWAY))
        };
        if let Some(key) = api_key {
            // The file's namespace belongs to the file's key; another key may have no access to it.
            let gateway = gateway.map_or_else(saved, Ok)?;
            return Ok(Self { gateway, api_key: ApiKey::Sent(key), namespace });
        }
        let Some(key) = non_empty(file.api_key) else {
            let gateway = gateway.map_or_else(saved, Ok)?;
            let namespace = namespace.or(non_empty(file.namespace));
            return Ok(Self { gateway, api_key: ApiKey::Missing, namespace });
        };
        let saved = saved()?;
        let given = gateway.unwrap_or_else(|| saved.clone());
        match given.for_key_of(&saved) {
            Some(gateway) => {
                let namespace = namespace.or(non_empty(file.namespace));
                Ok(Self { gateway, api_key: ApiKey::Sent(key), namespace })
            }
            None => Ok(Self { gateway: given, api_key: ApiKey::SavedFor(saved), namespace }),
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io("read", path, error)),
        };
        let mark = BYTE_ORDER_MARK.to_string();
        let json = text.strip_prefix(mark.as_bytes()).unwrap_or(&text);
        // serde's message may quote a value, and the file holds a key: only the position is shown, and no cause is kept.
        serde_json::from_slice(json).map_err(|error| {
            let (path, line, column) = (path.display(), error.line(), error.column());
            CliError::failed(format!("{path} is not valid (line {line}, column {column})")).hint(
                "it must be a JSON object with \"gateway_url\", \"api_key\" and \"namespace\"; \
                 a node on this machine writes it on its first start",
            )
        })
    }
}

/// How to give the key of a node.
pub fn give_key(gateway: &Gateway) -> String {
    format!("set ORAMA_API_KEY or --api-key to a key of {gateway}")
}

/// The text without white space and byte order marks around it, which editors and shells leave; `None` when nothing is left.
pub fn non_empty(text: Option<String>) -> Option<String> {
    let text = text?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The node's home: `$ORAMA_HOME`, else `~/.orama`.
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
        let node = NodeAccess {
            gateway_url: gateway_url.map(Into::into),
            api_key: api_key.map(Into::into),
            context: None,
        };
        Connection { node, namespace: namespace.map(Into::into) }
    }

    fn all_variables(name: &str) -> Option<String> {
        Some(if name == "ORAMA_GATEWAY_URL" { "http://var".into() } else { format!("var:{name}") })
    }

    fn seen(found: &Credentials) -> (String, Option<&str>, Option<&str>) {
        let key = match &found.api_key {
            ApiKey::Sent(key) => Some(key.as_str()),
            ApiKey::Missing | ApiKey::SavedFor(_) => None,
        };
        (found.gateway.to_string(), key, found.namespace.as_deref())
    }

    fn resolve(flags: &Connection, variable: impl Fn(&str) -> Option<String>, file: File) -> Credentials {
        Credentials::resolve(flags, variable, file).unwrap()
    }

    fn no_variables(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let all = flags(Some("http://flag"), Some("flag-key"), Some("flag-ns"));
        let found = resolve(&all, all_variables, file());
        assert_eq!(seen(&found), ("http://flag".into(), Some("flag-key"), Some("flag-ns")));

        let found = resolve(&Connection::default(), all_variables, file());
        let variables = ("http://var".into(), Some("var:ORAMA_API_KEY"), Some("var:ORAMA_NAMESPACE"));
        assert_eq!(seen(&found), variables);

        let found = resolve(&Connection::default(), no_variables, file());
        assert_eq!(seen(&found), ("http://file".into(), Some("file-key"), Some("file-ns")));
    }

    #[test]
    fn the_files_key_and_namespace_go_with_the_files_address_only() {
        let found = resolve(&flags(Some("http://file:80/path"), None, None), no_variables, file());
        assert_eq!(
            seen(&found),
            ("http://file:80/path".replace(":80", ""), Some("file-key"), Some("file-ns"))
        );

        let found = resolve(&flags(Some("http://flag"), None, Some("flag-ns")), no_variables, file());
        assert_eq!(found.api_key, ApiKey::SavedFor(Gateway::parse("http://file").unwrap()));
        assert_eq!(seen(&found), ("http://flag".into(), None, Some("flag-ns")));
        let found = resolve(&flags(Some("http://flag"), None, None), no_variables, file());
        assert_eq!(seen(&found), ("http://flag".into(), None, None));

        // A file without an address has the key of the node that commands go to by default.
        let file = || File { gateway_url: None, ..file() };
        let found = resolve(&flags(Some(DEFAULT_GATEWAY), None, None), no_variables, file());
        assert_eq!(found.api_key, ApiKey::Sent("file-key".into()));
        let found = resolve(&flags(Some("http://flag"), None, None), no_variables, file());
        assert_eq!(found.api_key, ApiKey::SavedFor(Gateway::parse(DEFAULT_GATEWAY).unwrap()));
    }

    #[test]
    fn a_key_of_another_node_is_refused_with_both_addresses_and_the_next_step() {
        let found = resolve(&flags(Some("http://flag"), None, None), no_variables, file());
        let error = found.require_own_key().unwrap_err();
        assert_eq!(error.exit(), Exit::NotAuthorised);
        assert_eq!(
            error.to_string(),
            "the saved API key belongs to http://file and is not sent to http://flag"
        );
        for (url, key) in [(Some("http://flag"), Some("k")), (None, None), (Some("http://file"), None)] {
            assert!(resolve(&flags(url, key, None), no_variables, file()).require_own_key().is_ok());
        }
        let found = resolve(&flags(Some("http://flag"), None, None), no_variables, File::default());
        assert!(found.require_own_key().is_ok(), "without any key the node decides");
    }

    #[test]
    fn another_key_does_not_inherit_the_files_namespace() {
        let found = resolve(&flags(None, Some("k"), None), no_variables, file());
        assert_eq!(seen(&found), ("http://file".into(), Some("k"), None));
    }

    #[test]
    fn an_empty_variable_counts_as_unset_and_nothing_at_all_means_the_default_node() {
        for empty in ["", " \n", "\u{feff}"] {
            let found = resolve(&Connection::default(), |_| Some(empty.into()), File::default());
            assert_eq!(seen(&found), (DEFAULT_GATEWAY.into(), None, None));
        }
    }

    #[test]
    fn white_space_and_byte_order_marks_around_a_value_are_dropped() {
        let all = flags(Some(" http://flag\r\n"), Some("\u{feff}flag-key\n"), Some("\tflag-ns "));
        let found = resolve(&all, no_variables, File::default());
        assert_eq!(seen(&found), ("http://flag".into(), Some("flag-key"), Some("flag-ns")));
        let found = resolve(&Connection::default(), |_| Some(" http://var\n".into()), File::default());
        assert_eq!(seen(&found), ("http://var".into(), Some("http://var"), Some("http://var")));

        let dir = tempfile::tempdir().unwrap();
        let text = "\u{feff}{\"gateway_url\": \"http://file \", \"api_key\": \" file-key\\n\"}\n";
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        let found = Credentials::of_home(dir.path()).unwrap();
        assert_eq!(seen(&found), ("http://file".into(), Some("file-key"), None));
    }

    #[test]
    fn a_damaged_file_is_named_without_showing_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        std::fs::write(&path, "{\"api_key\": 12345678}").unwrap();
        let error = Credentials::of_home(dir.path()).unwrap_err().described();
        assert!(error.contains(FILE_NAME) && error.contains("line 1"), "{error}");
        assert!(!error.contains("1234"), "{error}");
    }

    #[test]
    fn debug_output_hides_the_key() {
        let found = resolve(&Connection::default(), no_variables, file());
        assert!(!format!("{found:?}").contains("file-key"));
    }
}

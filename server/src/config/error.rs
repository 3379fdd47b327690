//! What is wrong with a configuration, and where it was said.

use super::keys::keys;
use super::{issuers, raw};
use orama_platform::secrets::KEY_VARIABLE;
use orama_runtime::web::CorsError;
use std::fmt;
use std::path::PathBuf;

/// Why a configuration was refused: one line that names where to look.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key that this version does not know.
    #[error("{}:{line}: unknown key `{key}`; the keys are {}", path.display(), key_names())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// The key as written.
        key: String,
    },
    /// A value that its key does not take.
    #[error("{place}: bad value for `{key}`: {message}")]
    BadValue {
        /// File and line, or the variable.
        place: Place,
        /// The key.
        key: String,
        /// What is accepted, and what was there.
        message: String,
    },
    /// The keys of the secrets are not what they must be. The message does not repeat them.
    #[error("environment variable {KEY_VARIABLE}: {0}")]
    SecretsKey(String),
    /// What is said of pages of other origins does not fit together.
    #[error("the configuration: {0}")]
    Cors(#[source] CorsError),
    /// No home folder can be derived.
    #[error("no home folder: set ORAMA_HOME, or HOME, or pass --home")]
    NoHome,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the config file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// The command line, or a default made from the environment.
    Flag,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// The names of all keys, with commas between them.
fn key_names() -> String {
    let keys = keys().map(|key| key.name.to_owned());
    keys.chain(raw::key_names()).chain(issuers::key_names()).collect::<Vec<_>>().join(", ")
}

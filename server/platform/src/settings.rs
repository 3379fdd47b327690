//! What the operator says of the platform: where a node keeps what it keeps, and who signs tokens.

use crate::secrets::MasterKeys;
use orama_runtime::names::Namespace;
use orama_store::settings::Backends;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use url::Url;

/// Who signs tokens, and which namespaces the signed tokens may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIssuer {
    /// The keys that verify its tokens.
    pub keys: KeySource,
    /// The claim `iss` of its tokens. `None` takes tokens with any, or without one.
    pub issuer: Option<String>,
    /// What the claim `aud` of its tokens must contain. `None` takes tokens for any audience, or for none.
    pub audience: Option<String>,
    /// The namespaces that its tokens may name; `None` is all.
    pub namespaces: Option<BTreeSet<Namespace>>,
}

impl TokenIssuer {
    /// An issuer whose tokens may name any namespace and need no `iss` and no `aud`: `auth.jwt`.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { keys: KeySource::File(path), issuer: None, audience: None, namespaces: None }
    }
}

/// Where the public keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file: a JWKS, or one public key in PEM.
    File(PathBuf),
    /// A JWKS on a server.
    Url(Url),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => write!(f, "{url}"),
        }
    }
}

/// The folder, the backends and the keys that hold a node's data. The node's config, or a command that moves data, says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder that holds everything of the node; absolute.
    pub home: PathBuf,
    /// Where each kind of data is: embedded, or on servers.
    pub backends: Backends,
    /// The master keys of the environment; they win over any file.
    pub secrets_keys: Option<MasterKeys>,
    /// The file with the master keys; without it one in [`Self::data`].
    pub secrets_key_file: Option<PathBuf>,
}

impl Places {
    /// The folder of the node's data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }
}

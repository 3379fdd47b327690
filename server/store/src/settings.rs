//! The settings of a node's backends: embedded, or the addresses of servers.

use orama_runtime::names::Namespace;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use url::{Host, Url};
use zeroize::Zeroizing;

/// A password of a backend. It appears in no message.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Wraps a password.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    /// The text, to be sent to the backend only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// An rqlite cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RqliteAt {
    /// The HTTP addresses of its servers, at least one, without user, path and query.
    pub urls: Vec<Url>,
    /// The user for basic authentication.
    pub user: Option<String>,
    /// The password for basic authentication.
    pub password: Option<Password>,
}

/// An Olric cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlricAt {
    /// Host and port of its members, at least one.
    pub addresses: Vec<String>,
    /// The password.
    pub password: Option<Password>,
}

/// A kubo server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpfsAt {
    /// The address of its API.
    pub api_url: Url,
}

/// Where the database of a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceDatabase {
    /// Embedded: a file of this node.
    Sqlite,
    /// An rqlite cluster of its own.
    Rqlite(RqliteAt),
}

/// All backends of a node. Those that are not named are embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The name of the cluster of nodes: the prefix of its names in servers that clusters share.
    pub cluster: String,
    /// The platform database; `None` is embedded.
    pub platform: Option<RqliteAt>,
    /// The databases of namespaces. If none is named and the platform database is embedded, each is a file.
    pub namespaces: BTreeMap<Namespace, NamespaceDatabase>,
    /// The cache; `None` is embedded.
    pub cache: Option<OlricAt>,
    /// The pubsub; `None` is embedded.
    pub pubsub: Option<OlricAt>,
    /// The stores of modules and objects; `None` is embedded.
    pub blobs: Option<IpfsAt>,
}

impl Default for Backends {
    fn default() -> Self {
        Self {
            cluster: "orama".to_owned(),
            platform: None,
            namespaces: BTreeMap::new(),
            cache: None,
            pubsub: None,
            blobs: None,
        }
    }
}

impl Backends {
    /// The hosts of all named servers, which `http_fetch` must not reach.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let namespaces = self.namespaces.values().filter_map(|database| match database {
            NamespaceDatabase::Rqlite(at) => Some(at),
            NamespaceDatabase::Sqlite => None,
        });
        let urls = self.platform.iter().chain(namespaces).flat_map(|at| &at.urls);
        let urls = urls.chain(self.blobs.iter().map(|at| &at.api_url));
        let olric = self.cache.iter().chain(&self.pubsub).flat_map(|at| &at.addresses);
        // The check of the configuration ensures that each has a host.
        let olric = olric.filter_map(|address| Host::parse(address.rsplit_once(':')?.0).ok());
        urls.filter_map(|url| url.host().map(|host| host.to_owned())).chain(olric).collect()
    }

    /// Whether a namespace that is not named has no database, because the node's data are shared with other nodes.
    #[must_use]
    pub fn databases_are_mapped(&self) -> bool {
        self.platform.is_some() || !self.namespaces.is_empty()
    }

    /// Remarks on valid settings that the operator may not have intended.
    #[must_use]
    pub fn remarks(&self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if self.platform.is_some() {
            if self.blobs.is_none() {
                remarks.push("`database.platform` shares functions, but `blobs` is local: other nodes cannot run functions that are deployed here");
            }
            if self.pubsub.is_none() {
                remarks.push(
                    "without a shared `pubsub`, other nodes see a change only when they next poll rqlite, twice a second",
                );
            }
            if self.cache.is_none() {
                remarks.push("`cache` is embedded: each node has its own values and counters");
            }
        }
        if self.cache.is_some() && self.pubsub.is_none() {
            remarks.push("`cache` is shared, but `pubsub` is not: other nodes see a change only after `cache.near_seconds`");
        }
        remarks
    }
}

/// The settings of the cache.
pub struct CacheSettings<'a> {
    /// Olric; `None` is embedded.
    pub olric: Option<&'a OlricAt>,
    /// See [`Backends::cluster`].
    pub cluster: &'a str,
    /// Maximum memory of the cache, or of the near cache, in bytes.
    pub max_bytes: usize,
    /// How long the near cache keeps a value; zero disables it.
    pub near: Duration,
}

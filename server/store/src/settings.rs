//! Where the backends of a node are: each embedded, or servers named by their addresses.

use orama_runtime::names::Namespace;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use url::{Host, Url};
use zeroize::Zeroizing;

/// A password of a backend. No message shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(Zeroizing::new(password))
    }

    /// The text, for the backend alone.
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
    /// The HTTP addresses of its nodes, at least one; without user, path and query.
    pub urls: Vec<Url>,
    /// The name for basic authentication.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Password>,
}

/// An Olric cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OlricAt {
    /// Host and port of its nodes, at least one.
    pub addresses: Vec<String>,
    /// Its password.
    pub password: Option<Password>,
}

/// A kubo node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpfsAt {
    /// The address of its API.
    pub api_url: Url,
}

/// The SQL database of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceDatabase {
    /// A file of this node.
    Sqlite,
    /// A cluster of its own.
    Rqlite(RqliteAt),
}

/// Every backend of a node; what is not named is embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The name of the cluster of nodes: what it has in servers that it shares with other clusters begins with it.
    pub cluster: String,
    /// Where namespaces, keys, functions, triggers, secrets and events are; `None` is a file of this node.
    pub platform: Option<RqliteAt>,
    /// The namespaces' databases. Where none is named and the platform is embedded, each has a file.
    pub namespaces: BTreeMap<Namespace, NamespaceDatabase>,
    /// The cache; `None` is this process.
    pub cache: Option<OlricAt>,
    /// Messages between nodes; `None` is this process.
    pub pubsub: Option<OlricAt>,
    /// Modules and objects; `None` is a folder of this node.
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
    /// The host of every server that is named here. Guests' HTTP does not reach them.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let namespaces = self.namespaces.values().filter_map(|database| match database {
            NamespaceDatabase::Rqlite(at) => Some(at),
            NamespaceDatabase::Sqlite => None,
        });
        let urls = self.platform.iter().chain(namespaces).flat_map(|at| &at.urls);
        let urls = urls.chain(self.blobs.iter().map(|at| &at.api_url));
        let olric = self.cache.iter().chain(&self.pubsub).flat_map(|at| &at.addresses);
        // The config's check has seen to it that each has a host.
        let olric = olric.filter_map(|address| Host::parse(address.rsplit_once(':')?.0).ok());
        urls.filter_map(|url| url.host().map(|host| host.to_owned())).chain(olric).collect()
    }

    /// Whether a namespace that is not named has no database: then the data of namespaces are not this node's alone.
    #[must_use]
    pub fn databases_are_mapped(&self) -> bool {
        self.platform.is_some() || !self.namespaces.is_empty()
    }

    /// What an operator may not have meant, though it works.
    #[must_use]
    pub fn remarks(&self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if self.platform.is_some() {
            if self.blobs.is_none() {
                remarks.push("functions are shared by `database.platform`, but `blobs` is local: another node cannot run what is deployed here");
            }
            if self.pubsub.is_none() {
                remarks.push(
                    "without `pubsub` other nodes hear of a change when they next ask rqlite, twice a second",
                );
            }
            if self.cache.is_none() {
                remarks.push("`cache` is memory: each node has its own, counters too");
            }
        }
        if self.cache.is_some() && self.pubsub.is_none() {
            remarks.push("`cache` is shared, but `pubsub` is not: other nodes see a change when their copy has become too old");
        }
        remarks
    }
}

/// How guests' cache is kept.
pub struct CacheSettings<'a> {
    /// Olric; `None` is this process.
    pub olric: Option<&'a OlricAt>,
    /// See [`Backends::cluster`].
    pub cluster: &'a str,
    /// Upper bound of what this process holds of it, in bytes.
    pub max_bytes: usize,
    /// How long the near cache answers for Olric; zero turns it off.
    pub near: Duration,
}

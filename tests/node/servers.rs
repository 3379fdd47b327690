//! The servers behind nodes under test: rqlite for the platform and for each namespace, Olric, kubo.

use crate::process::lock;
use orama_test_support::backends::{self, Kubo, Olric, Rqlite};
use orama_test_support::proxy::Proxy;
use orama_test_support::tools::Missing;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};

/// How many servers of each kind there are.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub rqlite: usize,
    pub olric: usize,
    pub kubo: usize,
}

/// Servers of all nodes of the suite.
type Shared = Result<(Arc<Olric>, Arc<Kubo>), Missing>;

/// Servers of one cluster of nodes.
pub struct Servers {
    /// The cluster's name, which keeps it apart from others on the same servers.
    name: String,
    /// The key of the secrets that nodes share; one alone makes its own.
    key: Option<String>,
    pub platform: Rqlite,
    /// By namespace.
    pub databases: Vec<(String, Rqlite)>,
    pub olric: Arc<Olric>,
    pub kubo: Arc<Kubo>,
    /// Between nodes and servers, in the order of [`Self::addresses`]; none unless asked for.
    pub proxies: Vec<Proxy>,
}

/// Which server stands behind an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Platform,
    Database,
    Olric,
    Kubo,
}

impl Servers {
    /// Checks for the servers that the suite needs.
    pub fn require() -> Result<(), Missing> {
        if crate::ON_SERVERS { backends::require_all() } else { Ok(()) }
    }

    /// The servers of a node that names none. None if the suite is embedded; else those that its home had before, or new ones.
    pub fn of_a_node(home: &Path, databases: &[&str]) -> Result<Option<Arc<Self>>, Missing> {
        static OF_HOMES: Mutex<BTreeMap<PathBuf, Weak<Servers>>> = Mutex::new(BTreeMap::new());
        // Content-addressed, and told apart by the cluster's name: these can serve all nodes.
        static SHARED: LazyLock<Shared> =
            LazyLock::new(|| Ok((Arc::new(Olric::single()?), Arc::new(Kubo::single()?))));
        if !crate::ON_SERVERS {
            return Ok(None);
        }
        Self::require()?;
        if let Some(known) = lock(&OF_HOMES).get(home).and_then(Weak::upgrade) {
            return Ok(Some(known));
        }
        let (olric, kubo) = SHARED.clone()?;
        let databases = databases.iter().map(|name| Ok(((*name).to_owned(), Rqlite::single()?)));
        let servers = Arc::new(Self {
            name: new_name(),
            key: None,
            databases: databases.collect::<Result<_, _>>()?,
            platform: Rqlite::single()?,
            olric,
            kubo,
            proxies: Vec::new(),
        });
        lock(&OF_HOMES).insert(home.to_owned(), Arc::downgrade(&servers));
        Ok(Some(servers))
    }

    /// Servers of a test's own.
    pub fn start(sizes: Sizes, databases: &[&str]) -> Result<Self, Missing> {
        backends::require_all()?;
        let databases = databases.iter().map(|name| Ok(((*name).to_owned(), Rqlite::cluster(sizes.rqlite)?)));
        Ok(Self {
            name: new_name(),
            key: Some("0f".repeat(32)),
            platform: Rqlite::cluster(sizes.rqlite)?,
            databases: databases.collect::<Result<_, _>>()?,
            olric: Arc::new(Olric::cluster(sizes.olric)?),
            kubo: Arc::new(Kubo::cluster(sizes.kubo)?),
            proxies: Vec::new(),
        })
    }

    /// The same behind proxies.
    pub fn proxied(mut self) -> Self {
        self.proxies = self.direct().into_iter().map(|(_, address)| Proxy::to(address)).collect();
        self
    }

    /// Every server, without proxies.
    fn direct(&self) -> Vec<(Kind, SocketAddr)> {
        let databases = self.databases.iter().flat_map(|(_, rqlite)| rqlite.addresses());
        let platform = self.platform.addresses().into_iter().map(|address| (Kind::Platform, address));
        platform
            .chain(databases.map(|address| (Kind::Database, address)))
            .chain(self.olric.addresses().into_iter().map(|address| (Kind::Olric, address)))
            .chain(self.kubo.addresses().into_iter().map(|address| (Kind::Kubo, address)))
            .collect()
    }

    /// Every server as nodes see it, with its proxy where there are proxies.
    pub fn addresses(&self) -> Vec<(Kind, SocketAddr)> {
        let mut addresses = self.direct();
        for ((_, address), proxy) in addresses.iter_mut().zip(&self.proxies) {
            *address = proxy.address();
        }
        addresses
    }

    /// The proxies in front of one kind of server.
    pub fn proxies_of(&self, kind: Kind) -> impl Iterator<Item = &Proxy> {
        let kinds = self.direct().into_iter().map(|(kind, _)| kind);
        kinds.zip(&self.proxies).filter(move |(of, _)| *of == kind).map(|(_, proxy)| proxy)
    }

    fn seen(&self, kind: Kind) -> Vec<SocketAddr> {
        self.addresses().into_iter().filter(|(of, _)| *of == kind).map(|(_, address)| address).collect()
    }

    /// The variables that tell a node of the servers. The first kubo is that of all nodes; see [`Self::kubo_of`].
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let urls = |kind| self.seen(kind).iter().map(|at| format!("http://{at}")).collect::<Vec<_>>();
        let olric = self.seen(Kind::Olric).iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let key = self.key.clone().map(|key| ("ORAMA_SECRETS_KEY", key));
        let servers = [
            ("ORAMA_CLUSTER", self.name.clone()),
            ("ORAMA_DATABASE_PLATFORM_KIND", "rqlite".into()),
            ("ORAMA_DATABASE_PLATFORM_URLS", urls(Kind::Platform).join(",")),
            ("ORAMA_CACHE_KIND", "olric".into()),
            ("ORAMA_CACHE_ADDRESSES", olric.clone()),
            ("ORAMA_PUBSUB_KIND", "olric".into()),
            ("ORAMA_PUBSUB_ADDRESSES", olric),
            ("ORAMA_BLOBS_KIND", "ipfs".into()),
            ("ORAMA_BLOBS_API_URL", self.kubo_of(0)),
        ];
        servers.into_iter().chain(key).collect()
    }

    /// The URL of one kubo, for a node's `ORAMA_BLOBS_API_URL`.
    pub fn kubo_of(&self, index: usize) -> String {
        format!("http://{}", self.seen(Kind::Kubo)[index])
    }

    /// The lines of the config file that name the namespaces' databases.
    pub fn config(&self) -> String {
        let mut seen = self.seen(Kind::Database).into_iter();
        let lines = self.databases.iter().map(|(namespace, rqlite)| {
            let urls: Vec<_> =
                seen.by_ref().take(rqlite.addresses().len()).map(|at| format!("\"http://{at}\"")).collect();
            format!("{namespace} = {{ kind = \"rqlite\", urls = [{}] }}\n", urls.join(", "))
        });
        format!("[database.namespaces]\n{}", lines.collect::<String>())
    }
}

fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("c{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

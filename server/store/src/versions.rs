//! The versions of the servers behind a node, asked once, for its log.

use crate::egress::tls;
use crate::settings::{Backends, IpfsAt, NamespaceDatabase, RqliteAt};
use reqwest::{Client, redirect};
use serde::Deserialize;
use std::time::Duration;

/// Time for one server's answer; one that is not there is told by others.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of an answer that are read.
const ANSWER_MAX_BYTES: usize = 4096;

/// Bytes of a version that are shown.
const VERSION_MAX_BYTES: usize = 64;

/// The header in which rqlite names its version.
const RQLITE_VERSION: &str = "x-rqlite-version";

/// A server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// The key of the configuration that names it.
    pub key: String,
    /// What it is.
    pub server: &'static str,
    /// The version as it says it.
    pub version: String,
}

#[derive(Deserialize)]
struct KuboVersion {
    #[serde(rename = "Version")]
    version: String,
}

/// The versions of the rqlite and kubo servers that answer now. Olric has no call that names its own.
pub async fn of_servers(backends: &Backends) -> Vec<ServerVersion> {
    let mut found = Vec::new();
    let named = backends.namespaces.iter().filter_map(|(namespace, database)| match database {
        NamespaceDatabase::Rqlite(at) => Some((format!("database.namespaces.{namespace}"), at)),
        NamespaceDatabase::Sqlite => None,
    });
    let platform = backends.platform.iter().map(|at| ("database.platform".to_owned(), at));
    let rqlite: Vec<_> = platform.chain(named).collect();
    if rqlite.is_empty() && backends.blobs.is_none() {
        return found;
    }
    let Some(client) = client() else { return found };
    for (key, at) in rqlite {
        let version = of_rqlite(&client, at).await;
        found.extend(version.map(|version| ServerVersion {
            key,
            server: "rqlite",
            version: shown(&version),
        }));
    }
    if let Some(at) = &backends.blobs {
        let (key, version) = ("blobs".to_owned(), of_kubo(&client, at).await);
        found.extend(version.map(|version| ServerVersion { key, server: "kubo", version: shown(&version) }));
    }
    found
}

fn client() -> Option<Client> {
    let tls = tls::config().ok()?;
    let builder = Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(TIMEOUT);
    builder.redirect(redirect::Policy::none()).build().ok()
}

/// The first server that answers speaks for its cluster.
async fn of_rqlite(client: &Client, at: &RqliteAt) -> Option<String> {
    for url in &at.urls {
        let Ok(url) = url.join("readyz?noleader") else { continue };
        let mut request = client.get(url);
        if let Some(user) = &at.user {
            request = request.basic_auth(user, at.password.as_ref().map(|password| password.reveal()));
        }
        let Ok(answer) = request.send().await else { continue };
        let version = answer.headers().get(RQLITE_VERSION).and_then(|version| version.to_str().ok());
        if let Some(version) = version {
            return Some(version.to_owned());
        }
    }
    None
}

async fn of_kubo(client: &Client, at: &IpfsAt) -> Option<String> {
    let mut answer = client.post(at.api_url.join("api/v0/version").ok()?).send().await.ok()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MAX_BYTES {
            return None;
        }
    }
    serde_json::from_slice::<KuboVersion>(&bytes).ok().map(|answer| answer.version)
}

fn shown(version: &str) -> String {
    version.get(..version.floor_char_boundary(VERSION_MAX_BYTES)).unwrap_or_default().to_owned()
}

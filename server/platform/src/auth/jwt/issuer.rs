//! One issuer of tokens and its keys, which are read again when its file changes, or fetched again from its server.

use super::keys::Keys;
use crate::limits::{
    TOKEN_KEYS_ASKED_EVERY, TOKEN_KEYS_FETCH_EVERY, TOKEN_KEYS_FETCH_TIMEOUT, TOKEN_KEYS_MAX_BYTES,
    TOKEN_KEYS_RETRY_AFTER,
};
use crate::settings::{KeySource, TokenIssuer};
use orama_store::egress::tls;
use parking_lot::{Mutex, RwLock};
use reqwest::{Client, StatusCode};
use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;
use tokio::runtime::Handle;
use url::Url;

/// Why an issuer's keys cannot be used: the config key, the file or URL, and the problem.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {place}: {problem}")]
pub struct KeysError {
    /// The config key.
    key: &'static str,
    /// The file or the URL.
    place: String,
    #[source]
    problem: KeysProblem,
}

impl KeysError {
    fn new(rule: &TokenIssuer, problem: KeysProblem) -> Self {
        let key = if rule.issuer.is_some() { "auth.issuers" } else { "auth.jwt" };
        Self { key, place: rule.keys.to_string(), problem }
    }
}

/// See [`KeysError`].
#[derive(Debug, thiserror::Error)]
enum KeysProblem {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot be fetched: {}", innermost(.0))]
    Http(#[from] reqwest::Error),
    #[error("cannot be fetched: TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot be fetched: the server answers {0}")]
    Status(StatusCode),
    #[error("more than {TOKEN_KEYS_MAX_BYTES} bytes")]
    TooLarge,
    #[error("not UTF-8")]
    NotText,
    #[error("cannot be fetched: the node is stopping")]
    Stopping,
    #[error("{0}")]
    Content(String),
}

/// The innermost cause. The outer messages of the HTTP client only repeat the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Identifies a file's content without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Seen {
    /// `None` if there is no file.
    fn now(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self { inode: data.ino(), len: data.len(), modified: (data.mtime(), data.mtime_nsec()) })
    }
}

/// The source of the keys, and the state of the last read.
enum Source {
    File { path: PathBuf, seen: Option<Seen> },
    Url { url: Url, client: Client, next_fetch: Instant, next_asked: Instant },
}

/// An issuer with its keys. All cores share one.
pub struct Issuer {
    pub(super) rule: TokenIssuer,
    /// `None` until a server provided them for the first time.
    keys: RwLock<Option<Arc<Keys>>>,
    /// The text of the keys. Its lock also prevents two reads at the same time.
    text: Mutex<String>,
    source: Mutex<Source>,
    /// Advanced when keys change, so that cached tokens become stale; see [`crate::registry::Registry::generation`].
    generation: Arc<AtomicU64>,
    backplane: Handle,
}

impl Issuer {
    /// Reads the keys from a file. Keys of a server are fetched by the first [`Self::refresh`].
    ///
    /// # Errors
    /// [`KeysError`], which names the file and what is wrong with it.
    pub(super) fn open(
        rule: TokenIssuer,
        generation: Arc<AtomicU64>,
        backplane: Handle,
    ) -> Result<Self, KeysError> {
        let failed = |problem| KeysError::new(&rule, problem);
        let now = Instant::now();
        let (source, text, keys) = match &rule.keys {
            KeySource::File(path) => {
                let seen = Seen::now(path);
                let text = read(path).map_err(failed)?;
                let keys = Keys::parse(&text).map_err(|why| failed(KeysProblem::Content(why)))?;
                (Source::File { path: path.clone(), seen }, text, Some(Arc::new(keys)))
            }
            KeySource::Url(url) => {
                let client = client().map_err(failed)?;
                let url = Source::Url { url: url.clone(), client, next_fetch: now, next_asked: now };
                (url, String::new(), None)
            }
        };
        let (keys, text, source) = (RwLock::new(keys), Mutex::new(text), Mutex::new(source));
        Ok(Self { rule, keys, text, source, generation, backplane })
    }

    /// Reads the file of an issuer without using it.
    ///
    /// # Errors
    /// [`KeysError`], which names the file and what is wrong with it. Keys of a server are not looked at.
    pub fn check_file(rule: &TokenIssuer) -> Result<(), KeysError> {
        let KeySource::File(path) = &rule.keys else { return Ok(()) };
        let failed = |problem| KeysError::new(rule, problem);
        let text = read(path).map_err(failed)?;
        Keys::parse(&text).map(|_| ()).map_err(|why| failed(KeysProblem::Content(why)))
    }

    /// The current keys; `None` until a server provided them.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().clone()
    }

    /// Reads the file again if it has changed, or fetches the keys again if that is due. On a failure it logs the reason and
    /// keeps the previous keys. Blocks.
    pub fn refresh(&self) {
        let now = Instant::now();
        match &mut *self.source.lock() {
            Source::File { path, seen } => {
                let current = Seen::now(path);
                if *seen == current {
                    return;
                }
                *seen = current;
            }
            Source::Url { next_fetch, .. } if *next_fetch > now => return,
            Source::Url { next_fetch, .. } => *next_fetch = now + TOKEN_KEYS_RETRY_AFTER,
        }
        self.read_again();
    }

    /// Reads the file again, also if it has not changed. On a failure it logs the reason and keeps the previous keys. Keys of a
    /// server are fetched by the next [`Self::refresh`]. Blocks.
    pub fn reload(&self) {
        match &mut *self.source.lock() {
            Source::File { path, seen } => *seen = Seen::now(path),
            Source::Url { next_fetch, .. } => {
                *next_fetch = Instant::now();
                return;
            }
        }
        self.read_again();
    }

    /// Fetches the keys for a token whose key is unknown. Returns `false` if the last fetch is too recent or this one failed.
    /// Blocks.
    pub(super) fn refresh_for_unknown_key(&self) -> bool {
        let now = Instant::now();
        match &mut *self.source.lock() {
            Source::Url { next_asked, .. } if *next_asked <= now => {
                *next_asked = now + TOKEN_KEYS_ASKED_EVERY
            }
            _ => return false,
        }
        self.read_again()
    }

    /// As if the pauses between fetches had passed.
    #[cfg(test)]
    pub(super) fn allow_fetch(&self) {
        if let Source::Url { next_fetch, next_asked, .. } = &mut *self.source.lock() {
            (*next_fetch, *next_asked) = (Instant::now(), Instant::now());
        }
    }

    fn read_again(&self) -> bool {
        let mut before = self.text.lock();
        let failed = |problem| KeysError::new(&self.rule, problem);
        let read = self.load().and_then(|text| match Keys::parse(&text) {
            Ok(keys) => Ok((text, keys)),
            Err(why) => Err(KeysProblem::Content(why)),
        });
        match read.map_err(failed) {
            Ok((text, _)) if text == *before => {}
            Ok((text, keys)) => {
                *before = text;
                *self.keys.write() = Some(Arc::new(keys));
                self.generation.fetch_add(1, Ordering::Release);
                tracing::info!(keys = %self.rule.keys, "an issuer's keys have changed");
            }
            Err(error) => {
                tracing::error!(%error, "an issuer's keys could not be read; the node continues with the previous keys");
                return false;
            }
        }
        if let Source::Url { next_fetch, .. } = &mut *self.source.lock() {
            *next_fetch = Instant::now() + TOKEN_KEYS_FETCH_EVERY;
        }
        true
    }

    fn load(&self) -> Result<String, KeysProblem> {
        let (url, client) = match &*self.source.lock() {
            Source::File { path, .. } => return read(path),
            Source::Url { url, client, .. } => (url.clone(), client.clone()),
        };
        let (answer, answered) = mpsc::sync_channel(1);
        self.backplane.spawn(async move {
            // The receiver is gone if the node stops.
            let _ = answer.send(fetch(&client, url).await);
        });
        answered.recv().unwrap_or(Err(KeysProblem::Stopping))
    }
}

fn read(path: &Path) -> Result<String, KeysProblem> {
    let mut text = String::new();
    fs::File::open(path)?.take(TOKEN_KEYS_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TOKEN_KEYS_MAX_BYTES {
        return Err(KeysProblem::TooLarge);
    }
    Ok(text)
}

/// A client that connects only to the configured URL: no redirects, no proxies.
fn client() -> Result<Client, KeysProblem> {
    Ok(Client::builder()
        .tls_backend_preconfigured(tls::config()?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TOKEN_KEYS_FETCH_TIMEOUT)
        // Fetches are minutes apart.
        .pool_max_idle_per_host(0)
        .build()?)
}

async fn fetch(client: &Client, url: Url) -> Result<String, KeysProblem> {
    let mut answer = client.get(url).send().await?;
    if answer.status() != StatusCode::OK {
        return Err(KeysProblem::Status(answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > TOKEN_KEYS_MAX_BYTES {
            return Err(KeysProblem::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| KeysProblem::NotText)
}

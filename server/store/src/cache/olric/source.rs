//! The cache as Olric stores it: for each namespace one DMap of entries and one of counters.
//!
//! Keys are hashes of the guests' keys, because Olric accepts less than 256 bytes and finds entries by a weak hash of
//! the key alone. A set replaces the entry at once. A counter is stored under its [`Version`], which the entry names,
//! so an increment applies to the value that it read and never to one that was set since. `DM.INCR` is never sent for
//! text, which it would replace by 0. `DM.EXPIRE` is not used, because it empties replicas.

use super::entry::{Entry, Version};
use super::members::Members;
use crate::cache::memory::number;
use crate::limits::{CACHE_NUMBERS_REMEMBERED, OLRIC_TIMEOUT};
use crate::olric::{Again, Olric, OlricError, Shape};
use bytes::Bytes;
use moka::sync::Cache;
use orama_runtime::limits::CACHE_TTL_MAX;
use orama_runtime::names::Namespace;
use orama_runtime::services::{ErrorCode, ServiceError};
use redis::{Cmd, Value};
use std::time::Duration;
use tokio::time::Instant;

/// Hexadecimal digits of a key's hash: 160 bits.
const KEY_DIGITS: usize = 40;

/// Attempts of an increment: it starts again if another caller created the counter first.
const TRIES_MAX: usize = 4;

/// How much longer than its entry a counter is stored. Each increment may shorten its time to live a little.
const SPARE: Duration = Duration::from_secs(60);

pub(super) struct Source {
    olric: Olric,
    cluster: String,
    members: Members,
    /// Counters without expiry that this node created, which it removes when it replaces them.
    endless: Cache<(Namespace, String), Version>,
}

/// The value of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    /// It may be cached until an invalidation arrives.
    Kept(Entry),
    /// A counter, whose changes are not announced.
    Counted(Bytes),
}

/// The result of an increment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) sum: i64,
    /// Whether other nodes may have cached the previous value.
    pub(super) invalidates: bool,
}

/// A failed call, and whether it may have been applied.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ServiceError,
    pub(super) may_be_done: bool,
}

impl From<OlricError> for Failed {
    fn from(error: OlricError) -> Self {
        if error.is("ENTRYTOOLARGE") {
            let message = "the cache value does not fit the tables of this node's Olric (`tableSize`)";
            return Self {
                error: ServiceError::new(ErrorCode::PayloadTooLarge, message),
                may_be_done: false,
            };
        }
        let may_be_done = error.may_be_done();
        let mut told = unreachable(&error);
        if may_be_done {
            told.message =
                "the cache did not answer; it is not known whether the call was applied".to_owned();
        }
        Self { error: told, may_be_done }
    }
}

/// Guests get no addresses; the log has the cause.
fn unreachable(error: &OlricError) -> ServiceError {
    tracing::debug!(%error, "a call of the cache failed");
    ServiceError::unavailable("the cache cannot be reached now; try again")
}

impl From<ServiceError> for Failed {
    fn from(error: ServiceError) -> Self {
        Self { error, may_be_done: false }
    }
}

impl From<getrandom::Error> for Failed {
    fn from(error: getrandom::Error) -> Self {
        ServiceError::new(ErrorCode::Internal, error.to_string()).into()
    }
}

fn until() -> Instant {
    Instant::now() + OLRIC_TIMEOUT
}

impl Source {
    pub(super) fn new(olric: Olric, cluster: &str) -> Self {
        let endless = Cache::new(CACHE_NUMBERS_REMEMBERED);
        Self { olric, cluster: cluster.to_owned(), members: Members::default(), endless }
    }

    pub(super) fn olric(&self) -> &Olric {
        &self.olric
    }

    pub(super) async fn get(&self, namespace: &Namespace, key: &str) -> Result<Found, Failed> {
        let until = until();
        let Some(entry) = self.entry(namespace, key, until).await? else { return Ok(Found::Missing) };
        let Some(version) = entry.version() else { return Ok(Found::Kept(entry)) };
        Ok(match self.number(namespace, version, until).await? {
            None => Found::Missing,
            Some(text) if text == entry.payload() => Found::Kept(entry),
            Some(text) => Found::Counted(text),
        })
    }

    pub(super) async fn set(
        &self,
        namespace: &Namespace,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Failed> {
        let until = until();
        // In milliseconds; 0 means no expiry.
        let ttl = ttl.map(|ttl| ttl.max(Duration::from_millis(1))).filter(|ttl| *ttl <= CACHE_TTL_MAX);
        let replaced = self.endless.remove(&(namespace.clone(), key.to_owned()));
        let entry = if number(value).is_some() {
            let version = Version::new()?;
            if ttl.is_none() {
                self.endless.insert((namespace.clone(), key.to_owned()), version);
            }
            // Before the entry, so that a reader of the entry finds the counter.
            let spare = ttl.map(|ttl| 2 * ttl + SPARE);
            self.put(&self.numbers(namespace), &version.key(), value, spare, until).await?;
            Entry::number(version, value, ttl)
        } else {
            Entry::value(value, ttl)
        };
        self.put(&self.entries(namespace), &hashed(key), entry.bytes(), ttl, until).await?;
        if let Some(version) = replaced {
            self.remove_number(namespace, version);
        }
        Ok(())
    }

    /// Returns whether there was an entry that other nodes may have in their near caches.
    pub(super) async fn delete(&self, namespace: &Namespace, key: &str) -> Result<bool, Failed> {
        let until = until();
        let Some(entry) = self.entry(namespace, key, until).await? else { return Ok(false) };
        let mut command = redis::cmd("DM.DEL");
        command.arg(self.entries(namespace)).arg(hashed(key));
        self.olric.ask(&command, Shape::Number, Again::WhenLost, until).await?;
        if let Some(version) = entry.version() {
            self.remove_number(namespace, version);
        }
        Ok(true)
    }

    pub(super) async fn increment(
        &self,
        namespace: &Namespace,
        key: &str,
        delta: i64,
    ) -> Result<Sum, Failed> {
        let until = until();
        for _ in 0..TRIES_MAX {
            let (entry, is_new) = match self.entry(namespace, key, until).await? {
                Some(entry) => (entry, false),
                None => match self.make_number(namespace, key, until).await? {
                    Some(entry) => (entry, true),
                    // Another caller was first.
                    None => continue,
                },
            };
            let Some(version) = entry.version() else {
                return Err(ServiceError::invalid(
                    "the value of this key is not a number; delete it or use another key",
                )
                .into());
            };
            let sum = self.add(namespace, version, delta, until).await?;
            let before = sum.wrapping_sub(delta);
            if before.checked_add(delta).is_none() {
                // Olric wraps around, so the inverse increment restores the previous number.
                self.add(namespace, version, delta.wrapping_neg(), until).await?;
                return Err(ServiceError::invalid("the sum exceeds 64 bits; the counter is unchanged").into());
            }
            let invalidates = is_new || entry.payload() == before.to_string();
            return Ok(Sum { sum, invalidates });
        }
        Err(ServiceError::unavailable("the counter is contended; try again").into())
    }

    /// Removes all entries of a namespace.
    pub(super) async fn destroy(&self, namespace: &Namespace) -> Result<(), OlricError> {
        for map in [self.entries(namespace), self.numbers(namespace)] {
            let mut command = redis::cmd("DM.DESTROY");
            command.arg(map);
            self.olric.ask(&command, Shape::Okay, Again::WhenLost, until()).await?;
        }
        Ok(())
    }

    // Names of namespaces have no slash.
    fn entries(&self, namespace: &Namespace) -> String {
        format!("{}/{namespace}/entries", self.cluster)
    }

    fn numbers(&self, namespace: &Namespace) -> String {
        format!("{}/{namespace}/numbers", self.cluster)
    }

    async fn entry(&self, namespace: &Namespace, key: &str, until: Instant) -> Result<Option<Entry>, Failed> {
        match self.read(&self.entries(namespace), &hashed(key), until).await? {
            // An entry that no node writes counts as missing.
            Some(bytes) => Ok(Entry::parse(bytes)),
            None => Ok(None),
        }
    }

    async fn number(
        &self,
        namespace: &Namespace,
        version: Version,
        until: Instant,
    ) -> Result<Option<Bytes>, Failed> {
        let text = self.read(&self.numbers(namespace), &version.key(), until).await?;
        Ok(text.filter(|text| number(text).is_some()))
    }

    /// Creates the entry of a missing counter. `None` if there is one meanwhile.
    async fn make_number(
        &self,
        namespace: &Namespace,
        key: &str,
        until: Instant,
    ) -> Result<Option<Entry>, Failed> {
        let version = Version::new()?;
        let entry = Entry::number(version, b"", None);
        let mut command = put(&self.entries(namespace), &hashed(key), entry.bytes());
        command.arg("NX");
        match self.olric.ask(&command, Shape::Okay, Again::WhenLost, until).await {
            Ok(_) => {}
            Err(error) if error.is("KEYFOUND") => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        self.endless.insert((namespace.clone(), key.to_owned()), version);
        Ok(Some(entry))
    }

    async fn add(
        &self,
        namespace: &Namespace,
        version: Version,
        delta: i64,
        until: Instant,
    ) -> Result<i64, Failed> {
        let mut command = redis::cmd("DM.INCR");
        command.arg(self.numbers(namespace)).arg(version.key()).arg(delta);
        let answer = match self.members.of(&self.olric, version, until).await? {
            None => self.olric.ask(&command, Shape::Number, Again::Never, until).await,
            Some(member) => self.olric.ask_member(&member, &command, Shape::Number, until).await,
        };
        match answer {
            Ok(Value::Int(sum)) => Ok(sum),
            failed => {
                // The member may have left.
                self.members.forget().await;
                Err(failed.err().unwrap_or(OlricError::Strange).into())
            }
        }
    }

    async fn read(&self, map: &str, key: &str, until: Instant) -> Result<Option<Bytes>, Failed> {
        let mut command = redis::cmd("DM.GET");
        command.arg(map).arg(key);
        match self.olric.ask(&command, Shape::Bytes, Again::WhenLate, until).await {
            Ok(Value::BulkString(bytes)) => Ok(Some(Bytes::from(bytes))),
            Ok(_) => Err(OlricError::Strange.into()),
            Err(error) if error.is("KEYNOTFOUND") => Ok(None),
            // A read changes nothing, even if its outcome is unknown.
            Err(error) => Err(Failed { error: unreachable(&error), may_be_done: false }),
        }
    }

    async fn put(
        &self,
        map: &str,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        until: Instant,
    ) -> Result<(), Failed> {
        let mut command = put(map, key, value);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(ttl.as_millis() as u64);
        }
        self.olric.ask(&command, Shape::Okay, Again::WhenLost, until).await?;
        Ok(())
    }

    /// Removes a counter without waiting. If this fails, it takes some memory until its namespace is deleted.
    fn remove_number(&self, namespace: &Namespace, version: Version) {
        let mut command = redis::cmd("DM.DEL");
        command.arg(self.numbers(namespace)).arg(version.key());
        let olric = self.olric.clone();
        self.olric.backplane().spawn(async move {
            if let Err(error) = olric.ask(&command, Shape::Number, Again::WhenLost, until()).await {
                tracing::debug!(%error, "a replaced counter could not be removed");
            }
        });
    }
}

fn put(map: &str, key: &str, value: &[u8]) -> Cmd {
    let mut command = redis::cmd("DM.PUT");
    command.arg(map).arg(key).arg(value);
    command
}

fn hashed(key: &str) -> String {
    let mut digits = blake3::hash(key.as_bytes()).to_hex().to_string();
    digits.truncate(KEY_DIGITS);
    digits
}

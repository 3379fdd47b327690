//! rqlite over HTTP: one client for a cluster, whose calls end by their deadline and report what is certain.
//!
//! A write that failed was applied, or was not applied, or the outcome is unknown: [`RqliteError`] tells them apart.
//! A call begins at the address that answered last and tries the others as long as that is safe: always if no
//! connection was made or the address knows no leader, otherwise for reads only.
//!
//! What a caller has to know about rqlite:
//! - `/db/request?transaction` continues after a statement that does not compile, and commits the others.
//!   `/db/execute` does not.
//! - A statement with RETURNING that fails in `/db/execute?transaction` does not roll the others back, unless
//!   [`Options::rewrites`] is off; then it is executed and its rows are not returned.
//! - Whole numbers return as integers, also from columns of REAL values ([`Rows::types`] tells), and columns that are
//!   declared BOOLEAN return as 0 and 1.

use super::breaker::{Breaker, retry_pause};
use crate::egress::tls;
use crate::limits::BACKEND_CONNECT_TIMEOUT;
use crate::limits::BACKEND_IDLE_TIMEOUT;
use crate::settings::RqliteAt;
use address::{Address, refusal};
use reqwest::{Client, RequestBuilder};
pub use rusqlite::types::Value;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod address;
mod error;
mod options;
mod wire;

pub use error::RqliteError;
pub use options::{Level, Options};
pub use wire::{Changed, Reply, Rows, Statement, is_taken_for_blob};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Query,
    Execute,
    Request,
    Backup,
    Load,
}

impl Endpoint {
    fn path(self) -> &'static str {
        match self {
            Self::Query => "db/query",
            Self::Execute => "db/execute",
            Self::Request => "db/request",
            Self::Backup => "db/backup",
            Self::Load => "db/load",
        }
    }

    /// Whether a call is idempotent.
    fn is_read(self) -> bool {
        matches!(self, Self::Query | Self::Backup)
    }
}

struct Inner {
    http: Client,
    addresses: Vec<Address>,
    /// The index of the address that answered last.
    preferred: AtomicUsize,
    at: RqliteAt,
    breaker: Breaker,
}

/// A client of one cluster. Clones share its connections and its circuit breaker.
#[derive(Clone)]
pub struct RqliteClient(Arc<Inner>);

/// The processing of an answer.
enum Piece<'a> {
    Part(&'a [u8]),
    End,
    /// Discards the part received so far: the answer starts again from another address.
    Anew,
}

type Take<'a> = dyn FnMut(Piece<'_>) -> Result<(), RqliteError> + Send + 'a;

/// A call in progress.
struct Call<'a> {
    endpoint: Endpoint,
    body: bytes::Bytes,
    options: &'a Options,
    deadline: Instant,
}

impl RqliteClient {
    /// Creates a client without connecting. The name is for logs, metrics and readiness.
    ///
    /// # Errors
    /// [`RqliteError::Invalid`] if there is no address, or if TLS cannot be set up.
    pub fn new(name: &str, at: &RqliteAt) -> Result<Self, RqliteError> {
        let addresses = at.urls.iter().map(Address::new).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(no_address());
        }
        let builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(BACKEND_CONNECT_TIMEOUT)
            .pool_idle_timeout(BACKEND_IDLE_TIMEOUT)
            .tcp_nodelay(true);
        let failed =
            |error: &dyn fmt::Display| RqliteError::Invalid(format!("TLS cannot be set up: {error}").into());
        // Reading the trust store takes milliseconds.
        let is_tls = addresses.iter().any(|address| address.base.scheme() == "https");
        let tls = if is_tls { tls::config() } else { tls::no_trust() };
        let http = builder
            .tls_backend_preconfigured(tls.map_err(|error| failed(&error))?)
            .build()
            .map_err(|error| failed(&error.without_url()))?;
        let (at, breaker) = (at.clone(), Breaker::new(name));
        Ok(Self(Arc::new(Inner { http, addresses, preferred: AtomicUsize::new(0), at, breaker })))
    }

    /// The circuit breaker of the cluster.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.0.breaker
    }

    /// Runs queries. The first failed statement is the error.
    ///
    /// # Errors
    /// [`RqliteError`]
    pub async fn query(
        &self,
        statements: &[Statement],
        options: &Options,
        deadline: Instant,
    ) -> Result<Vec<Rows>, RqliteError> {
        all(self.query_each(statements, options, deadline).await?)
    }

    /// Runs queries. Returns each statement's rows or SQLite's message; a failed statement does not stop the others.
    ///
    /// # Errors
    /// [`RqliteError`], never [`RqliteError::Sql`].
    pub async fn query_each(
        &self,
        statements: &[Statement],
        options: &Options,
        deadline: Instant,
    ) -> Result<Vec<Result<Rows, String>>, RqliteError> {
        let replies = self.call(Endpoint::Query, statements, options, deadline).await?;
        let rows = replies.into_iter().map(|reply| {
            reply.map(|reply| match reply {
                Reply::Rows(rows) => rows,
                // A query without rows and without names of columns.
                Reply::Changed(_) => Rows::default(),
            })
        });
        Ok(rows.collect())
    }

    /// Runs writes. The first failed statement is the error. Without a transaction, the others were applied all the same.
    ///
    /// # Errors
    /// [`RqliteError`]
    pub async fn execute(
        &self,
        statements: &[Statement],
        options: &Options,
        deadline: Instant,
    ) -> Result<Vec<Reply>, RqliteError> {
        all(self.call(Endpoint::Execute, statements, options, deadline).await?)
    }

    /// Runs reads and writes in order. Returns each statement's answer or SQLite's message. In a transaction, the answers end
    /// with the first error, and earlier statements were rolled back; but see the module's documentation of `/db/request`.
    ///
    /// # Errors
    /// [`RqliteError`], never [`RqliteError::Sql`].
    pub async fn request(
        &self,
        statements: &[Statement],
        options: &Options,
        deadline: Instant,
    ) -> Result<Vec<Result<Reply, String>>, RqliteError> {
        self.call(Endpoint::Request, statements, options, deadline).await
    }

    /// Streams a backup of the whole database, a SQLite file, to `sink`. If an address fails midway, `sink` gets `None` and the
    /// backup starts again.
    ///
    /// # Errors
    /// [`RqliteError`]. An error of `sink` becomes [`RqliteError::Invalid`].
    pub async fn backup(
        &self,
        mut sink: impl FnMut(Option<&[u8]>) -> std::io::Result<()> + Send,
        deadline: Instant,
    ) -> Result<(), RqliteError> {
        let options = Options::default();
        let body = bytes::Bytes::new();
        self.ask(&Call { endpoint: Endpoint::Backup, body, options: &options, deadline }, &mut |piece| {
            let stored = match piece {
                Piece::Part(part) => sink(Some(part)),
                Piece::Anew => sink(None),
                Piece::End => Ok(()),
            };
            stored.map_err(|error| {
                RqliteError::Invalid(format!("the backup cannot be written: {error}").into())
            })
        })
        .await
    }

    /// Replaces the whole database on all servers by a SQLite file, atomically.
    ///
    /// # Errors
    /// [`RqliteError`]
    pub async fn load(&self, file: bytes::Bytes, deadline: Instant) -> Result<(), RqliteError> {
        let options = Options::default();
        let call = Call { endpoint: Endpoint::Load, body: file, options: &options, deadline };
        let mut answer = Vec::new();
        self.ask(&call, &mut |piece| {
            match piece {
                Piece::Part(part) if answer.len() < options.reply_max_bytes => answer.extend_from_slice(part),
                Piece::Part(_) => {}
                Piece::Anew => answer.clear(),
                Piece::End => drop(all(wire::replies(&answer)?)?),
            }
            Ok(())
        })
        .await
    }

    async fn call(
        &self,
        endpoint: Endpoint,
        statements: &[Statement],
        options: &Options,
        deadline: Instant,
    ) -> Result<Vec<Result<Reply, String>>, RqliteError> {
        let body = bytes::Bytes::from(wire::request(statements)?);
        let mut replies = Vec::new();
        let mut whole = Vec::new();
        let call = Call { endpoint, body, options, deadline };
        self.ask(&call, &mut |piece| {
            match piece {
                Piece::Part(part) if whole.len() + part.len() > options.reply_max_bytes => {
                    return Err(RqliteError::TooLarge(options.reply_max_bytes));
                }
                Piece::Part(part) => whole.extend_from_slice(part),
                Piece::End => replies = wire::replies(&whole)?,
                Piece::Anew => whole.clear(),
            }
            Ok(())
        })
        .await?;
        Ok(replies)
    }

    /// Tries one address after the other until one answers, as long as that is safe.
    async fn ask(&self, call: &Call<'_>, take: &mut Take<'_>) -> Result<(), RqliteError> {
        let Inner { addresses, preferred, breaker, .. } = &*self.0;
        let attempt = breaker.enter()?;
        let first = preferred.load(Ordering::Relaxed);
        let mut tries: usize = 0;
        loop {
            let index = (first + tries) % addresses.len();
            let Some(address) = addresses.get(index) else { return Err(no_address()) };
            let begun = Instant::now();
            // An address that accepts and then does not answer must leave time for the others.
            let others = addresses.len().saturating_sub(tries + 1).min(1) as u32;
            let patience = if call.endpoint.is_read() {
                call.deadline.saturating_duration_since(begun) / (1 + others)
            } else {
                call.deadline.saturating_duration_since(begun)
            };
            let asked = self.one(address, call, patience, take);
            let error = match tokio::time::timeout(patience, asked).await {
                Ok(Ok(())) => {
                    preferred.store(index, Ordering::Relaxed);
                    attempt.reached();
                    return Ok(());
                }
                Ok(Err(error)) => error,
                Err(_) => RqliteError::Unknown(
                    format!("{}: no answer within {} ms", address.name, patience.as_millis()).into(),
                ),
            };
            let is_worth_another = match &error {
                RqliteError::Unreachable(_) => true,
                RqliteError::Unknown(_) | RqliteError::Protocol(_) => call.endpoint.is_read(),
                _ => false,
            };
            if !error.is_about_rqlite() || error == RqliteError::Unauthorized {
                attempt.reached();
                return Err(error);
            }
            // The next call begins with another address.
            preferred.store((index + 1) % addresses.len(), Ordering::Relaxed);
            tries += 1;
            let is_new_round = tries.is_multiple_of(addresses.len());
            let pause =
                if is_new_round { retry_pause((tries / addresses.len()) as u32) } else { Duration::ZERO };
            let is_in_time = Instant::now() + pause < call.deadline;
            if !is_worth_another || !is_in_time || (is_new_round && !breaker.may_retry()) {
                attempt.failed(&error);
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            take(Piece::Anew)?;
        }
    }

    async fn one(
        &self,
        address: &Address,
        call: &Call<'_>,
        patience: Duration,
        take: &mut Take<'_>,
    ) -> Result<(), RqliteError> {
        let mut response =
            self.prepare(address, call, patience).send().await.map_err(|error| address.failed(error))?;
        if response.status() != http::StatusCode::OK {
            return Err(refusal(address, response).await);
        }
        while let Some(piece) = response.chunk().await.map_err(|error| address.failed(error))? {
            take(Piece::Part(&piece))?;
        }
        take(Piece::End).map_err(|error| address.named(error))
    }

    fn prepare(&self, address: &Address, call: &Call<'_>, patience: Duration) -> RequestBuilder {
        let mut url = address.base.clone();
        url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), call.endpoint.path()));
        let options = call.options;
        {
            let mut query = url.query_pairs_mut();
            // How long a follower waits for the leader.
            query.append_pair("timeout", &format!("{}ms", patience.as_millis().max(1)));
            if call.endpoint == Endpoint::Backup {
                query.append_pair("fmt", "delete");
            } else if call.endpoint != Endpoint::Load {
                query.append_key_only("blob_array");
                if call.endpoint != Endpoint::Execute {
                    query.append_pair("level", options.level.as_str());
                }
                if options.level == Level::Linearizable {
                    query.append_pair("linearizable_timeout", &format!("{}ms", patience.as_millis().max(1)));
                }
                if options.transaction {
                    query.append_key_only("transaction");
                }
                if !options.rewrites {
                    query
                        .append_key_only("noparse")
                        .append_key_only("norwrandom")
                        .append_key_only("norwtime");
                }
                if let Some(timeout) = options.statement_timeout {
                    query.append_pair("db_timeout", &format!("{}ms", timeout.as_millis().max(1)));
                }
            }
        }
        let request = if call.endpoint == Endpoint::Backup {
            self.0.http.get(url)
        } else {
            let kind =
                if call.endpoint == Endpoint::Load { "application/octet-stream" } else { "application/json" };
            self.0.http.post(url).header(http::header::CONTENT_TYPE, kind).body(call.body.clone())
        };
        match &self.0.at.user {
            Some(user) => request.basic_auth(user, self.0.at.password.as_ref().map(|p| p.reveal())),
            None => request,
        }
    }
}

fn no_address() -> RqliteError {
    RqliteError::Invalid("no address is configured".into())
}

/// Returns all answers, or the first error.
fn all<T>(replies: Vec<Result<T, String>>) -> Result<Vec<T>, RqliteError> {
    let numbered = replies.into_iter().enumerate();
    numbered.map(|(index, reply)| reply.map_err(|message| RqliteError::Sql { index, message })).collect()
}

#[cfg(test)]
mod tests;

//! A client of the part of kubo's HTTP API that the store needs. Every call has a deadline and passes the circuit breaker.

use crate::breaker::{Breaker, retry_pause};
use crate::causes::Causes;
use crate::limits::{
    IPFS_BYTES_PER_SECOND, IPFS_CONNECT_TIMEOUT, IPFS_LIST_MAX_BYTES, IPFS_RETRIES_MAX, IPFS_SEARCH_PATIENCE,
    IPFS_TIMEOUT,
};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use orama_runtime::limits::WASM_MAX_BYTES;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use url::Url;

/// Largest blob, in bytes: modules may be larger than objects.
const BLOB_MAX_BYTES: usize = WASM_MAX_BYTES;

/// Largest answer of a command that does not return a blob, in bytes.
const ANSWER_MAX_BYTES: usize = 64 << 10;

/// Parameters that make kubo's content ids equal [`super::cid::of`], whatever its configuration is.
const ADD: [(&str, &str); 9] = [
    ("cid-version", "1"),
    ("raw-leaves", "true"),
    ("chunker", "size-262144"),
    ("max-file-links", "174"),
    ("hash", "sha2-256"),
    ("inline", "false"),
    ("trickle", "false"),
    ("wrap-with-directory", "false"),
    ("quieter", "true"),
];

/// One kubo node.
pub(super) struct Api {
    http: Client,
    /// The API's URL, which ends with a slash.
    base: Url,
    breaker: Breaker,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The circuit is open.
    #[error("{0}")]
    Refused(#[from] crate::breaker::Refused),
    #[error("no answer within {} s", _0.as_secs())]
    Late(Duration),
    /// The connection failed.
    #[error("{}", Causes(.0))]
    Broken(#[source] reqwest::Error),
    /// The URL of the command is not valid.
    #[error("its URL is not valid: {0}")]
    Address(#[from] url::ParseError),
    /// An answer that is not JSON.
    #[error("an answer that is not kubo's: {0}")]
    NotJson(#[from] serde_json::Error),
    /// An answer that kubo does not send.
    #[error("an answer that is not kubo's: {0}")]
    Strange(String),
    /// kubo's own error.
    #[error("{0}")]
    Said(String),
}

impl CallError {
    /// Whether kubo reports that it does not have the block locally.
    fn is_not_here(&self) -> bool {
        matches!(self, Self::Said(message) if message.contains("not found locally") || message.contains("could not find"))
    }

    fn is_not_pinned(&self) -> bool {
        matches!(self, Self::Said(message) if message.contains("not pinned"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Added {
    hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pinned {
    cid: String,
}

impl Api {
    /// A client of the API at this address.
    pub(super) fn new(address: &Url, breaker: Breaker) -> Result<Self, CallError> {
        // Fails if another provider is installed already, which also works.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder()
            .connect_timeout(IPFS_CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(CallError::Broken)?;
        let mut base = address.clone();
        base.set_query(None);
        base.set_fragment(None);
        let path = format!("{}/api/v0/", base.path().trim_end_matches('/').trim_end_matches("/api/v0"));
        base.set_path(&path);
        Ok(Self { http, base, breaker })
    }

    /// Adds a file and pins it. Returns kubo's content id.
    pub(super) async fn add(&self, bytes: Bytes, pin_name: &str) -> Result<String, CallError> {
        let patience = IPFS_TIMEOUT + Duration::from_secs(bytes.len() as u64 / IPFS_BYTES_PER_SECOND);
        let query: Vec<_> = ADD.into_iter().chain([("pin", "true"), ("pin-name", pin_name)]).collect();
        let answer = self.call("add", &query, Some(&bytes), ANSWER_MAX_BYTES, patience).await?;
        let added: Vec<Added> = lines(&answer)?;
        added
            .into_iter()
            .next_back()
            .map(|added| added.hash)
            .ok_or_else(|| CallError::Strange("nothing".into()))
    }

    /// Pins a blob that kubo has. Returns `false` if it lacks a block.
    pub(super) async fn pin(&self, cid: &str, pin_name: &str) -> Result<bool, CallError> {
        let query = [("arg", cid), ("name", pin_name), ("offline", "true")];
        match self.call("pin/add", &query, None, ANSWER_MAX_BYTES, IPFS_TIMEOUT).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_here() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Unpins a blob. Returns `false` if it was not pinned.
    pub(super) async fn unpin(&self, cid: &str) -> Result<bool, CallError> {
        match self.call("pin/rm", &[("arg", cid)], None, ANSWER_MAX_BYTES, IPFS_TIMEOUT).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_pinned() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists all pins.
    pub(super) async fn pins(&self) -> Result<HashSet<String>, CallError> {
        let query = [("type", "recursive"), ("stream", "true")];
        let patience = IPFS_TIMEOUT + IPFS_SEARCH_PATIENCE;
        let answer = self.call("pin/ls", &query, None, IPFS_LIST_MAX_BYTES, patience).await?;
        Ok(lines::<Pinned>(&answer)?.into_iter().map(|pinned| pinned.cid).collect())
    }

    /// Reads a file, from kubo or else from its peers. `None` if kubo lacks it and does not ask peers. The bytes are not
    /// verified.
    pub(super) async fn cat(&self, cid: &str) -> Result<Option<Bytes>, CallError> {
        let length = (BLOB_MAX_BYTES + 1).to_string();
        let patience = IPFS_TIMEOUT + Duration::from_secs(BLOB_MAX_BYTES as u64 / IPFS_BYTES_PER_SECOND);
        let here = [("arg", cid), ("length", &length), ("offline", "true")];
        match self.call("cat", &here, None, BLOB_MAX_BYTES, patience).await {
            // If kubo has only a part of a file, the answer ends early.
            Ok(bytes) if super::cid::of(&bytes) == cid => return Ok(Some(bytes)),
            Ok(_) => {}
            Err(error) if error.is_not_here() => {}
            Err(error) => return Err(error),
        }
        // kubo answers, so a slow search among its peers is not its failure.
        let asked = self.ask("cat", &here[..2], None, BLOB_MAX_BYTES, IPFS_SEARCH_PATIENCE);
        match timeout_at(Instant::now() + IPFS_SEARCH_PATIENCE, asked).await {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(error)) if error.is_not_here() => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::Said(format!(
                "neither kubo nor its peers provided the blob within {} s",
                IPFS_SEARCH_PATIENCE.as_secs()
            ))),
        }
    }

    /// Checks that kubo answers.
    pub(super) async fn check(&self) -> Result<(), CallError> {
        self.call("version", &[], None, ANSWER_MAX_BYTES, IPFS_TIMEOUT).await.map(drop)
    }

    /// Calls, and retries after a failure: all commands used here are idempotent.
    pub(super) async fn call(
        &self,
        command: &str,
        query: &[(&str, &str)],
        body: Option<&Bytes>,
        answer_max: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + patience;
        let mut retry = 0;
        loop {
            let attempt = self.breaker.enter()?;
            // The head of the answer comes soon, except after an upload.
            let silence = if body.is_some() { patience } else { IPFS_TIMEOUT };
            let asked = timeout_at(deadline, self.ask(command, query, body, answer_max, silence)).await;
            let error = match asked.unwrap_or(Err(CallError::Late(patience))) {
                Ok(bytes) => {
                    attempt.reached();
                    return Ok(bytes);
                }
                Err(error @ CallError::Said(_)) => {
                    attempt.reached();
                    return Err(error);
                }
                Err(error) => {
                    attempt.failed(&error);
                    error
                }
            };
            retry += 1;
            let pause = retry_pause(retry);
            if retry > IPFS_RETRIES_MAX
                || matches!(error, CallError::Late(_))
                || Instant::now() + pause >= deadline
                || !self.breaker.may_retry()
            {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(
        &self,
        command: &str,
        query: &[(&str, &str)],
        body: Option<&Bytes>,
        answer_max: usize,
        silence: Duration,
    ) -> Result<Bytes, CallError> {
        let mut url = self.base.join(command)?;
        url.query_pairs_mut().extend_pairs(query);
        let mut request = self.http.post(url);
        if let Some(bytes) = body {
            let part = Part::stream_with_length(Body::from(bytes.clone()), bytes.len() as u64);
            request = request.multipart(Form::new().part("file", part.file_name("blob")));
        }
        let begun = tokio::time::timeout(silence, request.send()).await;
        let mut response = begun.map_err(|_| CallError::Late(silence))?.map_err(broken)?;
        let status = response.status();
        let answer_max = if status == StatusCode::OK { answer_max } else { ANSWER_MAX_BYTES };
        let mut answer = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if answer.len() + piece.len() > answer_max {
                return Err(CallError::Strange(format!("more than {answer_max} bytes")));
            }
            answer.extend_from_slice(&piece);
        }
        if status == StatusCode::OK {
            return Ok(answer.freeze());
        }
        match serde_json::from_slice::<Failed>(&answer) {
            Ok(failed) => Err(CallError::Said(failed.message)),
            // For example a proxy that requires a password.
            Err(_) if status.is_client_error() => {
                Err(CallError::Said(format!("it refused the call with status {status}")))
            }
            Err(_) => Err(CallError::Strange(status.to_string())),
        }
    }
}

/// Removes the URL, which may contain a password.
fn broken(error: reqwest::Error) -> CallError {
    CallError::Broken(error.without_url())
}

/// Parses an answer that is a sequence of JSON values.
fn lines<T: DeserializeOwned>(answer: &[u8]) -> Result<Vec<T>, CallError> {
    let values = serde_json::Deserializer::from_slice(answer).into_iter::<T>();
    Ok(values.collect::<Result<_, _>>()?)
}

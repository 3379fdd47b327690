//! `GET /v1/functions/{name}/logs`: invocation records and log messages.

use super::functions::rfc3339;
use super::openapi::{OfVersion, logs_limit};
use super::target::{Target, query};
use super::{State as AppState, blocking};
use crate::error::ApiError;
use crate::limits::LOGS_LIMIT;
use crate::since;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use jiff::Timestamp;
use orama_platform::auth::{Action, Credential};
use orama_platform::peers::Gathered;
use orama_platform::records::{Filter, Record};
use orama_platform::registry::Which;
use orama_runtime::invocation::{Level, LogMessage, Status};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// How long the request waits for the latest records of the cores. After it, the answer lacks them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    /// The namespace to act in: the credential's own unless an operator names another one.
    namespace: Option<String>,
    /// How many invocations to answer with.
    #[param(schema_with = logs_limit)]
    limit: Option<String>,
    /// A time in RFC 3339, Unix seconds, or an age such as `90s`, `15m`, `2h` or `1d`.
    since: Option<String>,
    /// Only invocations that ended so.
    #[param(value_type = Option<Status>, inline)]
    status: Option<String>,
    /// Only the invocation with this id.
    request_id: Option<String>,
}

impl LogsQuery {
    fn filter(&self, version: Option<u32>) -> Result<Filter, ApiError> {
        let bad = |message: String| ApiError::bad_request("INVALID_QUERY", message);
        let limit = match &self.limit {
            None => LOGS_LIMIT.default,
            Some(text) => {
                let number =
                    text.parse().map_err(|_| bad(format!("limit: expected a whole number, got {text:?}")))?;
                LOGS_LIMIT.check(number).map_err(bad)?
            }
        };
        let since_ms = self.since.as_deref().map(|text| {
            since(text, Timestamp::now()).map(Timestamp::as_millisecond).ok_or_else(|| {
                bad(format!(
                    "since: expected a time such as 2026-02-23T17:18:39Z, Unix seconds, or an age such as 90s, 15m, 2h \
                     or 1d, got {text:?}"
                ))
            })
        });
        let status = self.status.as_deref().map(|text| match text {
            "success" => Ok(Status::Success),
            "error" => Ok(Status::Error),
            "timeout" => Ok(Status::Timeout),
            _ => Err(bad(format!("status: expected success, error or timeout, got {text:?}"))),
        });
        Ok(Filter {
            limit,
            since_ms: since_ms.transpose()?,
            status: status.transpose()?,
            request_id: self.request_id.clone(),
            version,
        })
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Logs {
    name: String,
    namespace: String,
    invocations: Vec<Invocation>,
    logs: Vec<Line>,
    count: usize,
    /// Nodes that did not answer, so their invocations are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_nodes: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Invocation {
    request_id: String,
    version: u32,
    /// What caused it, such as `http` or `pubsub`.
    trigger_type: &'static str,
    attempt: u32,
    status: Status,
    duration_ms: f64,
    input_size: u64,
    output_size: u64,
    /// Why it failed; null where it did not.
    #[schema(required = true)]
    error: Option<String>,
    #[schema(format = DateTime)]
    started_at: String,
    messages: Vec<Message>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LogMessage)]
struct Message {
    level: Level,
    message: String,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// A log message in the list of all invocations' messages.
#[derive(Serialize, ToSchema)]
#[schema(as = LogLine)]
struct Line {
    #[serde(flatten)]
    message: Message,
    request_id: String,
}

impl Message {
    fn new(message: &LogMessage) -> Self {
        Self {
            level: message.level,
            message: message.message.clone(),
            timestamp: rfc3339(message.timestamp_ms),
        }
    }
}

impl Invocation {
    fn new(record: Record) -> Self {
        Self {
            messages: record.messages.iter().map(Message::new).collect(),
            request_id: record.request_id.as_str().to_owned(),
            version: record.version,
            trigger_type: record.trigger_type,
            attempt: record.attempt,
            status: record.status,
            duration_ms: record.duration_us as f64 / 1000.0,
            input_size: record.input_size,
            output_size: record.output_size,
            error: record.error,
            started_at: rfc3339(record.started_at_ms),
        }
    }
}

/// The messages of all invocations in one list, newest invocation first.
fn lines(records: &[Record]) -> Vec<Line> {
    let of = |record: &Record, message| Line {
        message: Message::new(message),
        request_id: record.request_id.as_str().to_owned(),
    };
    records.iter().flat_map(|r| r.messages.iter().rev().map(move |m| of(r, m))).collect()
}

/// The records of all nodes, newest first, and the nodes that did not answer.
fn merged(mut own: Vec<Record>, gathered: Gathered, limit: u32) -> (Vec<String>, Vec<Record>) {
    let Gathered { records, complete_since_ms, missing } = gathered;
    if !records.is_empty() {
        own.extend(records);
        own.sort_by_key(|record| Reverse(record.started_at_ms));
        // Older records are incomplete, so they are left out.
        own.retain(|record| complete_since_ms.is_none_or(|since| record.started_at_ms >= since));
        own.truncate(limit as usize);
    }
    (missing, own)
}

/// Lists the latest invocations of a function and their log messages, newest first.
#[utoipa::path(
    get, path = "/v1/functions/{name}/logs", operation_id = "getLogs", tag = "logs",
    security(("key" = ["deploy"])),
    params(OfVersion, LogsQuery),
    responses((status = 200, body = Logs)),
)]
pub(super) async fn logs(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    path: Result<Path<String>, PathRejection>,
    asked: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Json<Logs>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let Target { name, which } = Target::from_path(path)?;
    let (registry, of) =
        (state.app.platform.registry.clone(), (namespace.clone(), name.clone(), which.clone()));
    let version = blocking(move || Ok(registry.number_of(&of.0, &of.1, &of.2)?)).await?;
    if version.is_none() {
        return Err(ApiError::function_not_found(name.as_str(), &which));
    }
    let filter = asked.filter(version.filter(|_| which != Which::Live))?;
    // So that a client finds its latest invocation.
    if tokio::time::timeout(FLUSH_TIMEOUT, (state.app.platform.flush_cores)()).await.is_err() {
        tracing::warn!("the cores did not hand over their latest invocation records in time");
    }
    let gathered = match &state.app.platform.peers {
        Some(peers) => peers.ask(&namespace, &name, &filter).await,
        None => Gathered::default(),
    };
    let app = Arc::clone(&state.app);
    blocking(move || {
        app.platform.records.flush();
        let own = app.platform.records.query(&namespace, &name, &filter).map_err(ApiError::internal)?;
        let (missing_nodes, records) = merged(own, gathered, filter.limit);
        Ok(Json(Logs {
            name: name.to_string(),
            namespace: namespace.to_string(),
            count: records.len(),
            logs: lines(&records),
            missing_nodes,
            invocations: records.into_iter().map(Invocation::new).collect(),
        }))
    })
    .await
}

//! `GET /v1/functions/{name}/logs`: invocation records and log messages.

use super::audit::time;
use super::functions::rfc3339;
use super::openapi::{OfVersion, logs_limit};
use super::target::{Target, query};
use super::{State as AppState, blocking};
use crate::error::ApiError;
use crate::limits::LOGS_LIMIT;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use orama_platform::auth::{Action, Credential};
use orama_platform::peers::Gathered;
use orama_platform::records::{Filter, Record};
use orama_platform::registry::Which;
use orama_runtime::invocation::{Level, LogMessage, Status};
use orama_runtime::phases::{HostCalls, Kind, Phases};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
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
        Ok(Filter {
            limit: limit(self.limit.as_deref())?,
            since_ms: time("since", self.since.as_deref())?,
            status: status(self.status.as_deref())?,
            request_id: self.request_id.clone(),
            version,
            is_brief: false,
        })
    }
}

/// 400 for a query.
pub(super) fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("INVALID_QUERY", message)
}

/// How many invocations a query asks for.
///
/// # Errors
/// 400 for a limit that is not a number or is out of range.
pub(super) fn limit(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text else { return Ok(LOGS_LIMIT.default) };
    let number = text.parse().map_err(|_| bad(format!("limit: expected a whole number, got {text:?}")))?;
    LOGS_LIMIT.check(number).map_err(bad)
}

/// The status that a query asks for.
///
/// # Errors
/// 400 for one that there is not.
pub(super) fn status(text: Option<&str>) -> Result<Option<Status>, ApiError> {
    match text {
        None => Ok(None),
        Some("success") => Ok(Some(Status::Success)),
        Some("error") => Ok(Some(Status::Error)),
        Some("timeout") => Ok(Some(Status::Timeout)),
        Some(text) => Err(bad(format!("status: expected success, error or timeout, got {text:?}"))),
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
pub(super) struct Invocation {
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
    /// The code of a failure.
    #[serde(skip_serializing_if = "str::is_empty")]
    error_code: &'static str,
    /// The status of an answer that the function shaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    /// Where the time went: `wait` for a turn, `start`, and waiting for host calls by kind. The rest is the function's own code.
    phases_ms: BTreeMap<&'static str, f64>,
    /// Host calls by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    host_calls: BTreeMap<&'static str, u32>,
    memory_bytes: u64,
    /// The subject of a token, or else the id of a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// The id that the client gave its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_request_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = LogMessage)]
pub(super) struct Message {
    level: Level,
    message: String,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// A log message in the list of all invocations' messages.
#[derive(Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) message: Message,
    pub(super) request_id: String,
}

impl Message {
    pub(super) fn new(message: &LogMessage) -> Self {
        Self {
            level: message.level,
            message: message.message.clone(),
            timestamp: rfc3339(message.timestamp_ms),
        }
    }
}

/// The kinds of host calls that a run made.
fn made(phases: &Phases) -> impl Iterator<Item = (Kind, HostCalls)> {
    let calls = Kind::ALL.map(|kind| (kind, phases.of(kind)));
    calls.into_iter().filter(|(_, calls)| calls.count > 0)
}

fn phases_ms(phases: &Phases) -> BTreeMap<&'static str, f64> {
    let own = [("wait", phases.wait_us), ("start", phases.start_us)];
    let host = made(phases).map(|(kind, calls)| (kind.as_str(), calls.waited_us));
    own.into_iter().chain(host).map(|(phase, us)| (phase, f64::from(us) / 1000.0)).collect()
}

impl Invocation {
    pub(super) fn new(record: Record) -> Self {
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
            error_code: record.error_code,
            http_status: (record.http_status > 0).then_some(record.http_status),
            phases_ms: phases_ms(&record.phases),
            host_calls: made(&record.phases).map(|(kind, calls)| (kind.as_str(), calls.count)).collect(),
            memory_bytes: record.memory_bytes,
            caller: record.caller.map(|caller| caller.to_string()),
            client_ip: record.client,
            trace_id: (record.trace_id != 0).then(|| format!("{:032x}", record.trace_id)),
            client_request_id: record.client_request_id.map(String::from),
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
    let Gathered { records, complete_since_ms, missing, .. } = gathered;
    if !records.is_empty() {
        own.extend(records);
        own.sort_by_key(|record| Reverse(record.started_at_ms));
        // Older records are incomplete, so they are left out.
        own.retain(|record| complete_since_ms.is_none_or(|since| record.started_at_ms >= since));
        own.truncate(limit as usize);
    }
    (missing, own)
}

/// Waits for the latest records of the cores, so that a client finds its latest invocation.
pub(super) async fn fresh(state: &AppState) {
    if tokio::time::timeout(FLUSH_TIMEOUT, (state.app.platform.flush_cores)()).await.is_err() {
        tracing::warn!("the cores did not hand over their latest invocation records in time");
    }
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
    fresh(&state).await;
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

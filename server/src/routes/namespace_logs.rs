//! `GET /v1/logs`: invocation records and log messages of all functions of a namespace.

use super::audit::time;
use super::logs::{Invocation, Line, Message, bad, fresh, limit, status};
use super::openapi::logs_limit;
use super::page::unknown_cursor;
use super::target::query;
use super::{State as AppState, blocking};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use jiff::Timestamp;
use orama_platform::auth::{Action, Credential};
use orama_platform::limits::KEY_FUNCTIONS_MAX;
use orama_platform::peers::{Gathered, name_in_cursors};
use orama_platform::records::{Cursor, Part, Place, Record, WideFilter, place};
use orama_runtime::invocation::{Level, Status};
use orama_runtime::limits::TIMEOUT_SECONDS;
use orama_runtime::names::FunctionName;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Bytes of a text that messages are searched for.
const TEXT_MAX_BYTES: usize = 256;

/// How long before its record arrives an invocation may have started: the longest timeout, and 10 s until the record is written.
const LATEST_START_MS: i64 = (TIMEOUT_SECONDS.max as i64 + 10) * 1000;

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
    /// Only these functions: names with commas between them, 100 at most.
    function: Option<String>,
    /// Only messages of this level, and invocations that have some.
    #[param(value_type = Option<Level>, inline)]
    level: Option<String>,
    /// Only messages that contain it, in capitals or not, and invocations that have some.
    text: Option<String>,
    /// The `next` of the previous page.
    after: Option<String>,
    /// The `cursor` of an earlier answer.
    cursor: Option<String>,
}

impl LogsQuery {
    /// The filter, within what the credential is for.
    fn filter(&self, credential: &Credential) -> Result<WideFilter, ApiError> {
        let names = self.function.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty());
        let mut functions = Vec::new();
        for name in names {
            let name = FunctionName::new(name)?;
            if !credential.is_for(name.as_str()) {
                return Err(super::access::not_for(credential));
            }
            functions.push(name.to_string());
        }
        if functions.len() > KEY_FUNCTIONS_MAX {
            return Err(bad(format!("function: at most {KEY_FUNCTIONS_MAX} names")));
        }
        if let Some(of) = credential.functions.as_deref().filter(|_| functions.is_empty()) {
            functions.extend(of.iter().map(FunctionName::to_string));
        }
        let level = match self.level.as_deref() {
            None => None,
            Some("info") => Some(Level::Info),
            Some("error") => Some(Level::Error),
            Some(other) => return Err(bad(format!("level: expected info or error, got {other:?}"))),
        };
        let text = self.text.as_deref().filter(|text| !text.is_empty());
        if text.is_some_and(|text| text.len() > TEXT_MAX_BYTES) {
            return Err(bad(format!("text: at most {TEXT_MAX_BYTES} bytes")));
        }
        Ok(WideFilter {
            limit: limit(self.limit.as_deref())?,
            functions,
            level,
            text: text.map(str::to_lowercase),
            status: status(self.status.as_deref())?,
            request_id: self.request_id.clone(),
            since_ms: time("since", self.since.as_deref())?,
            before: self.after.as_deref().map(before).transpose()?,
        })
    }

    fn cursor(&self) -> Result<Option<Cursor>, ApiError> {
        let Some(text) = &self.cursor else { return Ok(None) };
        if self.after.is_some() {
            return Err(bad("`after` and `cursor` exclude each other"));
        }
        let cursor = Cursor::parse(text);
        Ok(Some(cursor.ok_or_else(|| bad("`cursor` must be the `cursor` of an earlier answer"))?))
    }
}

/// The place of the last record of a page, as text.
fn next_text((ms, request_id, attempt): &Place) -> String {
    format!("{ms}.{attempt}.{request_id}")
}

fn before(text: &str) -> Result<Place, ApiError> {
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next().ok_or_else(unknown_cursor);
    let (ms, attempt, request_id) = (part()?, part()?, part()?);
    let number = |_| unknown_cursor();
    Ok((ms.parse().map_err(number)?, request_id.to_owned(), attempt.parse().map_err(number)?))
}

#[derive(Serialize, ToSchema)]
#[schema(as = NamespaceLogs)]
pub(super) struct Logs {
    namespace: String,
    invocations: Vec<OfFunction<Invocation>>,
    logs: Vec<OfFunction<LineOfVersion>>,
    count: usize,
    /// Where older ones go on, if there may be some.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// For a request for what arrives from now on.
    cursor: String,
    /// With a cursor: whether more has arrived already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    /// Nodes that did not answer, so their invocations are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_nodes: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct OfFunction<T> {
    function: String,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize, ToSchema)]
struct LineOfVersion {
    version: u32,
    #[serde(flatten)]
    line: Line,
}

impl OfFunction<Invocation> {
    fn new(record: Record) -> Self {
        Self { function: record.function.name.to_string(), rest: Invocation::new(record) }
    }
}

/// The messages of records, newest record first.
fn lines(records: &[Record]) -> Vec<OfFunction<LineOfVersion>> {
    let of = |record: &Record, message| OfFunction {
        function: record.function.name.to_string(),
        rest: LineOfVersion {
            version: record.version,
            line: Line { message: Message::new(message), request_id: record.request_id.as_str().to_owned() },
        },
    };
    records.iter().flat_map(|r| r.messages.iter().rev().map(move |m| of(r, m))).collect()
}

/// The newest records of all nodes as far as they are complete, and where older ones go on.
fn newest(
    own: Part,
    gathered: Vec<Record>,
    peers_since_ms: Option<i64>,
    limit: u32,
) -> (Vec<Record>, Option<String>) {
    let complete_since_ms = own.complete_since_ms.max(peers_since_ms);
    let mut records = own.records;
    records.extend(gathered);
    records.sort_by_cached_key(|record| Reverse(place(record)));
    records.retain(|record| complete_since_ms.is_none_or(|since_ms| record.started_at_ms >= since_ms));
    let is_full = records.len() >= limit as usize;
    records.truncate(limit as usize);
    let next = match (records.last(), complete_since_ms) {
        (Some(last), _) if is_full => Some(next_text(&place(last))),
        (_, Some(since_ms)) => Some(next_text(&(since_ms, String::new(), 0))),
        _ => None,
    };
    (records, next)
}

/// Lists the latest invocations of all functions of the namespace and their log messages, newest first; or what has arrived
/// since.
#[utoipa::path(
    get, path = "/v1/logs", operation_id = "getNamespaceLogs", tag = "logs",
    security(("key" = ["deploy"])),
    params(LogsQuery),
    responses((status = 200, body = Logs)),
)]
pub(super) async fn logs(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Json<Logs>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let (filter, follow) = (asked.filter(&credential)?, asked.cursor()?);
    let now_ms = Timestamp::now().as_millisecond();
    fresh(&state).await;
    let gathered = match &state.app.platform.peers {
        Some(peers) => peers.ask_wide(&namespace, &filter, follow.as_ref()).await,
        None => Gathered::default(),
    };
    let app = Arc::clone(&state.app);
    blocking(move || {
        let platform = &app.platform;
        platform.records.flush();
        let node = name_in_cursors(platform.peers.as_ref()).to_owned();
        let since = follow.as_ref().map(|cursor| (cursor, node.as_str()));
        let own = platform.records.of_namespace(&namespace, &filter, since).map_err(ApiError::internal)?;
        let Gathered { records: gathered, complete_since_ms, missing, has_more, mut positions, stats: _ } =
            gathered;
        let more = own.has_more || has_more;
        positions.insert(node, own.position.clone());
        let (records, next) = if follow.is_some() {
            let mut records = own.records;
            records.extend(gathered);
            records.sort_by_cached_key(|record| Reverse(place(record)));
            (records, None)
        } else {
            newest(own, gathered, complete_since_ms, filter.limit)
        };
        // What arrives from now on started by then.
        let since_ms = follow.map_or(0, |cursor| cursor.since_ms).max(now_ms - LATEST_START_MS);
        Ok(Json(answer(&namespace.to_string(), records, next, (since_ms, positions), more, missing)))
    })
    .await
}

fn answer(
    namespace: &str,
    records: Vec<Record>,
    next: Option<String>,
    (since_ms, positions): (i64, BTreeMap<String, String>),
    more: bool,
    missing_nodes: Vec<String>,
) -> Logs {
    Logs {
        namespace: namespace.to_owned(),
        count: records.len(),
        logs: lines(&records),
        invocations: records.into_iter().map(OfFunction::<Invocation>::new).collect(),
        next,
        cursor: Cursor { since_ms, positions }.text(),
        more,
        missing_nodes,
    }
}

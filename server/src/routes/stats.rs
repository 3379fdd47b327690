//! `GET /v1/functions/{name}/stats` and `GET /v1/stats`: what invocations had in common, by version.

use super::audit::time;
use super::logs::{bad, fresh};
use super::openapi::OfVersion;
use super::target::{PathName, Target, query};
use super::{State as AppState, blocking};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use jiff::Timestamp;
use orama_platform::auth::{Action, Credential};
use orama_platform::peers::Gathered;
use orama_platform::records::{Filter, Histogram, Record, RecordsError, Stats};
use orama_platform::registry::Which;
use orama_runtime::invocation::Status;
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::phases::Kind;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// From when on statistics are told, in seconds before now, unless the request says.
const SINCE_S: i64 = 3600;
/// Recorded invocations of a node that are looked at to tell callers apart; as many as are kept of a function.
const CALLERS_OF_MAX: u32 = 10_000;
/// Callers that are told: those with the most failures, then those with the most invocations.
const CALLERS_MAX: usize = 20;
/// The least status of an answer that counts as a failure.
const SERVER_ERRORS: u16 = 500;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    /// The namespace to act in: the credential's own unless an operator names another one.
    namespace: Option<String>,
    /// From when on; an hour ago unless it is given. A time in RFC 3339, Unix seconds, or an age such as `90s`, `15m`, `2h` or
    /// `1d`.
    since: Option<String>,
}

impl StatsQuery {
    fn since_s(&self) -> Result<i64, ApiError> {
        let given_ms = time("since", self.since.as_deref())?;
        Ok(given_ms.map_or_else(|| Timestamp::now().as_second() - SINCE_S, |ms| ms.div_euclid(1000)))
    }
}

/// Durations in milliseconds. Percentiles are at most an eighth too high.
#[derive(Serialize, ToSchema)]
#[schema(as = Durations)]
struct Times {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Times {
    fn of(histogram: &Histogram) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |share| ms(histogram.quantile_us(share));
        let mean = ms(histogram.sum_us() / histogram.count().max(1));
        Self { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

/// Bytes of an invocation.
#[derive(Serialize, ToSchema)]
#[schema(as = MemoryUse)]
struct Bytes {
    mean: u64,
    max: u64,
}

/// What some invocations had in common.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsObject {
    /// Those that ended.
    invocations: u64,
    succeeded: u64,
    /// Those that failed, by code.
    errors: BTreeMap<String, u64>,
    /// Those that ended well with a status of 500 or above.
    server_errors: u64,
    /// The share that failed or answered so, from 0 to 1.
    error_rate: f64,
    /// Requests that were refused before they ran, by code.
    refused: BTreeMap<String, u64>,
    /// Attempts after the first.
    retries: u64,
    /// How often a core had to load the code.
    cold_loads: u64,
    duration_ms: Times,
    /// Where the time went: `wait` for a turn, `start`, `own` code, and waiting for host calls by kind.
    phases_ms: BTreeMap<&'static str, Times>,
    /// Host calls by kind.
    host_calls: BTreeMap<&'static str, u64>,
    memory_bytes: Bytes,
    input_bytes: u64,
    output_bytes: u64,
}

impl From<&Stats> for StatsObject {
    fn from(stats: &Stats) -> Self {
        let runs = stats.runs();
        let host = Kind::ALL.into_iter().map(Kind::as_str).zip(&stats.host);
        let own = [("wait", &stats.wait), ("start", &stats.start), ("own", &stats.own)];
        let phases = own.into_iter().chain(host).filter(|(_, phase)| phase.count() > 0);
        let calls = Kind::ALL.into_iter().map(Kind::as_str).zip(stats.host_calls);
        Self {
            invocations: runs,
            succeeded: stats.succeeded,
            errors: stats.failed.clone(),
            server_errors: stats.server_errors,
            error_rate: (stats.failures() + stats.server_errors) as f64 / runs.max(1) as f64,
            refused: stats.refused.clone(),
            retries: stats.retries,
            cold_loads: stats.cold_loads,
            duration_ms: Times::of(&stats.duration),
            phases_ms: phases.map(|(name, phase)| (name, Times::of(phase))).collect(),
            host_calls: calls.filter(|(_, calls)| *calls > 0).collect(),
            memory_bytes: Bytes { mean: stats.memory_bytes / runs.max(1), max: stats.memory_max_bytes },
            input_bytes: stats.input_bytes,
            output_bytes: stats.output_bytes,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct VersionStats {
    version: u32,
    #[serde(flatten)]
    stats: StatsObject,
}

/// The versions of one function, and all together.
#[derive(Serialize, ToSchema)]
struct FunctionStats {
    name: String,
    #[serde(flatten)]
    stats: StatsObject,
    versions: Vec<VersionStats>,
}

impl FunctionStats {
    fn new(name: &FunctionName, versions: &[(u32, Stats)]) -> Self {
        let mut sum = Stats::default();
        versions.iter().for_each(|(_, stats)| sum.merge(stats));
        let version =
            |(version, stats): &(u32, Stats)| VersionStats { version: *version, stats: stats.into() };
        let mut versions: Vec<_> = versions.iter().map(version).collect();
        versions.sort_by_key(|of| Reverse(of.version));
        Self { name: name.to_string(), stats: (&sum).into(), versions }
    }
}

/// A caller of a function, among the invocations that are recorded.
#[derive(Serialize, ToSchema)]
struct CallerStats {
    /// The subject of a token, or the id of a key; empty for those who showed neither.
    caller: String,
    invocations: u64,
    /// Those that failed, or answered with 500 or above.
    failures: u64,
    #[schema(required = true)]
    last_error: Option<String>,
    /// The id of the last one that failed.
    #[schema(required = true)]
    last_failed_request_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsOfFunction)]
pub(super) struct OneFunction {
    namespace: String,
    #[schema(format = DateTime)]
    since: String,
    #[serde(flatten)]
    function: FunctionStats,
    callers: Vec<CallerStats>,
    /// How many recorded invocations `callers` is about.
    callers_of: usize,
    /// Nodes that did not answer, so that theirs are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_nodes: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsOfFunctions)]
pub(super) struct AllFunctions {
    namespace: String,
    #[schema(format = DateTime)]
    since: String,
    functions: Vec<FunctionStats>,
    count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_nodes: Vec<String>,
}

/// All nodes' statistics, by function and version.
async fn gather(
    state: &AppState,
    namespace: &Namespace,
    name: Option<&FunctionName>,
    since_s: i64,
) -> Result<(BTreeMap<FunctionName, Vec<(u32, Stats)>>, Vec<String>), ApiError> {
    fresh(state).await;
    let Gathered { stats: of_others, missing, .. } = match &state.app.platform.peers {
        Some(peers) => peers.ask_stats(namespace, name, since_s).await,
        None => Gathered::default(),
    };
    let (app, namespace, name) = (Arc::clone(&state.app), namespace.clone(), name.cloned());
    blocking(move || {
        let records = &app.platform.records;
        records.flush();
        let found = records.stats(&namespace, name.as_ref(), since_s);
        let mut all = found.map_err(|error| match error {
            RecordsError::TooManyVersions => bad(error.to_string()),
            error => ApiError::internal(error),
        })?;
        for (key, stats) in of_others {
            all.entry(key).or_default().merge(&stats);
        }
        let mut functions: BTreeMap<FunctionName, Vec<(u32, Stats)>> = BTreeMap::new();
        for ((name, version), stats) in all {
            functions.entry(name).or_default().push((version, stats));
        }
        Ok((functions, missing))
    })
    .await
}

/// Tells what the invocations of each function of the namespace had in common.
#[utoipa::path(
    get, path = "/v1/stats", operation_id = "getStatsOfAll", tag = "logs",
    security(("key" = ["deploy"])),
    params(StatsQuery),
    responses((status = 200, body = AllFunctions)),
)]
pub(super) async fn of_all(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<StatsQuery>, QueryRejection>,
) -> Result<Json<AllFunctions>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let since_s = asked.since_s()?;
    let (functions, missing_nodes) = gather(&state, &namespace, None, since_s).await?;
    let mine = functions.iter().filter(|(name, _)| credential.is_for(name.as_str()));
    let functions: Vec<_> = mine.map(|(name, versions)| FunctionStats::new(name, versions)).collect();
    Ok(Json(AllFunctions {
        namespace: namespace.to_string(),
        since: shown(since_s),
        count: functions.len(),
        functions,
        missing_nodes,
    }))
}

/// Tells what the invocations of a function had in common: by version, phase, error and caller.
#[utoipa::path(
    get, path = "/v1/functions/{name}/stats", operation_id = "getStats", tag = "logs",
    security(("key" = ["deploy"])),
    params(OfVersion, StatsQuery),
    responses((status = 200, body = OneFunction)),
)]
pub(super) async fn of_one(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    path: PathName,
    asked: Result<Query<StatsQuery>, QueryRejection>,
) -> Result<Json<OneFunction>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let since_s = asked.since_s()?;
    let Target { name, which } = Target::from_path(path)?;
    let (registry, of) =
        (state.app.platform.registry.clone(), (namespace.clone(), name.clone(), which.clone()));
    let number = blocking(move || Ok(registry.number_of(&of.0, &of.1, &of.2)?)).await?;
    let number = number.ok_or_else(|| ApiError::function_not_found(name.as_str(), &which))?;
    let only = (which != Which::Live).then_some(number);
    let (mut functions, mut missing_nodes) = gather(&state, &namespace, Some(&name), since_s).await?;
    let mut versions = functions.remove(&name).unwrap_or_default();
    versions.retain(|(version, _)| only.is_none_or(|only| only == *version));
    let filter = Filter {
        limit: CALLERS_OF_MAX,
        since_ms: Some(since_s.saturating_mul(1000)),
        version: only,
        is_brief: true,
        ..Filter::default()
    };
    let mut recorded = Vec::new();
    if let Some(peers) = &state.app.platform.peers {
        let gathered = peers.ask(&namespace, &name, &filter).await;
        missing_nodes.extend(gathered.missing);
        missing_nodes.sort();
        missing_nodes.dedup();
        recorded = gathered.records;
    }
    let app = Arc::clone(&state.app);
    blocking(move || {
        let own = app.platform.records.query(&namespace, &name, &filter).map_err(ApiError::internal)?;
        recorded.extend(own);
        Ok(Json(OneFunction {
            namespace: namespace.to_string(),
            since: shown(since_s),
            function: FunctionStats::new(&name, &versions),
            callers_of: recorded.len(),
            callers: callers(&mut recorded),
            missing_nodes,
        }))
    })
    .await
}

fn shown(at_s: i64) -> String {
    super::functions::rfc3339(at_s.saturating_mul(1000))
}

fn is_failed(record: &Record) -> bool {
    record.status != Status::Success || record.http_status >= SERVER_ERRORS
}

/// Who called, those with the most failures first.
fn callers(records: &mut [Record]) -> Vec<CallerStats> {
    records.sort_by_key(|record| record.started_at_ms);
    let mut found: HashMap<&str, CallerStats> = HashMap::new();
    for record in records.iter() {
        let caller = record.caller.as_deref().unwrap_or_default();
        let of = found.entry(caller).or_insert_with(|| CallerStats {
            caller: caller.to_owned(),
            invocations: 0,
            failures: 0,
            last_error: None,
            last_failed_request_id: None,
        });
        of.invocations += 1;
        if is_failed(record) {
            of.failures += 1;
            of.last_failed_request_id = Some(record.request_id.as_str().to_owned());
            of.last_error = record.error.clone().or_else(|| Some(format!("status {}", record.http_status)));
        }
    }
    let mut callers: Vec<_> = found.into_values().collect();
    callers.sort_by(|a, b| {
        (b.failures, b.invocations).cmp(&(a.failures, a.invocations)).then_with(|| a.caller.cmp(&b.caller))
    });
    callers.truncate(CALLERS_MAX);
    callers
}

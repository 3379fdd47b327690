//! Functions and their versions: list, get, delete.

use super::openapi::{OfFunction, OfVersion};
use super::page::{PageQuery, unknown_cursor};
use super::target::{NamespaceQuery, PathName, Target, query};
use super::{App, State as AppState, blocking};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use jiff::Timestamp;
use orama_platform::auth::{Action, Credential};
use orama_platform::delete;
use orama_platform::registry::{LIVE, Origin, Which};
use orama_platform::start_notes::StartNotes;
use orama_runtime::function::{FunctionVersion, StartMode};
use orama_runtime::names::{FunctionName, Namespace};
use orama_runtime::web::Cors;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::ToSchema;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type AskedPage = Result<Query<PageQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

/// A version of a function in the API. It has no environment, which may contain secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = Function)]
pub(super) struct FunctionObject {
    id: String,
    name: String,
    namespace: String,
    version: u32,
    wasm_cid: String,
    memory_limit_mb: u32,
    timeout_seconds: u32,
    is_public: bool,
    retry_count: u32,
    retry_delay_seconds: u32,
    start: StartMode,
    concurrency: u32,
    keep_versions: u32,
    internal: bool,
    max_body: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cors: Option<Cors>,
    /// The start note: why it is started on demand although its mode allows parking.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_note: Option<String>,
    /// `active`, or `disabled` where the function may not run.
    status: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

impl FunctionObject {
    pub(super) fn new(function: &FunctionVersion, notes: &StartNotes) -> Self {
        Self {
            id: function.id.clone(),
            name: function.name.to_string(),
            namespace: function.namespace.to_string(),
            version: function.version,
            wasm_cid: function.wasm_cid.clone(),
            memory_limit_mb: function.memory_limit_mb,
            timeout_seconds: function.timeout_seconds,
            is_public: function.is_public,
            retry_count: function.retry_count,
            retry_delay_seconds: function.retry_delay_seconds,
            start: function.start,
            concurrency: function.concurrency,
            keep_versions: function.keep_versions,
            internal: function.web.is_internal,
            max_body: function.web.max_body_mb,
            cors: function.web.cors.as_deref().cloned(),
            start_note: notes.get(&function.id),
            // Every version in the registry was compiled, so it can be invoked.
            status: if function.is_enabled { "active" } else { "disabled" },
            created_at: rfc3339(function.created_at_ms),
            updated_at: rfc3339(function.updated_at_ms),
        }
    }

    fn all(functions: &[Arc<FunctionVersion>], notes: &StartNotes) -> Vec<Self> {
        functions.iter().map(|function| Self::new(function, notes)).collect()
    }
}

/// A time in UTC with milliseconds, such as `2026-02-23T17:18:39.000Z`. A time outside of the calendar is clamped.
pub(super) fn rfc3339(ms: i64) -> String {
    let end = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(ms).unwrap_or(end))
}

#[derive(Serialize, ToSchema)]
pub(super) struct Functions {
    functions: Vec<FunctionObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the live version of each function, by name.
#[utoipa::path(
    get, path = "/v1/functions", operation_id = "listFunctions", tag = "functions",
    security(("key" = ["deploy"])),
    params(PageQuery),
    responses((status = 200, body = Functions)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: AskedPage,
) -> Result<Json<Functions>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let (page, app) = (asked.page()?, Arc::clone(&state.app));
    blocking(move || {
        let registry = &app.platform.registry;
        let found = match &credential.functions {
            None => registry.functions(&namespace, &page.after, page.to_read())?,
            Some(names) => {
                let names: BTreeSet<_> = names.iter().filter(|name| name.as_str() > &*page.after).collect();
                let find = |name| Ok::<_, ApiError>(registry.find(&namespace, name, &Which::Live)?);
                let found = names.into_iter().map(find).filter_map(Result::transpose);
                let found = found.map(|found| found.map(|found| found.function));
                found.take(page.to_read() as usize).collect::<Result<_, _>>()?
            }
        };
        let (found, next) = page.cut(found, |function| function.name.to_string());
        let functions = FunctionObject::all(&found, &app.platform.start_notes);
        Ok(Json(Functions { count: functions.len(), functions, next }))
    })
    .await
}

/// Shows a version of a function: the live one unless the path names another.
#[utoipa::path(
    get, path = "/v1/functions/{name}", operation_id = "getFunction", tag = "functions",
    security(("key" = ["deploy"])),
    params(OfVersion, NamespaceQuery),
    responses((status = 200, body = FunctionObject)),
)]
pub(super) async fn get(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<Json<FunctionObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Read, query(asked)?.namespace.as_deref()).await?;
    let Target { name, which } = Target::from_path(path)?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        let found = app.platform.registry.find(&namespace, &name, &which).map_err(ApiError::internal)?;
        let function = found.ok_or_else(|| ApiError::function_not_found(name.as_str(), &which))?.function;
        Ok(Json(FunctionObject::new(&function, &app.platform.start_notes)))
    })
    .await
}

/// # Errors
/// 404 if there is no such function. Blocks.
pub(super) fn must_exist(app: &App, namespace: &Namespace, name: &FunctionName) -> Result<(), ApiError> {
    let found = app.platform.registry.number_of(namespace, name, &Which::Live)?;
    found.map(drop).ok_or_else(|| ApiError::function_not_found(name.as_str(), &Which::Live))
}

/// A version in the list of its function's versions.
#[derive(Serialize, ToSchema)]
#[schema(as = FunctionVersion)]
pub(super) struct VersionObject {
    #[serde(flatten)]
    function: FunctionObject,
    /// Who deployed it, and from which sources, as far as that is known.
    #[serde(flatten)]
    #[schema(value_type = Origin)]
    origin: Option<Origin>,
    /// What stands for it.
    aliases: Vec<String>,
    /// Which part of the calls of the function's name it gets, in percent.
    traffic_percent: f64,
}

/// Versions with where they come from, and what of them is in use. Blocks.
fn in_use(app: &App, versions: &[Arc<FunctionVersion>]) -> Result<Vec<VersionObject>, ApiError> {
    let (Some(newest), Some(oldest)) = (versions.first(), versions.last()) else { return Ok(Vec::new()) };
    let (registry, FunctionVersion { namespace, name, .. }) = (&app.platform.registry, &**newest);
    let mut origins = registry.origins(namespace, name, (oldest.version, newest.version))?;
    let aliases = registry.aliases(namespace, name)?.unwrap_or_default();
    let live = aliases.iter().find(|alias| alias.name.as_str() == LIVE).map(|alias| alias.version);
    let traffic = registry.traffic(namespace, name)?;
    let percent = |version: u32| match &traffic {
        Some(traffic) => {
            let weight = traffic.weights().get(&version).copied().unwrap_or(0);
            100.0 * f64::from(weight) / traffic.total() as f64
        }
        None if live == Some(version) => 100.0,
        None => 0.0,
    };
    let object = |function: &Arc<FunctionVersion>| {
        let version = function.version;
        let of_it = aliases.iter().filter(|alias| alias.version == version);
        VersionObject {
            function: FunctionObject::new(function, &app.platform.start_notes),
            origin: origins.remove(&version),
            aliases: of_it.map(|alias| alias.name.to_string()).collect(),
            traffic_percent: percent(version),
        }
    };
    Ok(versions.iter().map(object).collect())
}

#[derive(Serialize, ToSchema)]
#[schema(as = FunctionVersions)]
pub(super) struct Versions {
    versions: Vec<VersionObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the versions of a function, newest first.
#[utoipa::path(
    get, path = "/v1/functions/{name}/versions", operation_id = "listVersions", tag = "versions",
    security(("key" = ["deploy"])),
    params(OfFunction, PageQuery),
    responses((status = 200, body = Versions)),
)]
pub(super) async fn versions(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: AskedPage,
) -> Result<Json<Versions>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let page = asked.page()?;
    let before = match page.after.as_str() {
        "" => None,
        after => Some(after.parse().map_err(|_| unknown_cursor())?),
    };
    let app = Arc::clone(&state.app);
    blocking(move || {
        let found = app.platform.registry.versions(&namespace, &name, before, page.to_read())?;
        if found.is_empty() && before.is_none() {
            return Err(ApiError::function_not_found(name.as_str(), &Which::Live));
        }
        let (found, next) = page.cut(found, |function| function.version.to_string());
        let versions = in_use(&app, &found)?;
        Ok(Json(Versions { count: versions.len(), versions, next }))
    })
    .await
}

#[derive(Serialize, ToSchema)]
#[schema(as = FunctionDeleted)]
pub(super) struct Deleted {
    message: String,
    name: String,
    namespace: String,
    versions_deleted: usize,
}

/// Deletes a function, or the version that the path names.
#[utoipa::path(
    delete, path = "/v1/functions/{name}", operation_id = "deleteFunction", tag = "functions",
    security(("key" = ["deploy"])),
    params(OfVersion, NamespaceQuery),
    responses((status = 200, body = Deleted), (status = 409)),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
) -> Result<Json<Deleted>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, version) = match Target::from_path(path)? {
        Target { name, which: Which::Number(number) } => (name, Some(number)),
        Target { name, which: Which::Live } => (name, None),
        Target { which: Which::Alias(_), .. } => {
            let message = "only a version's number tells which version to delete";
            return Err(ApiError::bad_request("INVALID_VERSION", message));
        }
    };
    let app = Arc::clone(&state.app);
    blocking(move || {
        let versions_deleted = delete::delete(&app.platform, &namespace, &name, version)?;
        if versions_deleted == 0 {
            let which = version.map_or(Which::Live, Which::Number);
            return Err(ApiError::function_not_found(name.as_str(), &which));
        }
        let message = match version {
            Some(version) => format!("version {version} of function {:?} deleted", name.as_str()),
            None => format!("function {:?} deleted", name.as_str()),
        };
        Ok(Json(Deleted {
            message,
            name: name.to_string(),
            namespace: namespace.to_string(),
            versions_deleted,
        }))
    })
    .await
}

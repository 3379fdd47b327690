//! `PATCH /v1/functions/{name}`: changes everything but the code, as a new version; and lets a function run, or not.

use super::deploy::{not_live, origin_of};
use super::form::{Given, Settings};
use super::functions::FunctionObject;
use super::openapi::OfVersion;
use super::target::{NamespaceQuery, PathName, Target, query};
use super::{App, State as AppState, blocking, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::deploy;
use orama_platform::registry::{Origin, VersionSettings, Which};
use orama_runtime::function::FunctionVersion;
use orama_runtime::names::{FunctionName, Namespace};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Updated {
    message: String,
    function: FunctionObject,
    /// The version that the function's name stands for.
    live: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Changes all but the code, as a new version; enables and disables a function.
#[utoipa::path(
    patch, path = "/v1/functions/{name}", operation_id = "updateFunction", tag = "functions",
    security(("key" = ["deploy"])),
    params(OfVersion, NamespaceQuery),
    request_body(content = ref("#/components/schemas/FunctionChange")),
    responses((status = 200, body = Updated), (status = 409), (status = 422), (status = 507)),
)]
pub(super) async fn update(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    path: PathName,
    asked: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Bytes,
) -> Result<Json<Updated>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let Target { name, which } = Target::from_path(path)?;
    let mut changes: Map<String, Value> = json::parse(&body)?;
    let is_enabled = match changes.remove("enabled") {
        None => None,
        Some(Value::Bool(is_enabled)) => Some(is_enabled),
        Some(_) => return Err(ApiError::invalid_config("`enabled`: expected true or false")),
    };
    if changes.is_empty() && is_enabled.is_none() {
        return Err(ApiError::invalid_config("the body names nothing to change"));
    }
    if let Some(is_enabled) = is_enabled {
        // With other changes, these come after it.
        audit::does(if is_enabled { "enable" } else { "disable" });
    }
    let of = Of { namespace, name, which };
    let origin = origin_of(&credential);
    let app = Arc::clone(&state.app);
    let (of, change) = blocking(move || {
        // Checked before anything changes.
        let change = if changes.is_empty() { None } else { Some(of.change(&app, changes, origin)?) };
        if let Some(is_enabled) = is_enabled
            && !app.platform.registry.set_enabled(&of.namespace, &of.name, is_enabled)?
        {
            return Err(ApiError::function_not_found(of.name.as_str(), &Which::Live));
        }
        Ok((of, change))
    })
    .await?;
    match change {
        None => of.answer(&state.app, is_enabled == Some(true)).await,
        Some(change) => change.make(&state.app).await,
    }
}

/// What a request is about.
struct Of {
    namespace: Namespace,
    name: FunctionName,
    which: Which,
}

/// A version to be made from another one.
struct Change {
    before: Arc<FunctionVersion>,
    update: deploy::Update,
}

impl Of {
    /// The version that changes begin from: the newest one unless the path names another. Blocks.
    fn before(&self, app: &App) -> Result<Arc<FunctionVersion>, ApiError> {
        let registry = &app.platform.registry;
        let number = match &self.which {
            Which::Live => None,
            which => registry.number_of(&self.namespace, &self.name, which)?,
        };
        let missing = || ApiError::function_not_found(self.name.as_str(), &self.which);
        if number.is_none() && self.which != Which::Live {
            return Err(missing());
        }
        registry.function(&self.namespace, &self.name, number)?.ok_or_else(missing)
    }

    fn change(&self, app: &App, mut changes: Map<String, Value>, origin: Origin) -> Result<Change, ApiError> {
        let before = self.before(app)?;
        for (key, why) in [
            ("name", "the path names the function"),
            ("namespace", "the query names it"),
            ("migrations", "a deploy runs them, or POST /v1/db/migrations"),
        ] {
            if changes.contains_key(key) {
                return Err(ApiError::invalid_config(format!("`{key}`: {why}")));
            }
        }
        if let Some(env) = changes.get_mut("env_vars") {
            merge(env, &before);
        }
        let mut settings = Settings::default();
        for (key, value) in &changes {
            settings.set(key, &Given::Json(value))?;
        }
        let (triggers, alias, source) = settings.take_rest();
        let settings = settings.after(&VersionSettings::from(&*before))?;
        let origin = Origin { source, updated_from: Some(before.version), ..origin };
        Ok(Change { update: deploy::Update { settings, triggers, alias, origin }, before })
    }

    async fn answer(self, app: &Arc<App>, is_enabled: bool) -> Result<Json<Updated>, ApiError> {
        let app = Arc::clone(app);
        blocking(move || {
            let found = app.platform.registry.find(&self.namespace, &self.name, &Which::Live)?;
            let missing = || ApiError::function_not_found(self.name.as_str(), &Which::Live);
            let function = found.ok_or_else(missing)?.function;
            let word = if is_enabled { "enabled" } else { "disabled" };
            let message = format!("function {:?} {word}", self.name.as_str());
            let live = function.version;
            Ok(Json(Updated {
                message,
                function: FunctionObject::new(&function, &app.platform.start_notes),
                live,
                warnings: Vec::new(),
            }))
        })
        .await
    }
}

impl Change {
    async fn make(self, app: &Arc<App>) -> Result<Json<Updated>, ApiError> {
        let made = deploy::update(Arc::clone(&app.platform), self.before, self.update).await?;
        let (app, name, version) = (Arc::clone(app), made.function.name.clone(), made.function.version);
        let mut warnings: Vec<String> =
            made.near.iter().map(orama_platform::quotas::Usage::warning).collect();
        warnings.extend(not_live(version, made.live, made.is_spread));
        blocking(move || {
            let message = format!("function {:?} updated as version {version}", name.as_str());
            let function = FunctionObject::new(&made.function, &app.platform.start_notes);
            Ok(Json(Updated { message, function, live: made.live, warnings }))
        })
        .await
    }
}

/// Makes changes of variables the whole environment: null removes one, and what is not named stays.
fn merge(changes: &mut Value, before: &FunctionVersion) {
    let Value::Object(changes) = changes else { return };
    for (name, value) in &before.env {
        changes.entry(name.as_str()).or_insert_with(|| Value::String(value.clone()));
    }
    changes.retain(|_, value| !value.is_null());
}

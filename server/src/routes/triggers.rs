//! Triggers of a function: add, list, pause and resume, fire, delete.

use super::functions::rfc3339;
use super::openapi::{OfFunction, OfFunctionPart};
use super::page::PageQuery;
use super::target::{NamespaceQuery, PathName, Target, query};
use super::{State as AppState, blocking, json, pubsub};
use crate::error::ApiError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use orama_platform::audit;
use orama_platform::auth::{Action, Credential};
use orama_platform::events::{DEFAULT_TIMEZONE, Schedule, ScheduleState, check_topic, is_pattern, matches};
use orama_platform::limits::{PATTERNS_MAX, TRIGGERS_MAX};
use orama_platform::registry::{AddedTrigger, Source, Trigger, Which};
use orama_runtime::limits::EVENT_MAX_BYTES;
use orama_runtime::names::FunctionName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;
/// A function's name and an id.
pub(super) type PathPair = Result<Path<(String, String)>, PathRejection>;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTrigger<'a> {
    /// Either this or a schedule.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    topic: Option<&'a RawValue>,
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    cron_expression: Option<&'a RawValue>,
    /// Of the schedule; UTC unless given.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    timezone: Option<&'a RawValue>,
}

/// The topic in a body.
///
/// # Errors
/// 400 with the rule.
pub(super) fn topic(raw: &RawValue) -> Result<String, ApiError> {
    let topic = json::text("topic", raw)?;
    check_topic(&topic).map_err(|error| ApiError::bad_request("INVALID_TOPIC", error.to_string()))?;
    Ok(topic)
}

/// What fires a trigger: either a topic or a schedule, which may have a time zone.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn source(
    topic: Option<&str>,
    schedule: Option<&str>,
    timezone: Option<&str>,
) -> Result<Source, String> {
    match (topic, schedule) {
        (Some(topic), None) if timezone.is_none() => {
            check_topic(topic).map_err(|error| error.to_string())?;
            Ok(Source::Topic(topic.to_owned()))
        }
        (None, Some(expression)) => {
            let timezone = timezone.unwrap_or(DEFAULT_TIMEZONE);
            Schedule::new(expression, timezone).map_err(|error| error.to_string())?;
            Ok(Source::Schedule { expression: expression.to_owned(), timezone: timezone.to_owned() })
        }
        (Some(_), Some(_)) => Err("it has a topic and a schedule; make two triggers of it".to_owned()),
        (Some(_), None) => Err("a topic has no timezone".to_owned()),
        (None, None) => Err("it needs a topic or a schedule".to_owned()),
    }
}

/// The function's name and the id of a path.
///
/// # Errors
/// 400 for an invalid name or id.
pub(super) fn pair(path: PathPair) -> Result<(FunctionName, String), ApiError> {
    let Path((name, id)) = path.map_err(|e| ApiError::bad_request("INVALID_NAME", e.body_text()))?;
    Ok((Target::parse(&name)?.without_version()?, id))
}

fn not_found(name: &FunctionName) -> ApiError {
    let message = format!("function {:?} has no trigger with this id in this namespace", name.as_str());
    ApiError::new(StatusCode::NOT_FOUND, "TRIGGER_NOT_FOUND", message)
}

/// What fires a trigger, as answers have it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = TriggerSource)]
enum SourceObject {
    Topic { topic: String },
    Schedule { cron_expression: String, timezone: String },
}

impl From<Source> for SourceObject {
    fn from(source: Source) -> Self {
        match source {
            Source::Topic(topic) => Self::Topic { topic },
            Source::Schedule { expression, timezone } => {
                Self::Schedule { cron_expression: expression, timezone }
            }
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AddedTrigger)]
pub(super) struct Added {
    trigger_id: String,
    function: String,
    #[serde(flatten)]
    source: SourceObject,
}

/// Adds a trigger: 201 for a new one, 200 if it exists.
#[utoipa::path(
    post, path = "/v1/functions/{name}/triggers", operation_id = "addTrigger", tag = "events",
    security(("key" = ["deploy"])),
    params(OfFunction, NamespaceQuery),
    request_body = NewTrigger,
    responses((status = 200, body = Added, description = "The function has this trigger already."), (status = 201, body = Added), (status = 409)),
)]
pub(super) async fn add(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Asked,
    body: Bytes,
) -> Result<(StatusCode, Json<Added>), ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let registry = state.app.platform.registry.clone();
    blocking(move || {
        // To find that a schedule is never due takes tens of milliseconds.
        let source = given(&body)?;
        audit::is_about(&match &source {
            Source::Topic(topic) => format!("{name} {topic}"),
            Source::Schedule { expression, timezone } => format!("{name} {expression} {timezone}"),
        });
        let added = registry.add_trigger(&namespace, &name, &source)?;
        let (status, trigger) = match added {
            AddedTrigger::New(trigger) => (StatusCode::CREATED, trigger),
            AddedTrigger::Known(trigger) => (StatusCode::OK, trigger),
            AddedTrigger::NoFunction => return Err(ApiError::function_not_found(name.as_str(), &Which::Live)),
            AddedTrigger::TooMany => {
                let message =
                    format!("function {:?} has {TRIGGERS_MAX} triggers, which is the maximum; delete triggers that are not used", name.as_str());
                return Err(ApiError::new(StatusCode::CONFLICT, "TOO_MANY_TRIGGERS", message));
            }
            AddedTrigger::TooManyPatterns => {
                let message = format!(
                    "the namespace has {PATTERNS_MAX} triggers on patterns of topics, which is the maximum"
                );
                return Err(ApiError::new(StatusCode::CONFLICT, "TOO_MANY_TRIGGERS", message));
            }
        };
        let Trigger { id, function, source, .. } = trigger;
        Ok((status, Json(Added { trigger_id: id, function: function.to_string(), source: source.into() })))
    })
    .await
}

/// What fires a new trigger, from the body of a request.
fn given(body: &[u8]) -> Result<Source, ApiError> {
    let new: NewTrigger<'_> = json::parse(body)?;
    if let (Some(raw), None, None) = (new.topic, new.cron_expression, new.timezone) {
        return Ok(Source::Topic(topic(raw)?));
    }
    let text = |field: &str, raw: Option<&RawValue>| raw.map(|raw| json::text(field, raw)).transpose();
    let topic = text("topic", new.topic)?;
    let expression = text("cron_expression", new.cron_expression)?;
    let timezone = text("timezone", new.timezone)?;
    let source = source(topic.as_deref(), expression.as_deref(), timezone.as_deref());
    source.map_err(|why| ApiError::bad_request("INVALID_TRIGGER", format!("the trigger is not valid: {why}")))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Trigger)]
pub(super) struct TriggerObject {
    id: String,
    /// `pubsub` or `cron`.
    kind: &'static str,
    #[serde(flatten)]
    of: TriggerOf,
    enabled: bool,
}

/// What fires a trigger; of a schedule with its runs.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum TriggerOf {
    Topic {
        topic: String,
    },
    Schedule {
        cron_expression: String,
        timezone: String,
        /// Null for one that is paused, or never due again.
        #[schema(required = true, format = DateTime)]
        next_run_at: Option<String>,
        #[schema(required = true, format = DateTime)]
        last_run_at: Option<String>,
        /// `success` or `error`.
        #[schema(required = true)]
        last_status: Option<String>,
        skipped_slots: u64,
    },
}

impl TriggerObject {
    fn new(trigger: Trigger, states: &HashMap<String, ScheduleState>) -> Self {
        let Trigger { id, source, is_enabled, since_ms, .. } = trigger;
        let (kind, of) = match source {
            Source::Topic(topic) => ("pubsub", TriggerOf::Topic { topic }),
            Source::Schedule { expression, timezone } => {
                let state = states.get(&id);
                let known = state.map(|state| state.next_ms).filter(|next_ms| *next_ms > since_ms);
                // The clock has not seen a new one yet.
                let first = || Schedule::new(&expression, &timezone).ok()?.next_ms(since_ms);
                let next_ms = known.or_else(first).filter(|next_ms| is_enabled && *next_ms < i64::MAX);
                let of = TriggerOf::Schedule {
                    cron_expression: expression,
                    timezone,
                    next_run_at: next_ms.map(rfc3339),
                    last_run_at: state.and_then(|state| state.last_run_ms).map(rfc3339),
                    last_status: state.and_then(|state| state.last_status.clone()),
                    skipped_slots: state.map_or(0, |state| state.skipped),
                };
                ("cron", of)
            }
        };
        Self { id, kind, of, enabled: is_enabled }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Triggers {
    triggers: Vec<TriggerObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the triggers of a function, oldest first.
#[utoipa::path(
    get, path = "/v1/functions/{name}/triggers", operation_id = "listTriggers", tag = "events",
    security(("key" = ["deploy"])),
    params(OfFunction, PageQuery),
    responses((status = 200, body = Triggers)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathName,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Triggers>, ApiError> {
    let asked = query(asked)?;
    let namespace = state.namespace(&credential, Action::Read, asked.namespace.as_deref()).await?;
    let name = Target::from_path(path)?.without_version()?;
    let page = asked.page()?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        let found = app.platform.registry.triggers(&namespace, &name)?;
        let found = found.ok_or_else(|| ApiError::function_not_found(name.as_str(), &Which::Live))?;
        let states = app.platform.events.schedules(&namespace, &name)?;
        let (found, next) = page.of_all(found, |trigger| trigger.id.clone())?;
        let triggers: Vec<_> =
            found.into_iter().map(|trigger| TriggerObject::new(trigger, &states)).collect();
        Ok(Json(Triggers { count: triggers.len(), triggers, next }))
    })
    .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TriggerChange)]
struct Change {
    enabled: bool,
}

/// Pauses or resumes a trigger.
#[utoipa::path(
    patch, path = "/v1/functions/{name}/triggers/{id}", operation_id = "enableTrigger", tag = "events",
    security(("key" = ["deploy"])),
    params(OfFunctionPart, NamespaceQuery),
    request_body = Change,
    responses((status = 200, body = TriggerObject)),
)]
pub(super) async fn enable(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
    body: Bytes,
) -> Result<Json<TriggerObject>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, id) = pair(path)?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        if app.platform.registry.trigger(&namespace, &name, &id)?.is_none() {
            return Err(not_found(&name));
        }
        let Change { enabled } = json::parse(&body)?;
        audit::does(if enabled { "trigger.resume" } else { "trigger.pause" });
        let changed = app.platform.registry.enable_trigger(&namespace, &name, &id, enabled)?;
        let trigger = changed.ok_or_else(|| not_found(&name))?;
        let states = app.platform.events.schedules(&namespace, &name)?;
        Ok(Json(TriggerObject::new(trigger, &states)))
    })
    .await
}

/// What a topic's trigger is fired with. All may be left out.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
struct Firing<'a> {
    /// The message's topic, needed where the trigger is on a pattern.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    topic: Option<&'a RawValue>,
    /// The message's data; null unless given.
    #[serde(borrow, default)]
    #[schema(value_type = Value)]
    data: Option<&'a RawValue>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Fired {
    message_id: String,
    trigger_id: String,
}

/// Fires a trigger now, also one that is paused.
#[utoipa::path(
    post, path = "/v1/functions/{name}/triggers/{id}/fire", operation_id = "fireTrigger", tag = "events",
    security(("key" = ["deploy"])),
    params(OfFunctionPart, NamespaceQuery),
    request_body = Option<Firing>,
    responses((status = 202, body = Fired)),
)]
pub(super) async fn fire(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
    body: Bytes,
) -> Result<(StatusCode, Json<Fired>), ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, id) = pair(path)?;
    let firing: Firing<'_> = if body.is_empty() { Firing::default() } else { json::parse(&body)? };
    let given_topic = firing.topic.map(topic).transpose()?;
    let data = firing.data.map_or_else(|| "null".to_owned(), |data| data.get().to_owned());
    if data.len() > EVENT_MAX_BYTES {
        return Err(ApiError::too_large("the data of a message", EVENT_MAX_BYTES));
    }
    let (registry, of, asked_id) = (state.app.platform.registry.clone(), namespace.clone(), id.clone());
    let trigger =
        blocking(move || registry.trigger(&of, &name, &asked_id)?.ok_or_else(|| not_found(&name))).await?;
    let topic = fired_topic(&trigger.source, given_topic)?;
    let fired = state.app.platform.events.fire(namespace, trigger, topic, data).await;
    let message_id = fired.map_err(pubsub::refused)?;
    Ok((StatusCode::ACCEPTED, Json(Fired { message_id, trigger_id: id })))
}

/// The topic that a fired trigger tells its function.
fn fired_topic(source: &Source, given: Option<String>) -> Result<String, ApiError> {
    let refused = |message: &str| Err(ApiError::bad_request("INVALID_TOPIC", message));
    match (source, given) {
        (Source::Schedule { .. }, None) => Ok(String::new()),
        (Source::Schedule { .. }, Some(_)) => refused("a schedule has no topic; leave it out"),
        (Source::Topic(of), Some(topic)) if *of == topic || (is_pattern(of) && matches(of, &topic)) => {
            Ok(topic)
        }
        (Source::Topic(_), Some(_)) => refused("the trigger is not on this topic"),
        (Source::Topic(of), None) if is_pattern(of) => {
            refused("the trigger is on a pattern; say which topic the message has")
        }
        (Source::Topic(of), None) => Ok(of.clone()),
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = TriggerDeleted)]
pub(super) struct Deleted {
    message: String,
    trigger_id: String,
}

/// Deletes a trigger and its waiting jobs.
#[utoipa::path(
    delete, path = "/v1/functions/{name}/triggers/{id}", operation_id = "deleteTrigger", tag = "events",
    security(("key" = ["deploy"])),
    params(OfFunctionPart, NamespaceQuery),
    responses((status = 200, body = Deleted)),
)]
pub(super) async fn delete(
    State(state): State<AppState>,
    Extension(credential): Caller,
    path: PathPair,
    asked: Asked,
) -> Result<Json<Deleted>, ApiError> {
    let namespace = state.namespace(&credential, Action::Deploy, query(asked)?.namespace.as_deref()).await?;
    let (name, trigger_id) = pair(path)?;
    let app = Arc::clone(&state.app);
    blocking(move || {
        let deleted = app.platform.registry.delete_trigger(&namespace, &name, &trigger_id);
        if !deleted? {
            return Err(not_found(&name));
        }
        // The trigger is deleted all the same, and its waiting jobs still run.
        if let Err(error) = app.platform.events.remove_trigger(&namespace, &trigger_id) {
            tracing::error!(%error, %namespace, trigger_id, "the waiting jobs of a deleted trigger could not be removed");
        }
        Ok(Json(Deleted { message: format!("trigger {trigger_id:?} deleted"), trigger_id }))
    })
    .await
}

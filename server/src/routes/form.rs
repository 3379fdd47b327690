//! Parses and checks the deploy form: all fields and all keys of `metadata`. Errors name the field or the key.

use super::blocking;
use super::openapi::{self as schemas, TriggerOfFile};
use super::triggers::source;
use crate::error::ApiError;
use crate::limits::CONTROL_BODY_MAX_BYTES;
use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use orama_platform::limits::TRIGGERS_MAX;
use orama_platform::migrations::{self, Migration};
use orama_platform::registry::{Source, SourceTold, VersionSettings};
use orama_runtime::function::StartMode;
use orama_runtime::limits::{
    CONCURRENCY, ENV_MAX_BYTES, ENV_MAX_ENTRIES, KEEP_VERSIONS, MAX_BODY_MB, MEMORY_MB, RETRY_COUNT,
    RETRY_DELAY_SECONDS, Setting, TIMEOUT_SECONDS, WASM_MAX_BYTES,
};
use orama_runtime::names::{AliasName, FunctionName};
use orama_runtime::web::{Cors, CorsFields, WebSettings};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// Function names that are reserved because they are paths of the API.
pub(super) const RESERVED_NAMES: [&str; 1] = ["secrets"];

/// Bytes of each text about the sources.
const SOURCE_TEXT_MAX_BYTES: usize = 256;

/// A checked deploy form.
pub(super) struct DeployForm {
    pub(super) wasm: Bytes,
    pub(super) name: FunctionName,
    /// As sent. The caller checks whether the credential may choose it.
    pub(super) namespace: Option<String>,
    pub(super) settings: Settings,
    /// `None` where the form says nothing of triggers.
    pub(super) triggers: Option<Vec<Source>>,
    /// An alias that is to stand for the version.
    pub(super) alias: Option<AliasName>,
    /// What the client told of the sources.
    pub(super) source: Option<SourceTold>,
    /// Migrations that are to run before, in their order.
    pub(super) migrations: Vec<Migration>,
}

/// The values, from fields and from keys of `metadata`.
#[derive(Debug, Default, ToSchema)]
#[schema(as = FunctionSettings, description = "What a deploy says of a version.")]
pub(super) struct Settings {
    #[schema(schema_with = schemas::name)]
    name: Option<FunctionName>,
    /// The credential's own unless an operator names another one.
    namespace: Option<String>,
    /// Whether everybody may invoke it.
    is_public: Option<bool>,
    #[schema(schema_with = schemas::memory_mb)]
    memory_limit_mb: Option<u32>,
    #[schema(schema_with = schemas::timeout_seconds)]
    timeout_seconds: Option<u32>,
    #[schema(schema_with = schemas::retry_count)]
    retry_count: Option<u32>,
    #[schema(schema_with = schemas::retry_delay_seconds)]
    retry_delay_seconds: Option<u32>,
    start: Option<StartMode>,
    #[schema(schema_with = schemas::concurrency)]
    concurrency: Option<u32>,
    #[schema(schema_with = schemas::keep_versions)]
    keep_versions: Option<u32>,
    /// Whether only functions of its namespace, triggers and admins may run it.
    internal: Option<bool>,
    /// Null is none.
    #[schema(value_type = Option<CorsFields>)]
    cors: Option<Option<Arc<Cors>>>,
    #[schema(schema_with = schemas::max_body_mb)]
    max_body: Option<u32>,
    /// At most 128, and 64 KiB in total.
    env_vars: Option<BTreeMap<String, String>>,
    #[schema(value_type = Option<Vec<TriggerOfFile>>, max_items = 100)]
    triggers: Option<Vec<Source>>,
    /// An alias that is to stand for the version.
    #[schema(schema_with = schemas::name)]
    alias: Option<AliasName>,
    source: Option<SourceTold>,
    migrations: Option<Vec<Migration>>,
}

/// A value: text from a field, or any JSON from `metadata`.
pub(super) enum Given<'a> {
    Field(&'a str),
    Json(&'a Value),
}

impl Given<'_> {
    fn text(&self, key: &str) -> Result<&str, ApiError> {
        match self {
            Self::Field(text) => Ok(text),
            Self::Json(Value::String(text)) => Ok(text),
            Self::Json(_) => Err(expected(key, "a text")),
        }
    }

    fn boolean(&self, key: &str) -> Result<bool, ApiError> {
        match self {
            Self::Field("true") | Self::Json(Value::Bool(true)) => Ok(true),
            Self::Field("false") | Self::Json(Value::Bool(false)) => Ok(false),
            _ => Err(expected(key, "true or false")),
        }
    }

    fn setting(&self, key: &str, setting: Setting) -> Result<u32, ApiError> {
        let number = match self {
            Self::Field(text) => text.parse().ok(),
            Self::Json(value) => value.as_i64(),
        };
        let number: i64 = number.ok_or_else(|| expected(key, "a whole number"))?;
        // The limits use the names of function.yaml.
        let setting = Setting { name: "the value", ..setting };
        setting.check(number).map_err(|message| ApiError::invalid_config(format!("`{key}`: {message}")))
    }
}

fn expected(key: &str, what: &str) -> ApiError {
    ApiError::invalid_config(format!("`{key}`: expected {what}"))
}

impl Settings {
    pub(super) fn set(&mut self, key: &str, given: &Given<'_>) -> Result<(), ApiError> {
        match key {
            "name" => self.name = Some(function_name(given.text(key)?)?),
            "namespace" => self.namespace = Some(given.text(key)?.to_owned()),
            "is_public" => self.is_public = Some(given.boolean(key)?),
            "memory_limit_mb" => self.memory_limit_mb = Some(given.setting(key, MEMORY_MB)?),
            "timeout_seconds" => self.timeout_seconds = Some(given.setting(key, TIMEOUT_SECONDS)?),
            "retry_count" => self.retry_count = Some(given.setting(key, RETRY_COUNT)?),
            "retry_delay_seconds" => {
                self.retry_delay_seconds = Some(given.setting(key, RETRY_DELAY_SECONDS)?);
            }
            "concurrency" => self.concurrency = Some(given.setting(key, CONCURRENCY)?),
            "keep_versions" => self.keep_versions = Some(given.setting(key, KEEP_VERSIONS)?),
            "alias" => self.alias = Some(alias(given.text(key)?)?),
            "internal" => self.internal = Some(given.boolean(key)?),
            "max_body" => self.max_body = Some(given.setting(key, MAX_BODY_MB)?),
            "start" => {
                let start = given.text(key)?.parse();
                let refused = |message| ApiError::invalid_config(format!("`start`: {message}"));
                self.start = Some(start.map_err(refused)?);
            }
            // Taken because existing files have it. A function may always shape its answer.
            "raw_http_response" => drop(given.boolean(key)?),
            _ => match given {
                Given::Json(value) if key == "env_vars" => self.env_vars = Some(environment(value)?),
                Given::Json(value) if key == "triggers" => self.triggers = Some(triggers(value)?),
                Given::Json(value) if key == "migrations" => self.migrations = Some(migration_list(value)?),
                Given::Json(value) if key == "source" => self.source = Some(source_told(value)?),
                Given::Json(value) if key == "cors" => self.cors = Some(cors(value)?),
                Given::Json(_) => {
                    return Err(ApiError::invalid_config(format!("`metadata` has an unknown key {key:?}")));
                }
                Given::Field(_) => {
                    return Err(ApiError::invalid_config(format!("the form has an unknown field {key:?}")));
                }
            },
        }
        Ok(())
    }

    /// A field takes precedence over `metadata`.
    fn or(self, metadata: Self) -> Self {
        Self {
            name: self.name.or(metadata.name),
            namespace: self.namespace.or(metadata.namespace),
            is_public: self.is_public.or(metadata.is_public),
            memory_limit_mb: self.memory_limit_mb.or(metadata.memory_limit_mb),
            timeout_seconds: self.timeout_seconds.or(metadata.timeout_seconds),
            retry_count: self.retry_count.or(metadata.retry_count),
            retry_delay_seconds: self.retry_delay_seconds.or(metadata.retry_delay_seconds),
            start: self.start.or(metadata.start),
            concurrency: self.concurrency.or(metadata.concurrency),
            keep_versions: self.keep_versions.or(metadata.keep_versions),
            internal: self.internal.or(metadata.internal),
            cors: self.cors.or(metadata.cors),
            max_body: self.max_body.or(metadata.max_body),
            env_vars: self.env_vars.or(metadata.env_vars),
            triggers: self.triggers.or(metadata.triggers),
            alias: self.alias.or(metadata.alias),
            source: self.source.or(metadata.source),
            migrations: self.migrations.or(metadata.migrations),
        }
    }
}

fn function_name(text: &str) -> Result<FunctionName, ApiError> {
    let refused = |message| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_NAME", message);
    if RESERVED_NAMES.contains(&text) {
        return Err(refused(format!("the function name {text:?} is reserved")));
    }
    FunctionName::new(text).map_err(|e| refused(e.to_string()))
}

pub(super) fn alias(text: &str) -> Result<AliasName, ApiError> {
    AliasName::new(text)
        .map_err(|e| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "INVALID_NAME", e.to_string()))
}

/// Parses `migrations`: a list of `{"name","sql"}`.
fn migration_list(value: &Value) -> Result<Vec<Migration>, ApiError> {
    let list: Vec<Migration> = Deserialize::deserialize(value)
        .map_err(|error: serde_json::Error| ApiError::invalid_config(format!("`migrations`: {error}")))?;
    Ok(migrations::ordered(list)?)
}

/// Parses `source`: what the client tells of the sources.
fn source_told(value: &Value) -> Result<SourceTold, ApiError> {
    let told: SourceTold = Deserialize::deserialize(value)
        .map_err(|error: serde_json::Error| ApiError::invalid_config(format!("`source`: {error}")))?;
    let texts = [("commit", &told.commit), ("branch", &told.branch), ("message", &told.message)];
    for (key, text) in texts {
        if text.as_ref().is_some_and(|text| text.len() > SOURCE_TEXT_MAX_BYTES) {
            return Err(ApiError::invalid_config(format!(
                "`source`: {key:?} may have at most {SOURCE_TEXT_MAX_BYTES} bytes"
            )));
        }
    }
    Ok(told)
}

/// Parses `env_vars`. Messages name variables and never their values, which may be secrets.
fn environment(value: &Value) -> Result<BTreeMap<String, String>, ApiError> {
    let object = value.as_object().ok_or_else(|| expected("env_vars", "an object of strings"))?;
    if object.len() > ENV_MAX_ENTRIES {
        let message = format!("`env_vars` may have at most {ENV_MAX_ENTRIES} entries, got {}", object.len());
        return Err(ApiError::invalid_config(message));
    }
    let mut env = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in object {
        let bad = |what: &str| ApiError::invalid_config(format!("`env_vars`: {name:?} {what}"));
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(bad("is not a valid name of a variable"));
        }
        let text = value.as_str().ok_or_else(|| bad("must be a string"))?;
        if text.contains('\0') {
            return Err(bad("has a zero byte in its value"));
        }
        bytes += name.len() + text.len();
        env.insert(name.clone(), text.to_owned());
    }
    if bytes > ENV_MAX_BYTES {
        let message = format!("`env_vars` may have at most {ENV_MAX_BYTES} bytes in total, got {bytes}");
        return Err(ApiError::invalid_config(message));
    }
    Ok(env)
}

/// Parses `triggers`: a list of `{"topic"}` and `{"schedule","timezone"}`.
fn triggers(value: &Value) -> Result<Vec<Source>, ApiError> {
    let list = value.as_array().ok_or_else(|| expected("triggers", "a list"))?;
    if list.len() > TRIGGERS_MAX as usize {
        let message = format!("`triggers` may have at most {TRIGGERS_MAX} entries, got {}", list.len());
        return Err(ApiError::invalid_config(message));
    }
    let mut sources = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let bad = |what: &str| ApiError::invalid_config(format!("`triggers[{index}]`: {what}"));
        let object = entry.as_object().ok_or_else(|| bad("expected an object"))?;
        let text = |key: &str| match object.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(bad(&format!("expected a text for {key:?}"))),
        };
        if let Some(unknown) =
            object.keys().find(|key| !["topic", "schedule", "timezone"].contains(&key.as_str()))
        {
            return Err(bad(&format!("unknown key {unknown:?}; the keys are topic, schedule and timezone")));
        }
        let source = source(text("topic")?, text("schedule")?, text("timezone")?).map_err(|why| bad(&why))?;
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    Ok(sources)
}

/// Parses `cors`; null is none.
fn cors(value: &Value) -> Result<Option<Arc<Cors>>, ApiError> {
    if !(value.is_object() || value.is_null()) {
        return Err(expected("cors", "an object"));
    }
    let cors: Option<Cors> = Deserialize::deserialize(value)
        .map_err(|error: serde_json::Error| ApiError::invalid_config(format!("`cors`: {error}")))?;
    Ok(cors.map(Arc::new))
}

fn metadata(text: &str) -> Result<Settings, ApiError> {
    // serde's message may repeat a value, so only the position is reported.
    let value: Value = serde_json::from_str(text).map_err(|e| {
        ApiError::invalid_config(format!("`metadata` is not JSON: line {}, column {}", e.line(), e.column()))
    })?;
    let object = value.as_object().ok_or_else(|| expected("metadata", "a JSON object"))?;
    let mut settings = Settings::default();
    for (key, value) in object {
        settings.set(key, &Given::Json(value))?;
    }
    Ok(settings)
}

impl DeployForm {
    /// Reads and checks the form.
    ///
    /// # Errors
    /// 400 if it is not a form, 413 if a part is too large, 422 with the name of a field or key that is not accepted.
    pub(super) async fn read(mut form: Multipart) -> Result<Self, ApiError> {
        let (mut wasm, mut fields, mut below) = (None, Settings::default(), Settings::default());
        let mut seen = HashSet::new();
        while let Some(field) = form.next_field().await.map_err(|e| malformed(&e))? {
            let Some(name) = field.name().map(str::to_owned) else {
                return Err(ApiError::bad_request("INVALID_FORM", "a part of the form has no name"));
            };
            if name == "wasm" {
                if wasm.replace(read(field, &name, WASM_MAX_BYTES).await?).is_some() {
                    return Err(twice(&name));
                }
                continue;
            }
            let bytes = read(field, &name, CONTROL_BODY_MAX_BYTES).await?;
            let text = std::str::from_utf8(&bytes).map_err(|_| expected(&name, "UTF-8"))?;
            if name == "metadata" {
                // To find that a schedule is never due takes tens of milliseconds.
                let text = text.to_owned();
                below = blocking(move || metadata(&text)).await?;
            } else {
                fields.set(&name, &Given::Field(text))?;
            }
            // Only known names, so the map stays small.
            if seen.contains(&name) {
                return Err(twice(&name));
            }
            seen.insert(name);
        }
        let missing = |name: &str| ApiError::invalid_config(format!("the form lacks the field `{name}`"));
        let wasm = wasm.ok_or_else(|| missing("wasm"))?;
        let mut settings = fields.or(below);
        Ok(Self {
            wasm,
            name: settings.name.take().ok_or_else(|| missing("name"))?,
            namespace: settings.namespace.take(),
            triggers: settings.triggers.take(),
            alias: settings.alias.take(),
            source: settings.source.take(),
            migrations: settings.migrations.take().unwrap_or_default(),
            settings,
        })
    }
}

/// What of a change belongs to the new version's place and not to its settings.
type Rest = (Option<Vec<Source>>, Option<AliasName>, Option<SourceTold>);

impl Settings {
    /// Takes triggers, alias and source.
    pub(super) fn take_rest(&mut self) -> Rest {
        (self.triggers.take(), self.alias.take(), self.source.take())
    }

    /// All settings of a version: what is not given stays as it was before.
    ///
    /// # Errors
    /// 422 for a function that would be internal and public.
    pub(super) fn after(self, before: &VersionSettings) -> Result<VersionSettings, ApiError> {
        let is_public = self.is_public.unwrap_or(before.is_public);
        let web = WebSettings {
            is_internal: self.internal.unwrap_or(before.web.is_internal),
            cors: self.cors.unwrap_or_else(|| before.web.cors.clone()),
            max_body_mb: self.max_body.unwrap_or(before.web.max_body_mb),
        };
        web.check(is_public).map_err(|error| ApiError::invalid_config(format!("`internal`: {error}")))?;
        Ok(VersionSettings {
            is_public,
            memory_limit_mb: self.memory_limit_mb.unwrap_or(before.memory_limit_mb),
            timeout_seconds: self.timeout_seconds.unwrap_or(before.timeout_seconds),
            retry_count: self.retry_count.unwrap_or(before.retry_count),
            retry_delay_seconds: self.retry_delay_seconds.unwrap_or(before.retry_delay_seconds),
            start: self.start.unwrap_or(before.start),
            concurrency: self.concurrency.unwrap_or(before.concurrency),
            keep_versions: self.keep_versions.unwrap_or(before.keep_versions),
            web,
            env: self.env_vars.unwrap_or_else(|| before.env.clone()),
        })
    }
}

fn twice(name: &str) -> ApiError {
    ApiError::invalid_config(format!("the form has the field `{name}` more than once"))
}

async fn read(mut field: Field<'_>, name: &str, limit_bytes: usize) -> Result<Bytes, ApiError> {
    // The request is in memory already, so a part usually arrives as one chunk, which is not copied.
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(chunk) = field.chunk().await.map_err(|e| malformed(&e))? {
        if whole.len() + pieces.len() + chunk.len() > limit_bytes {
            return Err(ApiError::too_large(&format!("the field `{name}`"), limit_bytes));
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = chunk;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&chunk);
        }
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

fn malformed(e: &MultipartError) -> ApiError {
    if e.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large("a deploy", crate::limits::DEPLOY_MAX_BYTES);
    }
    ApiError::bad_request("INVALID_FORM", format!("the multipart form is malformed: {}", e.body_text()))
}

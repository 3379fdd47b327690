//! Parameters in paths, and the schemas of parameters with limits. Handlers take them as text, so that errors can name what is
//! wrong: these types only describe.

#![expect(dead_code, reason = "types that describe and are not made")]

use crate::limits::{DEAD_LETTERS_LIMIT, LIST_LIMIT, LOGS_LIMIT};
use orama_runtime::limits::{
    CONCURRENCY, KEEP_VERSIONS, MAX_BODY_MB, MEMORY_MB, RETRY_COUNT, RETRY_DELAY_SECONDS, Setting,
    TIMEOUT_SECONDS,
};
use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

const NAME: &str = "^[a-zA-Z][a-zA-Z0-9_-]{0,62}$";
const NAME_AND_VERSION: &str =
    "^[a-zA-Z][a-zA-Z0-9_-]{0,62}(@([1-9][0-9]{0,9}|[a-zA-Z][a-zA-Z0-9_-]{0,62}))?$";

fn text(pattern: &str, description: Option<&str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(description).build()
}

fn number(Setting { min, max, unit, .. }: Setting) -> ObjectBuilder {
    let builder = ObjectBuilder::new().schema_type(Type::Integer);
    builder.minimum(Some(min)).maximum(Some(max)).description(Some(format!("Number of {unit}.")))
}

/// The name of a function, a namespace, a secret or an alias.
pub(in crate::routes) fn name() -> Object {
    text(NAME, None)
}

/// Schemas of names in paths.
macro_rules! names {
    ($($name:ident = $pattern:ident, $description:literal;)*) => {
        $(fn $name() -> Object {
            text($pattern, Some($description))
        })*
    };
}

names! {
    function = NAME, "The function's name.";
    version = NAME_AND_VERSION, "The function's name, alone or with a version or an alias: `hello`, `hello@2`, `hello@canary`.";
    alias = NAME, "The alias.";
    secret = NAME, "The secret's name.";
    namespace = NAME, "The namespace.";
}

/// Schemas of numbers, each with the limits of a setting. Those in a query have its default.
macro_rules! numbers {
    ($($name:ident = $setting:expr;)*) => {
        $(pub(in crate::routes) fn $name() -> Object {
            number($setting).build()
        })*
    };
}

numbers! {
    memory_mb = MEMORY_MB;
    timeout_seconds = TIMEOUT_SECONDS;
    retry_count = RETRY_COUNT;
    retry_delay_seconds = RETRY_DELAY_SECONDS;
    concurrency = CONCURRENCY;
    keep_versions = KEEP_VERSIONS;
    max_body_mb = MAX_BODY_MB;
}

pub(in crate::routes) fn list_limit() -> Object {
    number(LIST_LIMIT).default(Some(json!(LIST_LIMIT.default))).build()
}

pub(in crate::routes) fn logs_limit() -> Object {
    number(LOGS_LIMIT).default(Some(json!(LOGS_LIMIT.default))).build()
}

pub(in crate::routes) fn dead_letters_limit() -> Object {
    number(DEAD_LETTERS_LIMIT).default(Some(json!(DEAD_LETTERS_LIMIT.default))).build()
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfFunction {
    #[param(schema_with = function)]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfVersion {
    #[param(schema_with = version)]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfAlias {
    #[param(schema_with = function)]
    name: String,
    #[param(schema_with = alias)]
    alias: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfFunctionPart {
    #[param(schema_with = function)]
    name: String,
    /// The id of the trigger or dead letter.
    id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfSecret {
    #[param(schema_with = secret)]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfNamespace {
    #[param(schema_with = namespace)]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::routes) struct OfKey {
    /// The key's id.
    id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct InNamespace {
    #[param(schema_with = namespace)]
    namespace: String,
    #[param(schema_with = version)]
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Below {
    #[param(schema_with = namespace)]
    namespace: String,
    #[param(schema_with = version)]
    name: String,
    /// The function's own path, which may have slashes.
    path: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WebSocketQuery {
    /// The function's namespace: the credential's own unless given.
    namespace: Option<String>,
    /// A credential, for clients that cannot set headers. Proxies may log it.
    token: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::routes) struct PageOfAllQuery {
    #[param(schema_with = list_limit)]
    limit: Option<String>,
    /// The `next` of the previous page.
    after: Option<String>,
}

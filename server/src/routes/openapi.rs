//! `GET /openapi.json`: the API's description in OpenAPI 3.1, made from the routes' own types.
//!
//! A route is described where it is: by `#[utoipa::path]` on its handler, which [`Document`] lists, and by `ToSchema` on what it
//! takes and answers. What all routes have in common, such as their refusals, [`complete`] adds.

use super::console::{Asset, answer, tag};
use super::page::NoQuery;
use super::{
    aliases, audit, db, dead_letters, deploy, form, functions, keys, logs, namespace_logs, namespaces,
    operations, pubsub, quotas, rates, secrets, stats, traffic, triggers, update, whoami,
};
use crate::error;
use crate::worker::Wrapped;
use axum::response::Response;
use http::HeaderMap;
use std::sync::LazyLock;
use utoipa::OpenApi;

mod complete;
pub(super) mod cores;
mod parameters;
mod refusals;
mod shapes;

pub(super) use parameters::*;
pub(super) use shapes::*;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Orama Functions",
        description = "Deploys and invokes functions, and manages what belongs to them. Send an API key or a token as \
                       `Authorization: Bearer`, or as `X-API-Key`. Each answer but that of `/health` has `X-Request-ID`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact()
    ),
    servers((url = "/", description = "The node that serves this description.")),
    paths(
        functions::list, deploy::deploy, functions::get, update::update, functions::delete, functions::versions,
        aliases::list, aliases::get, aliases::set, aliases::delete, traffic::get, traffic::set, traffic::end,
        cores::invoke, cores::invoke_in, cores::web, cores::web_below, cores::websocket, logs::logs,
        namespace_logs::logs, stats::of_one, stats::of_all, audit::list,
        triggers::list, triggers::add, triggers::enable, triggers::fire, triggers::delete, pubsub::publish,
        dead_letters::list, dead_letters::replay_all, dead_letters::replay_one, dead_letters::delete,
        db::run, db::migrate, db::migrations,
        secrets::list, secrets::set, secrets::delete, secrets::rotate_key,
        namespaces::list, namespaces::create, namespaces::delete,
        quotas::get, quotas::set, quotas::usage, rates::get, rates::set,
        keys::list, keys::create, keys::delete, whoami::whoami,
        cores::health, operations::ready, operations::metrics, document
    ),
    components(schemas(error::Body, form::Settings, Wrapped)),
    tags(
        (name = "functions", description = "Functions, and deploys of new versions."),
        (name = "versions", description = "Versions, aliases of them, and how calls are spread over them."),
        (name = "invoke", description = "Runs of functions."),
        (name = "logs", description = "Past invocations, and what they logged."),
        (name = "audit", description = "Who changed what."),
        (name = "events", description = "Triggers and messages."),
        (name = "dead letters", description = "Events that a function failed to handle."),
        (name = "database", description = "The namespace's database."),
        (name = "secrets", description = "Secrets, which only functions read."),
        (name = "namespaces", description = "Namespaces, their quotas and rates."),
        (name = "keys", description = "API keys."),
        (name = "node", description = "The node itself.")
    )
)]
struct Document;

/// The description as text, and its entity tag.
static DESCRIPTION: LazyLock<(String, String)> = LazyLock::new(|| {
    let text = complete::completed(&Document::openapi()).to_string();
    let tag = tag(&text);
    (text, tag)
});

/// The API's description in OpenAPI 3.1, as `/openapi.json` has it.
#[must_use]
pub fn description() -> &'static str {
    &DESCRIPTION.0
}

/// The API's description in OpenAPI 3.1.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "describe", tag = "node",
    responses((status = 200, body = Object), (status = 304, description = "The client has it already.")),
)]
pub(super) async fn document(_: NoQuery, headers: HeaderMap) -> Response {
    let asset = Asset { content_type: "application/json", content: description() };
    answer(asset, &DESCRIPTION.1, &headers)
}

#[cfg(test)]
mod tests;

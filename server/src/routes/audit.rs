//! The audit trail: which requests change something, and `GET /v1/audit`.

use super::deploy::origin_of;
use super::functions::rfc3339;
use super::openapi::list_limit;
use super::page::{Page, PageQuery, unknown_cursor};
use super::target::query;
use super::{State as AppState, blocking};
use crate::error::ApiError;
use crate::since;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Extension, Json};
use http::{Extensions, Method};
use jiff::Timestamp;
use orama_platform::audit::{self, Change, Record, Who};
use orama_platform::auth::{Action, Credential};
use orama_platform::registry::{AuditFilter, AuditOf, Registry};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// The address of a request's client, which the core puts among the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Characters of an id of a record.
const ID_LEN: usize = 36;

/// What a request changes, in a word, and of what; `None` where it changes nothing of the control plane. What has the name of a
/// secret in its path is told only after that was checked, as it may be the value.
///
/// Messages, jobs and a database's rows are data: what is published, fired, replayed or queried is not recorded.
fn change_of(method: &Method, path: &str) -> Option<(&'static str, String)> {
    let segments: Vec<_> =
        path.strip_prefix("/v1/")?.split('/').map(|s| percent_decode_str(s).decode_utf8_lossy()).collect();
    let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    let is = |wanted: &Method| method == wanted;
    let (action, target) = match segments.as_slice() {
        ["functions"] if is(&Method::POST) => ("deploy", String::new()),
        ["functions", "secrets"] if is(&Method::PUT) => ("secret.set", String::new()),
        ["functions", "secrets", _] if is(&Method::DELETE) => ("secret.delete", String::new()),
        ["functions", name] if is(&Method::PATCH) => ("update", (*name).to_owned()),
        ["functions", name] if is(&Method::DELETE) => ("delete", (*name).to_owned()),
        ["functions", name, "aliases", alias] if is(&Method::PUT) => ("alias.set", format!("{name}@{alias}")),
        ["functions", name, "aliases", alias] if is(&Method::DELETE) => {
            ("alias.delete", format!("{name}@{alias}"))
        }
        ["functions", name, "traffic"] if is(&Method::PUT) => ("traffic.set", (*name).to_owned()),
        ["functions", name, "traffic"] if is(&Method::DELETE) => ("traffic.end", (*name).to_owned()),
        ["functions", name, "triggers"] if is(&Method::POST) => ("trigger.add", (*name).to_owned()),
        ["functions", name, "triggers", id] if is(&Method::PATCH) => {
            ("trigger.change", format!("{name} {id}"))
        }
        ["functions", name, "triggers", id] if is(&Method::DELETE) => {
            ("trigger.delete", format!("{name} {id}"))
        }
        ["secrets", "rotate-key"] if is(&Method::POST) => ("master-key.rotate", String::new()),
        ["namespaces"] if is(&Method::POST) => ("namespace.create", String::new()),
        ["namespaces", name] if is(&Method::DELETE) => ("namespace.delete", (*name).to_owned()),
        ["namespaces", name, "quotas"] if is(&Method::PUT) => ("quotas.set", (*name).to_owned()),
        ["namespaces", name, "rates"] if is(&Method::PUT) => ("rates.set", (*name).to_owned()),
        ["keys"] if is(&Method::POST) => ("key.create", String::new()),
        ["keys", id] if is(&Method::DELETE) => ("key.delete", (*id).to_owned()),
        _ => return None,
    };
    Some((action, target))
}

/// The change that a request asks for, if it asks for one.
fn begin(
    method: &Method,
    path: &str,
    credential: &Credential,
    client: Option<IpAddr>,
) -> Option<Arc<Change>> {
    let (action, target) = change_of(method, path)?;
    let who = Who {
        namespace: credential.namespace.clone(),
        key_id: credential.key_id.clone(),
        subject: origin_of(credential).subject,
        address: client.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
    };
    Some(Change::new(who, action, &target))
}

fn client(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ClientAddress>().map(|client| client.0)
}

/// Records that a known credential may not do what a request asks for. The request did not reach its route.
pub(crate) fn refused(
    registry: &Registry,
    (method, path): (&Method, &str),
    credential: &Credential,
    client: Option<IpAddr>,
    error: &ApiError,
) {
    if let Some(change) = begin(method, path, credential, client) {
        registry.record_refusal(&change, error.code);
    }
}

/// The same for a request that has come as far as the router.
pub(super) fn refused_early(registry: &Registry, request: &Request, of: &Credential, error: &ApiError) {
    refused(registry, (request.method(), request.uri().path()), of, client(request.extensions()), error);
}

/// Lets a request that changes something leave one record. The registry writes it with the change; here is what it did not write.
pub(super) async fn record(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    request: Request,
    next: Next,
) -> Response {
    let asked = begin(request.method(), request.uri().path(), &credential, client(request.extensions()));
    let Some(change) = asked else { return next.run(request).await };
    let response = audit::within(Arc::clone(&change), next.run(request)).await;
    let registry = state.app.platform.registry.clone();
    if response.status().is_success() {
        // Durable before the answer, as the change is.
        let written = blocking(move || Ok(registry.record_change(&change)?)).await;
        if let Err(error) = written {
            tracing::error!(%error, "a change was made and could not be recorded");
        }
    } else {
        let code = response.extensions().get::<ApiError>().map_or("REFUSED", |error| error.code);
        registry.record_refusal(&change, code);
    }
    response
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Only what happened in this namespace; an admin's is the credential's own.
    namespace: Option<String>,
    /// How many records to answer with.
    #[param(schema_with = list_limit)]
    limit: Option<String>,
    /// The `next` of the previous page.
    after: Option<String>,
    /// A time in RFC 3339, Unix seconds, or an age such as `90s`, `15m`, `2h` or `1d`.
    since: Option<String>,
    /// The same, for the end.
    until: Option<String>,
    /// An action such as `alias.set`, or a group of them such as `alias`.
    action: Option<String>,
    /// Only what the API key of this id did.
    key_id: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecord)]
struct RecordObject {
    id: String,
    #[schema(format = DateTime)]
    at: String,
    /// Null for what only operators see.
    #[schema(required = true)]
    namespace: Option<String>,
    #[schema(required = true)]
    key_id: Option<String>,
    /// The subject of a token.
    #[schema(required = true)]
    subject: Option<String>,
    /// The client's.
    #[schema(required = true)]
    address: Option<String>,
    action: String,
    target: String,
    /// `ok`, or the error's code.
    outcome: String,
    /// How many requests the record stands for.
    count: u64,
}

impl From<Record> for RecordObject {
    fn from(record: Record) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: record.id,
            at: rfc3339(record.at_ms),
            namespace: given(record.namespace),
            key_id: given(record.key_id),
            subject: given(record.subject),
            address: given(record.address),
            action: record.action,
            target: record.target,
            outcome: record.outcome,
            count: record.count,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecords)]
pub(super) struct Records {
    records: Vec<RecordObject>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists who changed what, newest first.
///
/// Admins read what happened in their namespace; operators all of it, or that of a namespace, also of one that is gone.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "listAudit", tag = "audit",
    security(("key" = ["admin"])),
    params(AuditQuery),
    responses((status = 200, body = Records)),
)]
pub(super) async fn list(
    State(state): State<AppState>,
    Extension(credential): Extension<Arc<Credential>>,
    asked: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Records>, ApiError> {
    credential.require(Action::ReadAudit)?;
    let AuditQuery { namespace, limit, after, since, until, action, key_id } = query(asked)?;
    let is_operator = credential.require(Action::AnyNamespace).is_ok();
    if !is_operator && namespace.as_deref().is_some_and(|name| name != credential.namespace.as_str()) {
        credential.require(Action::AnyNamespace)?;
    }
    let Page { limit, after } = PageQuery::new(limit, after).page()?;
    if !after.is_empty() && after.len() != ID_LEN {
        return Err(unknown_cursor());
    }
    let filter = AuditFilter {
        limit,
        after,
        since_ms: time("since", since.as_deref())?,
        until_ms: time("until", until.as_deref())?,
        action,
        key_id,
    };
    let registry = state.app.platform.registry.clone();
    let (found, next) = blocking(move || {
        let of = match &namespace {
            _ if !is_operator => AuditOf::Namespace(&credential.namespace),
            Some(name) => AuditOf::Name(name),
            None => AuditOf::All,
        };
        Ok(registry.audit(of, &filter)?)
    })
    .await?;
    let records: Vec<_> = found.into_iter().map(RecordObject::from).collect();
    Ok(Json(Records { count: records.len(), records, next }))
}

/// A time of a query, in milliseconds since the Unix epoch.
///
/// # Errors
/// 400 for what is none.
pub(super) fn time(parameter: &str, text: Option<&str>) -> Result<Option<i64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let at = since(text, Timestamp::now()).ok_or_else(|| {
        let message = format!(
            "{parameter}: expected a time such as 2026-02-23T17:18:39Z, Unix seconds, or an age such as 90s, 15m, 2h \
             or 1d, got {text:?}"
        );
        ApiError::bad_request("INVALID_QUERY", message)
    })?;
    Ok(Some(at.as_millisecond()))
}

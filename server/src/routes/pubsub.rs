//! `POST /v1/pubsub/publish`: publishes messages of clients.

use super::functions::rfc3339;
use super::target::{NamespaceQuery, query};
use super::triggers::topic;
use super::{State as AppState, json};
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use orama_platform::auth::{Action, Credential};
use orama_runtime::limits::{EVENT_MAX_BYTES, PUBLISH_DELAY_MAX};
use orama_runtime::services::{ErrorCode, Event, Events, ServiceError};
use orama_runtime::trace::{TRACEPARENT, TraceContext};
use orama_store::clock::now_ms;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMessage)]
struct Given<'a> {
    #[serde(borrow)]
    #[schema(value_type = String)]
    topic: &'a RawValue,
    /// Any JSON, also null. Either this or `data_base64`.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schema(value_type = Value)]
    data: Option<&'a RawValue>,
    /// A string in base64 with padding, which functions receive as that string.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schema(value_type = String)]
    data_base64: Option<&'a RawValue>,
    /// When it is published, if that is not now. Either this or `delay_ms`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    deliver_at: Option<&'a RawValue>,
    /// How long it waits, in milliseconds; 30 days at most.
    #[serde(default)]
    delay_ms: Option<u64>,
}

/// A field that is present, even if it is null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Given<'_> {
    fn data(&self) -> Result<String, ApiError> {
        let bad = |message: &str| Err(ApiError::bad_request("INVALID_BODY", message));
        let data = match (self.data, self.data_base64) {
            (Some(data), None) => data,
            (None, Some(base64)) => {
                let text = json::text("data_base64", base64)?;
                if STANDARD.decode(&text).is_err() {
                    return bad("the body's field `data_base64` must be base64 with padding");
                }
                return serde_json::to_string(&text).map_err(ApiError::internal);
            }
            (Some(_), Some(_)) => return bad("the body has both `data` and `data_base64`; send one of them"),
            (None, None) => return bad("the body needs `data` or `data_base64`"),
        };
        Ok(data.get().to_owned())
    }

    /// How long it waits; `None` for a message that does not.
    fn delay(&self) -> Result<Option<Duration>, ApiError> {
        let bad = |message: String| ApiError::bad_request("INVALID_BODY", message);
        let delay = match (self.deliver_at, self.delay_ms) {
            (None, None) => return Ok(None),
            (None, Some(delay_ms)) => Duration::from_millis(delay_ms),
            (Some(at), None) => {
                let at: Timestamp = json::text("deliver_at", at)?.parse().map_err(|_| {
                    bad("the body's field `deliver_at` must be a time as in RFC 3339, such as \"2027-01-31T09:00:00Z\"".to_owned())
                })?;
                // A time that has passed is now.
                Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
            }
            (Some(_), Some(_)) => {
                return Err(
                    bad("the body has both `deliver_at` and `delay_ms`; send one of them".to_owned()),
                );
            }
        };
        if delay > PUBLISH_DELAY_MAX {
            let days = PUBLISH_DELAY_MAX.as_secs() / 86_400;
            return Err(bad(format!("a message may wait {days} days at most")));
        }
        Ok(Some(delay))
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AcceptedMessage)]
pub(super) struct Accepted {
    message_id: String,
    topic: String,
    /// When it is published, if that is not now.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
}

/// Publishes a message. The answer comes when the message and its jobs are on disk.
#[utoipa::path(
    post, path = "/v1/pubsub/publish", operation_id = "publish", tag = "events",
    security(("key" = ["invoke"])),
    params(NamespaceQuery),
    request_body = Given,
    responses((status = 202, body = Accepted)),
)]
pub(super) async fn publish(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let namespace = state.namespace(&credential, Action::Invoke, query(asked)?.namespace.as_deref()).await?;
    let given: Given<'_> = json::parse(&body)?;
    let (topic, data, delay) = (topic(given.topic)?, given.data()?, given.delay()?);
    if data.len() > EVENT_MAX_BYTES {
        return Err(ApiError::too_large("the data of a message", EVENT_MAX_BYTES));
    }
    let trace = headers.get(TRACEPARENT).and_then(|header| TraceContext::parse(header.to_str().ok()?));
    let event = Event { topic: topic.clone(), data, depth: 1, trace };
    let events = &state.app.platform.events;
    let published = match delay {
        None => events.publish(&namespace, vec![event]).await.map(|mut published| published.pop()),
        Some(delay) => events.publish_later(&namespace, event, delay).await.map(Some),
    };
    let message_id = published.map_err(refused)?.map(|published| published.message_id).unwrap_or_default();
    let delay_ms = delay.map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    let deliver_at = delay_ms.map(|delay_ms| rfc3339(now_ms().saturating_add(delay_ms)));
    Ok((StatusCode::ACCEPTED, Json(Accepted { message_id, topic, deliver_at })))
}

/// The error of a publisher's request.
pub(super) fn refused(error: ServiceError) -> ApiError {
    match error.code {
        ErrorCode::Unavailable => ApiError::unavailable(error.message),
        ErrorCode::InvalidArgument => ApiError::bad_request("INVALID_BODY", error.message),
        _ => ApiError::internal(error),
    }
}

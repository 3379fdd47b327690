//! `POST /v1/pubsub/publish`: publishes messages of clients.

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
use http::StatusCode;
use orama_platform::auth::{Action, Credential};
use orama_runtime::limits::EVENT_MAX_BYTES;
use orama_runtime::services::{ErrorCode, Event, Events, ServiceError};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

type Asked = Result<Query<NamespaceQuery>, QueryRejection>;
type Caller = Extension<Arc<Credential>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    #[serde(borrow)]
    topic: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data_base64: Option<&'a RawValue>,
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
}

#[derive(Serialize)]
pub(super) struct Accepted {
    message_id: String,
    topic: String,
}

pub(super) async fn publish(
    State(state): State<AppState>,
    Extension(credential): Caller,
    asked: Asked,
    body: Bytes,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let namespace = state.namespace(&credential, Action::Invoke, query(asked)?.namespace.as_deref()).await?;
    let given: Given<'_> = json::parse(&body)?;
    let (topic, data) = (topic(given.topic)?, given.data()?);
    if data.len() > EVENT_MAX_BYTES {
        return Err(ApiError::too_large("the data of a message", EVENT_MAX_BYTES));
    }
    let event = Event { topic: topic.clone(), data, depth: 1 };
    let published = state.app.platform.events.publish(&namespace, event).await.map_err(refused)?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { message_id: published.message_id, topic })))
}

fn refused(error: ServiceError) -> ApiError {
    match error.code {
        ErrorCode::Unavailable => ApiError::unavailable(error.message),
        ErrorCode::InvalidArgument => ApiError::bad_request("INVALID_BODY", error.message),
        _ => ApiError::internal(error),
    }
}

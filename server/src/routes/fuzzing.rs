//! What fuzz targets call of the deploy form.

use super::form::DeployForm;
use crate::error::ApiError;
use crate::limits::DEPLOY_MAX_BYTES;
use axum::RequestExt;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Multipart, Request};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use orama_platform::registry::VersionSettings;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;

/// A deploy as it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    /// The module.
    pub wasm: Bytes,
    /// The function.
    pub name: String,
    /// The namespace, if one was named.
    pub namespace: Option<String>,
    /// All else, as the names of fields and what they would say.
    pub settings: BTreeMap<&'static str, String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

/// A moment in which nothing arrives: what is at hand together is read together. It lasts for two looks, because the parser
/// looks twice in a row for the first boundary, and takes a body that is whole at the second look for one without. The node has
/// it whole at the first.
async fn moment() {
    let mut looks = 0;
    poll_fn(|cx| {
        looks += 1;
        if looks > 2 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Reads a form whose body arrives in pieces.
///
/// # Errors
/// What the client is told.
pub async fn form(content_type: &str, pieces: Vec<Bytes>) -> Result<Form, ApiError> {
    let pieces = futures_util::stream::iter(pieces).then(|piece| async {
        moment().await;
        Ok::<_, Infallible>(piece)
    });
    let request = Request::post("/").header(CONTENT_TYPE, content_type).body(Body::from_stream(pieces));
    let mut request = request.map_err(|error| ApiError::bad_request("INVALID_FORM", error.to_string()))?;
    DefaultBodyLimit::max(DEPLOY_MAX_BYTES).apply(&mut request);
    let multipart: Multipart =
        request.extract().await.map_err(|error: axum::extract::multipart::MultipartRejection| {
            ApiError::bad_request("INVALID_FORM", error.body_text())
        })?;
    let DeployForm { wasm, name, namespace, settings, .. } = DeployForm::read(multipart).await?;
    let settings = settings.after(&VersionSettings::default())?;
    let env = settings.env;
    let settings = BTreeMap::from([
        ("is_public", settings.is_public.to_string()),
        ("memory_limit_mb", settings.memory_limit_mb.to_string()),
        ("timeout_seconds", settings.timeout_seconds.to_string()),
        ("retry_count", settings.retry_count.to_string()),
        ("retry_delay_seconds", settings.retry_delay_seconds.to_string()),
        ("start", settings.start.as_str().to_owned()),
    ]);
    Ok(Form { wasm, name: name.to_string(), namespace, settings, env })
}

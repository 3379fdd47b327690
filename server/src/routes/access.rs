//! Who may do what where: the credential of a request, and the namespace that it acts in.

use super::{State as AppState, blocking};
use crate::bearer::bearer;
use crate::error::ApiError;
use crate::limits::CREDENTIAL_CACHE_MAX;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use moka::sync::Cache;
use orama_platform::auth::{self, Action, Authority, Credential, Known};
use orama_runtime::names::Namespace;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Credentials that were looked up, each with the registry's generation from before. One from an older generation
/// counts as missing, so that a deleted key stops working at once.
#[derive(Clone)]
pub(super) struct CredentialCache {
    known: Cache<[u8; 32], (u64, Known)>,
    generation: Arc<AtomicU64>,
    authority: Authority,
}

impl CredentialCache {
    pub(super) fn new(authority: Authority, generation: Arc<AtomicU64>) -> Self {
        Self { known: Cache::new(CREDENTIAL_CACHE_MAX), generation, authority }
    }

    pub(super) async fn find(&self, text: &str) -> Result<Arc<Credential>, ApiError> {
        self.authority.screen(text)?;
        let hash = auth::key_hash(text);
        let generation = self.generation.load(Ordering::Acquire);
        if let Some((known_at, known)) = self.known.get(&hash)
            && known_at == generation
            && known.is_fresh(|| Timestamp::now().as_second().cast_unsigned())
        {
            return Ok(known.credential);
        }
        let (authority, text) = (self.authority.clone(), text.to_owned());
        let known = blocking(move || Ok(authority.find(&text)?)).await?;
        self.known.insert(hash, (generation, known.clone()));
        Ok(known.credential)
    }
}

/// Lets a request with a known credential pass, and puts it into the request's extensions.
pub(super) async fn authenticate(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // A core that has looked the credential up does not have it looked up again.
    if let Some(error) = request.extensions_mut().remove::<ApiError>() {
        return Err(error);
    }
    let key = bearer(request.headers())?.ok_or_else(|| {
        ApiError::unauthorized("a credential is needed: Authorization: Bearer <API key>, or X-API-Key")
    })?;
    let first = state.credentials.find(key).await?;
    let _visit = state.app.platform.visitors.enter(&first.namespace);
    // A deletion of the namespace that begins from now on waits for this request; one that had begun is seen here.
    let credential = state.credentials.find(key).await?;
    request.extensions_mut().insert(credential);
    Ok(next.run(request).await)
}

impl AppState {
    /// The namespace that a credential may do `action` in: its own, or the requested one where it may choose.
    ///
    /// # Errors
    /// 403 when its role or its namespace does not allow it, 404 when an operator names a namespace that is not there.
    pub(super) async fn namespace(
        &self,
        credential: &Credential,
        action: Action,
        requested: Option<&str>,
    ) -> Result<Namespace, ApiError> {
        credential.require(action)?;
        let Some(requested) = requested.filter(|name| *name != credential.namespace.as_str()) else {
            return Ok(credential.namespace.clone());
        };
        credential.require(Action::AnyNamespace)?;
        let namespace = Namespace::new(requested)?;
        let registry = self.app.platform.registry.clone();
        let asked = namespace.clone();
        let exists = blocking(move || registry.namespace_exists(&asked).map_err(ApiError::internal));
        if exists.await? { Ok(namespace) } else { Err(ApiError::namespace_not_found(namespace.as_str())) }
    }
}

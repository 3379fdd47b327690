//! Authenticates requests and selects the namespace that they act in.

use super::audit::refused_early;
use super::form::RESERVED_NAMES;
use super::target::Target;
use super::{State as AppState, blocking};
use crate::bearer::{Sent, sent};
use crate::credentials::{CredentialMemory, NotAccepted};
use crate::error::ApiError;
use crate::limits::CREDENTIALS_KNOWN_MAX;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use orama_platform::audit;
use orama_platform::auth::{self, Action, Authority, Credential};
use orama_runtime::names::{FunctionName, Namespace};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Looks credentials up for the control plane, which shares one memory of them.
#[derive(Clone)]
pub(super) struct CredentialCache {
    memory: Arc<Mutex<CredentialMemory<Arc<Credential>>>>,
    generation: Arc<AtomicU64>,
    authority: Authority,
}

impl CredentialCache {
    pub(super) fn new(authority: Authority, generation: Arc<AtomicU64>) -> Self {
        let memory = Arc::new(Mutex::new(CredentialMemory::new(CREDENTIALS_KNOWN_MAX)));
        Self { memory, generation, authority }
    }

    /// Whose credentials these are.
    ///
    /// # Errors
    /// 401 without one, and for anything that is no credential of this node; 400 for a token and a key of different namespaces;
    /// what the lookup reports.
    pub(super) async fn find_all(&self, sent: &Sent<&str>) -> Result<Arc<Credential>, ApiError> {
        if let Some(why) = sent.foreign {
            return Err(ApiError::unauthorized(why));
        }
        match (sent.token, sent.key) {
            (None, None) => Err(ApiError::credential_needed()),
            (Some(one), None) | (None, Some(one)) => self.find(one).await,
            (Some(token), Some(key)) => {
                let (token, key) = (self.find(token).await?, self.find(key).await?);
                let joined = Credential::joined(&token, &key);
                joined.map(Arc::new).map_err(ApiError::from)
            }
        }
    }

    /// Whose credential a text is.
    ///
    /// # Errors
    /// 401 for one that is not known; what the lookup reports.
    pub(super) async fn find(&self, text: &str) -> Result<Arc<Credential>, ApiError> {
        self.authority.screen(text)?;
        let hash = auth::key_hash(text);
        let (generation, remembered) = {
            let mut memory = self.memory.lock();
            (memory.refresh(&self.generation), memory.find(&hash))
        };
        if let Some(remembered) = remembered {
            return remembered.map_err(|why| why.error);
        }
        let (authority, text) = (self.authority.clone(), text.to_owned());
        let found = blocking(move || Ok(authority.find(&text).map_err(NotAccepted::from))).await?;
        let mut memory = self.memory.lock();
        match found {
            Ok(known) => {
                memory.keep(generation, hash, Arc::clone(&known.credential), known.expires_s);
                Ok(known.credential)
            }
            Err(why) => {
                memory.keep_refusal(generation, hash, &why);
                Err(why.error)
            }
        }
    }
}

/// Refuses a request without a known credential. Otherwise puts the credential into the request's extensions.
pub(super) async fn authenticate(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // If the core's lookup has refused the credential, it is not looked up again.
    if let Some(error) = request.extensions_mut().remove::<ApiError>() {
        return Err(error);
    }
    let sent = sent(request.headers())?;
    let first = state.credentials.find_all(&sent).await?;
    let _visit = state.app.platform.visitors.enter(&first.namespace);
    // A deletion of the namespace that begins from now on waits for this request. A deletion that began earlier is seen here.
    let credential = state.credentials.find_all(&sent).await?;
    if credential.functions.is_some()
        && let Err(error) = within(&credential, request.uri().path())
    {
        refused_early(&state.app.platform.registry, &request, &credential, &error);
        return Err(error);
    }
    request.extensions_mut().insert(credential);
    Ok(next.run(request).await)
}

/// Refuses a path that is not about one of the functions that a credential is for.
fn within(credential: &Credential, path: &str) -> Result<(), ApiError> {
    let refused = || Err(not_for(credential));
    // The deploy looks at the name in its form; lists and logs are narrowed.
    if matches!(path, "/v1/whoami" | "/v1/functions" | "/v1/logs") {
        return Ok(());
    }
    let Some(rest) = path.strip_prefix("/v1/functions/") else { return refused() };
    let segment = rest.split('/').next().unwrap_or_default();
    let name = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
    // What has the path of a function by another meaning is not about one.
    let is_function = Target::parse(&name).is_ok_and(|target| credential.is_for(target.name.as_str()));
    if is_function && !RESERVED_NAMES.contains(&&*name) { Ok(()) } else { refused() }
}

/// The refusal of something that a narrowed credential is not for.
pub(super) fn not_for(credential: &Credential) -> ApiError {
    let names = credential.functions.iter().flat_map(|functions| functions.iter());
    let names: Vec<&str> = names.map(FunctionName::as_str).collect();
    ApiError::forbidden(format!("the key is only for the functions {}", names.join(", ")))
}

impl AppState {
    /// The namespace in which the credential does `action`: its own, or the requested one if it may act there.
    ///
    /// # Errors
    /// 403 if its role or its namespace does not allow it, 404 if an operator names a namespace that does not exist.
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
        if !exists.await? {
            return Err(ApiError::namespace_not_found(namespace.as_str()));
        }
        audit::acts_in(&namespace);
        Ok(namespace)
    }
}

//! Who is asking: API keys, what their roles allow, and the key that a node makes for itself on its first start.

use crate::error::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, header};
use orama_runtime::invocation::Caller;
use orama_runtime::names::Namespace;
use std::fmt;
use std::sync::Arc;

mod authority;
pub mod bootstrap;
pub mod jwt;

pub use authority::{Authority, Known};

/// What every API key starts with, so that one is recognised where it should not be.
const KEY_PREFIX: &str = "orama_";

/// Random bytes in a key.
const KEY_BYTES: usize = 32;

/// Length of a key: the prefix and base64url of [`KEY_BYTES`] without padding.
const KEY_LEN: usize = KEY_PREFIX.len() + 43;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a key may do. Each role may do what the ones after it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, in every namespace.
    Operator,
    /// Everything in its namespace.
    Admin,
    /// Deploys, reads and invokes functions of its namespace.
    Deploy,
    /// Invokes functions of its namespace.
    Invoke,
}

impl Role {
    /// The word under which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Deploy => "deploy",
            Self::Invoke => "invoke",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Operator, Self::Admin, Self::Deploy, Self::Invoke].into_iter().find(|r| r.as_str() == word)
    }

    /// Whether a key of this role may do `action` in its own namespace.
    #[must_use]
    pub const fn allows(self, action: Action) -> bool {
        match action {
            Action::Invoke => true,
            Action::Read | Action::Deploy => matches!(self, Self::Operator | Self::Admin | Self::Deploy),
            Action::ManageKeys => matches!(self, Self::Operator | Self::Admin),
            Action::AnyNamespace | Action::Operate => matches!(self, Self::Operator),
        }
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run a function.
    Invoke,
    /// See functions, versions and logs, and the names of secrets.
    Read,
    /// Deploy and delete functions, and what belongs to them.
    Deploy,
    /// See, make and delete API keys.
    ManageKeys,
    /// Act in a namespace other than the credential's own.
    AnyNamespace,
    /// What concerns the whole node: namespaces, the key that encrypts secrets.
    Operate,
}

impl Action {
    const fn words(self) -> &'static str {
        match self {
            Self::Invoke => "invoke functions",
            Self::Read => "read functions, their logs or names of secrets",
            Self::Deploy => "change functions, secrets or triggers",
            Self::ManageKeys => "see, make or delete API keys",
            Self::AnyNamespace => "act in another namespace",
            Self::Operate => "operate the node",
        }
    }
}

/// A known caller.
#[derive(Clone)]
pub struct Credential {
    /// The tenant that it acts for.
    pub namespace: Namespace,
    /// What it may do.
    pub role: Role,
    /// The key's id, never the key; empty for a token.
    pub key_id: String,
    /// What a verified token says of its bearer.
    pub caller: Option<Arc<Caller>>,
}

// What a token claims is its bearer's business.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("namespace", &self.namespace)
            .field("role", &self.role)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Refuses what the role does not allow.
    ///
    /// # Errors
    /// 403 that names the role and the action.
    pub fn require(&self, action: Action) -> Result<(), ApiError> {
        if self.role.allows(action) {
            return Ok(());
        }
        Err(ApiError::forbidden(format!(
            "a credential of role {:?} may not {}",
            self.role.as_str(),
            action.words()
        )))
    }
}

/// A new API key in plain text. It is shown once; only its hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key from the system's randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0_u8; KEY_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The text to hand to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

// A key must not reach a log by accident.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The form in which keys are stored and looked up. Keys are 256 random bits, so a fast hash without salt is enough,
/// and looking the hash up leaks nothing about the key through timing.
#[must_use]
pub fn key_hash(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}

/// Whether a text can be an API key at all. What cannot needs no look-up.
#[must_use]
pub fn looks_like_key(text: &str) -> bool {
    text.len() == KEY_LEN
        && text
            .strip_prefix(KEY_PREFIX)
            .is_some_and(|rest| rest.bytes().all(|b| CHARACTERS[usize::from(b)] & IN_KEYS != 0))
}

/// The credential of a request: `Authorization: Bearer X` or `X-API-Key: X`; `None` without one.
///
/// # Errors
/// 400 when the headers contradict each other, 401 when one is malformed. The message never repeats a value.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let authorization = single(headers, &header::AUTHORIZATION)?.map(bearer_value).transpose()?;
    let api_key = single(headers, &API_KEY)?;
    if api_key.is_some_and(|key| !is_token(key)) {
        return Err(ApiError::unauthorized("the X-API-Key header holds no API key"));
    }
    match (authorization, api_key) {
        (Some(a), Some(b)) if a != b => Err(ApiError::bad_request(
            "CONFLICTING_CREDENTIALS",
            "the Authorization and X-API-Key headers hold different credentials; send one of them",
        )),
        (a, b) => Ok(a.or(b)),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.any(|other| other != value) {
        return Err(ApiError::bad_request(
            "CONFLICTING_CREDENTIALS",
            format!("the request has several different {name} headers; send one"),
        ));
    }
    let malformed = || ApiError::unauthorized(format!("the {name} header is not plain ASCII"));
    value.to_str().map(|text| Some(text.trim())).map_err(|_| malformed())
}

fn bearer_value(value: &str) -> Result<&str, ApiError> {
    let malformed = || ApiError::unauthorized("the Authorization header must be `Bearer` and a credential");
    let (scheme, token) = value.split_once(' ').ok_or_else(malformed)?;
    let token = token.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") && is_token(token) { Ok(token) } else { Err(malformed()) }
}

/// RFC 6750's `b64token`, which API keys and JWTs are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| CHARACTERS[usize::from(b)] & IN_TOKENS != 0)
}

/// What a byte may be part of: each request has its credential looked through.
static CHARACTERS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 128_u8 {
        table[b as usize] = match b {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => IN_KEYS | IN_TOKENS,
            b'.' | b'~' | b'+' | b'/' | b'=' => IN_TOKENS,
            _ => 0,
        };
        b += 1;
    }
    table
};
const IN_TOKENS: u8 = 1;
const IN_KEYS: u8 = 2;

#[cfg(test)]
mod tests;

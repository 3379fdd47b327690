//! What a function's author says of how the web may reach it, and what is checked of that.

use crate::limits::{
    CORS_ENTRIES_MAX, CORS_ENTRY_MAX_BYTES, CORS_MAX_AGE_SECONDS, CORS_METHODS_DEFAULT, MAX_BODY_MB,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the web may reach a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// Whether only functions of its namespace, triggers and admins may run it.
    pub is_internal: bool,
    /// Which pages of other origins may call it; without this the node's configuration decides.
    pub cors: Option<Arc<Cors>>,
    /// Largest body of a request in MB, within [`MAX_BODY_MB`].
    pub max_body_mb: u32,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self { is_internal: false, cors: None, max_body_mb: MAX_BODY_MB.default }
    }
}

impl WebSettings {
    /// Largest body of a request in bytes.
    #[must_use]
    pub const fn max_body_bytes(&self) -> usize {
        (self.max_body_mb as usize) << 20
    }

    /// Checks what the settings mean together. `is_public` is whether everybody may run the function.
    ///
    /// # Errors
    /// [`InternalAndPublic`]
    pub const fn check(&self, is_public: bool) -> Result<(), InternalAndPublic> {
        if self.is_internal && is_public { Err(InternalAndPublic) } else { Ok(()) }
    }
}

/// A function can be open to everybody or internal, and not both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a function cannot be internal and public: set one of the two to false")]
pub struct InternalAndPublic;

/// Which pages of other origins may call a function, and what they may send: `cors` in function.yaml, in a deploy and in a
/// node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "CorsFields")]
pub struct Cors {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    credentials: bool,
    max_age: u32,
}

/// The same before it is checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsFields {
    /// Origins such as `https://app.example`, or `*` for all.
    pub origins: Vec<String>,
    /// Methods that pages may use.
    pub methods: Vec<String>,
    /// Headers that pages may set.
    pub headers: Vec<String>,
    /// Whether pages may send cookies and see answers to them.
    pub credentials: bool,
    /// Seconds for which a browser may remember a preflight's answer.
    pub max_age: i64,
}

impl Default for CorsFields {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: CORS_METHODS_DEFAULT.map(str::to_owned).to_vec(),
            headers: vec!["authorization".to_owned(), "content-type".to_owned()],
            credentials: false,
            max_age: CORS_MAX_AGE_SECONDS.default.into(),
        }
    }
}

/// Why `cors` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// It allows nobody.
    #[error("cors.origins must list at least one origin, such as https://app.example, or * for all")]
    NoOrigin,
    /// An entry of a list is not valid.
    #[error("cors.{list}: expected {expected}, got {entry:?}")]
    Entry {
        /// The list's name.
        list: &'static str,
        /// What its entries are.
        expected: &'static str,
        /// The beginning of the entry.
        entry: String,
    },
    /// A list is too long.
    #[error("cors.{list} may have at most {CORS_ENTRIES_MAX} entries")]
    TooMany {
        /// The list's name.
        list: &'static str,
    },
    /// Browsers take no `*` together with credentials.
    #[error("cors.{list}: \"*\" and credentials exclude each other; list what is allowed")]
    AllWithCredentials {
        /// The list's name.
        list: &'static str,
    },
    /// A number is out of range.
    #[error("{0}")]
    Range(String),
}

impl Cors {
    /// The origins, in small letters, each once; `*` alone for all.
    #[must_use]
    pub fn origins(&self) -> &[String] {
        &self.origins
    }

    /// The methods; `*` for all.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// The headers; `*` for all but `Authorization`.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Whether pages may send cookies and see answers to them.
    #[must_use]
    pub const fn credentials(&self) -> bool {
        self.credentials
    }

    /// Seconds for which a browser may remember a preflight's answer.
    #[must_use]
    pub const fn max_age_seconds(&self) -> u32 {
        self.max_age
    }

    /// Whether pages of all origins are allowed.
    #[must_use]
    pub fn allows_all(&self) -> bool {
        self.origins.first().is_some_and(|origin| origin == "*")
    }
}

impl TryFrom<CorsFields> for Cors {
    type Error = CorsError;

    fn try_from(fields: CorsFields) -> Result<Self, CorsError> {
        let CorsFields { mut origins, methods, headers, credentials, max_age } = fields;
        for origin in &mut origins {
            origin.make_ascii_lowercase();
        }
        check_entries("origins", &origins, "an origin such as https://app.example, or *", is_origin)?;
        check_entries("methods", &methods, "a method such as GET, or *", is_token)?;
        check_entries("headers", &headers, "the name of a header, or *", is_token)?;
        for (list, entries) in [("origins", &origins), ("methods", &methods), ("headers", &headers)] {
            if credentials && entries.iter().any(|entry| entry == "*") {
                return Err(CorsError::AllWithCredentials { list });
            }
        }
        if origins.iter().any(|origin| origin == "*") {
            origins = vec!["*".to_owned()];
        }
        let max_age = CORS_MAX_AGE_SECONDS.check(max_age).map_err(CorsError::Range)?;
        // Last: a node's config is checked value by value, and its origins may come after the others.
        if origins.is_empty() {
            return Err(CorsError::NoOrigin);
        }
        Ok(Self { origins, methods, headers, credentials, max_age })
    }
}

fn check_entries(
    list: &'static str,
    entries: &[String],
    expected: &'static str,
    is_valid: fn(&str) -> bool,
) -> Result<(), CorsError> {
    if entries.len() > CORS_ENTRIES_MAX {
        return Err(CorsError::TooMany { list });
    }
    let refused = entries.iter().find(|entry| {
        let is_short = entry.len() <= CORS_ENTRY_MAX_BYTES;
        !(is_short && (*entry == "*" || is_valid(entry)))
    });
    refused.map_or(Ok(()), |entry| {
        Err(CorsError::Entry { list, expected, entry: entry.chars().take(80).collect() })
    })
}

/// A scheme, a host and at most a port: what browsers send as `Origin`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c))
        }
    };
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    is_scheme && is_name && is_port
}

/// RFC 9110's token, which methods and names of headers are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

#[cfg(test)]
mod tests;

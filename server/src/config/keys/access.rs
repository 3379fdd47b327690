//! What functions may reach, who may call them, and with which keys.

use crate::config::Config;
use crate::config::given::Given;
use crate::config::key::{Key, Reloads, Takes, quoted, quoted_list};
use crate::limits::WEBSOCKET_PING_SECONDS;
use crate::worker::AllowedOrigins;
use orama_platform::settings::TokenIssuer;
use orama_runtime::web::{Cors, CorsError, CorsFields};
use orama_store::egress::EgressTarget;
use std::path::PathBuf;

const ORIGINS: &str = "a list of origins, such as `[\"https://app.example\"]`, or `[\"*\"]` for all";
const TARGETS: &str = "a list of hosts, addresses (each with or without a port) or networks";

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "egress.allow",
        "Private targets that functions may reach by HTTP.",
        Takes::Other {
            form: TARGETS,
            set: |c, v| targets(v).map(|targets| c.egress_allow = targets),
            get: |c| Some(quoted_list(c.egress_allow.iter().map(ToString::to_string))),
        },
    ),
    Key::new(
        "egress.deny",
        "Targets that functions may not reach by HTTP, whatever `egress.allow` says.",
        Takes::Other {
            form: TARGETS,
            set: |c, v| targets(v).map(|targets| c.egress_deny = targets),
            get: |c| Some(quoted_list(c.egress_deny.iter().map(ToString::to_string))),
        },
    ),
    Key::new(
        "secrets.key_file",
        "The file with the master keys that the nodes of a cluster share, each 64 hex digits.",
        Takes::Path(|c| &mut c.secrets_key_file),
    )
    .default("`secrets.key` in the folder of the data, which the node makes")
    .reloads(Reloads::Content),
    Key::new(
        "auth.jwt",
        "The public keys of an issuer whose tokens may name any namespace: a JWKS, or one key in PEM.",
        Takes::Other {
            form: "the path of a file",
            set: |c, v| v.path().map(|path| set_token_file(&mut c.issuers, path)),
            get: |c| {
                c.issuers
                    .iter()
                    .find(|issuer| issuer.issuer.is_none())
                    .map(|issuer| quoted(&issuer.keys.to_string()))
            },
        },
    )
    .reloads(Reloads::Value),
    Key::new(
        "websocket.allowed_origins",
        "Origins of pages that may open WebSockets, beside those of the node's own host.",
        Takes::Other {
            form: ORIGINS,
            set: |c, v| {
                let origins = v.list()?;
                AllowedOrigins::parse(&origins)?;
                c.websocket_origins = origins;
                Ok(())
            },
            get: |c| Some(quoted_list(&c.websocket_origins)),
        },
    ),
    Key::new(
        "websocket.ping_seconds",
        "How often the client of a WebSocket is asked whether it is there.",
        Takes::Seconds(WEBSOCKET_PING_SECONDS, |c| &mut c.websocket_ping),
    ),
    Key::new(
        "cors.origins",
        "Origins of pages that may call functions that do not say so themselves.",
        Takes::Other {
            form: ORIGINS,
            set: |c, v| {
                let origins = v.list()?;
                set_cors(c, |cors| cors.origins = origins)
            },
            get: |c| Some(quoted_list(&c.cors.clone().unwrap_or_default().origins)),
        },
    ),
    Key::new(
        "cors.methods",
        "Methods that these pages may use.",
        Takes::Other {
            form: "a list of methods, or `[\"*\"]` for all",
            set: |c, v| {
                let methods = v.list()?;
                set_cors(c, |cors| cors.methods = methods)
            },
            get: |c| Some(quoted_list(&c.cors.clone().unwrap_or_default().methods)),
        },
    ),
    Key::new(
        "cors.headers",
        "Headers that these pages may set.",
        Takes::Other {
            form: "a list of names, or `[\"*\"]` for all",
            set: |c, v| {
                let headers = v.list()?;
                set_cors(c, |cors| cors.headers = headers)
            },
            get: |c| Some(quoted_list(&c.cors.clone().unwrap_or_default().headers)),
        },
    ),
    Key::new(
        "cors.credentials",
        "Whether these pages may send cookies.",
        Takes::Other {
            form: "`true` or `false`",
            set: |c, v| {
                let credentials = v.boolean()?;
                set_cors(c, |cors| cors.credentials = credentials)
            },
            get: |c| Some(c.cors.clone().unwrap_or_default().credentials.to_string()),
        },
    ),
    Key::new(
        "cors.max_age",
        "How long a browser may remember a preflight's answer.",
        Takes::Other {
            form: "0 to 86400 seconds",
            set: |c, v| {
                let seconds = v.integer()?;
                set_cors(c, |cors| cors.max_age = seconds)
            },
            get: |c| Some(c.cors.clone().unwrap_or_default().max_age.to_string()),
        },
    ),
];

/// `auth.jwt` is one issuer: a variable replaces what the file says of it.
fn set_token_file(issuers: &mut Vec<TokenIssuer>, path: PathBuf) {
    issuers.retain(|issuer| issuer.issuer.is_some());
    issuers.insert(0, TokenIssuer::file(path));
}

/// Changes what the node says of pages of other origins, and checks it as far as it was said.
fn set_cors(config: &mut Config, set: impl FnOnce(&mut CorsFields)) -> Result<(), String> {
    let cors = config.cors.get_or_insert_default();
    set(cors);
    match Cors::try_from(cors.clone()) {
        Ok(_) | Err(CorsError::NoOrigin) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn targets(given: &Given<'_>) -> Result<Vec<EgressTarget>, String> {
    given.list()?.iter().map(|entry| entry.parse()).collect()
}

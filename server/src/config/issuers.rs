//! `[[auth.issuers]]`: who signs tokens, and for which namespaces.

use super::key::{quoted, quoted_list};
use super::load::line_of;
use super::{ConfigError, Place};
use orama_platform::limits::TOKEN_ISSUERS_MAX;
use orama_platform::settings::{KeySource, TokenIssuer};
use orama_runtime::names::Namespace;
use std::collections::BTreeSet;
use std::path::Path;
use toml::de::{DeTable, DeValue};
use url::{Host, Url};

/// The list's key in the file; there is no variable for it.
pub(super) const KEY: &str = "auth.issuers";

/// The keys of one issuer: the name, what it decides, and what it takes.
pub(super) const FIELDS: [(&str, &str, &str); 4] = [
    (
        "keys",
        "Its public keys, which are read again when they change.",
        "an https URL of a JWKS, or the path of a file with a JWKS or one key in PEM",
    ),
    ("issuer", "The claim `iss` of its tokens.", "a text"),
    (
        "audience",
        "What the claim `aud` of its tokens must contain; without it, any token is taken.",
        "a text",
    ),
    ("namespaces", "The namespaces that its tokens may name.", "a list of names, or `\"*\"` for all"),
];

pub(super) fn key_names() -> impl Iterator<Item = String> {
    FIELDS.iter().map(|(field, ..)| format!("{KEY}.{field}"))
}

/// The name of one issuer, counted from 1.
pub(super) fn numbered(number: usize) -> String {
    format!("{KEY}[{number}]")
}

/// One issuer as the file would say it.
pub(super) fn text(issuer: &TokenIssuer) -> String {
    let texts = [
        ("keys", Some(issuer.keys.to_string())),
        ("issuer", issuer.issuer.clone()),
        ("audience", issuer.audience.clone()),
    ];
    let mut parts: Vec<_> =
        texts.into_iter().filter_map(|(field, text)| Some(format!("{field} = {}", quoted(&text?)))).collect();
    parts.push(match &issuer.namespaces {
        None => "namespaces = \"*\"".to_owned(),
        Some(names) => format!("namespaces = {}", quoted_list(names.iter().map(Namespace::as_str))),
    });
    format!("{{ {} }}", parts.join(", "))
}

/// Reads the list, which begins at a line of a file. Each issuer comes with the line where it begins.
pub(super) fn parse(
    path: &Path,
    text: &str,
    line: usize,
    list: &DeValue<'_>,
) -> Result<Vec<(TokenIssuer, usize)>, ConfigError> {
    let bad = |line, key: &str, message| ConfigError::BadValue {
        place: Place::File(path.to_owned(), line),
        key: key.to_owned(),
        message,
    };
    let expected = || bad(line, KEY, "expected tables, each beginning with [[auth.issuers]]".to_owned());
    let DeValue::Array(list) = list else { return Err(expected()) };
    if list.len() > TOKEN_ISSUERS_MAX {
        return Err(bad(
            line,
            KEY,
            format!("{} issuers; at most {TOKEN_ISSUERS_MAX} are accepted", list.len()),
        ));
    }
    let mut issuers = Vec::with_capacity(list.len());
    for entry in list.iter() {
        let DeValue::Table(table) = entry.get_ref() else { return Err(expected()) };
        let mut keys: Vec<_> = table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        if let Some(key) = keys.iter().find(|key| !FIELDS.iter().any(|(field, ..)| field == key.get_ref())) {
            let line = line_of(text, key.span().start);
            let key = format!("{KEY}.{}", key.get_ref());
            return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key });
        }
        let begin = line_of(text, entry.span().start);
        let issuer = issuer(table).map_err(|(field, message)| {
            let key = keys.iter().find(|key| key.get_ref() == field);
            bad(key.map_or(begin, |key| line_of(text, key.span().start)), &format!("{KEY}.{field}"), message)
        })?;
        issuers.push((issuer, begin));
    }
    Ok(issuers)
}

/// One issuer, or the field that is wrong and what is wrong with it.
fn issuer(table: &DeTable<'_>) -> Result<TokenIssuer, (&'static str, String)> {
    let text = |field: &'static str| match table.get(field).map(|value| value.get_ref()) {
        None => Ok(None),
        Some(DeValue::String(text)) if !text.is_empty() => Ok(Some(text.to_string())),
        Some(DeValue::String(_)) => Err((field, "is empty".to_owned())),
        Some(other) => Err((field, format!("expected a text in quotes, got {}", other.type_str()))),
    };
    let required = |field| text(field)?.ok_or_else(|| (field, "is missing".to_owned()));
    Ok(TokenIssuer {
        keys: key_source(&required("keys")?).map_err(|message| ("keys", message))?,
        issuer: Some(required("issuer")?),
        audience: text("audience")?,
        namespaces: namespaces(table.get("namespaces").map(|value| value.get_ref()))
            .map_err(|message| ("namespaces", message))?,
    })
}

/// A URL of keys, or the path of a file.
fn key_source(text: &str) -> Result<KeySource, String> {
    if !text.contains("://") {
        return Ok(KeySource::File(text.into()));
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL of public keys has neither user nor password".to_owned());
    }
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(KeySource::Url(url)),
        "http" if is_loopback => Ok(KeySource::Url(url)),
        _ => Err(format!(
            "expected an https URL (http on this machine alone) or the path of a file, got {text:?}"
        )),
    }
}

/// The namespaces of a list; `None` for all of them.
fn namespaces(value: Option<&DeValue<'_>>) -> Result<Option<BTreeSet<Namespace>>, String> {
    const EXPECTED: &str = "expected a list of namespaces, or \"*\" for all";
    let names = match value {
        None => return Err(format!("is missing; {EXPECTED}")),
        Some(DeValue::String(text)) if text == "*" => return Ok(None),
        Some(DeValue::Array(names)) if !names.is_empty() => names,
        Some(_) => return Err(EXPECTED.to_owned()),
    };
    let name = |value: &DeValue<'_>| match value {
        DeValue::String(name) => Namespace::new(name).map_err(|error| error.to_string()),
        _ => Err(EXPECTED.to_owned()),
    };
    names.iter().map(|value| name(value.get_ref())).collect::<Result<_, _>>().map(Some)
}

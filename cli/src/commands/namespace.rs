//! `orama namespace`: creates, lists and deletes namespaces, for the operator.

use super::confirm::confirm;
use super::pages::{List, Listed};
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use orama_runtime::names::Namespace;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Entry {
    name: String,
    created_at: String,
}

/// Runs `create`.
pub fn create(client: &Client, name: &Namespace, json: bool) -> Result<()> {
    let request = client.bare(Method::POST, &["namespaces"]).json(&json!({ "name": name }));
    let answer = client.send(request)?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("created namespace {name}"))?;
    output::note(&format!("create a key for it with `orama keys create --role admin --namespace {name}`"));
    Ok(())
}

/// Runs `list`.
pub fn list(client: &Client, limit: Option<u32>, json: bool) -> Result<()> {
    let listed = Listed { path: &["namespaces"], field: "namespaces", of_namespace: false };
    let list = List::fetch(client, &listed, limit)?;
    if json {
        return output::line(&list.line()?);
    }
    let rows = list.read::<Entry>()?.into_iter().map(|n| vec![n.name, n.created_at]);
    output::line(&output::table(&["NAME", "CREATED"], rows).join("\n"))
}

/// Runs `delete`.
pub fn delete(client: &Client, name: &Namespace, force: bool, json: bool) -> Result<()> {
    confirm(force, &format!("namespace {name}"), " with its functions, data, secrets and keys")?;
    let answer = client.send(client.bare(Method::DELETE, &["namespaces", name.as_str()]))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted namespace {name}"))?;
    if answer.status == 202 {
        output::note("the node removes its data when the running invocations there have ended");
    }
    Ok(())
}

#[derive(Deserialize)]
struct Usage {
    usage: BTreeMap<String, Used>,
    /// What is nearly used up.
    #[serde(default)]
    warnings: Vec<String>,
    disk: Option<Disk>,
}

#[derive(Deserialize)]
struct Used {
    used: u64,
    limit: u64,
    percent: u64,
}

#[derive(Deserialize)]
struct Disk {
    free_bytes: u64,
    reserve_bytes: u64,
}

/// The namespace that a command is about: the one that it names, else that of the credential.
///
/// # Errors
/// When neither says which.
pub fn chosen<'a>(client: &'a Client, name: Option<&'a Namespace>, command: &str) -> Result<&'a str> {
    name.map(Namespace::as_str).or_else(|| client.namespace()).ok_or_else(|| {
        CliError::usage(format!(
            "which namespace? Name it, or set ORAMA_NAMESPACE: `orama namespace {command} <NAME>`"
        ))
    })
}

/// Shows what a node warns of.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        output::note(&format!("warning: {}", output::one_line(warning)));
    }
}

/// Runs `usage`.
pub fn usage(client: &Client, name: Option<&Namespace>, json: bool) -> Result<()> {
    let name = chosen(client, name, "usage")?;
    let answer = client.send(client.bare(Method::GET, &["namespaces", name, "usage"]))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Usage { usage, warnings, disk } = answer.json()?;
    let row = |(quota, Used { used, limit, percent })| {
        vec![quota, used.to_string(), limit.to_string(), format!("{percent}%")]
    };
    output::line(
        &output::table(&["QUOTA", "USED", "LIMIT", "SHARE"], usage.into_iter().map(row)).join("\n"),
    )?;
    warn(&warnings);
    if let Some(Disk { free_bytes, reserve_bytes }) = disk {
        let (free, reserve) = (free_bytes >> 20, reserve_bytes >> 20);
        output::note(&format!("the node's disk has {free} MB free, of which {reserve} MB must stay free"));
    }
    Ok(())
}

//! `orama function update`, `enable`, `disable`, `rollback`, `aliases` and `traffic`: which versions are in use, and changes that
//! need no upload.

use super::FunctionInfo;
use super::namespace::warn;
use super::pages::{List, Listed};
use crate::args::{AliasesCommand, OneFunction, Rollback, Traffic, Update};
use crate::client::{Client, DEPLOY_TIMEOUT};
use crate::error::{CliError, Result};
use crate::output;
use orama_runtime::names::{AliasName, FunctionName};
use orama_server::platform::registry::LIVE;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Names of function.yaml that the node's API spells otherwise.
const SPELLED: [(&str, &str); 3] =
    [("public", "is_public"), ("memory", "memory_limit_mb"), ("timeout", "timeout_seconds")];

#[derive(Deserialize)]
struct Updated {
    function: FunctionInfo,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Alias {
    alias: String,
    version: u32,
    set_at: Option<String>,
}

#[derive(Deserialize)]
struct Aliases {
    aliases: Vec<Alias>,
}

#[derive(Deserialize)]
struct Spread {
    weights: BTreeMap<u32, u32>,
    sticky: Option<String>,
}

/// Runs `update`.
pub fn update(client: &Client, args: &Update, json: bool) -> Result<()> {
    let mut changes = Map::new();
    for (key, value) in &args.set {
        let key = SPELLED.iter().find(|(name, _)| name == key).map_or(key.as_str(), |(_, spelled)| spelled);
        // What is no JSON is a text, as `start=command`.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
        changes.insert(key.to_owned(), value);
    }
    let mut env = Map::new();
    env.extend(args.env.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
    env.extend(args.unset_env.iter().map(|name| (name.clone(), Value::Null)));
    if !env.is_empty() {
        changes.insert("env_vars".to_owned(), Value::Object(env));
    }
    if changes.is_empty() && args.alias.is_none() {
        return Err(CliError::usage("nothing to change: give --set, --env, --unset-env or --alias"));
    }
    if let Some(alias) = &args.alias {
        changes.insert("alias".to_owned(), alias.as_str().into());
    }
    let function = args.function.to_string();
    let request = client.request(Method::PATCH, &["functions", &function]).timeout(DEPLOY_TIMEOUT);
    let answer = client.send(request.json(&changes));
    let answer = answer.map_err(|error| client.explain_missing(error, args.function.name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Updated { function, warnings } = answer.json()?;
    output::line(&format!("updated {} as version {}", output::one_line(&function.name), function.version))?;
    warn(&warnings);
    Ok(())
}

/// Runs `enable` and `disable`.
pub fn enable(client: &Client, of: &OneFunction, is_enabled: bool, json: bool) -> Result<()> {
    let request = client.request(Method::PATCH, &["functions", of.name.as_str()]);
    let answer = client.send(request.json(&json!({ "enabled": is_enabled })));
    let answer = answer.map_err(|error| client.explain_missing(error, of.name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("{} {}", if is_enabled { "enabled" } else { "disabled" }, of.name))
}

/// Runs `rollback`.
pub fn rollback(client: &Client, args: &Rollback, json: bool) -> Result<()> {
    let name = &args.name;
    let version = match args.version {
        Some(version) => version,
        None => version_before(client, name)?,
    };
    // First, so that nothing is spread over versions that are not live any more.
    let ended = client.send(client.request(Method::DELETE, &["functions", name.as_str(), "traffic"]));
    ended.map_err(|error| client.explain_missing(error, name.as_str()))?;
    put_alias(client, name, LIVE, version, json)?;
    if !json {
        output::note(&format!(
            "later deploys leave version {version} live; `orama function deploy --alias live` makes a new one live, and \
             `orama function aliases delete {name} live` follows the newest version again"
        ));
    }
    Ok(())
}

/// The newest version before the live one.
fn version_before(client: &Client, name: &FunctionName) -> Result<u32> {
    let live: Alias = client
        .send(client.request(Method::GET, &["functions", name.as_str(), "aliases", LIVE]))
        .map_err(|error| client.explain_missing(error, name.as_str()))?
        .json()?;
    let listed =
        Listed { path: &["functions", name.as_str(), "versions"], field: "versions", of_namespace: true };
    let versions: Vec<FunctionInfo> = List::fetch(client, &listed, None)?.read()?;
    let before = versions.iter().map(|f| f.version).filter(|version| *version < live.version).max();
    before.ok_or_else(|| {
        CliError::failed(format!("function {name} has no version before {}, which is live", live.version))
            .hint(format!("`orama function versions {name}` lists its versions"))
    })
}

/// Runs `aliases`.
pub fn aliases(
    connect: impl Fn(&crate::args::Connection) -> Result<Client>,
    command: AliasesCommand,
    json: bool,
) -> Result<()> {
    match command {
        AliasesCommand::List(OneFunction { name, connection }) => list(&connect(&connection)?, &name, json),
        AliasesCommand::Set { name, alias, version, connection } => {
            put_alias(&connect(&connection)?, &name, alias.as_str(), version, json)
        }
        AliasesCommand::Delete { name, alias, connection } => {
            delete(&connect(&connection)?, &name, &alias, json)
        }
    }
}

fn list(client: &Client, name: &FunctionName, json: bool) -> Result<()> {
    let answer = client.send(client.request(Method::GET, &["functions", name.as_str(), "aliases"]));
    let answer = answer.map_err(|error| client.explain_missing(error, name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    let rows = answer.json::<Aliases>()?.aliases.into_iter().map(|alias| {
        let set_at = alias.set_at.unwrap_or_else(|| "follows the newest version".to_owned());
        vec![alias.alias, alias.version.to_string(), set_at]
    });
    output::line(&output::table(&["ALIAS", "VERSION", "SET"], rows).join("\n"))
}

fn put_alias(client: &Client, name: &FunctionName, alias: &str, version: u32, json: bool) -> Result<()> {
    let request = client.request(Method::PUT, &["functions", name.as_str(), "aliases", alias]);
    let answer = client.send(request.json(&json!({ "version": version })));
    let answer = answer.map_err(|error| client.explain_missing(error, name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    let alias: Alias = answer.json()?;
    output::line(&format!("{name}@{} is version {}", output::one_line(&alias.alias), alias.version))
}

fn delete(client: &Client, name: &FunctionName, alias: &AliasName, json: bool) -> Result<()> {
    let path = ["functions", name.as_str(), "aliases", alias.as_str()];
    let answer = client.send(client.request(Method::DELETE, &path))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted {name}@{alias}"))
}

/// Runs `traffic`.
pub fn traffic(client: &Client, args: &Traffic, json: bool) -> Result<()> {
    let path = ["functions", args.name.as_str(), "traffic"];
    let request = if args.end {
        client.request(Method::DELETE, &path)
    } else if args.weights.is_empty() {
        client.request(Method::GET, &path)
    } else {
        let weights: BTreeMap<u32, u32> = args.weights.iter().copied().collect();
        if weights.len() < args.weights.len() {
            return Err(CliError::usage("a version has more than one weight"));
        }
        client.request(Method::PUT, &path).json(&json!({ "weights": weights, "sticky": args.sticky }))
    };
    let answer = client.send(request);
    let answer = answer.map_err(|error| client.explain_missing(error, args.name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Spread { weights, sticky } = answer.json()?;
    if weights.is_empty() {
        return output::line(&format!("all calls of {} go to its live version", args.name));
    }
    let total: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
    let rows = weights.into_iter().map(|(version, weight)| {
        let percent = 100.0 * f64::from(weight) / total as f64;
        vec![version.to_string(), weight.to_string(), format!("{percent:.3}%")]
    });
    output::line(&output::table(&["VERSION", "WEIGHT", "SHARE"], rows).join("\n"))?;
    if let Some(sticky) = sticky {
        output::note(&format!("callers are told apart by {}", output::one_line(&sticky)));
    }
    Ok(())
}

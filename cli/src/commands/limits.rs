//! `orama namespace quotas` and `rates`: shows what a namespace may have, and changes it.

use super::namespace::chosen;
use crate::args::Change;
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use orama_runtime::names::Namespace;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One kind of limits, which the node has under this name.
#[derive(Clone, Copy)]
pub struct Limits {
    name: &'static str,
    /// The head of the table.
    head: &'static str,
    /// A value as the node takes it.
    value: fn(&str) -> Result<Value>,
}

/// How much a namespace may have.
pub const QUOTAS: Limits = Limits { name: "quotas", head: "QUOTA", value: number };

/// How often it may ask.
pub const RATES: Limits = Limits { name: "rates", head: "RATE", value: |text| Ok(text.into()) };

fn number(text: &str) -> Result<Value> {
    let number: u64 = text.parse().map_err(|_| {
        CliError::usage(format!("a quota is a whole number, such as functions=20, got {text:?}"))
    })?;
    Ok(number.into())
}

/// The node's answer.
#[derive(Deserialize)]
struct Answered {
    overrides: BTreeMap<String, Value>,
    /// Those that hold, under the name of their kind.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Runs the command. The node replaces all that was set at once, so what stays is read first.
pub fn run(
    client: &Client,
    name: Option<&Namespace>,
    limits: Limits,
    change: &Change,
    json: bool,
) -> Result<()> {
    let path = ["namespaces", chosen(client, name, limits.name)?, limits.name];
    let values = change.set.iter().map(|(name, text)| Ok((name.clone(), (limits.value)(text)?)));
    let values: Vec<_> = values.collect::<Result<_>>()?;
    let mut answer = client.send(client.bare(Method::GET, &path))?;
    if !values.is_empty() || !change.unset.is_empty() {
        let mut set = answer.json::<Answered>()?.overrides;
        if let Some(name) = change.unset.iter().find(|name| set.remove(*name).is_none()) {
            return Err(CliError::failed(format!("{name:?} is not set for this namespace")));
        }
        set.extend(values);
        answer = client.send(client.bare(Method::PUT, &path).json(&set))?;
    }
    if json {
        return output::line(&answer.line()?);
    }
    let Answered { overrides, rest } = answer.json()?;
    let hold = rest.get(limits.name).and_then(Value::as_object).cloned().unwrap_or_default();
    let rows = hold.iter().map(|(name, value)| {
        let by = if overrides.contains_key(name) { "the operator" } else { "" };
        vec![name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned), by.to_owned()]
    });
    output::line(&output::table(&[limits.head, "LIMIT", "SET BY"], rows).join("\n"))
}

//! `orama keys`: creates, lists and deletes API keys.

use super::pages::{List, Listed};
use crate::args::{Id, NewKey};
use crate::client::Client;
use crate::error::Result;
use crate::output;
use clap::ValueEnum;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Created {
    id: String,
    api_key: String,
    namespace: String,
    role: String,
}

#[derive(Deserialize)]
struct Key {
    id: String,
    namespace: String,
    role: String,
    created_at: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    last_used_at: Option<String>,
    #[serde(default)]
    functions: Option<Vec<String>>,
    #[serde(default)]
    current: bool,
}

/// Runs `create`.
pub fn create(client: &Client, new: &NewKey, json: bool) -> Result<()> {
    let role = new.role.to_possible_value().map(|value| value.get_name().to_owned());
    let mut body = json!({ "namespace": client.namespace(), "role": role });
    // Left out where they are not given: a node of an earlier version does not know them.
    if let Some(name) = &new.name {
        body["name"] = name.as_str().into();
    }
    if let Some(expires) = new.expires {
        body["expires_at"] = expires.0.to_string().into();
    }
    if !new.functions.is_empty() {
        body["functions"] = json!(new.functions);
    }
    let answer = client.send(client.bare(Method::POST, &["keys"]).json(&body))?;
    if json {
        return output::line(&answer.line()?);
    }
    let Created { id, api_key, namespace, role } = answer.json()?;
    let [id, namespace, role] = [id, namespace, role].map(|text| output::one_line(&text));
    output::line(&output::one_line(&api_key))?;
    output::note(&format!("key {id} of role {role} in namespace {namespace}; it is not shown again"));
    Ok(())
}

/// Runs `list`.
pub fn list(client: &Client, limit: Option<u32>, json: bool) -> Result<()> {
    let listed = Listed { path: &["keys"], field: "keys", of_namespace: true };
    let list = List::fetch(client, &listed, limit)?;
    if json {
        return output::line(&list.line()?);
    }
    let rows = list.read::<Key>()?.into_iter().map(|key| {
        let current = if key.current { "in use here" } else { "" };
        let functions = key.functions.map_or_else(|| "all".to_owned(), |functions| functions.join(", "));
        let expires_at = key.expires_at.unwrap_or_else(|| "never".to_owned());
        let (name, used_at) = (key.name.unwrap_or_default(), key.last_used_at.unwrap_or_default());
        vec![
            key.id,
            name,
            key.namespace,
            key.role,
            functions,
            key.created_at,
            expires_at,
            used_at,
            current.to_owned(),
        ]
    });
    output::line(
        &output::table(
            &["ID", "NAME", "NAMESPACE", "ROLE", "FUNCTIONS", "CREATED", "EXPIRES", "LAST USED", ""],
            rows,
        )
        .join("\n"),
    )
}

/// Runs `delete`. Ids are unique, so only a namespace of the command line narrows the search, not that of a variable or file.
pub fn delete(client: &Client, id: &Id, namespace_given: bool, json: bool) -> Result<()> {
    let path = ["keys", id.as_str()];
    let request = if namespace_given {
        client.request(Method::DELETE, &path)
    } else {
        client.bare(Method::DELETE, &path)
    };
    let answer = client.send(request)?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted key {id}"))
}

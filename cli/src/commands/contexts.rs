//! `orama login`, `orama context` and `orama whoami`: which node commands talk to, and as whom.

use crate::args::{Connection, ContextCommand, Login, NodeAccess, Whoami};
use crate::client::Client;
use crate::contexts::{Contexts, LOCAL};
use crate::credentials::{Credentials, File, non_empty};
use crate::error::{CliError, Result};
use crate::gateway::Gateway;
use crate::output;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::io::{BufRead, IsTerminal, stdin};

#[derive(Deserialize)]
struct Who {
    namespace: String,
    role: String,
    key: Option<Key>,
    subject: Option<String>,
}

#[derive(Deserialize)]
struct Key {
    id: String,
    name: Option<String>,
    expires_at: Option<String>,
    functions: Option<Vec<String>>,
}

/// Runs `login`.
pub fn login(args: &Login) -> Result<()> {
    let gateway = Gateway::parse(args.address.trim())?;
    let host = gateway.url().host_str().unwrap_or_default().to_owned();
    let name = args.name.clone().unwrap_or(host);
    let mut contexts = Contexts::read()?;
    let key = key_for(&gateway)?;
    let connection = Connection {
        node: NodeAccess {
            gateway_url: Some(gateway.to_string()),
            api_key: Some(key.clone()),
            context: None,
        },
        namespace: args.namespace.clone(),
    };
    // Nothing is saved that the node does not accept.
    let client = Client::new(Credentials::find(&connection)?)?;
    let who: Who = client.send(client.bare(Method::GET, &["whoami"]))?.json()?;
    let file = File {
        gateway_url: Some(gateway.to_string()),
        api_key: Some(key),
        namespace: args.namespace.clone(),
    };
    contexts.put(&name, file);
    contexts.choose(&name)?;
    contexts.write()?;
    if args.json {
        let line = json!({ "context": name, "gateway_url": gateway.to_string(), "namespace": who.namespace, "role": who.role });
        return output::line(&line.to_string());
    }
    output::line(&format!(
        "logged in to {gateway} as {} of namespace {}; commands use the context {name} from now on",
        output::one_line(&who.role),
        output::one_line(&who.namespace),
    ))
}

/// Asks for the key of a node.
fn key_for(gateway: &Gateway) -> Result<String> {
    let failed = |error| CliError::failed("cannot read the API key").caused_by(error);
    let text = if stdin().is_terminal() {
        rpassword::prompt_password(format!("API key for {gateway}: ")).map_err(failed)?
    } else {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map_err(failed)?;
        line
    };
    non_empty(Some(text)).ok_or_else(|| {
        CliError::usage("there is no API key")
            .hint(format!("type a key of {gateway}, or give it on standard input"))
    })
}

/// Runs `context`.
pub fn context(command: &ContextCommand, json: bool) -> Result<()> {
    let mut contexts = Contexts::read()?;
    match command {
        ContextCommand::List => return list(&contexts, json),
        ContextCommand::Use { name } => contexts.choose(name)?,
        ContextCommand::Delete { name } => contexts.remove(name)?,
    }
    contexts.write()?;
    if json {
        return output::line(&json!({ "current": contexts.current() }).to_string());
    }
    output::line(&format!("commands use the context {}", contexts.current()))
}

fn list(contexts: &Contexts, json: bool) -> Result<()> {
    let mut rows = vec![(LOCAL, "the node of this machine".to_owned(), String::new())];
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    rows.extend(contexts.list().map(|(name, file)| (name, text(&file.gateway_url), text(&file.namespace))));
    if json {
        let list: Vec<_> = rows
            .iter()
            .map(|(name, address, namespace)| {
                let current = *name == contexts.current();
                json!({ "name": name, "gateway_url": address, "namespace": namespace, "current": current })
            })
            .collect();
        return output::line(&json!({ "contexts": list }).to_string());
    }
    let rows = rows.into_iter().map(|(name, address, namespace)| {
        let current = if name == contexts.current() { "in use" } else { "" };
        vec![name.to_owned(), address, namespace, current.to_owned()]
    });
    output::line(&output::table(&["NAME", "ADDRESS", "NAMESPACE", ""], rows).join("\n"))
}

/// Runs `whoami`.
pub fn whoami(args: &Whoami) -> Result<()> {
    let credentials = Credentials::find(&args.connection)?.require_own_key()?;
    let gateway = credentials.gateway.to_string();
    let client = Client::new(credentials)?;
    let answer = client.send(client.bare(Method::GET, &["whoami"]))?;
    if args.json {
        return output::line(&answer.line()?);
    }
    let Who { namespace, role, key, subject } = answer.json()?;
    let mut rows = vec![("node", gateway), ("namespace", namespace), ("role", role)];
    rows.extend(subject.map(|subject| ("subject", subject)));
    if let Some(key) = key {
        rows.push(("key", key.name.map_or_else(|| key.id.clone(), |name| format!("{name} ({})", key.id))));
        rows.extend(key.expires_at.map(|at| ("expires", at)));
        rows.extend(key.functions.map(|functions| ("functions", functions.join(", "))));
    }
    let lines = rows.iter().map(|(name, value)| format!("{name:<9}  {}", output::one_line(value)));
    output::line(&lines.collect::<Vec<_>>().join("\n"))
}

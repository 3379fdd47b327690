//! `orama function secrets` and `orama secrets`: sends secrets to the node and never shows a value.

use super::confirm::confirm;
use super::env_file;
use super::input::{self, STANDARD_INPUT};
use super::pages::{List, Listed};
use crate::client::{Answer, Client};
use crate::error::{CliError, Result};
use crate::output;
use orama_runtime::names::SecretName;
use orama_server::limits::SECRET_VALUE_MAX_BYTES;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Longest time for a rotation, in which the node reads and writes every secret.
const ROTATE_TIMEOUT: Duration = Duration::from_secs(600);

/// Largest file of `NAME=VALUE` lines, in bytes: some secrets of the largest size.
const ENV_FILE_MAX_BYTES: usize = 16 * SECRET_VALUE_MAX_BYTES;

/// A secret's value, which no output shows.
pub struct Value(String);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(hidden)")
    }
}

#[derive(Deserialize)]
struct Rotated {
    key_id: String,
    reencrypted: u64,
}

/// Reads the value: the argument, standard input for `-`, or a file. Nothing is trimmed.
///
/// # Errors
/// When the source cannot be read, or its content is too large or not UTF-8. No message repeats the value.
pub fn value(argument: Option<String>, from_file: Option<&Path>) -> Result<Value> {
    let (bytes, source) = match (argument, from_file) {
        (_, Some(path)) => (input::file(path, SECRET_VALUE_MAX_BYTES)?, path.display().to_string()),
        (Some(argument), None) if argument == STANDARD_INPUT => {
            (input::standard_input(SECRET_VALUE_MAX_BYTES)?, "standard input".to_owned())
        }
        (Some(argument), None) => (argument.into_bytes(), "the value".to_owned()),
        (None, None) => return Err(CliError::usage("give a value or --from-file")),
    };
    checked(bytes, &source)
}

/// Reads the values of a file with `NAME=VALUE` lines, which is at most as large as [`ENV_FILE_MAX_BYTES`].
///
/// # Errors
/// As [`value`], with the line.
pub fn values(path: &Path) -> Result<Vec<(SecretName, Value)>> {
    let source = path.display().to_string();
    let bytes = input::file(path, ENV_FILE_MAX_BYTES)?;
    if bytes.len() > ENV_FILE_MAX_BYTES {
        return Err(CliError::failed(format!("{source} is larger than {ENV_FILE_MAX_BYTES} bytes")));
    }
    let text = text(bytes, &source)?;
    let found = env_file::parse(&text, &source)?.into_iter();
    found
        .map(|(name, value)| {
            Ok((name.clone(), checked(value.into_bytes(), &format!("the value of {name}"))?))
        })
        .collect()
}

fn checked(bytes: Vec<u8>, source: &str) -> Result<Value> {
    if bytes.len() > SECRET_VALUE_MAX_BYTES {
        return Err(CliError::failed(format!(
            "{source} is larger than {SECRET_VALUE_MAX_BYTES} bytes, the most that a secret may have"
        )));
    }
    text(bytes, source).map(Value)
}

fn text(bytes: Vec<u8>, source: &str) -> Result<String> {
    // The cause is not kept: it holds the value.
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::failed(format!("{source} is not UTF-8 text: byte {} is not valid", at + 1))
            .hint("a secret is text; encode other bytes, for example with `base64 -w0`")
    })
}

/// Whether the value is one line with a line break at its end, which is rarely meant.
fn ends_by_accident(value: &str) -> bool {
    value.find('\n').is_some_and(|at| at + 1 == value.len())
}

/// Sends a secret.
///
/// # Errors
/// When the node does not take it.
pub fn send(client: &Client, name: &SecretName, value: &Value) -> Result<Answer> {
    let body = json!({ "name": name.as_str(), "value": value.0 });
    client.send(client.request(Method::PUT, &["functions", "secrets"]).json(&body))
}

/// Runs `set`.
pub fn set(client: &Client, name: &SecretName, value: &Value, json: bool) -> Result<()> {
    let answer = send(client, name, value)?;
    if json {
        return output::line(&answer.line()?);
    }
    if ends_by_accident(&value.0) {
        output::note(
            "note: the value ends with a line break, which is part of the secret; `printf %s` sends none",
        );
    }
    output::line(&format!("set secret {name}"))
}

/// Runs `list`.
pub fn list(client: &Client, limit: Option<u32>, json: bool) -> Result<()> {
    let listed = Listed { path: &["functions", "secrets"], field: "secrets", of_namespace: true };
    let list = List::fetch(client, &listed, limit)?;
    if json {
        return output::line(&list.line()?);
    }
    let names: Vec<String> = list.read()?;
    if names.is_empty() {
        output::note("no secrets; set one with `orama function secrets set <name> <value>`");
        return Ok(());
    }
    let names: Vec<String> = names.iter().map(|name| output::one_line(name)).collect();
    output::line(&names.join("\n"))
}

/// Runs `delete`.
pub fn delete(client: &Client, name: &SecretName, force: bool, json: bool) -> Result<()> {
    confirm(force, &format!("secret {name}"), "")?;
    let path = ["functions", "secrets", name.as_str()];
    let answer = client.send(client.request(Method::DELETE, &path))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted secret {name}"))
}

/// Runs `orama secrets rotate-key`.
pub fn rotate_key(client: &Client, json: bool) -> Result<()> {
    let request = client.bare(Method::POST, &["secrets", "rotate-key"]).timeout(ROTATE_TIMEOUT);
    let answer = client.send(request)?;
    if json {
        return output::line(&answer.line()?);
    }
    let Rotated { key_id, reencrypted } = answer.json()?;
    let key_id = output::one_line(&key_id);
    let secrets = if reencrypted == 1 { "secret" } else { "secrets" };
    output::line(&format!("the master key is now {key_id}; {reencrypted} {secrets} encrypted with it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_as_it_is() {
        assert_eq!(value(Some("a b".into()), None).unwrap().0, "a b");
        let file = tempfile::NamedTempFile::new().unwrap();
        let pem = "-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----\n";
        std::fs::write(file.path(), pem).unwrap();
        assert_eq!(value(None, Some(file.path())).unwrap().0, pem);
    }

    #[test]
    fn an_invalid_value_is_refused_without_showing_it() {
        let error = checked(b"pa55word\xff".to_vec(), "key.der").unwrap_err().to_string();
        assert!(error.contains("key.der is not UTF-8 text: byte 9"), "{error}");
        assert!(!error.contains("pa55"), "{error}");
        let error = checked(vec![b'x'; SECRET_VALUE_MAX_BYTES + 1], "the value").unwrap_err().to_string();
        assert!(error.contains("65536 bytes") && !error.contains("xx"), "{error}");
        assert!(checked(vec![b'x'; SECRET_VALUE_MAX_BYTES], "the value").is_ok());
    }

    #[test]
    fn debug_output_hides_the_value() {
        assert!(!format!("{:?}", Value("pa55".into())).contains("pa55"));
    }

    #[test]
    fn a_line_break_at_the_end_of_one_line_is_noticed_and_those_of_a_pem_are_not() {
        for (value, noticed) in
            [("token\n", true), ("token", false), ("", false), ("a\nb\n", false), ("\n", true)]
        {
            assert_eq!(ends_by_accident(value), noticed, "{value:?}");
        }
    }
}

//! `orama function delete`: confirms, then deletes a function or one version.

use super::confirm::confirm;
use crate::args::Target;
use crate::client::Client;
use crate::error::Result;
use crate::output;
use orama_server::platform::registry::Which;
use reqwest::Method;

/// Runs the command.
pub fn run(client: &Client, function: &Target, force: bool, json: bool) -> Result<()> {
    let rest = if function.which != Which::Live { "" } else { " with all its versions" };
    confirm(force, &function.to_string(), rest)?;
    let answer = client.send(client.request(Method::DELETE, &["functions", &function.to_string()]));
    let answer = answer.map_err(|error| client.explain_missing(error, function.name.as_str()))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted {function}"))
}

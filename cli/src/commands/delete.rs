//! `orama function delete`: asks first.

use crate::args::Target;
use crate::client::Client;
use crate::error::{CliError, Result};
use crate::output;
use reqwest::Method;
use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

/// Runs the command.
pub fn run(client: &Client, function: &Target, force: bool, json: bool) -> Result<()> {
    if !force {
        confirm(function)?;
    }
    let answer = client.send(client.request(Method::DELETE, &["functions", &function.to_string()]))?;
    if json {
        return output::line(&answer.line()?);
    }
    output::line(&format!("deleted {function}"))
}

fn confirm(function: &Target) -> Result<()> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(CliError::usage(format!("not deleting {function}: there is no terminal to ask on"))
            .hint("--force deletes without asking"));
    }
    let what = if function.version.is_some() { "" } else { " with all its versions" };
    drop(write!(stderr(), "Delete {function}{what}? [y/N] "));
    let mut answer = String::new();
    stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| CliError::failed(format!("cannot read the answer: {error}")))?;
    if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
        return Ok(());
    }
    Err(CliError::failed("not deleted"))
}

//! `orama function test`: runs the cases of a function's folder on a node of its own, which is gone afterwards.

mod case;
mod compare;
mod place;

use super::serve;
use super::{build, dev};
use crate::args::{Build, FunctionTest};
use crate::client::{Answer, Client};
use crate::compiler::{self, Scratch};
use crate::credentials::Credentials;
use crate::error::{CliError, Result, io};
use crate::manifest::Manifest;
use crate::output;
use crate::project::{Project, Source};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use case::{Case, Expect, Message};
use orama_server::Node;
use orama_server::platform::migrations::Migration;
use place::Place;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The status that is expected where a case does not say one.
const SUCCESS: u16 = 200;

/// What came of a case.
struct Outcome {
    name: String,
    file: PathBuf,
    took: Duration,
    /// Nothing, when the case passed.
    differences: Vec<String>,
}

/// What is tested.
struct Function {
    manifest: Manifest,
    migrations: Vec<Migration>,
    wasm: Vec<u8>,
}

impl Function {
    fn deploy<'a>(&'a self, client: &'a Client, env: &BTreeMap<String, String>) -> Result<Place<'a>> {
        Place::deploy(client, &self.manifest, &self.migrations, env, &self.wasm)
    }
}

/// Runs the command.
pub fn run(args: &FunctionTest, json: bool) -> Result<()> {
    serve::start_logging("error")?;
    let project = Project::open(&args.dir)?;
    let manifest = project.manifest()?;
    let migrations = project.migrations(&manifest)?;
    let found = case::find(&args.dir, args.run.as_deref())?;
    // All of them are read first: a mistake in one is told before anything runs.
    let cases = found.into_iter().map(|(name, file)| Ok((name, Case::read(&file)?, file)));
    let cases = cases.collect::<Result<Vec<_>>>()?;
    let wasm = module(&project, args, json)?;

    // Removed with everything in it, also by Ctrl-C.
    let temporary = std::env::temp_dir();
    let home = Scratch::new(&temporary).map_err(|error| io("write to", &temporary, error))?;
    let node =
        Node::start(dev::config(args.config.as_deref(), Some(([127, 0, 0, 1], 0).into()), home.path())?)
            .map_err(|error| CliError::failed("the node did not start").caused_by(error))?;
    let client = Client::new(Credentials::of_home(home.path())?)?;
    // In the namespace that stays: the module would be compiled for each case otherwise. What the node refuses is told once.
    let function = Function { manifest, migrations, wasm };
    function.deploy(&client, &BTreeMap::new())?;
    let mut outcomes = Vec::new();
    for (number, (name, case, file)) in cases.into_iter().enumerate() {
        let begun = Instant::now();
        let ran = in_namespace(&client, &format!("case-{}", number + 1), |client| {
            run_case(client, &function, &case)
        });
        let differences = ran.unwrap_or_else(|error| vec![error.described()]);
        let outcome = Outcome { name, file, took: begun.elapsed(), differences };
        if !json {
            output::line(&outcome.shown())?;
        }
        outcomes.push(outcome);
    }
    drop(node);
    report(&outcomes, json)
}

/// The function's module, built anew where there is code.
fn module(project: &Project, args: &FunctionTest, json: bool) -> Result<Vec<u8>> {
    compiler::remove_on_signals()
        .map_err(|error| CliError::failed("cannot wait for signals").caused_by(error))?;
    if project.source()? != Source::None {
        let args = Build { dir: args.dir.clone(), compiler: args.compiler, scheduler: args.scheduler };
        let built = build::compile(project, &args, json)?;
        if !json {
            build::warn(&built);
        }
    }
    project.module()
}

/// Does something in a new namespace, which is deleted afterwards.
fn in_namespace<T>(client: &Client, name: &str, act: impl FnOnce(&Client) -> Result<T>) -> Result<T> {
    client.send(client.bare(Method::POST, &["namespaces"]).json(&json!({ "name": name })))?;
    let done = act(&client.within(name));
    client.send(client.bare(Method::DELETE, &["namespaces", name]))?;
    done
}

/// Runs a case in its namespace; how what came differs from what was expected.
fn run_case(client: &Client, function: &Function, case: &Case) -> Result<Vec<String>> {
    let place = function.deploy(client, &case.env)?;
    let Expect { published, rows, cache, .. } = &case.expect;
    place.set_secrets(&case.secrets)?;
    if !(case.cache.is_empty() && cache.is_empty()) {
        place.add_probe()?;
    }
    case.sql.iter().try_for_each(|sql| place.execute(sql))?;
    case.cache.iter().try_for_each(|(key, value)| place.cache(key, value))?;
    if published.is_some() {
        place.add_recorder()?;
    }
    let answer = match (&case.request, &case.input, &case.input_text) {
        (Some(request), ..) => place.ask(request)?,
        (_, Some(json), _) => place.invoke(json.to_string().into_bytes())?,
        (.., text) => place.invoke(text.clone().unwrap_or_default().into_bytes())?,
    };
    let mut differences = of_answer(&case.expect, &answer);
    if let Some(expected) = published {
        differences.extend(of_messages(expected, place.published()?));
    }
    for expected in rows {
        let got = Value::from(place.query(&expected.sql)?.into_iter().map(Value::from).collect::<Vec<_>>());
        let expected_rows = Value::from(expected.rows.iter().cloned().map(Value::from).collect::<Vec<_>>());
        let lines = compare::json(&expected_rows, &got);
        differences.extend(
            lines.into_iter().map(|line| format!("rows of {}: {line}", compare::quoted(&expected.sql))),
        );
    }
    for (key, expected) in cache {
        let got = place.cached(key)?;
        if got != *expected {
            let said =
                |value: &Option<String>| value.as_deref().map_or("nothing".to_owned(), compare::quoted);
            let key = compare::quoted(key);
            differences.push(format!("cache {key}: expected {}, got {}", said(expected), said(&got)));
        }
    }
    let logs = match (&answer.request_id, case.expect.logs.is_empty() && differences.is_empty()) {
        (Some(id), false) => place.logs(id)?,
        _ => Vec::new(),
    };
    let missing = case.expect.logs.iter().filter(|text| !logs.iter().any(|line| line.contains(*text)));
    differences.extend(missing.map(|text| format!("log: no message contains {}", compare::quoted(text))));
    if !differences.is_empty() {
        differences.extend(logs.iter().map(|line| format!("the log has {}", compare::quoted(line))));
    }
    Ok(differences)
}

fn of_answer(expect: &Expect, answer: &Answer) -> Vec<String> {
    let mut differences = Vec::new();
    let text = String::from_utf8_lossy(&answer.body);
    let status = expect.status.unwrap_or(SUCCESS);
    if answer.status != status {
        let body = compare::quoted(&text);
        differences.push(format!("status: expected {status}, got {} with the body {body}", answer.status));
    }
    for (name, expected) in &expect.headers {
        let mut values = answer.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let got: Vec<&str> = values.by_ref().map(|(_, value)| value.as_str()).collect();
        if !got.contains(&expected.as_str()) {
            let got = if got.is_empty() { "nothing".to_owned() } else { compare::quoted(&got.join(", ")) };
            differences.push(format!("header {name}: expected {}, got {got}", compare::quoted(expected)));
        }
    }
    let parsed = || serde_json::from_slice::<Value>(&answer.body);
    let no_json = || vec![format!("expected JSON, got {}", compare::quoted(&text))];
    let body = match (&expect.json, &expect.text, &expect.base64) {
        (Some(expected), ..) => parsed().map_or_else(|_| no_json(), |got| compare::json(expected, &got)),
        (_, Some(expected), _) => compare::text(expected, &text),
        (.., Some(expected)) => compare::text(expected, &STANDARD.encode(&answer.body)),
        _ => Vec::new(),
    };
    let part = match &expect.contains {
        Some(Value::String(part)) if text.contains(part.as_str()) => Vec::new(),
        Some(Value::String(part)) => {
            vec![format!("expected {} in it, got {}", compare::quoted(part), compare::quoted(&text))]
        }
        Some(part) => parsed().map_or_else(|_| no_json(), |got| compare::part(part, &got)),
        None => Vec::new(),
    };
    differences.extend(body.into_iter().chain(part).map(|line| format!("body: {line}")));
    differences
}

/// Messages may have been published in any order.
fn of_messages(expected: &[Message], mut got: Vec<Message>) -> Vec<String> {
    let is = |a: &Message, b: &Message| a.topic == b.topic && compare::json(&a.data, &b.data).is_empty();
    let mut differences = Vec::new();
    let line =
        |message: &Message| format!("{}: {}", compare::quoted(&message.topic), compare::shown(&message.data));
    for message in expected {
        match got.iter().position(|found| is(message, found)) {
            Some(at) => drop(got.remove(at)),
            None => differences.push(format!("published: expected {}", line(message))),
        }
    }
    differences.extend(got.iter().map(|message| format!("published: got {}", line(message))));
    differences
}

impl Outcome {
    fn passed(&self) -> bool {
        self.differences.is_empty()
    }

    fn shown(&self) -> String {
        let word = if self.passed() { "ok  " } else { "FAIL" };
        let place = if self.passed() { String::new() } else { format!("  {}", self.file.display()) };
        let head = format!("{word}  {}  {} ms{place}", self.name, self.took.as_millis());
        let lines = self.differences.iter().map(|line| format!("      {}", output::printable(line)));
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "file": self.file,
            "passed": self.passed(),
            "duration_ms": self.took.as_millis() as u64,
            "differences": self.differences,
        })
    }
}

fn report(outcomes: &[Outcome], json: bool) -> Result<()> {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let passed = outcomes.len() - failed;
    if json {
        let cases: Vec<Value> = outcomes.iter().map(Outcome::json).collect();
        output::line(&json!({ "passed": passed, "failed": failed, "cases": cases }).to_string())?;
    } else {
        output::line(&format!("{passed} passed, {failed} failed"))?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(CliError::failed(format!("a case of {} failed", outcomes.len()))),
        _ => Err(CliError::failed(format!("{failed} cases of {} failed", outcomes.len()))),
    }
}

//! A namespace of one case: the function in it, what is put there before, and what is found there afterwards.

use super::case::{Message, Request};
use crate::args::Target;
use crate::client::{Answer, Client, INVOKE_TIMEOUT};
use crate::commands::{db, deploy, invoke, secrets};
use crate::error::{CliError, Result};
use crate::manifest::{self, Manifest, Trigger};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_runtime::function::StartMode;
use orama_runtime::names::{FunctionName, SecretName};
use orama_server::platform::migrations::Migration;
use orama_server::platform::registry::Which;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// Reads and writes the namespace's cache. `build.rs` assembles it.
const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.wasm"));
const PROBE_NAME: &str = "orama-test-probe";

/// Makes a dead letter of each message.
const RECORDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/recorder.wasm"));
const RECORDER_NAME: &str = "orama-test-recorder";

/// Every topic.
const ALL_TOPICS: &str = "**";

/// How long messages are waited for after the function's answer. They are stored already, and take milliseconds.
const EVENTS_PATIENCE: Duration = Duration::from_secs(10);
const EVENTS_PAUSE: Duration = Duration::from_millis(5);

/// The largest number of messages that are read.
const MESSAGES_MAX: u32 = 1000;

/// A namespace with a function.
pub struct Place<'a> {
    client: &'a Client,
    function: &'a Manifest,
}

impl<'a> Place<'a> {
    /// Deploys the function and its migrations, with further environment variables and without its triggers: only what the case
    /// asks for runs.
    ///
    /// # Errors
    /// When the node refuses it.
    pub fn deploy(
        client: &'a Client,
        function: &'a Manifest,
        migrations: &[Migration],
        env: &BTreeMap<String, String>,
        wasm: &[u8],
    ) -> Result<Self> {
        let mut deployed = function.clone();
        deployed.triggers.clear();
        if deployed.start == StartMode::Auto {
            // A snapshot would be made for a single run.
            deployed.start = StartMode::Command;
        }
        deployed.env.extend(env.clone());
        let told = deploy::Told { migrations: migrations.to_vec(), ..deploy::Told::default() };
        deploy::upload(client, &deployed, told, wasm.to_vec(), true)?;
        Ok(Self { client, function })
    }

    /// Sets secrets.
    ///
    /// # Errors
    /// When a name or a value is not one.
    pub fn set_secrets(&self, given: &BTreeMap<String, String>) -> Result<()> {
        for (name, value) in given {
            let name = SecretName::new(name)
                .map_err(|error| CliError::failed(format!("the secret {name:?}")).caused_by(error))?;
            secrets::send(self.client, &name, &secrets::value(Some(value.clone()), None)?)?;
        }
        Ok(())
    }

    /// Deploys what reads and writes the cache.
    ///
    /// # Errors
    /// When the node refuses it.
    pub fn add_probe(&self) -> Result<()> {
        self.add(PROBE_NAME, PROBE, Vec::new())
    }

    /// Deploys what keeps each message from now on.
    ///
    /// # Errors
    /// When the node refuses it.
    pub fn add_recorder(&self) -> Result<()> {
        self.add(RECORDER_NAME, RECORDER, vec![Trigger::Topic { topic: ALL_TOPICS.to_owned() }])
    }

    fn add(&self, name: &str, wasm: &[u8], triggers: Vec<Trigger>) -> Result<()> {
        let mut manifest = manifest::parse(&format!("name: {name}"))
            .map_err(|error| CliError::failed("a program of the tests has no name").caused_by(error))?;
        manifest.triggers = triggers;
        deploy::upload(self.client, &manifest, deploy::Told::default(), wasm.to_vec(), true).map(drop)
    }

    fn probe(&self, what: u8, key: &str, value: &str) -> Result<Vec<u8>> {
        let name = FunctionName::new(PROBE_NAME)
            .map_err(|error| CliError::failed("a program of the tests has no name").caused_by(error))?;
        let mut input = vec![what];
        input.extend((key.len() as u32).to_le_bytes());
        input.extend([key.as_bytes(), value.as_bytes()].concat());
        let answer = invoke::call(self.client, &Target { name, which: Which::Live }, input)?;
        Ok(invoke::unwrapped(&answer))
    }

    /// Executes a statement.
    ///
    /// # Errors
    /// What the database says.
    pub fn execute(&self, sql: &str) -> Result<()> {
        db::send(self.client, &[(false, sql, &[])]).map(drop).map_err(|error| failed(sql, error))
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// What the database says.
    pub fn query(&self, sql: &str) -> Result<Vec<Map<String, Value>>> {
        let found = db::rows(self.client, &[sql]).map_err(|error| failed(sql, error))?;
        Ok(found.into_iter().flatten().map(|row| row.0.into_iter().collect()).collect())
    }

    /// Puts a value into the cache.
    ///
    /// # Errors
    /// When it does not fit there.
    pub fn cache(&self, key: &str, value: &str) -> Result<()> {
        self.probe(b's', key, value)?;
        match self.cached(key)?.as_deref() {
            Some(found) if found == value => Ok(()),
            // An empty value is as none.
            None if value.is_empty() => Ok(()),
            _ => Err(CliError::failed(format!("the cache does not take the value of {key:?}"))),
        }
    }

    /// A value of the cache.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn cached(&self, key: &str) -> Result<Option<String>> {
        let found = self.probe(b'g', key, "")?;
        Ok((!found.is_empty()).then(|| String::from_utf8_lossy(&found).into_owned()))
    }

    /// Sends a request to the function; its answer, whatever the status.
    ///
    /// # Errors
    /// When the request cannot be made or no answer comes.
    pub fn ask(&self, request: &Request) -> Result<Answer> {
        let (body, kind) = match (&request.json, &request.body, &request.body_base64) {
            (Some(json), ..) => (Some(json.to_string().into_bytes()), Some("application/json")),
            (_, Some(text), _) => (Some(text.clone().into_bytes()), None),
            (.., Some(base64)) => {
                let bytes = STANDARD.decode(base64);
                let bytes =
                    bytes.map_err(|error| CliError::failed("body_base64 is no base64").caused_by(error))?;
                (Some(bytes), None)
            }
            _ => (None, None),
        };
        let method = request.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|error| CliError::failed(format!("the method {method:?}")).caused_by(error))?;
        let mut sent = self.client.web(method, self.function.name.as_str(), &request.path)?;
        let has_kind = request.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
        if let Some(kind) = kind.filter(|_| !has_kind) {
            sent = sent.header(CONTENT_TYPE, kind);
        }
        for (name, value) in &request.headers {
            sent = sent.header(name, value);
        }
        self.client.exchange(sent.body(body.unwrap_or_default()).timeout(INVOKE_TIMEOUT))
    }

    /// Invokes the function; its answer, whatever the status.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn invoke(&self, input: Vec<u8>) -> Result<Answer> {
        let path = ["functions", self.function.name.as_str(), "invoke"];
        let request = self.client.request(Method::POST, &path).timeout(INVOKE_TIMEOUT);
        let mut answer =
            self.client.exchange(request.header(CONTENT_TYPE, "application/json").body(input))?;
        answer.body = invoke::unwrapped(&answer);
        Ok(answer)
    }

    /// The messages of a run's log.
    ///
    /// # Errors
    /// When the node does not tell.
    pub fn logs(&self, request_id: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Logs {
            logs: Vec<Line>,
        }
        #[derive(Deserialize)]
        struct Line {
            message: String,
        }
        let path = ["functions", self.function.name.as_str(), "logs"];
        let query = [("request_id", request_id.to_owned())];
        let logs: Logs = self.client.send(self.client.query(Method::GET, &path, &query))?.json()?;
        Ok(logs.logs.into_iter().rev().map(|line| line.message).collect())
    }

    /// What was published since [`Self::add_recorder`].
    ///
    /// # Errors
    /// When the node does not tell, or messages are still under way after [`EVENTS_PATIENCE`].
    pub fn published(&self) -> Result<Vec<Message>> {
        #[derive(Deserialize)]
        struct Letters {
            dead_letters: Vec<Letter>,
        }
        #[derive(Deserialize)]
        struct Letter {
            topic: String,
            data: Value,
        }
        let until = Instant::now() + EVENTS_PATIENCE;
        while self.are_under_way()? {
            if Instant::now() > until {
                return Err(CliError::failed("the node is still busy with messages that were published"));
            }
            thread::sleep(EVENTS_PAUSE);
        }
        let path = ["functions", RECORDER_NAME, "dead-letters"];
        let query = [("limit", MESSAGES_MAX.to_string())];
        let letters: Letters = self.client.send(self.client.query(Method::GET, &path, &query))?.json()?;
        let messages = letters.dead_letters.into_iter().rev();
        Ok(messages.map(|Letter { topic, data }| Message { topic, data }).collect())
    }

    /// Whether messages wait or are handled, according to the node's metrics.
    fn are_under_way(&self) -> Result<bool> {
        const JOBS: [&str; 2] = ["orama_event_jobs_waiting ", "orama_event_jobs_running "];
        let metrics = self.client.send(self.client.metrics())?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let counts = text.lines().filter_map(|line| JOBS.iter().find_map(|name| line.strip_prefix(name)));
        let counts: Vec<&str> = counts.collect();
        if counts.len() != JOBS.len() {
            return Err(CliError::failed("the node does not tell how many messages wait"));
        }
        Ok(counts.iter().any(|count| count.trim() != "0"))
    }
}

fn failed(sql: &str, error: CliError) -> CliError {
    CliError::failed(sql).caused_by(error)
}

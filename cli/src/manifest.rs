//! `function.yaml`: the name, the limits and the environment of a function, checked strictly.

mod cors;
mod triggers;
mod yaml;

use orama_runtime::function::{StartMode, UnknownStartMode};
use orama_runtime::limits::{self, Setting};
use orama_runtime::names::FunctionName;
use orama_runtime::web::WebSettings;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
pub use triggers::Trigger;
use yaml::{Entry, Kind, Node};

/// Largest manifest, in bytes: four times the limit of the environment, for comments and quotes.
pub const MAX_BYTES: usize = 4 * limits::ENV_MAX_BYTES;

/// The keys, for messages.
const KEYS: &str = "name, public, internal, memory, timeout, retry, start, concurrency, keep_versions, max_body, cors, triggers, migrations, raw_http_response, env and environments";

/// The keys of an environment.
const KEYS_OF_ENVIRONMENT: &str = "those of the manifest but name and environments";

/// A place in the text. Line and column are counted from 1, as in editors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Position {
    const START: Self = Self { line: 1, column: 1 };
}

/// Why a manifest was refused. Never holds the value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", at.line, at.column)]
pub struct ManifestError {
    /// The place of the problem.
    pub at: Position,
    /// What is wrong and what is valid.
    pub message: String,
}

impl ManifestError {
    fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// The content of `function.yaml`. A key that is left out has its default.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The function's name.
    pub name: FunctionName,
    /// Whether anyone may invoke the function without a credential.
    pub public: bool,
    /// Memory limit in MB.
    pub memory_mb: u32,
    /// Limit of an invocation's wall-clock time, in seconds.
    pub timeout_seconds: u32,
    /// Further attempts after a failure.
    pub retry_count: u32,
    /// Seconds between attempts.
    pub retry_delay_seconds: u32,
    /// How instances are started.
    pub start: StartMode,
    /// Invocations at once on a node; 0 sets no limit.
    pub concurrency: u32,
    /// Newest versions that a deploy leaves; 0 leaves all.
    pub keep_versions: u32,
    /// What runs it beside its callers.
    pub triggers: Vec<Trigger>,
    /// How the web may reach it.
    pub web: WebSettings,
    /// The folder of migrations, relative to the manifest's.
    pub migrations: Option<PathBuf>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

impl Manifest {
    /// A function with all defaults.
    fn new(name: FunctionName) -> Self {
        Self {
            name,
            public: false,
            memory_mb: limits::MEMORY_MB.default,
            timeout_seconds: limits::TIMEOUT_SECONDS.default,
            retry_count: limits::RETRY_COUNT.default,
            retry_delay_seconds: limits::RETRY_DELAY_SECONDS.default,
            start: StartMode::default(),
            concurrency: limits::CONCURRENCY.default,
            keep_versions: limits::KEEP_VERSIONS.default,
            triggers: Vec::new(),
            web: WebSettings::default(),
            migrations: None,
            env: BTreeMap::new(),
        }
    }
}

// Values of the environment may be secrets, so only their names are shown.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("name", &self.name)
            .field("public", &self.public)
            .field("memory_mb", &self.memory_mb)
            .field("timeout_seconds", &self.timeout_seconds)
            .field("retry_count", &self.retry_count)
            .field("retry_delay_seconds", &self.retry_delay_seconds)
            .field("start", &self.start)
            .field("concurrency", &self.concurrency)
            .field("keep_versions", &self.keep_versions)
            .field("triggers", &self.triggers)
            .field("web", &self.web)
            .field("migrations", &self.migrations)
            .field("env", &self.env.keys())
            .finish()
    }
}

/// Reads a manifest, as it is without an environment.
///
/// # Errors
/// As [`parse_for`].
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    parse_for(text, None)
}

/// Reads a manifest as it is in one of its `environments`.
///
/// # Errors
/// The first problem with its line and column: text that is not YAML, an unknown key, a duplicate key, a value of the wrong
/// type or out of range, an invalid name, a missing `name`, an environment that is not there.
pub fn parse_for(text: &str, environment: Option<&str>) -> Result<Manifest, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::new(
            Position::START,
            format!("the file has {} bytes; a manifest has at most {MAX_BYTES}", text.len()),
        ));
    }
    let document = yaml::read(text)?.filter(|node| !node.is_null());
    let at = document.as_ref().map_or(Position::START, |node| node.at);
    let keys = document.as_ref().map_or(Ok(&[][..]), |node| entries("the manifest", node))?;
    let name = keys.iter().find(|entry| entry.key == "name").ok_or_else(|| {
        ManifestError::new(at, "the key \"name\" is missing; add one, for example `name: hello`")
    })?;
    let mut draft = Draft { internal_at: at, manifest: Manifest::new(function_name(&name.value)?) };
    let mut environments = None;
    for entry in keys {
        match entry.key.as_str() {
            "name" => {}
            "environments" => environments = Some(&entry.value),
            _ => draft.set(entry, KEYS)?,
        }
    }
    let plain = draft.clone().finish()?;
    let mut chosen = None;
    for entry in environments.map_or(Ok(&[][..]), |node| entries("environments", node))? {
        let mut changed = draft.clone();
        for entry in entries("an environment", &entry.value)? {
            changed.set(entry, KEYS_OF_ENVIRONMENT)?;
        }
        // All are checked, so that a mistake is not found on the day of the deploy.
        let manifest = changed.finish()?;
        if environment == Some(entry.key.as_str()) {
            chosen = Some(manifest);
        }
    }
    match (environment, chosen) {
        (None, _) => Ok(plain),
        (Some(_), Some(chosen)) => Ok(chosen),
        (Some(name), None) => {
            let at = environments.map_or(at, |node| node.at);
            let message = format!("there is no environment {:?} under environments", yaml::shorten(name));
            Err(ManifestError::new(at, message))
        }
    }
}

/// A manifest whose keys are being read.
#[derive(Clone)]
struct Draft {
    internal_at: Position,
    manifest: Manifest,
}

impl Draft {
    /// Takes a key; variables of the environment come to those that are there.
    fn set(&mut self, entry: &Entry, known: &str) -> Result<(), ManifestError> {
        let (rest, value) = (&mut self.manifest, &entry.value);
        match entry.key.as_str() {
            "public" => rest.public = boolean("public", value)?,
            "memory" => rest.memory_mb = whole_number(&limits::MEMORY_MB, value)?,
            "timeout" => rest.timeout_seconds = whole_number(&limits::TIMEOUT_SECONDS, value)?,
            "retry" => {
                let retry = Retry::read(value)?;
                (rest.retry_count, rest.retry_delay_seconds) = (retry.count, retry.delay_seconds);
            }
            "start" => rest.start = start_mode(value)?,
            "concurrency" => rest.concurrency = whole_number(&limits::CONCURRENCY, value)?,
            "keep_versions" => rest.keep_versions = whole_number(&limits::KEEP_VERSIONS, value)?,
            "triggers" => rest.triggers = triggers::read(value)?,
            "internal" => {
                (rest.web.is_internal, self.internal_at) = (boolean("internal", value)?, entry.at);
            }
            "max_body" => rest.web.max_body_mb = whole_number(&limits::MAX_BODY_MB, value)?,
            "cors" => rest.web.cors = cors::read(value)?.map(Arc::new),
            "migrations" => rest.migrations = Some(folder(value)?),
            // Taken because existing files have it. A function may always shape its answer.
            "raw_http_response" => drop(boolean("raw_http_response", value)?),
            "env" => rest.env.extend(environment(value)?),
            _ => return Err(unknown_key(entry, known)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Manifest, ManifestError> {
        let check = self.manifest.web.check(self.manifest.public);
        check.map_err(|error| ManifestError::new(self.internal_at, error.to_string()))?;
        Ok(self.manifest)
    }
}

/// The path of a folder, relative to the manifest's.
fn folder(node: &Node) -> Result<PathBuf, ManifestError> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => Ok(PathBuf::from(text)),
        _ => {
            let message = format!("migrations must be the path of a folder, found {}", node.describe());
            Err(ManifestError::new(node.at, message))
        }
    }
}

struct Retry {
    count: u32,
    delay_seconds: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { count: limits::RETRY_COUNT.default, delay_seconds: limits::RETRY_DELAY_SECONDS.default }
    }
}

impl Retry {
    fn read(node: &Node) -> Result<Self, ManifestError> {
        let mut retry = Self::default();
        for entry in entries("retry", node)? {
            match entry.key.as_str() {
                "count" => retry.count = whole_number(&limits::RETRY_COUNT, &entry.value)?,
                "delay" => retry.delay_seconds = whole_number(&limits::RETRY_DELAY_SECONDS, &entry.value)?,
                _ => return Err(unknown_key(entry, "count and delay (under retry)")),
            }
        }
        Ok(retry)
    }
}

/// The entries of a mapping. A section whose lines are all comments is an empty mapping.
fn entries<'node>(what: &str, node: &'node Node) -> Result<&'node [Entry], ManifestError> {
    match &node.kind {
        Kind::Map(entries) => Ok(entries),
        _ if node.is_null() => Ok(&[]),
        _ => Err(ManifestError::new(
            node.at,
            format!("{what} must be a mapping (`key: value` lines), found {}", node.describe()),
        )),
    }
}

fn unknown_key(entry: &Entry, known: &str) -> ManifestError {
    ManifestError::new(entry.at, format!("unknown key {:?}; the keys are {known}", yaml::shorten(&entry.key)))
}

fn function_name(node: &Node) -> Result<FunctionName, ManifestError> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => {
            FunctionName::new(text).map_err(|error| ManifestError::new(node.at, error.to_string()))
        }
        _ => Err(ManifestError::new(node.at, format!("name must be text, found {}", node.describe()))),
    }
}

fn start_mode(node: &Node) -> Result<StartMode, ManifestError> {
    match &node.kind {
        Kind::Scalar { text, .. } if !node.is_null() => {
            text.parse().map_err(|error: UnknownStartMode| ManifestError::new(node.at, error.to_string()))
        }
        _ => {
            let known = StartMode::NAMES.join(", ");
            Err(ManifestError::new(
                node.at,
                format!("start must be one of {known}, found {}", node.describe()),
            ))
        }
    }
}

fn boolean(key: &str, node: &Node) -> Result<bool, ManifestError> {
    match &node.kind {
        Kind::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "True" | "TRUE") => Ok(true),
        Kind::Scalar { text, plain: true } if matches!(text.as_str(), "false" | "False" | "FALSE") => {
            Ok(false)
        }
        _ => Err(ManifestError::new(
            node.at,
            format!("{key} must be true or false, found {}", node.describe()),
        )),
    }
}

fn whole_number(setting: &Setting, node: &Node) -> Result<u32, ManifestError> {
    let wrong_type = || {
        let unit = setting.unit;
        let name = setting.name;
        ManifestError::new(
            node.at,
            format!("{name} must be a whole number of {unit}, found {}", node.describe()),
        )
    };
    let Kind::Scalar { text, plain: true } = &node.kind else {
        return Err(wrong_type());
    };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong_type());
    }
    // A number that does not fit 64 bits is outside every range.
    let value = text.parse().unwrap_or(if digits.len() < text.len() { i64::MIN } else { i64::MAX });
    setting.check(value).map_err(|message| ManifestError::new(node.at, message))
}

// Numbers and booleans are taken as text (`PORT: 8080`, `VERSION: 1.10`), as existing manifests have them.
fn environment(node: &Node) -> Result<BTreeMap<String, String>, ManifestError> {
    let entries = entries("env", node)?;
    if entries.len() > limits::ENV_MAX_ENTRIES {
        let message =
            format!("env has {} variables; at most {} are allowed", entries.len(), limits::ENV_MAX_ENTRIES);
        return Err(ManifestError::new(node.at, message));
    }
    let mut env = BTreeMap::new();
    let mut bytes = 0;
    for Entry { key, at, value } in entries {
        let shown = yaml::shorten(key);
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(ManifestError::new(
                *at,
                format!(
                    "env: the name {shown:?} is not valid: it must not be empty, and must not hold '=' or a zero byte"
                ),
            ));
        }
        // No message repeats the value: it may be a secret.
        let Kind::Scalar { text, .. } = &value.kind else {
            return Err(ManifestError::new(
                value.at,
                format!("env.{shown} must be text, not a list or a mapping"),
            ));
        };
        if value.is_null() {
            return Err(ManifestError::new(
                value.at,
                format!("env.{shown} has no value; write \"\" for an empty one"),
            ));
        }
        if text.contains('\0') {
            return Err(ManifestError::new(value.at, format!("env.{shown} must not hold a zero byte")));
        }
        bytes += key.len() + text.len();
        if bytes > limits::ENV_MAX_BYTES {
            let message =
                format!("env is larger than {} bytes (names and values together)", limits::ENV_MAX_BYTES);
            return Err(ManifestError::new(*at, message));
        }
        env.insert(key.clone(), text.clone());
    }
    Ok(env)
}

#[cfg(test)]
mod tests;

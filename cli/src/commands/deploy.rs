//! `orama function deploy`: builds the module if there are sources, uploads it, and shows the new version.

use super::namespace::warn;
use super::{FunctionInfo, build};
use crate::args;
use crate::client::{Answer, Client, DEPLOY_TIMEOUT};
use crate::error::{CliError, Result, io};
use crate::manifest::Manifest;
use crate::origin::Sources;
use crate::output::{self, Progress};
use crate::project::{MODULE, Project, Source};
use orama_runtime::limits::WASM_MAX_BYTES;
use orama_runtime::names::AliasName;
use orama_server::platform::migrations::Migration;
use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::json;
use std::fs;
use std::io::Cursor;
use std::time::{Duration, Instant};

/// How long the command waits to learn how the function starts, and between two looks. An idle node knows after 0.2 s.
const START_PATIENCE: Duration = Duration::from_secs(10);
const START_PAUSE: Duration = Duration::from_millis(50);

/// The fields of the node's answer that the command shows.
#[derive(Deserialize)]
struct Deployed {
    function: FunctionInfo,
    /// Whether the node compiled the module. A node that has the compiled code already does not.
    compiled: Option<bool>,
    /// Quotas that are nearly used up.
    #[serde(default)]
    warnings: Vec<String>,
}

/// What is told of a new version beside its settings.
#[derive(Default)]
pub struct NewVersion {
    /// An alias that is to stand for it.
    pub alias: Option<AliasName>,
    /// What it is for.
    pub message: Option<String>,
    /// An entry of the manifest's environments.
    pub environment: Option<String>,
}

/// Runs the command.
pub fn run(args: &args::Build, version: NewVersion, client: &Client, json: bool) -> Result<()> {
    let project = Project::open(&args.dir)?;
    // Read first, so that a mistake in it is reported before a build of many seconds.
    let manifest = project.manifest_for(version.environment.as_deref())?;
    let migrations = project.migrations(&manifest)?;
    let path = project.module_path();
    if project.source()? != Source::None {
        // Always: only the compiler knows whether the module is that of the sources.
        let built = build::compile(&project, args, json)?;
        if !json {
            build::warn(&built);
            output::note(&build::summary(&built));
        }
    } else if !path.exists() {
        return Err(CliError::failed(format!(
            "there is neither a Go file, nor a Cargo.toml, nor a {MODULE} in {}",
            project.dir().display()
        ))
        .hint("go to a function's folder, name one, or start one with `orama function init <name>`"));
    }
    let wasm = fs::read(&path).map_err(|error| io("read", &path, error))?;
    let size = wasm.len() as u64;
    let may_have_snapshot = is_of_go(&wasm) && manifest.start.may_resume();
    let sources = Sources::of(project.dir(), version.message.as_deref());
    let told = Told { alias: version.alias, sources, migrations };
    let answer = upload(client, &manifest, told, wasm, json)?;
    if json {
        return output::line(&answer.line()?);
    }
    let Deployed { function, compiled, warnings } = answer.json()?;
    output::line(&format!(
        "deployed {}\n  version     {}\n  content id  {}\n  size        {} ({size} bytes)",
        output::one_line(&function.name),
        function.version,
        output::one_line(&function.wasm_cid),
        output::size(size),
    ))?;
    let url = client.function_url(&function.namespace, &function.name);
    output::line(&format!("  url         {}", output::one_line(&url)))?;
    if may_have_snapshot && let Some(start) = start_of(client, &function) {
        output::line(&format!("  start       {}", output::one_line(&start)))?;
    }
    if compiled == Some(false) {
        output::note("the node had compiled this module before and used that code");
    }
    warn(&warnings);
    Ok(())
}

/// Whether standard Go built a module. It names its build in a section of its own, at the beginning.
fn is_of_go(wasm: &[u8]) -> bool {
    const BEGINNING_BYTES: usize = 64;
    const SECTION: &[u8] = b"go:buildid";
    let beginning = wasm.get(..BEGINNING_BYTES).unwrap_or(wasm);
    beginning.windows(SECTION.len()).any(|bytes| bytes == SECTION)
}

/// How a version starts, which its node finds out right after the deploy; `None` if it takes longer, or cannot be asked.
fn start_of(client: &Client, function: &FunctionInfo) -> Option<String> {
    let name = format!("{}@{}", function.name, function.version);
    let until = Instant::now() + START_PATIENCE;
    while Instant::now() < until {
        let answer = client.send(client.request(Method::GET, &["functions", &name])).ok()?;
        if let Some(note) = answer.json::<FunctionInfo>().ok()?.start_note {
            return Some(note);
        }
        std::thread::sleep(START_PAUSE);
    }
    None
}

/// What a deploy tells of a version beside its settings.
#[derive(Default)]
pub struct Told {
    /// An alias that is to stand for it.
    pub alias: Option<AliasName>,
    /// Its sources.
    pub sources: Option<Sources>,
    /// What is to run on the database before.
    pub migrations: Vec<Migration>,
}

/// Uploads a module and its settings.
pub fn upload(
    client: &Client,
    manifest: &Manifest,
    told: Told,
    wasm: Vec<u8>,
    quiet: bool,
) -> Result<Answer> {
    if wasm.len() > WASM_MAX_BYTES {
        let (size, limit) = (output::size(wasm.len() as u64), output::size(WASM_MAX_BYTES as u64));
        return Err(CliError::failed(format!("the module has {size}; a node accepts at most {limit}"))
            .hint("build a smaller one with TinyGo: `orama function build --compiler tinygo`"));
    }
    let size = wasm.len() as u64;
    let progress = Progress::start(&format!("uploading {} ({})", manifest.name, output::size(size)), quiet);
    progress.bytes(size);
    let reader = progress.reader(Cursor::new(wasm), size, "the node is checking and compiling the module");
    let mut metadata = json!({
        "env_vars": manifest.env,
        "cors": manifest.web.cors.as_deref(),
        "triggers": manifest.triggers,
    });
    // Left out where there is none: a node of an earlier version does not know them.
    if let Some(alias) = told.alias {
        metadata["alias"] = alias.as_str().into();
    }
    if let Some(sources) = told.sources {
        metadata["source"] = json!(sources);
    }
    if !told.migrations.is_empty() {
        metadata["migrations"] = json!(told.migrations);
    }
    let form = Form::new()
        .text("name", manifest.name.to_string())
        .text("is_public", manifest.public.to_string())
        .text("memory_limit_mb", manifest.memory_mb.to_string())
        .text("timeout_seconds", manifest.timeout_seconds.to_string())
        .text("retry_count", manifest.retry_count.to_string())
        .text("retry_delay_seconds", manifest.retry_delay_seconds.to_string())
        .text("start", manifest.start.as_str())
        .text("concurrency", manifest.concurrency.to_string())
        .text("keep_versions", manifest.keep_versions.to_string())
        .text("internal", manifest.web.is_internal.to_string())
        .text("max_body", manifest.web.max_body_mb.to_string())
        .text("metadata", metadata.to_string())
        .part("wasm", Part::reader_with_length(reader, size).file_name(MODULE));
    client.send(client.request(Method::POST, &["functions"]).timeout(DEPLOY_TIMEOUT).multipart(form))
}

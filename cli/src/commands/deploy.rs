//! `orama function deploy`: builds when the code changed, uploads, shows what the node made of it.

use super::{FunctionInfo, build};
use crate::args;
use crate::client::{Answer, Client, DEPLOY_TIMEOUT};
use crate::compiler::Compiler;
use crate::error::{CliError, Result, io};
use crate::manifest::Manifest;
use crate::output::{self, Progress};
use crate::project::{MODULE, Module, Project};
use orama_runtime::limits::WASM_MAX_BYTES;
use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::json;
use std::fs;
use std::io::Cursor;

/// What the node answers to a deploy, as far as it is shown.
#[derive(Deserialize)]
struct Deployed {
    function: FunctionInfo,
    /// Whether the node had to compile the module; it does not when it knows it.
    compiled: Option<bool>,
}

/// Runs the command.
pub fn run(args: &args::Build, client: &Client, json: bool) -> Result<()> {
    let project = Project::open(&args.dir)?;
    // First, so that a mistake in it is told before a build of many seconds.
    let manifest = project.manifest()?;
    match project.module()? {
        Module::Fresh => {}
        Module::Stale(why) => {
            if !json {
                output::note(&format!("building: {why}"));
            }
            let built = Compiler::find(args.compiler)?.build(&project, args.scheduler, json)?;
            if !json {
                build::warn(&built);
                output::note(&build::summary(&built));
            }
        }
        Module::Missing => {
            return Err(CliError::failed(format!(
                "{} has neither Go files nor a {MODULE}",
                project.dir().display()
            )));
        }
    }
    let path = project.module_path();
    let wasm = fs::read(&path).map_err(|error| io("read", &path, &error))?;
    let size = wasm.len() as u64;
    let answer = upload(client, &manifest, wasm, json)?;
    if json {
        return output::line(&answer.line()?);
    }
    let Deployed { function, compiled } = answer.json()?;
    output::line(&format!(
        "deployed {}\n  version     {}\n  content id  {}\n  size        {} ({size} bytes)",
        output::one_line(&function.name),
        function.version,
        output::one_line(&function.wasm_cid),
        output::size(size),
    ))?;
    if compiled == Some(false) {
        output::note("the node knew this module: nothing was compiled");
    }
    Ok(())
}

/// Sends a module and its settings to the node.
pub fn upload(client: &Client, manifest: &Manifest, wasm: Vec<u8>, quiet: bool) -> Result<Answer> {
    if wasm.len() > WASM_MAX_BYTES {
        let (size, limit) = (output::size(wasm.len() as u64), output::size(WASM_MAX_BYTES as u64));
        return Err(CliError::failed(format!("the module has {size}, a node takes at most {limit}"))
            .hint("TinyGo makes smaller modules: `orama function build --compiler tinygo`"));
    }
    let size = wasm.len() as u64;
    let progress = Progress::start(&format!("uploading {} ({})", manifest.name, output::size(size)), quiet);
    progress.bytes(size);
    let reader = progress.reader(Cursor::new(wasm), size, "the node checks and compiles the module");
    let form = Form::new()
        .text("name", manifest.name.to_string())
        .text("is_public", manifest.public.to_string())
        .text("memory_limit_mb", manifest.memory_mb.to_string())
        .text("timeout_seconds", manifest.timeout_seconds.to_string())
        .text("retry_count", manifest.retry_count.to_string())
        .text("retry_delay_seconds", manifest.retry_delay_seconds.to_string())
        .text("start", manifest.start.as_str())
        .text("metadata", json!({ "env_vars": manifest.env }).to_string())
        .part("wasm", Part::reader_with_length(reader, size).file_name(MODULE));
    client.send(client.request(Method::POST, &["functions"]).timeout(DEPLOY_TIMEOUT).multipart(form))
}

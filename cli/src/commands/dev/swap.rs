//! Builds one function and puts it in the place of its older version.

use crate::args::{CompilerChoice, SchedulerChoice};
use crate::client::Client;
use crate::commands::FunctionInfo;
use crate::commands::deploy::{Told, upload};
use crate::compiler::{Compiler, Scheduler, Sources};
use crate::error::Result;
use crate::manifest::Manifest;
use crate::output;
use crate::project::{Project, Source};
use orama_runtime::names::FunctionName;
use orama_server::platform::migrations::Migration;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How many versions the node keeps of a function that does not say so. Each save makes one.
const KEPT_VERSIONS: u32 = 2;

/// What builds functions.
#[derive(Debug, Clone, Copy)]
pub struct Tools {
    /// The compiler of Go code.
    pub compiler: CompilerChoice,
    /// TinyGo's scheduler.
    pub scheduler: SchedulerChoice,
}

/// What serves.
#[derive(Clone)]
pub struct Serving {
    /// Its version.
    pub version: u32,
    /// Its address.
    pub url: String,
    manifest: Manifest,
    migrations: Vec<Migration>,
    module: blake3::Hash,
    needs_scheduler: bool,
}

/// What a build came to.
pub struct Swapped {
    /// What serves now; `None` if that is what served before.
    pub serving: Option<Serving>,
    /// What the compiler said, and what was done otherwise than one may expect.
    pub remarks: Vec<String>,
    /// The compiler; `None` for a module that is given.
    pub compiler: Option<&'static str>,
    /// The module's size in bytes.
    pub size_bytes: u64,
    /// How long the compiler took.
    pub built_in: Duration,
}

impl Serving {
    /// The function's name.
    pub fn name(&self) -> &FunctionName {
        &self.manifest.name
    }
}

#[derive(Deserialize)]
struct Deployed {
    function: FunctionInfo,
}

/// Builds a function and deploys it, unless the very same serves already.
///
/// # Errors
/// When there is nothing to build, the compiler fails, or the node refuses the module. What served before goes on.
pub fn swap(client: &Client, dir: &Path, tools: Tools, before: Option<&Serving>) -> Result<Swapped> {
    let project = Project::open(dir)?;
    let mut manifest = project.manifest()?;
    if manifest.keep_versions == 0 {
        manifest.keep_versions = KEPT_VERSIONS;
    }
    let (mut remarks, mut compiler, mut built_in) = (Vec::new(), None, Duration::ZERO);
    let mut needs_scheduler = false;
    if project.source()? != Source::None {
        // TinyGo builds a program twice to find out that it needs a scheduler. One that did rarely ceases to.
        let did_need = before.is_some_and(|before| before.needs_scheduler);
        let scheduler = match tools.scheduler {
            SchedulerChoice::Auto if did_need => SchedulerChoice::Asyncify,
            chosen => chosen,
        };
        let built = Compiler::of(&project, tools.compiler)?.build(&project, scheduler, true)?;
        needs_scheduler = built.scheduler == Some(Scheduler::Asyncify);
        remarks.extend(built.notes.iter().map(|note| format!("note: {note}")));
        remarks.extend(built.warnings.lines().map(str::to_owned));
        (compiler, built_in) = (Some(built.compiler), built.took);
    }
    let wasm = project.module()?;
    let (size_bytes, module) = (wasm.len() as u64, blake3::hash(&wasm));
    let migrations = project.migrations(&manifest)?;
    let is_same = before.is_some_and(|before| {
        before.module == module && before.manifest == manifest && before.migrations == migrations
    });
    let serving = match is_same {
        true => None,
        false => {
            let told = Told { migrations: migrations.clone(), ..Told::default() };
            let (version, url) = deploy(client, &manifest, told, wasm)?;
            Some(Serving { version, url, manifest, migrations, module, needs_scheduler })
        }
    };
    Ok(Swapped { serving, remarks, compiler, size_bytes, built_in })
}

/// Deploys a module; its version and its address.
fn deploy(client: &Client, manifest: &Manifest, told: Told, wasm: Vec<u8>) -> Result<(u32, String)> {
    let Deployed { function } = upload(client, manifest, told, wasm, true)?.json()?;
    Ok((function.version, client.function_url(&function.namespace, &function.name)))
}

/// Finds what a function is made from outside of its folder: of its code, and the folder of its migrations.
pub fn sources(dir: &Path, tools: Tools) -> Sources {
    let Ok(project) = Project::open(dir) else { return Sources::default() };
    let compiler = Compiler::of(&project, tools.compiler).ok();
    let mut found = compiler.map(|compiler| compiler.sources_outside(&project)).unwrap_or_default();
    let migrations = project.manifest().ok().and_then(|manifest| manifest.migrations);
    found.folders.extend(migrations.and_then(|folder| fs::canonicalize(dir.join(folder)).ok()));
    found
}

/// Removes a function from the node, whose name no folder has any more.
///
/// # Errors
/// When the node does not.
pub fn remove(client: &Client, name: &str) -> Result<()> {
    client.send(client.request(reqwest::Method::DELETE, &["functions", name])).map(drop)
}

/// Rewrites the compiler's places of the function's own files, such as `./function.go:3:5`, so that they lead there from the
/// folder in which the command runs.
pub fn with_places(text: &str, dir: &Path) -> String {
    let placed = |line: &str| {
        let end = line.find(".go:")?;
        let (path, rest) = line.split_at(end);
        let path = Path::new(path);
        let is_place = path.is_relative() && !path.to_string_lossy().contains(char::is_whitespace);
        is_place.then(|| format!("{}{rest}", tidy(&dir.join(path)).display()))
    };
    let lines = text.lines().map(|line| placed(line).unwrap_or_else(|| line.to_owned()));
    lines.map(|line| output::printable(&line)).collect::<Vec<_>>().join("\n")
}

/// A path without `.`, and without `..` where it follows a folder.
fn tidy(path: &Path) -> PathBuf {
    use std::path::Component::{CurDir, Normal, ParentDir};
    let mut parts: Vec<std::path::Component<'_>> = Vec::new();
    for part in path.components() {
        match part {
            CurDir => {}
            ParentDir if matches!(parts.last(), Some(Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().collect()
}

/// A client that threads share.
pub type Shared = Arc<Client>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_compiler_lead_from_here() {
        let said = "# example.com/hello\n./function.go:3:5: undefined: x\n../shared/shared.go:1:1: bad\nsee a b.go:1\n/abs/x.go:1: y";
        assert_eq!(
            with_places(said, Path::new("./api/hello")),
            "# example.com/hello\napi/hello/function.go:3:5: undefined: x\napi/shared/shared.go:1:1: bad\nsee a b.go:1\n/abs/x.go:1: y"
        );
        assert_eq!(with_places("../shared/a.go:1:1: x", Path::new(".")), "../shared/a.go:1:1: x");
        assert_eq!(with_places("a.go:1:1: x\u{1b}", Path::new("/p/f")), "/p/f/a.go:1:1: x\\u{1b}");
    }
}

//! `orama function build`: compiles Go or Rust code to function.wasm.

use crate::args::Build;
use crate::compiler::{self, Built, Compiler, Scheduler};
use crate::error::{CliError, Result};
use crate::output;
use crate::project::{MODULE, Project};
use orama_runtime::function::StartMode;
use serde_json::json;

/// Runs the command.
pub fn run(args: &Build, json: bool) -> Result<()> {
    let project = Project::open(&args.dir)?;
    let built = compile(&project, args, json)?;
    // A mistake in function.yaml is the deploy's to tell.
    let mode = project.manifest().map(|manifest| manifest.start).unwrap_or_default();
    let start = start_of(&built, mode);
    if json {
        return output::line(
            &json!({
                "compiler": built.compiler,
                "scheduler": built.scheduler.map(Scheduler::word),
                "path": project.module_path(),
                "size_bytes": built.size_bytes,
                "duration_ms": built.took.as_millis(),
                "start": start,
                "notes": built.notes,
            })
            .to_string(),
        );
    }
    warn(&built);
    output::line(&summary(&built))?;
    output::line(start)
}

/// Builds a project's module. Ctrl-C leaves no file of the build behind.
///
/// # Errors
/// When the compiler is not installed or fails.
pub fn compile(project: &Project, args: &Build, quiet: bool) -> Result<Built> {
    let compiler = Compiler::of(project, args.compiler)?;
    compiler::remove_on_signals()
        .map_err(|error| CliError::failed("cannot wait for signals").caused_by(error))?;
    compiler.build(project, args.scheduler, quiet)
}

/// How runs of what was built will start. Only a node can measure what that takes.
fn start_of(built: &Built, mode: StartMode) -> &'static str {
    match mode {
        StartMode::Auto | StartMode::Snapshot if built.keeps_starts => {
            "starts from a snapshot, which the node makes at the deploy"
        }
        StartMode::Auto | StartMode::Parked => {
            "starts anew for each run, ahead of it where a node measures a gain"
        }
        StartMode::Snapshot | StartMode::Command => "starts anew for each run",
    }
}

/// Shows the notes and warnings of a build that succeeded.
pub fn warn(built: &Built) {
    for note in &built.notes {
        output::note(&format!("note: {note}"));
    }
    if !built.warnings.is_empty() {
        output::note(&output::printable(&built.warnings));
    }
}

/// Describes a build: the compiler, the size and the time.
pub fn summary(built: &Built) -> String {
    let scheduler = match built.scheduler {
        None => "",
        Some(Scheduler::None) => " without a scheduler (no goroutines)",
        Some(Scheduler::Asyncify) => " with its scheduler",
    };
    format!(
        "built {MODULE} with {}{scheduler}: {} in {}",
        built.compiler,
        output::size(built.size_bytes),
        output::seconds(built.took)
    )
}

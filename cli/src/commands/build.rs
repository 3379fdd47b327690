//! `orama function build`: compiles Go code to function.wasm.

use crate::args::Build;
use crate::compiler::{Built, Compiler, Scheduler};
use crate::error::Result;
use crate::output;
use crate::project::{MODULE, Project};
use orama_runtime::function::StartMode;
use serde_json::json;

/// Runs the command.
pub fn run(args: &Build, json: bool) -> Result<()> {
    let project = Project::open(&args.dir)?;
    let built = Compiler::find(args.compiler)?.build(&project, args.scheduler, json)?;
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
            })
            .to_string(),
        );
    }
    warn(&built);
    output::line(&summary(&built))?;
    output::line(start)
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

/// Shows the warnings of a compiler that succeeded.
pub fn warn(built: &Built) {
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

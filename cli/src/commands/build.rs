//! `orama function build`: compiles Go code to function.wasm.

use crate::args::Build;
use crate::compiler::{Built, Compiler, Scheduler};
use crate::error::Result;
use crate::output;
use crate::project::{MODULE, Project};
use serde_json::json;

/// Runs the command.
pub fn run(args: &Build, json: bool) -> Result<()> {
    let project = Project::open(&args.dir)?;
    let built = Compiler::find(args.compiler)?.build(&project, args.scheduler, json)?;
    if json {
        return output::line(
            &json!({
                "compiler": built.compiler,
                "scheduler": built.scheduler.map(Scheduler::word),
                "path": project.module_path(),
                "size_bytes": built.size_bytes,
                "duration_ms": built.took.as_millis(),
            })
            .to_string(),
        );
    }
    warn(&built);
    output::line(&summary(&built))
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

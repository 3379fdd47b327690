//! Builds Go code with TinyGo or standard Go, and Rust code with cargo. After a build `function.wasm` is either current or
//! removed.

mod golang;
mod rust;
mod scratch;
mod sources;

use crate::args::{CompilerChoice, SchedulerChoice};
use crate::error::{CliError, Result, io};
use crate::output::{self, Progress};
use crate::project::{MODULE, Project, Source};
use golang::Surroundings;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use scratch::{Scratch, remove_now, remove_on_signals};
pub use sources::Sources;

/// An installed compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// TinyGo.
    TinyGo {
        /// The path of its program.
        program: PathBuf,
        /// Standard Go, which builds what TinyGo does not support; `None` if TinyGo was asked for.
        otherwise: Option<PathBuf>,
    },
    /// Standard Go, with the path of its program.
    Go(PathBuf),
    /// Rust, with the path of cargo.
    Rust(PathBuf),
}

/// How goroutines run in a module that TinyGo builds: a value of its `-scheduler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// There are no goroutines.
    None,
    /// TinyGo rewrites the code so that a goroutine can be suspended and resumed.
    Asyncify,
}

impl Scheduler {
    /// The value of TinyGo's `-scheduler`.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Asyncify => "asyncify",
        }
    }
}

/// TinyGo links this message into a module that was built without a scheduler and uses timers, which then fail at run time.
/// Goroutines need no such check: the compiler refuses them.
const TIMERS_FAIL: &[u8] = b"timers not supported without a scheduler";

/// What TinyGo says of an installed Go that it does not support, and of a part of the standard library that it lacks.
const NEEDS_GO: [&str; 2] = ["requires go version", "is not in std"];

/// How each module of WebAssembly begins.
const MAGIC: &[u8] = b"\0asm";

/// A finished build.
pub struct Built {
    /// The compiler's name.
    pub compiler: &'static str,
    /// The scheduler that TinyGo was given; `None` for standard Go.
    pub scheduler: Option<Scheduler>,
    /// The module's size in bytes.
    pub size_bytes: u64,
    /// How long the build took.
    pub took: Duration,
    /// What was done otherwise than one may expect, a sentence each.
    pub notes: Vec<String>,
    /// The compiler's output.
    pub warnings: String,
    /// Whether nodes keep the starts of such programs.
    pub keeps_starts: bool,
}

impl Compiler {
    /// Finds the compiler for a project's code on `PATH`.
    ///
    /// # Errors
    /// When it is not installed, or there is no code.
    pub fn of(project: &Project, choice: CompilerChoice) -> Result<Self> {
        match project.source()? {
            Source::Go => Self::find(choice),
            Source::Rust => which::which("cargo").map(Self::Rust).map_err(|_| {
                CliError::failed("Rust is not installed (looked for `cargo` on PATH)").hint(
                    "install it from https://rustup.rs, and its target: rustup target add wasm32-wasip1",
                )
            }),
            Source::None => Err(CliError::failed(format!(
                "there is neither a Go file nor a Cargo.toml in {}",
                project.dir().display()
            ))
            .hint("start a new function with `orama function init <name>`")),
        }
    }

    /// Finds the chosen compiler for Go code on `PATH`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(choice: CompilerChoice) -> Result<Self> {
        Self::choose(choice, |program| which::which(program).ok())
    }

    fn choose(choice: CompilerChoice, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let (tinygo, go) = (find("tinygo"), find("go"));
        let with =
            |program: Option<PathBuf>, otherwise| program.map(|program| Self::TinyGo { program, otherwise });
        let (found, message) = match choice {
            CompilerChoice::Auto => (
                with(tinygo, go.clone()).or(go.map(Self::Go)),
                "neither TinyGo nor Go is installed (looked for `tinygo` and `go` on PATH)",
            ),
            CompilerChoice::Tinygo => {
                (with(tinygo, None), "TinyGo is not installed (looked for `tinygo` on PATH)")
            }
            CompilerChoice::Go => (go.map(Self::Go), "Go is not installed (looked for `go` on PATH)"),
        };
        found.ok_or_else(|| {
            CliError::failed(message).hint(
                "install Go 1.24 or newer from https://go.dev/dl/ and, for small modules that start fast, \
                 TinyGo from https://tinygo.org/getting-started/install/",
            )
        })
    }

    /// The compiler's name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TinyGo { .. } => "TinyGo",
            Self::Go(_) => "Go",
            Self::Rust(_) => "Rust",
        }
    }

    fn program(&self) -> &Path {
        match self {
            Self::TinyGo { program, .. } | Self::Go(program) | Self::Rust(program) => program,
        }
    }

    fn command(&self, output: &Path, scheduler: Option<Scheduler>) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::TinyGo { .. } => {
                // Without DWARF a hello has 0.5 MB instead of 1.4 MB. The names of functions stay, for traps. The default
                // optimisation level is the one for size.
                command.args(["build", "-no-debug", "-target", "wasi"]);
                if let Some(scheduler) = scheduler {
                    command.arg(format!("-scheduler={}", scheduler.word()));
                }
                command.arg("-o").arg(output);
                command.env_remove("GOOS").env_remove("GOARCH");
            }
            Self::Go(_) => {
                // No `-ldflags=-s`: it makes a hello 2% smaller (3.27 MB instead of 3.34 MB) and drops the name section,
                // so traps would show numbers. Without paths and version control data the same code gives the same
                // module, which a node does not compile again.
                command.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(output);
                command.env("GOOS", "wasip1").env("GOARCH", "wasm");
            }
            Self::Rust(_) => rust::prepare(&mut command),
        }
        command
    }

    /// Builds the project's module.
    ///
    /// The compiler writes a new file, which then replaces the old module in one step. A failed build removes the old module, as
    /// it no longer matches the sources.
    ///
    /// # Errors
    /// When the compiler fails, with its output, or when a file cannot be read or written.
    pub fn build(&self, project: &Project, scheduler: SchedulerChoice, quiet: bool) -> Result<Built> {
        let built = match self.try_build(project, scheduler, quiet) {
            Err(error) => self.build_otherwise(project, quiet, error),
            built => built,
        };
        if built.is_err() {
            let old = project.module_path();
            match fs::remove_file(&old) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io("remove the outdated", &old, error));
                }
                _ => {}
            }
        }
        built
    }

    /// Builds with standard Go what TinyGo lacks support for; gives any other error back.
    fn build_otherwise(&self, project: &Project, quiet: bool, error: CliError) -> Result<Built> {
        let described = error.described();
        match (self, described.lines().find(|line| NEEDS_GO.iter().any(|needs| line.contains(needs)))) {
            (Self::TinyGo { otherwise: Some(go), .. }, Some(reason)) => {
                let mut built = Self::Go(go.clone()).try_build(project, SchedulerChoice::Auto, quiet)?;
                let reason = output::one_line(reason.trim());
                built
                    .notes
                    .insert(0, format!("standard Go built the function, because TinyGo cannot: {reason}"));
                Ok(built)
            }
            _ => Err(error),
        }
    }

    fn try_build(&self, project: &Project, scheduler: SchedulerChoice, quiet: bool) -> Result<Built> {
        let sources = self.sources(project)?;
        let scratch = Scratch::new(project.dir()).map_err(|error| io("write to", project.dir(), error))?;
        let output = scratch.path().join(MODULE);
        let surroundings = self.surroundings(project);
        let flags = surroundings.fitting_flags();
        let progress = Progress::start(&format!("building {MODULE} with {}", self.name()), quiet);
        let clock = Instant::now();
        let run = |scheduler| {
            let mut command = self.command(&output, scheduler);
            if let Some((kept, _)) = &flags {
                command.env("GOFLAGS", kept);
            }
            command.current_dir(project.dir()).args(&sources).stdin(Stdio::null());
            command.output().map_err(|error| io("run", self.program(), error))
        };
        let (result, scheduler) = self.run_with(scheduler, &output, run)?;
        drop(progress);
        let said = self.said(&result);
        if !result.status.success() {
            return Err(self.failed(project, &result, &said, &surroundings));
        }
        if let Self::Rust(_) = self {
            let module = rust::module(&result.stdout)?;
            fs::copy(&module, &output).map_err(|error| io("copy", &module, error))?;
        }
        self.check(project, &output)?;
        let to = project.module_path();
        let size_bytes = fs::metadata(&output).map_err(|error| io("read", &output, error))?.len();
        fs::rename(&output, &to).map_err(|error| io("write", &to, error))?;
        let notes = flags
            .iter()
            .map(|(_, left_out)| format!("left out of GOFLAGS, as WebAssembly cannot: {left_out}"));
        Ok(Built {
            compiler: self.name(),
            scheduler,
            size_bytes,
            took: clock.elapsed(),
            notes: notes.collect(),
            warnings: said,
            keeps_starts: matches!(self, Self::Go(_)),
        })
    }

    /// What the compiler is told to build: the package of a Go module, else the Go files; nothing for cargo, which knows.
    fn sources(&self, project: &Project) -> Result<Vec<OsString>> {
        if let Self::Rust(_) = self {
            return Ok(Vec::new());
        }
        if in_go_module(project.dir()) {
            return Ok(vec![".".into()]);
        }
        Ok(project.go_files()?.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned).collect())
    }

    fn surroundings(&self, project: &Project) -> Surroundings {
        match self {
            Self::Go(go) => Surroundings::of(Some(go), project.dir()),
            // TinyGo runs `go` from PATH.
            Self::TinyGo { .. } => Surroundings::of(which::which("go").ok().as_deref(), project.dir()),
            Self::Rust(_) => Surroundings::default(),
        }
    }

    /// The compiler's output for people.
    fn said(&self, result: &Output) -> String {
        let said = match self {
            // Its standard output is for programs. Its standard error tells of each crate, also where nothing is wrong.
            Self::Rust(_) if result.status.success() => Vec::new(),
            Self::Rust(_) => result.stderr.clone(),
            _ => [&*result.stdout, &*result.stderr].concat(),
        };
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    fn failed(
        &self,
        project: &Project,
        result: &Output,
        said: &str,
        surroundings: &Surroundings,
    ) -> CliError {
        if let Some(error) = self.no_program(project) {
            return error;
        }
        let (name, status) = (self.name(), result.status);
        let error = CliError::failed(format!("{name} could not build the function ({status}):\n{said}"));
        let hint = match self {
            Self::Rust(_) => rust::hint(said),
            _ => surroundings.workspace_hint(said),
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// The error for a Go package that is no program. Standard Go builds an archive of it.
    fn no_program(&self, project: &Project) -> Option<CliError> {
        if let Self::Rust(_) = self {
            return None;
        }
        let (file, package) = golang::foreign_package(&project.go_files().ok()?)?;
        Some(
            CliError::failed(format!("{file} says `package {package}`; a function is a program"))
                .hint(format!("write `package main` in {file}, with a func main")),
        )
    }

    /// Checks that the compiler wrote a module.
    fn check(&self, project: &Project, output: &Path) -> Result<()> {
        let mut begin = Vec::new();
        match fs::File::open(output).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut begin)) {
            Ok(_) if begin == MAGIC => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io("read", output, error)),
            _ => Err(self
                .no_program(project)
                .unwrap_or_else(|| CliError::failed(format!("{} wrote no WebAssembly module", self.name())))),
        }
    }

    /// Runs the compiler with the chosen scheduler. For `Auto` TinyGo first builds without one, and builds again with one when
    /// that fails or the module uses timers.
    fn run_with(
        &self,
        choice: SchedulerChoice,
        output: &Path,
        run: impl Fn(Option<Scheduler>) -> Result<Output>,
    ) -> Result<(Output, Option<Scheduler>)> {
        let scheduler = match (self, choice) {
            (Self::Go(_) | Self::Rust(_), _) => None,
            (Self::TinyGo { .. }, SchedulerChoice::None) => Some(Scheduler::None),
            (Self::TinyGo { .. }, SchedulerChoice::Asyncify) => Some(Scheduler::Asyncify),
            (Self::TinyGo { .. }, SchedulerChoice::Auto) => {
                let result = run(Some(Scheduler::None))?;
                if result.status.success() && !uses_timers(output)? {
                    return Ok((result, Some(Scheduler::None)));
                }
                // This build supports the whole language, so it reports every other error.
                Some(Scheduler::Asyncify)
            }
        };
        Ok((run(scheduler)?, scheduler))
    }
}

/// Whether a module that was built without a scheduler needs one.
fn uses_timers(module: &Path) -> Result<bool> {
    let wasm = fs::read(module).map_err(|error| io("read", module, error))?;
    Ok(wasm.windows(TIMERS_FAIL.len()).any(|window| window == TIMERS_FAIL))
}

/// Whether the folder or one above it has a go.mod.
fn in_go_module(dir: &Path) -> bool {
    std::path::absolute(dir).is_ok_and(|dir| dir.ancestors().any(|dir| dir.join("go.mod").is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed<'a>(programs: &'a [&str]) -> impl Fn(&str) -> Option<PathBuf> + 'a {
        |program| programs.contains(&program).then(|| PathBuf::from(program))
    }

    #[test]
    fn tinygo_is_taken_where_it_is_and_go_otherwise() {
        let choose =
            |choice, programs: &[&str]| Compiler::choose(choice, installed(programs)).map(|c| c.name());
        assert_eq!(choose(CompilerChoice::Auto, &["tinygo", "go"]).unwrap(), "TinyGo");
        assert_eq!(choose(CompilerChoice::Auto, &["go"]).unwrap(), "Go");
        assert_eq!(choose(CompilerChoice::Go, &["tinygo", "go"]).unwrap(), "Go");
        assert_eq!(choose(CompilerChoice::Tinygo, &["tinygo", "go"]).unwrap(), "TinyGo");
        for (choice, programs) in [
            (CompilerChoice::Auto, &[][..]),
            (CompilerChoice::Tinygo, &["go"][..]),
            (CompilerChoice::Go, &["tinygo"][..]),
        ] {
            assert!(choose(choice, programs).unwrap_err().to_string().contains("installed"));
        }
    }

    #[test]
    fn a_build_that_fails_removes_the_old_module() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("function.go"), "package main").unwrap();
        fs::write(dir.path().join(MODULE), "old").unwrap();
        let project = Project::open(dir.path()).unwrap();
        let compiler = Compiler::Go(PathBuf::from("/nonexistent/go"));
        assert!(compiler.build(&project, SchedulerChoice::Auto, true).is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["function.go"]);
    }
}

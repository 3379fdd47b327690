//! Builds Go code with TinyGo or standard Go. After a build `function.wasm` is either current or removed.

use crate::args::{CompilerChoice, SchedulerChoice};
use crate::error::{CliError, Result, io};
use crate::output::Progress;
use crate::project::{MODULE, Project};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

/// An installed compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// TinyGo, with the path of its program.
    TinyGo(PathBuf),
    /// Standard Go, with the path of its program.
    Go(PathBuf),
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
    /// The compiler's output.
    pub warnings: String,
    /// Whether nodes keep the starts of such programs.
    pub keeps_starts: bool,
}

impl Compiler {
    /// Finds the chosen compiler on `PATH`.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(choice: CompilerChoice) -> Result<Self> {
        Self::choose(choice, |program| which::which(program).ok())
    }

    fn choose(choice: CompilerChoice, find: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let tinygo = || find("tinygo").map(Self::TinyGo);
        let go = || find("go").map(Self::Go);
        let (found, message) = match choice {
            CompilerChoice::Auto => (
                tinygo().or_else(go),
                "neither TinyGo nor Go is installed (looked for `tinygo` and `go` on PATH)",
            ),
            CompilerChoice::Tinygo => (tinygo(), "TinyGo is not installed (looked for `tinygo` on PATH)"),
            CompilerChoice::Go => (go(), "Go is not installed (looked for `go` on PATH)"),
        };
        found.ok_or_else(|| {
            CliError::failed(message).hint(
                "install Go 1.21 or newer from https://go.dev/dl/ and, for small modules that start fast, \
                 TinyGo from https://tinygo.org/getting-started/install/",
            )
        })
    }

    /// The compiler's name for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TinyGo(_) => "TinyGo",
            Self::Go(_) => "Go",
        }
    }

    fn program(&self) -> &Path {
        match self {
            Self::TinyGo(path) | Self::Go(path) => path,
        }
    }

    fn command(&self, output: &Path, scheduler: Option<Scheduler>) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::TinyGo(_) => {
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
        let built = self.try_build(project, scheduler, quiet);
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

    fn try_build(&self, project: &Project, scheduler: SchedulerChoice, quiet: bool) -> Result<Built> {
        let sources = sources(project)?;
        // Hidden, so that Go does not take it for a package. In the same folder, so that a rename moves the module.
        let scratch = tempfile::Builder::new()
            .prefix(".orama-build-")
            .tempdir_in(project.dir())
            .map_err(|error| io("write to", project.dir(), error))?;
        // Absolute, as the compiler runs in the project's folder.
        let output = std::path::absolute(scratch.path())
            .map_err(|error| io("find", scratch.path(), error))?
            .join(MODULE);
        let progress = Progress::start(&format!("building {MODULE} with {}", self.name()), quiet);
        let (started, clock) = (SystemTime::now(), Instant::now());
        let run = |scheduler| {
            let mut command = self.command(&output, scheduler);
            command.current_dir(project.dir()).args(&sources);
            command.output().map_err(|error| io("run", self.program(), error))
        };
        let (result, scheduler) = self.run_with(scheduler, &output, run)?;
        drop(progress);
        let said = [result.stdout, result.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        if !result.status.success() {
            return Err(CliError::failed(format!(
                "{} could not build the function ({}):\n{said}",
                self.name(),
                result.status
            )));
        }
        let size_bytes = take_over(&output, &project.module_path(), started)
            .map_err(|error| io("write", &project.module_path(), error))?;
        Ok(Built {
            compiler: self.name(),
            scheduler,
            size_bytes,
            took: clock.elapsed(),
            warnings: said,
            keeps_starts: matches!(self, Self::Go(_)),
        })
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
            (Self::Go(_), _) => None,
            (Self::TinyGo(_), SchedulerChoice::None) => Some(Scheduler::None),
            (Self::TinyGo(_), SchedulerChoice::Asyncify) => Some(Scheduler::Asyncify),
            (Self::TinyGo(_), SchedulerChoice::Auto) => {
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

/// What the compiler is told to build: the package of a Go module, else the Go files.
fn sources(project: &Project) -> Result<Vec<OsString>> {
    let go_files = project.go_files()?;
    if go_files.is_empty() {
        return Err(CliError::failed(format!("there are no Go files in {}", project.dir().display()))
            .hint("start a new function with `orama function init <name>`"));
    }
    if in_go_module(project.dir()) {
        return Ok(vec![".".into()]);
    }
    Ok(go_files.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned).collect())
}

/// Whether a module that was built without a scheduler needs one.
fn uses_timers(module: &Path) -> Result<bool> {
    let wasm = fs::read(module).map_err(|error| io("read", module, error))?;
    Ok(wasm.windows(TIMERS_FAIL.len()).any(|window| window == TIMERS_FAIL))
}

/// Moves the new module into place. Its time is the build's start, so that a source saved during the build counts as newer.
fn take_over(output: &Path, module: &Path, started: SystemTime) -> std::io::Result<u64> {
    let file = File::options().append(true).open(output)?;
    file.set_modified(started)?;
    let size = file.metadata()?.len();
    fs::rename(output, module)?;
    Ok(size)
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

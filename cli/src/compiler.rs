//! Go to WebAssembly: finds TinyGo or standard Go and runs it, so that `function.wasm` is either current or gone.

use crate::args::{CompilerChoice, SchedulerChoice};
use crate::error::{CliError, Result, io};
use crate::output::Progress;
use crate::project::{MODULE, Project};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// A compiler that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// TinyGo, by the path of its program.
    TinyGo(PathBuf),
    /// Standard Go, by the path of its program.
    Go(PathBuf),
}

/// How goroutines run in a module of TinyGo's; the word is the one of its `-scheduler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// They cannot be started.
    None,
    /// By rewriting the code so that it can be left and entered again.
    Asyncify,
}

impl Scheduler {
    /// TinyGo's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Asyncify => "asyncify",
        }
    }
}

/// What TinyGo links into a module without a scheduler when it uses timers: they fail at run time with this message.
/// Goroutines need no such look, as the compiler refuses them.
const TIMERS_FAIL: &[u8] = b"timers not supported without a scheduler";

/// A finished build.
pub struct Built {
    /// What compiled it.
    pub compiler: &'static str,
    /// What TinyGo was told of goroutines.
    pub scheduler: Option<Scheduler>,
    /// The module's size in bytes.
    pub size_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// What the compiler had to say nevertheless.
    pub warnings: String,
}

impl Compiler {
    /// Finds the compiler that was asked for.
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
                // Without DWARF a hello is 0.5 MB instead of 1.4; the names of functions stay, for traps. Its default
                // optimisation is already the one for size.
                command.args(["build", "-no-debug", "-target", "wasi"]);
                if let Some(scheduler) = scheduler {
                    command.arg(format!("-scheduler={}", scheduler.word()));
                }
                command.arg("-o").arg(output);
                command.env_remove("GOOS").env_remove("GOARCH");
            }
            Self::Go(_) => {
                // No `-ldflags=-s`: it makes a hello 2% smaller (3.27 MB for 3.34) and drops the name section with it,
                // and traps would show bare numbers. Without paths and version control, the same code gives the same
                // module, which a node then need not compile again.
                command.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(output);
                command.env("GOOS", "wasip1").env("GOARCH", "wasm");
            }
        }
        command
    }

    /// Builds the project's module.
    ///
    /// The compiler writes beside the old module and the new one takes its place at once. When that fails, the old one
    /// is removed: it is not what the sources say.
    pub fn build(&self, project: &Project, scheduler: SchedulerChoice, quiet: bool) -> Result<Built> {
        let built = self.try_build(project, scheduler, quiet);
        if built.is_err() {
            let old = project.module_path();
            match fs::remove_file(&old) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io("remove the outdated", &old, &error));
                }
                _ => {}
            }
        }
        built
    }

    fn try_build(&self, project: &Project, scheduler: SchedulerChoice, quiet: bool) -> Result<Built> {
        let go_files = project.go_files()?;
        if go_files.is_empty() {
            return Err(CliError::failed(format!("there are no Go files in {}", project.dir().display()))
                .hint("`orama function init <name>` starts a new function"));
        }
        // Hidden, so that Go's own search for packages passes by; in the same folder, so that a rename moves it.
        let scratch = tempfile::Builder::new()
            .prefix(".orama-build-")
            .tempdir_in(project.dir())
            .map_err(|error| io("write to", project.dir(), &error))?;
        // Absolute, as the compiler runs in the project's folder.
        let output = std::path::absolute(scratch.path())
            .map_err(|error| io("find", scratch.path(), &error))?
            .join(MODULE);
        let progress = Progress::start(&format!("building {MODULE} with {}", self.name()), quiet);
        let (started, clock) = (SystemTime::now(), Instant::now());
        let run = |scheduler| {
            let mut command = self.command(&output, scheduler);
            command.current_dir(project.dir());
            if in_go_module(project.dir()) {
                command.arg(".");
            } else {
                // A folder with nothing but function.go builds as well.
                command.args(go_files.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned));
            }
            command.output().map_err(|error| io("run", self.program(), &error))
        };
        let (result, scheduler) = match (self, scheduler) {
            (Self::Go(_), _) => (run(None)?, None),
            (Self::TinyGo(_), SchedulerChoice::None) => (run(Some(Scheduler::None))?, Some(Scheduler::None)),
            (Self::TinyGo(_), SchedulerChoice::Asyncify) => {
                (run(Some(Scheduler::Asyncify))?, Some(Scheduler::Asyncify))
            }
            (Self::TinyGo(_), SchedulerChoice::Auto) => {
                let result = run(Some(Scheduler::None))?;
                if result.status.success() && !uses_timers(&output)? {
                    (result, Some(Scheduler::None))
                } else {
                    // Whatever else was wrong with it is told by this one, which knows all of the language.
                    (run(Some(Scheduler::Asyncify))?, Some(Scheduler::Asyncify))
                }
            }
        };
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
            .map_err(|error| io("write", &project.module_path(), &error))?;
        Ok(Built { compiler: self.name(), scheduler, size_bytes, took: clock.elapsed(), warnings: said })
    }
}

/// Whether a module that was built without a scheduler would miss it.
fn uses_timers(module: &Path) -> Result<bool> {
    let wasm = fs::read(module).map_err(|error| io("read", module, &error))?;
    Ok(wasm.windows(TIMERS_FAIL.len()).any(|window| window == TIMERS_FAIL))
}

/// Moves the new module into place, dated to the build's start: a source saved while the compiler ran counts as newer.
fn take_over(output: &Path, module: &Path, started: SystemTime) -> std::io::Result<u64> {
    let file = File::options().append(true).open(output)?;
    file.set_modified(started)?;
    let size = file.metadata()?.len();
    fs::rename(output, module)?;
    Ok(size)
}

/// Whether a go.mod rules in the folder, its own or one above.
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

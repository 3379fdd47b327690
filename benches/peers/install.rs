//! Builds and installs the peers, each at a pinned version, in a folder outside of git. A program that is installed already is
//! used without the network.

use crate::options::Options;
use orama_test_support::tools;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wasmtime that the node is built with, so that both run the same code generator.
const WASMTIME: &str = "48.0.8";
/// The features that `wasmtime serve` needs; others only take time to compile.
const WASMTIME_FEATURES: &str = "run,serve,compile,cranelift,pooling-allocator,parallel-compilation,\
                                 component-model,component-model-async";

/// An installed program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// Its version, as it reports it.
    pub version: String,
}

/// The folder of this program's sources, which holds those of the peers.
#[must_use]
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder for installed programs: `--tools`, or `peers` in the target folder.
///
/// # Errors
/// When the folder cannot be created.
pub fn tools_dir(options: &Options) -> Result<PathBuf, String> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("peers"));
    let dir = options
        .tools
        .clone()
        .or_else(beside)
        .ok_or("there is no folder to install into; name one with --tools")?;
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))
}

/// Builds the node with the profile of this program.
///
/// # Errors
/// When the build fails.
pub fn node(options: &Options) -> Result<Program, String> {
    let path = if let Some(path) = &options.node {
        path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?
    } else {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let folder = this.parent().ok_or("this program is in no folder")?;
        let profile =
            folder.file_name().and_then(OsStr::to_str).filter(|name| *name != "debug").unwrap_or("dev");
        // All members, or cargo would choose other features of the dependencies and compile them again.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(Command::new(cargo)
            .args(["build", "--profile", profile, "--bin", "orama"])
            .current_dir(repository()))?;
        folder.join("orama")
    };
    let commit = run(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(repository()));
    let version = format!("{} {}", run(Command::new(&path).arg("--version"))?, commit.unwrap_or_default());
    Ok(Program { version: version.trim().to_owned(), path })
}

/// Builds a server in Go: `plain` or `wazero`.
///
/// # Errors
/// When Go is missing or the build fails.
pub fn go(tools: &Path, name: &str) -> Result<Program, String> {
    let compiler = tools::find("go").ok_or("needs Go 1.25: https://go.dev/dl")?;
    let path = tools.join(format!("go-{name}"));
    let mut build = Command::new(&compiler);
    build
        .args(["build", "-trimpath", "-o"])
        .arg(&path)
        .arg(format!("./{name}"))
        .current_dir(sources().join("go"));
    run(build.env("GOWORK", "off").env("GOFLAGS", ""))?;
    let go = run(Command::new(compiler).args(["env", "GOVERSION"]))?;
    let library = include_str!("go/go.mod")
        .lines()
        .find_map(|line| line.strip_prefix("require github.com/tetratelabs/wazero "));
    let version = match library.filter(|_| name == "wazero") {
        Some(library) => format!("{library}, {go}"),
        None => go,
    };
    Ok(Program { path, version })
}

/// Installs workerd from its npm package.
///
/// # Errors
/// When npm is missing or fails.
pub fn workerd(tools: &Path) -> Result<Program, String> {
    let platform = match std::env::consts::ARCH {
        "x86_64" => "workerd-linux-64",
        "aarch64" => "workerd-linux-arm64",
        other => return Err(format!("there is no workerd for {other}")),
    };
    let dir = tools.join("workerd");
    let path = dir.join("node_modules/@cloudflare").join(platform).join("bin/workerd");
    let wanted = sources().join("workerd/package.json");
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    // The file pins a version of the package, which pins a version of the binary.
    if !path.exists() || read(&dir.join("package.json")) != read(&wanted) {
        let npm = tools::find("npm").ok_or("needs npm: apt-get install npm")?;
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        fs::copy(wanted, dir.join("package.json")).map_err(|error| error.to_string())?;
        eprintln!("installing workerd...");
        let flags = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"];
        run(Command::new(npm).args(flags).current_dir(&dir))?;
    }
    let version = run(Command::new(&path).arg("--version"))?;
    Ok(Program { version: version.trim_start_matches("workerd ").to_owned(), path })
}

/// Finds wasmtime's command line, and compiles it with `install`.
///
/// # Errors
/// When it is not installed, or the build fails.
pub fn wasmtime(tools: &Path, install: bool) -> Result<Program, String> {
    let root = tools.join("wasmtime");
    let path = root.join("bin/wasmtime");
    if !path.exists() {
        if !install {
            return Err(
                "not installed; --install compiles it in a quarter of an hour on two cores".to_owned()
            );
        }
        eprintln!("compiling wasmtime {WASMTIME}...");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["install", "wasmtime-cli", "--version", WASMTIME, "--locked", "--no-default-features"]);
        command.args(["--features", WASMTIME_FEATURES, "--root"]).arg(&root);
        // Outside the repository, whose settings would apply otherwise. The build folder is removed afterwards.
        let build = root.join("build");
        run(command.arg("--target-dir").arg(&build).current_dir(tools).env_remove("CARGO_TARGET_DIR"))?;
        fs::remove_dir_all(build).map_err(|error| error.to_string())?;
    }
    let version = run(Command::new(&path).arg("--version"))?;
    Ok(Program { version: version.trim_start_matches("wasmtime ").to_owned(), path })
}

/// The version of a package in the repository's lock file.
#[must_use]
pub fn locked(package: &str) -> String {
    let entry = include_str!("../../Cargo.lock").split("[[package]]").find_map(|entry| {
        entry.trim_start().strip_prefix(&format!("name = \"{package}\"\nversion = \""))?.split('"').next()
    });
    entry.unwrap_or("unknown").to_owned()
}

/// Runs a command to its end and returns its trimmed output.
///
/// # Errors
/// When it cannot be run or fails; with the end of its error output.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(format!("{name} failed: {}", lines[lines.len().saturating_sub(3)..].join(" / ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert_eq!(locked("wasmtime"), WASMTIME, "the peer is to be the node's wasmtime");
        assert!(locked("may_minihttp").starts_with("0."));
        assert_eq!(locked("no-such-package"), "unknown");
    }

    #[test]
    fn the_error_of_a_failed_command_has_its_output() {
        assert_eq!(run(Command::new("sh").args(["-c", "echo out; echo no >&2"])), Ok("out".to_owned()));
        let error = run(Command::new("sh").args(["-c", "echo 'it broke' >&2; false"])).unwrap_err();
        assert_eq!(error, "sh failed: it broke");
        assert!(run(&mut Command::new("orama-no-such-tool")).is_err());
    }

    #[test]
    fn the_component_assembles() {
        assert!(wat::parse_file(sources().join("wasmtime/echo.wat")).unwrap().starts_with(b"\0asm\x0d"));
    }
}

//! Builds the programs in `tests/guests`, each once for its sources, compiler and tags.

use crate::tools::{Missing, require_or_report};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

/// The folder with the guests' sources.
#[must_use]
pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests")
}

/// A guest from `tests/guests/wat`, assembled. What is wrong with a module on purpose stays wrong.
///
/// # Panics
/// When there is no such text, or it does not parse.
#[must_use]
pub fn wat(name: &str) -> Vec<u8> {
    let path = dir().join("wat").join(format!("{name}.wat"));
    wat::parse_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all guests in `tests/guests/wat`, sorted.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
pub fn wat_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir().join("wat"))
        .expect("tests/guests/wat is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wat"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

/// A Go guest (`hello`, `misc`) built by standard Go; `tags` are its build tags. The path of the wasm.
///
/// # Errors
/// [`Missing`] when Go is not installed; that was reported, and the test should return.
///
/// # Panics
/// When it does not build.
pub fn go(name: &str, tags: &[&str]) -> Result<PathBuf, Missing> {
    build(name, tags, "go", &["build", "-trimpath"])
}

/// The same built by TinyGo.
///
/// # Errors
/// [`Missing`] when TinyGo is not installed; that was reported, and the test should return.
///
/// # Panics
/// When it does not build.
pub fn tinygo(name: &str, tags: &[&str]) -> Result<PathBuf, Missing> {
    build(name, tags, "tinygo", &["build", "-target", "wasi"])
}

fn build(name: &str, tags: &[&str], tool: &'static str, arguments: &[&str]) -> Result<PathBuf, Missing> {
    let compiler = require_or_report(tool)?;
    let source = dir().join(name);
    let tags = tags.join(",");
    let mut hasher = blake3::Hasher::new();
    for part in [version(tool, &compiler).as_str(), &tags, &arguments.join(" ")] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut files = sources(&source);
    let module = fs::read_to_string(source.join("go.mod")).expect("a guest has a go.mod");
    if module.contains("sdk/go") {
        files.extend(sources(&dir().join("../../sdk/go")));
    }
    for file in files {
        let text = fs::read(&file).expect("a source that was listed can be read");
        let file_name = file.file_name().expect("a listed file has a name").as_encoded_bytes();
        for part in [file_name, &text] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    let hash = hasher.finalize().to_hex();
    let built = target_dir().join("guests");
    let wasm = built.join(format!("{name}-{tool}-{}.wasm", &hash[..16]));
    // Renamed into place when whole, so what is there needs no lock.
    if wasm.exists() {
        return Ok(wasm);
    }
    fs::create_dir_all(&built).expect("target/guests can be made");
    let lock = File::create(wasm.with_extension("lock")).expect("a lock file can be made");
    lock.lock().expect("the lock file can be locked");
    if !wasm.exists() {
        let unfinished = wasm.with_extension("part");
        let mut command = Command::new(&compiler);
        command.args(arguments).arg("-o").arg(&unfinished);
        if !tags.is_empty() {
            command.arg("-tags").arg(&tags);
        }
        command.arg(".").current_dir(&source).env("GOWORK", "off").env("GOFLAGS", "");
        if tool == "go" {
            command.env("GOOS", "wasip1").env("GOARCH", "wasm");
        }
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", compiler.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} could not build {name} (tags {tags:?}):\n{said}");
        fs::rename(&unfinished, &wasm).expect("the built guest can be renamed");
    }
    // Explicit, as a process that another thread is just starting has the file open too.
    lock.unlock().expect("the lock file can be unlocked");
    Ok(wasm)
}

/// What decides the output of a compiler, asked once a process.
fn version(tool: &'static str, compiler: &Path) -> String {
    static KNOWN: LazyLock<Mutex<HashMap<&'static str, String>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    known
        .entry(tool)
        .or_insert_with(|| {
            let output = Command::new(compiler).arg("version").output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}", compiler.display()));
            assert!(output.status.success(), "{} version failed", compiler.display());
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .clone()
}

/// The files that a guest is built from, sorted by name.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "go" || extension == "mod"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no Go sources", dir.display());
    files
}

/// Where Cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        |target| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(target),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_assembles() {
        let names = wat_names();
        assert!(names.len() > 100, "{names:?}");
        for name in names {
            assert!(wat(&name).starts_with(b"\0asm"), "{name}");
        }
    }

    #[test]
    fn a_guest_that_several_ask_for_at_once_is_built_once() {
        // A tag of this process alone, so that nothing is built yet.
        let tag = format!("process_{}", std::process::id());
        let Ok(usual) = go("hello", &[]) else { return };
        let paths: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| go("hello", &[&tag]).unwrap())).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(paths.iter().all(|path| *path == paths[0] && *path != usual), "{paths:?}");
        assert!(fs::read(&paths[0]).unwrap().starts_with(b"\0asm"));
        fs::remove_file(&paths[0]).unwrap();
        fs::remove_file(paths[0].with_extension("lock")).unwrap();
    }

    #[test]
    fn tinygo_builds_a_guest() {
        let Ok(path) = tinygo("hello", &[]) else { return };
        assert!(fs::read(path).unwrap().starts_with(b"\0asm"));
    }
}

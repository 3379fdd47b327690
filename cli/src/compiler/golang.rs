//! What surrounds a build of Go code: GOFLAGS that cannot work for WebAssembly, a `go.work` above the folder, vendored packages.

use serde::Deserialize;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Flags for which there is no support on wasip1, and which say what to build instead of how.
const UNFIT: [&str; 7] = ["race", "msan", "asan", "buildmode", "linkshared", "o", "target"];

/// What the `go` command says of its surroundings.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE", default)]
pub struct Surroundings {
    /// The flags of the environment or of `go env -w`.
    goflags: String,
    /// The path of the `go.work` in use; empty or `off` without one.
    gowork: String,
    /// The path of the `go.mod` in use.
    gomod: String,
}

impl Surroundings {
    /// Asks `go` in a folder. Without an answer, only the environment's flags are known.
    pub fn of(go: Option<&Path>, dir: &Path) -> Self {
        let ask = |go: &Path| {
            let mut command = Command::new(go);
            command.args(["env", "-json", "GOFLAGS", "GOWORK", "GOMOD"]).current_dir(dir);
            serde_json::from_slice(&command.stdin(Stdio::null()).output().ok()?.stdout).ok()
        };
        go.and_then(ask)
            .unwrap_or_else(|| Self { goflags: env::var("GOFLAGS").unwrap_or_default(), ..Self::default() })
    }

    /// The value of GOFLAGS for the build, and the flags that it leaves out; `None` if all can stay.
    pub fn fitting_flags(&self) -> Option<(String, String)> {
        let is_vendored = [&self.gomod, &self.gowork]
            .iter()
            .filter_map(|file| Path::new(file).parent())
            .any(|dir| !dir.as_os_str().is_empty() && dir.join("vendor").is_dir());
        let (kept, left_out): (Vec<&str>, Vec<&str>) =
            split(&self.goflags).into_iter().partition(|flag| is_fit(flag, is_vendored));
        if left_out.is_empty() {
            return None;
        }
        // An empty value would be that of `go env -w` again, so it becomes a flag that is given anyway.
        let kept = if kept.is_empty() { "-trimpath".to_owned() } else { kept.join(" ") };
        Some((kept, left_out.join(" ")))
    }

    /// What to do about a build that failed because of a `go.work` that is not the function's.
    pub fn workspace_hint(&self, said: &str) -> Option<String> {
        let is_about = said.contains("go.work") || said.contains("current workspace");
        let is_foreign = !self.gowork.is_empty() && self.gowork != "off" && is_about;
        is_foreign.then(|| {
            format!(
                "{} does not list this folder: `go work use` adds it, and GOWORK=off builds without the workspace",
                self.gowork
            )
        })
    }
}

fn is_fit(flag: &str, is_vendored: bool) -> bool {
    let flag = flag.trim_matches(['\'', '"']).trim_start_matches('-');
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    let needs_vendor = name == "mod" && value == "vendor";
    !UNFIT.contains(&name) && (!needs_vendor || is_vendored)
}

/// Splits GOFLAGS as `go` does: at spaces, except in a field that begins with a quote, which ends at the next such quote.
fn split(flags: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = flags.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\'' | '"' => rest.get(1..).and_then(|rest| rest.find(first)).map(|at| at + 2),
            _ => rest.find(char::is_whitespace),
        };
        let (field, after) = rest.split_at(end.unwrap_or(rest.len()));
        fields.push(field);
        rest = after.trim_start();
    }
    fields
}

/// The file and the name of a package that is no program; `None` if a file is of the package main, or none can be read.
pub fn foreign_package(files: &[PathBuf]) -> Option<(String, String)> {
    let named = |path: &PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("package "))?
            .split_whitespace()
            .next()?
            .to_owned();
        Some((path.file_name()?.to_string_lossy().into_owned(), name))
    };
    let packages: Vec<_> = files.iter().filter_map(named).collect();
    if packages.iter().any(|(_, name)| name == "main") { None } else { packages.into_iter().next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(goflags: &str, dir: &Path) -> Option<(String, String)> {
        let gomod = dir.join("go.mod").display().to_string();
        Surroundings { goflags: goflags.into(), gowork: String::new(), gomod }.fitting_flags()
    }

    #[test]
    fn flags_that_cannot_work_are_left_out_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let pair = |kept: &str, left_out: &str| Some((kept.to_owned(), left_out.to_owned()));
        assert_eq!(with("", dir.path()), None);
        assert_eq!(with("-tags=x -mod=mod", dir.path()), None);
        assert_eq!(with("-race", dir.path()), pair("-trimpath", "-race"));
        assert_eq!(
            with("'-ldflags=-s -w' --buildmode=pie  -tags=x", dir.path()),
            pair("'-ldflags=-s -w' -tags=x", "--buildmode=pie")
        );
        assert_eq!(with("-mod=vendor -v", dir.path()), pair("-v", "-mod=vendor"));
        fs::create_dir(dir.path().join("vendor")).unwrap();
        assert_eq!(with("-mod=vendor -v", dir.path()), None);
        assert_eq!(split("'unended -x"), ["'unended -x"]);
    }

    #[test]
    fn a_foreign_workspace_is_named_where_the_compiler_complains_of_it() {
        let of = |gowork: &str| Surroundings { gowork: gowork.into(), ..Surroundings::default() };
        let said = "not one of the workspace modules listed in go.work";
        assert!(of("/up/go.work").workspace_hint(said).unwrap().contains("/up/go.work"));
        assert_eq!(of("/up/go.work").workspace_hint("undefined: x"), None);
        assert_eq!(of("").workspace_hint(said), None);
        assert_eq!(of("off").workspace_hint(said), None);
    }

    #[test]
    fn a_package_that_is_no_program_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let foo = file("foo.go", "// package main is not this\n\npackage foo // it is\n");
        let main = file("main.go", "package main\n");
        assert_eq!(foreign_package(std::slice::from_ref(&foo)), Some(("foo.go".into(), "foo".into())));
        assert_eq!(foreign_package(&[foo, main]), None);
        assert_eq!(foreign_package(&[]), None);
    }
}

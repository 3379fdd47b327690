//! What a module is built from outside of its function's folder: local modules of Go and packages of Rust.

use super::{Compiler, in_go_module};
use crate::project::Project;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The places of a module's sources, with absolute paths without links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Folders whose own files count, not those of folders in them.
    pub folders: BTreeSet<PathBuf>,
    /// Folders with everything in them.
    pub trees: BTreeSet<PathBuf>,
    /// Single files, which may not exist.
    pub files: BTreeSet<PathBuf>,
}

impl Sources {
    /// Whether a file is one of them.
    pub fn contain(&self, path: &Path) -> bool {
        self.files.contains(path)
            || path.parent().is_some_and(|dir| self.folders.contains(dir))
            || path.ancestors().any(|dir| self.trees.contains(dir))
    }
}

/// A package as `go list` describes it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Package {
    dir: PathBuf,
    standard: bool,
    embed_files: Vec<PathBuf>,
    module: Option<Module>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Module {
    main: bool,
    version: String,
    go_mod: PathBuf,
    replace: Option<Box<Module>>,
}

impl Module {
    /// Whether it is in a folder of the developer's, not one that `go` has fetched and never changes.
    fn is_local(&self) -> bool {
        self.main || self.replace.as_ref().is_some_and(|by| by.version.is_empty())
    }
}

/// What `cargo metadata` tells, as far as it is read here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
    resolve: Option<Resolve>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Crate {
    id: String,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

impl Compiler {
    /// Finds what a project's module is built from beside its own folder. Without an answer of the language's own tool, it is
    /// nothing.
    pub fn sources_outside(&self, project: &Project) -> Sources {
        let found = match self {
            Self::Rust(cargo) => of_rust(cargo, project.dir()),
            _ if !in_go_module(project.dir()) => None,
            Self::Go(go) => of_go(go, project.dir()),
            // TinyGo builds the packages that Go lists.
            Self::TinyGo { .. } => which::which("go").ok().and_then(|go| of_go(&go, project.dir())),
        };
        found.unwrap_or_default()
    }
}

fn output(command: &mut Command, dir: &Path) -> Option<Vec<u8>> {
    let output = command.current_dir(dir).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    Some(output.stdout)
}

/// A path without links; as it is if it does not exist.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn of_go(go: &Path, dir: &Path) -> Option<Sources> {
    let mut list = Command::new(go);
    list.args(["list", "-e", "-deps", "-json=Dir,Standard,EmbedFiles,Module", "."]);
    list.env("GOOS", "wasip1").env("GOARCH", "wasm");
    let listed = output(&mut list, dir)?;
    let mut sources = Sources::default();
    for package in serde_json::Deserializer::from_slice(&listed).into_iter::<Package>().map_while(Result::ok)
    {
        let is_local = package.module.as_ref().is_none_or(Module::is_local);
        if package.standard || !is_local || package.dir.as_os_str().is_empty() {
            continue;
        }
        let dir = real(&package.dir);
        sources.files.extend(package.embed_files.iter().map(|file| dir.join(file)));
        sources.folders.insert(dir);
        let go_mods = package.module.iter().flat_map(|module| {
            [Some(&module.go_mod), module.replace.as_ref().map(|by| &by.go_mod)].into_iter().flatten()
        });
        for go_mod in go_mods.filter(|path| !path.as_os_str().is_empty()) {
            sources.files.extend([real(go_mod), real(go_mod).with_extension("sum")]);
        }
    }
    let work = output(Command::new(go).args(["env", "GOWORK"]), dir)?;
    let work = Path::new(std::str::from_utf8(&work).ok()?.trim());
    if work.is_absolute() {
        sources.files.extend([real(work), real(work).with_extension("work.sum")]);
    }
    Some(sources)
}

fn of_rust(cargo: &Path, dir: &Path) -> Option<Sources> {
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version=1", "--offline", "--filter-platform", super::rust::TARGET]);
    let Metadata { packages, resolve, workspace_root } =
        serde_json::from_slice(&output(&mut metadata, dir)?).ok()?;
    let Resolve { root, nodes } = resolve?;
    let edges: BTreeMap<String, Vec<String>> =
        nodes.into_iter().map(|node| (node.id, node.dependencies)).collect();
    let mut reached = BTreeSet::new();
    let mut ahead = vec![root?];
    while let Some(id) = ahead.pop() {
        if let Some(next) = edges.get(&id).filter(|_| !reached.contains(&id)) {
            ahead.extend(next.iter().cloned());
        }
        reached.insert(id);
    }
    let local = packages.iter().filter(|package| package.source.is_none() && reached.contains(&package.id));
    let root = real(&workspace_root);
    Some(Sources {
        trees: local.filter_map(|package| Some(real(package.manifest_path.parent()?))).collect(),
        files: [root.join("Cargo.toml"), root.join("Cargo.lock")].into(),
        folders: BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_rust_count_where_the_program_needs_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let package =
            |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        for name in ["shared", "other", "program"] {
            write(&format!("{name}/src/lib.rs"), "");
            write(&format!("{name}/Cargo.toml"), &package(name));
        }
        let needs = "[dependencies]\nshared = { path = \"../shared\" }\n";
        write("program/Cargo.toml", &(package("program") + needs));
        write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"shared\", \"other\", \"program\"]\n",
        );
        let project = Project::open(&root.path().join("program")).unwrap();
        let found = Compiler::Rust(which::which("cargo").unwrap()).sources_outside(&project);
        let real = real(root.path());
        assert!(found.contain(&real.join("shared/src/new/mod.rs")), "{found:?}");
        assert!(found.contain(&real.join("Cargo.lock")) && !found.contain(&real.join("other/src/lib.rs")));
    }

    #[test]
    fn only_the_files_of_a_package_of_go_are_its_own() {
        let sources = Sources { folders: [PathBuf::from("/m/a")].into(), ..Sources::default() };
        assert!(sources.contain(Path::new("/m/a/x.go")));
        assert!(!sources.contain(Path::new("/m/a/b/x.go")) && !sources.contain(Path::new("/m/a")));
    }
}

//! Tells the program its commit, the commit's date, its target and its engine, for `orama version`; assembles the programs that
//! `orama function test` runs beside a function.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

const UNKNOWN: &str = "unknown";

fn main() -> Result<(), Box<dyn Error>> {
    ["probe", "recorder"].into_iter().try_for_each(assemble)?;
    println!("cargo:rerun-if-changed=../Cargo.lock");
    for (name, format) in [("COMMIT", "%h"), ("DATE", "%cs")] {
        // An archive of the sources has no history; who packages it can say what it is.
        let variable = format!("ORAMA_{name}");
        println!("cargo:rerun-if-env-changed={variable}");
        let told = std::env::var(&variable).ok().filter(|told| !told.is_empty());
        let value = told.or_else(|| git(&["log", "-1", "--abbrev=12", &format!("--format={format}")]));
        println!("cargo:rustc-env=ORAMA_BUILD_{name}={}", value.as_deref().unwrap_or(UNKNOWN));
    }
    // Written by each commit and each checkout. A path that does not exist would run this script each time.
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists())
    {
        println!("cargo:rerun-if-changed={path}");
    }
    let target = std::env::var("TARGET");
    println!("cargo:rustc-env=ORAMA_BUILD_TARGET={}", target.as_deref().unwrap_or(UNKNOWN));
    println!("cargo:rustc-env=ORAMA_BUILD_ENGINE=wasmtime {}", engine().as_deref().unwrap_or(UNKNOWN));
    Ok(())
}

/// Assembles a program of `orama function test`.
fn assemble(name: &str) -> Result<(), Box<dyn Error>> {
    let from = format!("src/commands/function_test/{name}.wat");
    println!("cargo:rerun-if-changed={from}");
    let wasm = wat::parse_file(&from)?;
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join(format!("{name}.wasm")), wasm)?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The version of wasmtime, which the crate itself does not tell.
fn engine() -> Option<String> {
    let lock = std::fs::read_to_string("../Cargo.lock").ok()?;
    let (_, package) = lock.split_once("name = \"wasmtime\"\nversion = \"")?;
    package.split('"').next().map(str::to_owned)
}

//! Builds Rust code with cargo, for the target `wasm32-wasip1`.

use crate::error::{CliError, Result};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::Command;

/// The target: a command of WASI preview1.
pub const TARGET: &str = "wasm32-wasip1";

/// The options of the build. cargo's own messages tell where the module is.
pub fn prepare(command: &mut Command) {
    command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    // The command may itself run under cargo, for another target.
    command.env_remove("CARGO_BUILD_TARGET");
}

/// A message of cargo, as far as it is read here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// The module that cargo built, from its messages.
///
/// # Errors
/// When the package has no program, or several.
pub fn module(messages: &[u8]) -> Result<PathBuf> {
    let lines = messages.split(|byte| *byte == b'\n');
    let mut programs: Vec<PathBuf> =
        lines.filter_map(|line| serde_json::from_slice::<Message>(line).ok()?.executable).collect();
    match (programs.pop(), programs.len()) {
        (Some(program), 0) => Ok(program),
        (None, _) => Err(CliError::failed("cargo built no program")
            .hint("a function is a package with a src/main.rs, in its own folder")),
        (Some(_), others) => Err(CliError::failed(format!("cargo built {} programs", others + 1))
            .hint("a function is one program; give each a folder of its own")),
    }
}

/// What to do about a failed build.
pub fn hint(said: &str) -> Option<String> {
    let is_missing =
        said.contains("can't find crate for `core`") || said.contains("can't find crate for `std`");
    is_missing.then(|| format!("install the target: rustup target add {TARGET}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_the_one_program_of_the_package() {
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        let program = r#"{"reason":"compiler-artifact","executable":"/t/wasm32-wasip1/release/hello.wasm"}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        let found = module([library, program, end].join("\n").as_bytes()).unwrap();
        assert_eq!(found, PathBuf::from("/t/wasm32-wasip1/release/hello.wasm"));
        assert!(module(library.as_bytes()).unwrap_err().to_string().contains("no program"));
        let two = [program, program].join("\n");
        assert!(module(two.as_bytes()).unwrap_err().to_string().contains("2 programs"));
    }
}

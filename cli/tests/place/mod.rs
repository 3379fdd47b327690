//! A folder in which tests run `orama`, and what it said.

// Each file of tests uses a part of it.
#![allow(dead_code)]

use orama_test_support::{ports, tools};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A folder of its own, with an empty home, and `orama` to run in it.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orama"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        for variable in ["ORAMA_GATEWAY_URL", "ORAMA_API_KEY", "ORAMA_NAMESPACE"] {
            command.env_remove(variable);
        }
        command.env("ORAMA_HOME", self.path("home"));
        // A compiler that the tests' own tools brought counts as installed.
        let tools = ["go", "tinygo"].iter().filter_map(|tool| Some(tools::find(tool)?.parent()?.to_owned()));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::env::split_paths(&path).chain(tools)).unwrap();
        command.env("PATH", path);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

/// An address where nothing listens.
pub fn dead_address() -> String {
    format!("http://{}", ports::free(1)[0])
}

//! Commands as somebody types them, in a folder of their own and with a key of their own.

use crate::harness::{Node, new_dir, orama};
use crate::process::{add_compilers, run};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The credentials of somebody who uses a node.
pub struct Shell {
    home: PathBuf,
    key: Option<String>,
    pub dir: PathBuf,
}

impl Shell {
    /// On the node's own machine, as its operator.
    pub fn of(node: &Node) -> Self {
        Self { home: node.home.clone(), key: None, dir: new_dir("shell") }
    }

    /// The same with another key.
    pub fn with_key(node: &Node, key: &str) -> Self {
        Self { home: node.home.clone(), key: Some(key.to_owned()), dir: new_dir("shell") }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = orama(arguments);
        command.current_dir(&self.dir).env("ORAMA_HOME", &self.home);
        command.envs(self.key.iter().map(|key| ("ORAMA_API_KEY", key)));
        add_compilers(&mut command);
        command
    }

    /// Runs it; it must end with this code. Standard output and standard error.
    #[track_caller]
    pub fn run(&self, code: i32, arguments: &[&str]) -> (String, String) {
        run(code, self.command(arguments))
    }

    /// The same with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let (stdout, stderr) = self.run(0, &[arguments, &["--json"]].concat());
        assert_eq!((stdout.trim_end().lines().count(), stderr.as_str()), (1, ""), "{stdout}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// The same where it fails: the code that the node gave.
    #[track_caller]
    pub fn code(&self, code: i32, arguments: &[&str]) -> String {
        let (stdout, stderr) = self.run(code, &[arguments, &["--json"]].concat());
        assert_eq!(stdout, "");
        let error: Value = serde_json::from_str(&stderr).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

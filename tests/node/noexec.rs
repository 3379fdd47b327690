//! A home from which no code can be mapped.

use crate::harness::{new_dir, orama, output};
use orama_test_support::left_out;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a shell script in mounts of its own, where the folder `$1` is a file system that is mounted `noexec`.
fn with_noexec(dir: &Path, script: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg(format!("mount -t tmpfs -o noexec tmpfs \"$1\" || exit 77; {script}")).arg("sh").arg(dir);
    command.args(arguments).stdin(Stdio::null());
    command
}

#[test]
fn a_home_on_a_file_system_mounted_noexec_stops_the_start_and_is_named() {
    let home = new_dir("home");
    let can_mount = with_noexec(&home, "true", &[]).output();
    if !can_mount.is_ok_and(|output| output.status.success()) {
        left_out::say("`unshare`, and a system that lets it mount");
        return;
    }
    // The home itself, or a file system of its own within it.
    for folder in ["", "data", "data/artifacts"] {
        let mounted = home.join(folder);
        fs::create_dir_all(&mounted).unwrap();
        let program = orama(&[]);
        // A node that starts all the same would serve without an end.
        let script = "shift; exec timeout 60 \"$@\"";
        let mut command = with_noexec(&mounted, script, &[program.get_program()]);
        command.args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--home"]).arg(&home);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = output(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{folder}: {stderr}");
        assert!(output.stdout.is_empty(), "{folder}: it does not serve");
        let line = stderr.lines().find(|line| line.starts_with("error: "));
        let line = line.unwrap_or_else(|| panic!("{folder}: {stderr}"));
        let named = home.join("data/artifacts").display().to_string();
        assert!(line.contains(&named) && line.contains("mounted noexec"), "{folder}: {line}");
    }
}

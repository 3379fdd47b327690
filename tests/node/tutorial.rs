//! The tutorial: every command of docs/TUTORIAL.md, in its order, prints what the page says.

use crate::harness::new_dir;
use orama_test_support::tools;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stands on the page for any text of a line, or alone for any lines.
const ANYTHING: char = '…';

/// A command of the page and what it prints, line by line.
struct Step {
    line: usize,
    command: String,
    prints: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut inside) = (Vec::<Step>::new(), false);
    for (index, line) in page.lines().enumerate() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { line: index + 1, command: command.to_owned(), prints: Vec::new() });
                }
                None => steps.last_mut().expect("a block begins with a command").prints.push(line.to_owned()),
            },
            (false, _) => {}
        }
    }
    steps
}

/// Whether a line is as the page has it.
fn is_like(printed: &str, expected: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let Some(last) = expected.rsplit_once(ANYTHING).map(|(_, last)| last) else { return rest.is_empty() };
    let between: Vec<&str> = parts.collect();
    for part in &between[..between.len() - 1] {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether lines are as the page has them.
fn are_like(printed: &[&str], expected: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.chars().eq([ANYTHING]) => {
            (0..=printed.len()).any(|skipped| are_like(&printed[skipped..], rest))
        }
        Some((first, rest)) => printed.split_first().is_some_and(|(line, others)| {
            is_like(line.trim_end(), first.trim_end()) && are_like(others, rest)
        }),
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The commands as one script. Each writes to a file of its own.
fn script(steps: &[Step], out: &Path) -> String {
    // Jobs are numbered as on a terminal, and one that ends says nothing.
    let mut script = "set -u\n".to_owned();
    for (index, step) in steps.iter().enumerate() {
        let file = out.join(index.to_string());
        let command = &step.command;
        if command.ends_with('&')
            || command.contains("() {")
            || command.starts_with("cd ")
            || command.starts_with("kill ")
            || command.starts_with("key=")
        {
            // It changes this shell.
            writeln!(script, "{command}").unwrap();
        } else {
            writeln!(script, "{{ {command}\n}} > {0} 2>&1 || echo \"exit code $?\" >> {0}", file.display())
                .unwrap();
        }
        writeln!(script, "echo {index} > {}", out.join("reached").display()).unwrap();
    }
    script
}

fn path_with_orama(dir: &Path) -> std::ffi::OsString {
    let bin = dir.join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_orama-under-test"), bin.join("orama")).unwrap();
    let go = tools::find("go").expect("the caller looked").parent().unwrap().to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([bin, go].into_iter().chain(std::env::split_paths(&rest))).unwrap()
}

#[test]
fn every_command_prints_what_the_page_says() {
    let Ok(()) = tools::require_all(&["go", "curl"]) else { return };
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/TUTORIAL.md");
    let [first, second] = free_ports();
    let page = fs::read_to_string(page).unwrap();
    let page = page.replace("6001", &first.to_string()).replace("6002", &second.to_string());
    let steps = steps(&page);
    assert!(steps.len() > 40, "{} commands were found", steps.len());
    let dir = new_dir("tutorial");
    let (out, desk) = (dir.join("out"), dir.join("desk"));
    for folder in [&out, &desk] {
        fs::create_dir(folder).unwrap();
    }
    let file = dir.join("script");
    fs::write(&file, script(&steps, &out)).unwrap();
    let mut bash = Command::new("timeout");
    bash.args(["600", "bash"]).arg(&file).current_dir(&desk);
    bash.env("PATH", path_with_orama(&dir)).env("ORAMA_HOME", dir.join("home"));
    for variable in ["ORAMA_API_KEY", "ORAMA_GATEWAY_URL", "ORAMA_NAMESPACE", "ORAMA_CONTEXT"] {
        bash.env_remove(variable);
    }
    let output = crate::harness::output(bash);
    let reached: usize =
        fs::read_to_string(out.join("reached")).unwrap_or_default().trim().parse().unwrap_or(0);
    let mut wrong = String::new();
    for (index, step) in steps.iter().enumerate().take(reached + 1) {
        let printed = fs::read_to_string(out.join(index.to_string())).unwrap_or_default();
        let lines: Vec<&str> = printed.lines().collect();
        if !are_like(&lines, &step.prints) {
            writeln!(
                wrong,
                "docs/TUTORIAL.md:{}: $ {}\n--- the page:\n{}\n--- printed:\n{printed}",
                step.line,
                step.command,
                step.prints.join("\n")
            )
            .unwrap();
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(wrong.is_empty(), "{wrong}{stderr}");
    assert_eq!(reached, steps.len() - 1, "the script stopped: {stderr}");
}

#[test]
fn lines_are_compared_with_gaps() {
    for (printed, expected, is) in [
        ("abc", "abc", true),
        ("abcd", "abc", false),
        ("abcd", "a…d", true),
        ("abcd", "a…c", false),
        ("a1b2c", "a…b…c", true),
        ("abcab", "a…b", true),
        ("", "…", true),
    ] {
        assert_eq!(is_like(printed, expected), is, "{printed} {expected}");
    }
    let expected = ["a", "…", "c"].map(str::to_owned);
    assert!(are_like(&["a", "c"], &expected) && are_like(&["a", "b", "b", "c"], &expected));
    assert!(!are_like(&["a", "b"], &expected));
}

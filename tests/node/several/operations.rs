//! docs/OPERATIONS.md does what it says: its commands are run as they stand there, each machine being a loopback address.

use crate::process::{lock, new_dir, spawn};
use orama_test_support::children::PATIENCE;
use orama_test_support::tools::{Missing, require_all, require_or_report};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const MANUAL: &str = include_str!("../../../docs/OPERATIONS.md");

/// A block of commands and where they are run.
struct Block {
    machines: Vec<usize>,
    is_server: bool,
    text: String,
}

/// The blocks that begin with "```sh each", "once" or "on", in their order.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = MANUAL.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.strip_prefix("```sh ") else { continue };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let words: Vec<_> = words.split(' ').collect();
        let named: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let machines = match (words[0], named.is_empty()) {
            ("each", true) => vec![1, 2, 3],
            ("once", true) => vec![1],
            ("each" | "on", false) => named,
            _ => panic!("a block for nobody: {line}"),
        };
        blocks.push(Block { machines, is_server: words.contains(&"server"), text: text.join("\n") });
    }
    blocks
}

/// Three machines, each a folder and an address.
struct Machines {
    dir: PathBuf,
    /// The first three numbers of the addresses, which no other test run has.
    network: String,
    servers: Mutex<Vec<Child>>,
}

impl Machines {
    fn root(&self, machine: usize) -> PathBuf {
        self.dir.join(format!("machine-{machine}"))
    }

    fn command(&self, machine: usize, text: &str) -> Command {
        let root = self.root(machine);
        let text = text
            .replace("10.0.0.", &format!("{}.", self.network))
            .replace("/var/lib", &format!("{}/var", root.display()))
            .replace("/etc", &format!("{}/etc", root.display()));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &text]).current_dir(&root).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORAMA_") {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.dir.join("bin").display()));
        command.env("ME", format!("{}.{machine}", self.network)).env("HOME", &root);
        for other in 1..=3 {
            let id = fs::read_to_string(self.root(other).join("var/ipfs.id")).unwrap_or_default();
            command.env(format!("ID{other}"), id.trim());
        }
        command
    }

    fn run(&self, machine: usize, text: &str) -> String {
        let output = self.command(machine, text).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "on machine {machine}:\n{text}\n{out}{err}{}", self.logs());
        out.into_owned()
    }

    fn start(&self, machine: usize, text: &str) {
        let mut servers = lock(&self.servers);
        let log = fs::File::create(self.root(machine).join(format!("server-{}.log", servers.len()))).unwrap();
        let mut command = self.command(machine, text);
        // A group of its own, which ends as a whole.
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        servers.push(spawn(command).unwrap());
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for machine in 1..=3 {
            for entry in fs::read_dir(self.root(machine)).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let log = fs::read(entry.path()).unwrap_or_default();
                    let log = String::from_utf8_lossy(&log);
                    let last: Vec<_> = log.lines().rev().take(15).collect();
                    text += &format!("--- machine {machine}: {:?}\n", entry.file_name());
                    last.iter().rev().for_each(|line| text += &format!("{line}\n"));
                }
            }
        }
        text
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for mut server in lock(&self.servers).drain(..) {
            if let Some(group) = rustix::process::Pid::from_raw(server.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = server.wait();
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn install(programs: &Path) -> Result<(), Missing> {
    require_all(&["rqlited", "olric-server", "ipfs", "go", "curl"])?;
    fs::create_dir_all(programs).unwrap();
    for tool in ["rqlited", "olric-server", "ipfs"] {
        symlink(require_or_report(tool)?, programs.join(tool)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_orama-under-test"), programs.join("orama")).unwrap();
    Ok(())
}

#[test]
fn three_machines_are_set_up_by_the_commands_of_the_manual() {
    let dir = new_dir("operations");
    let Ok(()) = install(&dir.join("bin")) else { return };
    let pid = std::process::id();
    let network = format!("127.{}.{}", 1 + pid % 250, 1 + pid / 250 % 250);
    let machines = Machines { dir, network, servers: Mutex::default() };
    for machine in 1..=3 {
        for folder in ["var", "etc"] {
            fs::create_dir_all(machines.root(machine).join(folder)).unwrap();
        }
    }
    let mut said: HashMap<usize, String> = HashMap::new();
    for block in blocks() {
        for &machine in &block.machines {
            if block.is_server {
                machines.start(machine, &block.text);
                continue;
            }
            if block.text.contains("/ready") {
                let ready = format!("curl -sf http://{}.{machine}:6001/ready", machines.network);
                let begun = Instant::now();
                while !machines.command(machine, &ready).output().unwrap().status.success() {
                    assert!(begun.elapsed() < PATIENCE, "the node is not ready:\n{}", machines.logs());
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            let out = machines.run(machine, &block.text);
            *said.entry(machine).or_default() += &out;
        }
        // The key is made once and brought to the others.
        if let Ok(key) = fs::read(machines.root(1).join("etc/orama-secrets.key")) {
            for machine in [2, 3] {
                let file = machines.root(machine).join("etc/orama-secrets.key");
                fs::write(&file, &key).unwrap();
                fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
    assert!(said[&1].contains("the configuration is valid"), "{said:?}");
    assert!(said[&3].contains("Hello") && said[&3].contains("TOKEN"), "{said:?}{}", machines.logs());
}

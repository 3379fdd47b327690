//! A running server: its processes, calls of its functions, and its cost.

use crate::kinds::Kind;
use crate::load::{self, Target};
use orama_benches::client::{Connection, deploy, post};
use orama_benches::process::{cpu_of, memory_of, tree};
use orama_test_support::guests;
use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The body of every request.
const INPUT: &[u8] =
    br#"{"name":"World","path":"/api/v1/hello","headers":{"host":"example.com","accept":"*/*"}}"#;
/// The answers of the hello functions and of the web handlers.
const HELLO: &str = r#"{"result":"Hello, World!"}"#;
const PAGE: &str = concat!(
    r#"{"status":200,"body":"\u003chtml\u003e\u003cbody\u003e\u003ch1\u003eWorld\u003c/h1\u003e\u003cul\u003e"#,
    r#"\u003cli\u003ea\u003c/li\u003e\u003cli\u003eb\u003c/li\u003e\u003cli\u003e\u0026lt;c\u0026gt;\u003c/li\u003e"#,
    r#"\u003c/ul\u003e\u003c/body\u003e\u003c/html\u003e"}"#
);
/// Longest wait for a first answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A function to deploy.
#[derive(Debug, Clone)]
pub struct Function {
    /// The name in paths and tables.
    pub name: &'static str,
    /// The module.
    pub wasm: PathBuf,
    /// The right answer to [`INPUT`].
    pub answer: Vec<u8>,
    /// Whether the module imports functions of the node.
    pub needs_node: bool,
}

/// The functions to compare. A function whose compiler is missing is left out; a line on standard error says so.
///
/// # Errors
/// When one cannot be written.
pub fn functions(dir: &Path) -> Result<Vec<Function>, String> {
    let echo = dir.join("echo.wasm");
    fs::write(&echo, guests::wat("echo")).map_err(|error| error.to_string())?;
    let mut functions =
        vec![Function { name: "echo", wasm: echo, answer: INPUT.to_vec(), needs_node: false }];
    for (name, built, answer, needs_node) in [
        ("tinygo-hello", guests::tinygo("hello", &[]), HELLO, false),
        ("go-hello", guests::go("hello", &[]), HELLO, false),
        ("go-sdk-hello", guests::go("greet", &[]), HELLO, true),
        ("go-web", guests::go("web", &[]), PAGE, false),
        ("go-web-warmed", guests::go("web", &["warmed"]), PAGE, true),
    ] {
        functions.extend(built.ok().map(|wasm| Function { name, wasm, answer: answer.into(), needs_node }));
    }
    Ok(functions)
}

/// A running peer; its processes end with it.
pub struct Server {
    kind: Kind,
    processes: Vec<Child>,
    /// Addresses by function; under an empty name where all functions share them.
    addresses: HashMap<String, Vec<SocketAddr>>,
    /// The key for calls and deploys. Other peers than a node ignore it.
    pub api_key: String,
}

impl Server {
    /// Makes a server without processes.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, processes: Vec::new(), addresses: HashMap::new(), api_key: "none".to_owned() }
    }

    /// Starts one process, which prints `count` lines from which `parse` reads addresses.
    ///
    /// # Errors
    /// When the process ends or prints something else.
    pub fn spawn(
        &mut self,
        command: &mut Command,
        count: usize,
        parse: impl Fn(&str) -> Option<(String, SocketAddr)>,
    ) -> Result<(), String> {
        let name = self.kind.name();
        // wasmtime prints its address on standard error.
        let on_stderr = self.kind == Kind::Wasmtime;
        let (stdout, stderr) =
            if on_stderr { (Stdio::null(), Stdio::piped()) } else { (Stdio::piped(), Stdio::inherit()) };
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let mut child = child.map_err(|error| format!("{name} cannot be started: {error}"))?;
        let output: Option<Box<dyn Read + Send>> = if on_stderr {
            child.stderr.take().map(|it| Box::new(it) as _)
        } else {
            child.stdout.take().map(|it| Box::new(it) as _)
        };
        self.processes.push(child);
        let mut output = BufReader::new(output.ok_or("no output")?);
        let mut said = String::new();
        for _ in 0..count {
            let mut line = String::new();
            output.read_line(&mut line).map_err(|error| error.to_string())?;
            if line.is_empty() {
                return Err(format!("{name} ended before it served: {}", said.trim()));
            }
            let (function, address) = parse(line.trim())
                .ok_or_else(|| format!("{name} said {:?} instead of an address", line.trim()))?;
            self.addresses.entry(function).or_default().push(address);
            said.push_str(&line);
        }
        // Later output must not fill the pipe.
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        Ok(())
    }

    /// How to call a function under its own name.
    #[must_use]
    pub fn target(&self, function: &Function) -> Target {
        self.target_named(function, function.name)
    }

    /// How to call a function that was deployed under another name.
    #[must_use]
    pub fn target_named(&self, function: &Function, name: &str) -> Target {
        let addresses = self.addresses.get(name).or_else(|| self.addresses.get(""));
        let path = if self.kind == Kind::Orama {
            format!("/v1/functions/{name}/invoke")
        } else {
            format!("/{name}")
        };
        Target {
            addresses: addresses.cloned().unwrap_or_default(),
            request: post(&path, &self.api_key, INPUT),
            answer: function.answer.clone(),
        }
    }

    /// Deploys a function on a node, with settings as a JSON object.
    ///
    /// # Errors
    /// The node's refusal.
    pub fn deploy(&self, function: &Function, name: &str, metadata: &str) -> Result<(), String> {
        let wasm = fs::read(&function.wasm).map_err(|error| error.to_string())?;
        let address = self.addresses.get("").and_then(|addresses| addresses.first()).ok_or("no address")?;
        let mut connection = Connection::try_open(*address).map_err(|error| error.to_string())?;
        let answer = connection
            .try_call(&deploy(name, &self.api_key, &wasm, metadata))
            .map_err(|error| error.to_string())?;
        if answer.status == 201 {
            return Ok(());
        }
        Err(format!("deploying {name}: {} {}", answer.status, String::from_utf8_lossy(answer.body)))
    }

    /// Waits for the first right answer of a function.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn first_answer(&self, function: &Function) -> Result<(), String> {
        load::first_answer(&self.target(function), PATIENCE)
            .map_err(|error| format!("{}: {error}", self.kind.name()))
    }

    /// Calls a function `count` times, on two connections in turns. Returns the answers.
    ///
    /// # Errors
    /// When a connection breaks or a status is not 200.
    pub fn bodies(&self, function: &Function, count: usize) -> Result<Vec<String>, String> {
        let target = self.target(function);
        let open = || Connection::try_open(*target.addresses.first()?).ok();
        let mut connections = [open().ok_or("no connection")?, open().ok_or("no connection")?];
        let mut call = |index: usize| {
            let answer =
                connections[index % 2].try_call(&target.request).map_err(|error| error.to_string())?;
            let body = String::from_utf8_lossy(answer.body).into_owned();
            if answer.status == 200 { Ok(body) } else { Err(format!("status {}: {body}", answer.status)) }
        };
        (0..count).map(&mut call).collect()
    }

    /// CPU time used so far by the server's processes and their descendants.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.all_processes().filter_map(|process| cpu_of(process).ok()).sum()
    }

    /// Resident memory of these processes, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.all_processes().filter_map(|process| memory_of(process).ok()).sum()
    }

    fn all_processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().flat_map(|child| tree(child.id()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // Both fail when the process has ended, which is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

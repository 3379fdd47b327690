//! Starts nodes: each with a home folder of its own, on a port of its own, and never left behind.

use crate::http::{Answer, Connection, Request};
pub use crate::process::{eventually, lock, new_dir, orama, output, spawn, wait};
pub use crate::servers::Servers;
use orama_test_support::guests;
use orama_test_support::tools::Missing;
use rustix::process::{Pid, Resource, Rlimit, Signal, setrlimit};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;

/// What builds a Go guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compiler {
    Go,
    TinyGo,
}

/// What a node is started with.
#[derive(Clone)]
pub struct Options {
    pub workers: usize,
    /// Lines of its config file.
    pub config: String,
    pub env: Vec<(&'static str, String)>,
    /// Files and sockets that it may have open.
    pub open_files: Option<u64>,
    /// Namespaces that have a database where databases are servers.
    pub databases: &'static [&'static str],
    /// Servers of its backends. Without them the node is embedded, or [`Node::try_start`] starts some.
    pub servers: Option<Arc<Servers>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            config: String::new(),
            env: Vec::new(),
            open_files: None,
            databases: &["default"],
            servers: None,
        }
    }
}

/// A node and the folder it lives in. Dropping it ends the process and removes the folder, and fails the test when the
/// node had panicked.
pub struct Node {
    options: Options,
    pub home: PathBuf,
    running: Mutex<Option<Running>>,
    /// Everything it ever wrote to standard error.
    stderr: Arc<Mutex<String>>,
    /// Guests that tests sharing this node have deployed.
    guests: Mutex<HashSet<String>>,
}

/// The node that tests share which need nothing special of it. What a test deploys there has a name of its own.
pub struct Shared(&'static Node);

impl Shared {
    /// On [`Missing`], which is already reported, the test should return.
    #[track_caller]
    pub fn node() -> Result<Self, Missing> {
        static NODE: LazyLock<Result<Node, Missing>> = LazyLock::new(|| Node::try_start(Options::default()));
        // Checked by each test, so that each is reported as left out.
        Servers::require()?;
        NODE.as_ref().map(Self).map_err(Clone::clone)
    }
}

impl Deref for Shared {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.report();
    }
}

struct Running {
    child: Child,
    readers: [JoinHandle<()>; 2],
    address: SocketAddr,
    key: String,
}

impl Node {
    /// Starts a node on an empty home, for tests of both suites: embedded in one suite, on servers of its own in the other. On
    /// [`Missing`], which is already reported, the test should return.
    #[track_caller]
    pub fn try_start(options: Options) -> Result<Self, Missing> {
        Self::try_start_in(new_dir("home"), options)
    }

    /// The same on a home that is there, with the servers that it had.
    #[track_caller]
    pub fn try_start_in(home: PathBuf, mut options: Options) -> Result<Self, Missing> {
        options.servers = Servers::of_a_node(&home, options.databases)?;
        Ok(Self::launch(home, options))
    }

    /// Starts a node on an empty home: embedded, or on the servers that the options name.
    #[track_caller]
    pub fn start(options: Options) -> Self {
        Self::start_in(new_dir("home"), options)
    }

    /// The same on a home that is there.
    #[track_caller]
    pub fn start_in(home: PathBuf, options: Options) -> Self {
        let is_on_what_the_suite_says = options.servers.is_some() || !crate::ON_SERVERS;
        assert!(is_on_what_the_suite_says, "in a test that both suites have, use Node::try_start");
        Self::launch(home, options)
    }

    #[track_caller]
    fn launch(home: PathBuf, options: Options) -> Self {
        let node = Self {
            options,
            home,
            running: Mutex::default(),
            stderr: Arc::default(),
            guests: Mutex::default(),
        };
        node.start_again();
        node
    }

    /// The command that starts this node.
    pub fn command(&self) -> Command {
        let config = self.home.join("test.toml");
        let servers = self.options.servers.as_deref();
        let databases = servers.map(Servers::config).unwrap_or_default();
        fs::write(&config, format!("{}\n{databases}", self.options.config)).unwrap();
        let mut command = orama(&["serve", "--listen", "127.0.0.1:0"]);
        command.envs(servers.map(Servers::env).unwrap_or_default());
        command.arg("--home").arg(&self.home).arg("--config").arg(config);
        command.arg("--workers").arg(self.options.workers.to_string());
        command.envs(self.options.env.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(files) = self.options.open_files {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            // SAFETY: the closure makes one system call and touches no memory of this process.
            unsafe {
                command.pre_exec(move || Ok(setrlimit(Resource::Nofile, limit)?));
            }
        }
        command
    }

    /// Starts it after it ended, and waits until it serves.
    #[track_caller]
    pub fn start_again(&self) {
        let mut child = spawn(self.command()).unwrap();
        let stderr = child.stderr.take().unwrap();
        let kept = Arc::clone(&self.stderr);
        let errors = std::thread::spawn(move || keep(stderr, &kept));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim_end().strip_prefix("listening on http://") else {
            let status = wait(&mut child);
            panic!("the node did not start ({status}): {line:?}\n{}", self.stderr());
        };
        let rest = std::thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = stdout.read_to_end(&mut rest);
        });
        let credentials = fs::read(self.home.join("credentials.json")).unwrap();
        let credentials: Value = serde_json::from_slice(&credentials).unwrap();
        *lock(&self.running) = Some(Running {
            address: address.parse().unwrap(),
            key: credentials["api_key"].as_str().unwrap().to_owned(),
            readers: [errors, rest],
            child,
        });
    }

    #[track_caller]
    fn running<T>(&self, read: impl FnOnce(&Running) -> T) -> T {
        read(lock(&self.running).as_ref().expect("the node runs"))
    }

    /// The lines of its config file that its test has written.
    pub fn config(&self) -> &str {
        &self.options.config
    }

    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.running(|running| running.address)
    }

    /// The operator's key.
    #[track_caller]
    pub fn key(&self) -> String {
        self.running(|running| running.key.clone())
    }

    /// The sockets that the node has open. Its files are not counted: stores open theirs when they are first needed.
    #[track_caller]
    pub fn open_sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.running(|running| running.child.id())
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        let mut running = lock(&self.running).take().expect("the node runs");
        let status = wait(&mut running.child);
        running.readers.into_iter().for_each(|reader| reader.join().unwrap());
        status
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGTERM and a new start.
    #[track_caller]
    pub fn restart(&self) {
        assert!(self.terminate().success(), "{}", self.stderr());
        self.start_again();
    }

    /// Everything it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        lock(&self.stderr).clone()
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// A request without a credential.
    #[track_caller]
    pub fn anonymous(&self, method: &str, path: &str) -> Request {
        Request::new(self.address(), method, path).described()
    }

    /// A request with the operator's key.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str) -> Request {
        self.request_as(&self.key(), method, path)
    }

    #[track_caller]
    pub fn request_as(&self, key: &str, method: &str, path: &str) -> Request {
        self.anonymous(method, path).header("authorization", &format!("Bearer {key}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send()
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path).send()
    }

    /// The bytes of an invoke request, for sockets of the test's own.
    #[track_caller]
    pub fn invoke_bytes(&self, name: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
        self.invoke_request(name).body(body).bytes()
    }

    #[track_caller]
    pub fn invoke_request(&self, name: &str) -> Request {
        self.request("POST", &format!("/v1/functions/{name}/invoke"))
    }

    #[track_caller]
    pub fn invoke(&self, name: &str, body: impl AsRef<[u8]>) -> Answer {
        self.invoke_request(name).body(body).send()
    }

    /// Deploys, whatever comes of it.
    #[track_caller]
    pub fn try_deploy(&self, name: &str, wasm: &[u8], fields: &[(&str, &str)]) -> Answer {
        self.deploy_request(name, wasm, fields).send()
    }

    #[track_caller]
    pub fn deploy_request(&self, name: &str, wasm: &[u8], fields: &[(&str, &str)]) -> Request {
        let mut parts: Vec<(&str, &[u8])> = vec![("name", name.as_bytes())];
        parts.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        parts.push(("wasm", wasm));
        self.request("POST", "/v1/functions").form(&parts)
    }

    /// Deploys a module that is accepted; the whole answer.
    #[track_caller]
    pub fn deploy(&self, name: &str, wasm: &[u8], fields: &[(&str, &str)]) -> Value {
        self.try_deploy(name, wasm, fields).expect(201).json()
    }

    /// Deploys a guest of `tests/guests/wat` under its own name, once, with a timeout of a second.
    #[track_caller]
    pub fn wat<'a>(&self, guest: &'a str) -> &'a str {
        let mut known = lock(&self.guests);
        if !known.contains(guest) {
            self.deploy(guest, &guests::wat(guest), &[("timeout_seconds", "1")]);
            known.insert(guest.to_owned());
        }
        guest
    }

    /// Deploys the Go guest `misc`, once, under the name that is returned; `None` when its compiler is missing, which
    /// was reported. Its environment has `MY_VAR`.
    #[track_caller]
    pub fn misc(&self, compiler: Compiler, import_module: &str) -> Option<String> {
        let (build, word): (fn(&str, &[&str]) -> _, _) = match compiler {
            Compiler::Go => (guests::go, "go"),
            Compiler::TinyGo => (guests::tinygo, "tinygo"),
        };
        let tag = format!("host_{import_module}");
        let tags: &[&str] = if import_module == "env" { &[] } else { &[&tag] };
        let name = format!("misc-{word}-{import_module}");
        let path = build("misc", tags).ok()?;
        let mut known = lock(&self.guests);
        if !known.contains(&name) {
            let metadata = json!({ "env_vars": { "MY_VAR": "my value" } }).to_string();
            self.deploy(&name, &fs::read(path).unwrap(), &[("metadata", &metadata)]);
            known.insert(name.clone());
        }
        Some(name)
    }

    /// The logs of a function; the query begins with `?` or is empty.
    #[track_caller]
    pub fn logs(&self, name: &str, query: &str) -> Value {
        self.get(&format!("/v1/functions/{name}/logs{query}")).expect(200).json()
    }

    /// The record of one invocation.
    #[track_caller]
    pub fn record(&self, name: &str, request_id: &str) -> Value {
        let logs = self.logs(name, &format!("?request_id={request_id}"));
        assert_eq!(logs["count"], 1, "{logs}");
        logs["invocations"][0].clone()
    }

    /// The value of a metric, named with its labels.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.anonymous("GET", "/metrics").send().expect(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
    }

    /// Modules compiled since it started.
    #[track_caller]
    pub fn compilations(&self) -> f64 {
        self.metric("orama_compilations_total{result=\"ok\"}")
    }

    /// At the end of a test: shows what the node said when the test failed, and fails it when the node had panicked,
    /// which it survives and hides from its clients.
    fn report(&self) {
        let stderr = self.stderr();
        if std::thread::panicking() {
            eprintln!("--- standard error of the node in {}\n{stderr}---", self.home.display());
            return;
        }
        assert!(!stderr.contains("panicked"), "the node panicked:\n{stderr}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if lock(&self.running).is_some() {
            self.kill();
        }
        self.report();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.home);
        }
    }
}

fn keep(mut from: impl Read, into: &Mutex<String>) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        lock(into).push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

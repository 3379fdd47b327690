//! Servers in separate processes, so that their cost is measured apart from that of their clients.

use crate::client::{Connection, deploy};
use may_minihttp::{HttpServer, HttpService, Request, Response};
use orama_runtime::child;
use orama_server::{Config, Node, Overrides, StopSignals};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The variable that makes a child process a server. The benchmark itself runs without it.
const ROLE: &str = "ORAMA_BENCH_ROLE";
const HOME: &str = "ORAMA_BENCH_HOME";
const WORKERS: &str = "ORAMA_BENCH_WORKERS";

/// The servers that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An Orama node.
    Node,
    /// `may_minihttp`, which answers each request with its body: HTTP without a function.
    BareHttp,
}

/// A server in a child process.
pub struct Server {
    child: Child,
    /// The address on which the server listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server with one worker and waits until it serves.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(role: Role, home: &Path) -> Self {
        Self::start_with(role, home, &[])
    }

    /// Starts a server with variables in its environment, and waits until it serves.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(role: Role, home: &Path, env: &[(&str, &str)]) -> Self {
        let mut child = role_command(role, home, NonZeroUsize::MIN)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line with its address");
        let address = line.trim().parse().unwrap_or_else(|error| panic!("{line:?} is no address: {error}"));
        Self { child, address }
    }

    /// Starts a node of another build, one core as [`Role::Node`] has, and waits until it serves.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn of_binary(binary: &Path, home: &Path) -> Self {
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--home"])
            .arg(home)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line with its address");
        let address = line.trim().strip_prefix("listening on http://").and_then(|text| text.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("{line:?} has no address")) }
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time that the process has used, as the scheduler counts it in nanoseconds.
    ///
    /// # Panics
    /// When the system does not report it.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id()).expect("a running process")
    }

    /// The API key of the node's first start.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn api_key(home: &Path) -> String {
        let text = std::fs::read_to_string(home.join("credentials.json")).expect("a credentials file");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["api_key"].as_str().expect("a key").to_owned()
    }

    /// Deploys a function, with settings as a JSON object.
    ///
    /// # Panics
    /// When the node refuses it.
    pub fn deploy(&self, api_key: &str, name: &str, wasm: &[u8], metadata: &str) {
        let mut connection = Connection::open(self.address);
        let answer = connection.call(&deploy(name, api_key, wasm, metadata));
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when the process has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that starts this program as a server. The server prints its address in a line when it serves.
///
/// # Panics
/// When the system does not report this program's path.
#[must_use]
pub fn role_command(role: Role, home: &Path, workers: NonZeroUsize) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program's path"));
    command.env(ROLE, format!("{role:?}")).env(HOME, home).env(WORKERS, workers.to_string());
    command
}

/// CPU time that a process's running threads have used, as the scheduler counts it in nanoseconds.
///
/// # Errors
/// When there is no such process.
pub fn cpu_of(process: u32) -> io::Result<Duration> {
    let of_task = |task: io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))?;
    Ok(Duration::from_nanos(tasks.filter_map(of_task).sum()))
}

/// A process and its descendants.
#[must_use]
pub fn tree(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = children
            .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
            .collect();
        found.extend(children);
        next += 1;
    }
    found
}

/// Resident memory of a process in bytes. Shared pages count by the process's share.
///
/// # Errors
/// When there is no such process.
pub fn memory_of(process: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes << 10).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Runs the server in a child process, or what a node runs beside itself, and does not return. Does nothing in the benchmark
/// itself, whose `main` calls it first.
///
/// # Panics
/// When the server cannot be started.
pub fn become_role() {
    if let Some(code) = child::dispatch(orama_server::CHILDREN) {
        child::end_now(i32::from(code != ExitCode::SUCCESS));
    }
    let Ok(role) = std::env::var(ROLE) else { return };
    let workers =
        std::env::var(WORKERS).ok().and_then(|workers| workers.parse().ok()).unwrap_or(NonZeroUsize::MIN);
    if role == format!("{:?}", Role::BareHttp) {
        bare_http(workers);
    }
    let signals = StopSignals::catch().expect("signals");
    let home = std::env::var_os(HOME).expect("a home for the node");
    let node = node(Path::new(&home), workers);
    println!("{}", node.local_addr());
    node.run_until(signals).expect("a clean stop");
    panic!("the node was stopped by a signal that it could catch");
}

/// Starts a node in this process, on a port of the loopback interface that is free.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn node(home: &Path, workers: NonZeroUsize) -> Node {
    let config = Config::load(&Overrides {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        home: Some(home.to_owned()),
        workers: Some(workers),
        ..Overrides::default()
    });
    Node::start(config.expect("a valid configuration")).expect("a node")
}

#[derive(Clone)]
struct Echo;

impl HttpService for Echo {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        let mut body = request.body();
        let bytes = body.fill_buf()?.to_vec();
        response.header("content-type: application/json");
        response.header("x-request-id: 01a203a6-6e6c-7d78-8e43-c3965e45afb2");
        response.header("x-duration-ms: 0.012");
        response.body_vec(bytes);
        Ok(())
    }
}

fn bare_http(workers: NonZeroUsize) -> ! {
    may::config().set_workers(workers.get());
    // The server cannot report a port that the system chose. It gets one that was just free, and another if that was taken since.
    let (address, server) = loop {
        let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = address.expect("a free port");
        match HttpServer(Echo).start(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            started => break (address, started.expect("a server")),
        }
    };
    println!("{address}");
    server.wait();
    panic!("the server ended");
}

//! Real servers of every backend, each in a folder and on ports of its own, which tests kill, stop and start again.
//!
//! `tests/tools/install-backends.sh` builds them. Dropping one ends it.

use crate::children::{self, PATIENCE, eventually};
use crate::lock;
use crate::ports;
use crate::tools::{self, Missing, require_or_report};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Checks for all servers at once, so that the report names all that are missing.
///
/// # Errors
/// [`Missing`], which was reported.
pub fn require_all() -> Result<(), Missing> {
    tools::require_all(&["rqlited", "olric-server", "ipfs"])
}

/// One server process.
pub struct Server {
    name: String,
    dir: PathBuf,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    child: Mutex<Option<Child>>,
}

impl Server {
    fn new(
        name: String,
        dir: &Path,
        command: impl Fn() -> Command + Send + Sync + 'static,
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let (command, is_ready) = (Box::new(command), Box::new(is_ready));
        Self { name, dir: dir.to_owned(), command, is_ready, child: Mutex::default() }
    }

    /// Starts it, or starts it again on the folder and the ports that it had.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn launch(&self) {
        let mut child = lock(&self.child);
        assert!(child.is_none(), "{} runs", self.name);
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *child = Some(children::spawn(command).unwrap());
    }

    /// Waits until it can be used.
    ///
    /// # Panics
    /// When it ends instead, or never can be.
    #[track_caller]
    pub fn wait_ready(&self) {
        let begun = Instant::now();
        while !(self.is_ready)() {
            assert!(self.is_running(), "{} ended:\n{}", self.name, self.log());
            assert!(begun.elapsed() < PATIENCE, "{} is not ready:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// [`Self::launch`] and [`Self::wait_ready`].
    #[track_caller]
    pub fn start(&self) {
        self.launch();
        self.wait_ready();
    }

    /// SIGKILL.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: it is there, and says nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether the process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        lock(&self.child).as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &*lock(&self.child) {
            kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of a server or several, removed with them. What a killed test run left goes with the next one.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        Self(children::new_dir(&std::env::temp_dir().join("orama-test-servers"), "server"))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The nodes of a cluster, each with the address that clients use.
pub struct Nodes {
    nodes: Vec<(Server, SocketAddr)>,
    _dir: Dir,
}

impl Nodes {
    /// One of them.
    #[must_use]
    pub fn node(&self, index: usize) -> &Server {
        &self.nodes[index].0
    }

    /// Where they are, for clients.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|(_, address)| *address).collect()
    }

    /// The same as URLs, of those that speak HTTP.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.addresses().iter().map(|address| format!("http://{address}")).collect()
    }
}

/// rqlite: one node or several.
pub struct Rqlite(Nodes);

impl Deref for Rqlite {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.0
    }
}

impl Rqlite {
    /// A single node.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn single() -> Result<Self, Missing> {
        Self::cluster(1)
    }

    /// Nodes that know each other, with a leader.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When they cannot be started.
    pub fn cluster(count: usize) -> Result<Self, Missing> {
        Self::start(count, &[])
    }

    /// A single node that asks for this name and password.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn with_password(user: &str, password: &str) -> Result<Self, Missing> {
        Self::start(1, &[(user, password)])
    }

    fn start(count: usize, users: &[(&str, &str)]) -> Result<Self, Missing> {
        let program = require_or_report("rqlited")?;
        let dir = Dir::new();
        let ports = ports::free(2 * count);
        let (http, raft) = ports.split_at(count);
        let join = raft.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let auth = (!users.is_empty()).then(|| {
            let users: Vec<_> = users
                .iter()
                .map(|(name, password)| serde_json::json!({ "username": name, "password": password, "perms": ["all"] }))
                .collect();
            let file = dir.path().join("auth.json");
            fs::write(&file, serde_json::to_vec(&users).unwrap()).unwrap();
            file
        });
        // A cluster on a busy machine must not take slowness for death; alone there is nobody to wait for.
        let timeout = if count == 1 { "100ms" } else { "400ms" };
        let nodes = http.iter().zip(raft).enumerate().map(|(index, (&http, &raft))| {
            let data = dir.path().join(format!("rqlite-{index}"));
            let (program, join, auth) = (program.clone(), join.clone(), auth.clone());
            let command = move || {
                let mut command = Command::new(&program);
                command.args(["-node-id", &(index + 1).to_string()]);
                command.args(["-http-addr", &http.to_string(), "-raft-addr", &raft.to_string()]);
                for option in ["-raft-timeout", "-raft-election-timeout", "-raft-leader-lease-timeout"] {
                    command.args([option, timeout]);
                }
                if count > 1 {
                    command.args(["-bootstrap-expect", &count.to_string(), "-join", &join]);
                }
                if let Some(auth) = &auth {
                    command.arg("-auth").arg(auth);
                }
                command.arg(&data);
                command
            };
            let has_password = !users.is_empty();
            let is_ready = move || match http_status(http, "GET", "/readyz") {
                Some(401) => has_password,
                status => status == Some(200),
            };
            (Server::new(format!("rqlite-{index}"), dir.path(), command, is_ready), http)
        });
        let nodes: Vec<_> = nodes.collect();
        nodes.iter().for_each(|(server, _)| server.launch());
        nodes.iter().for_each(|(server, _)| server.wait_ready());
        Ok(Self(Nodes { nodes, _dir: dir }))
    }

    /// Which node leads now.
    ///
    /// # Panics
    /// When none does for long.
    #[must_use]
    pub fn leader(&self) -> usize {
        let begun = Instant::now();
        loop {
            for (index, (server, address)) in self.nodes.iter().enumerate() {
                if server.is_running()
                    && http(*address, "GET", "/status").is_some_and(|(_, body)| {
                        body.contains("\"state\":\"Leader\"") || body.contains("\"state\": \"Leader\"")
                    })
                {
                    return index;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "no leader");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Olric: one node or several.
pub struct Olric(Nodes);

impl Deref for Olric {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.0
    }
}

impl Olric {
    /// A single node.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn single() -> Result<Self, Missing> {
        Self::start(1, None)
    }

    /// Nodes that know each other and keep everything twice.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When they cannot be started.
    pub fn cluster(count: usize) -> Result<Self, Missing> {
        Self::start(count, None)
    }

    /// A single node that asks for this password.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn with_password(password: &str) -> Result<Self, Missing> {
        Self::start(1, Some(password))
    }

    fn start(count: usize, password: Option<&str>) -> Result<Self, Missing> {
        let program = require_or_report("olric-server")?;
        let dir = Dir::new();
        let ports = ports::free(2 * count);
        let (resp, members) = ports.split_at(count);
        let authentication = password
            .map_or(String::new(), |password| format!("authentication:\n  password: \"{password}\"\n"));
        let mut nodes = Vec::new();
        for (index, (&resp, &member)) in resp.iter().zip(members).enumerate() {
            let peers: String = members
                .iter()
                .filter(|peer| **peer != member)
                .map(|peer| format!("\n    - \"{peer}\""))
                .collect();
            let peers = if peers.is_empty() { String::new() } else { format!("  peers:{peers}\n") };
            let config = format!(
                "server:\n  bindAddr: 127.0.0.1\n  bindPort: {}\n  keepAlivePeriod: 300s\n  bootstrapTimeout: 5s\n  partitionCount: 71\n  \
                 replicaCount: {}\n  writeQuorum: 1\n  readQuorum: 1\n  readRepair: false\n  replicationMode: 0\n  memberCountQuorum: 1\n  \
                 routingTablePushInterval: 10s\n  enableClusterEventsChannel: true\n{authentication}client:\n  dialTimeout: 2s\n  \
                 readTimeout: 3s\n  writeTimeout: 3s\nlogging:\n  verbosity: 3\n  level: WARN\n  output: stderr\nmemberlist:\n  \
                 environment: local\n  bindAddr: 127.0.0.1\n  bindPort: {}\n  enableCompression: false\n  joinRetryInterval: 100ms\n  \
                 maxJoinAttempts: {}\n{peers}dmaps:\n  engine:\n    name: kvstore\n    config:\n      tableSize: 4194304\n",
                resp.port(),
                count.min(2),
                member.port(),
                if count == 1 { 1 } else { 3 },
            );
            let file = dir.path().join(format!("olric-{index}.yaml"));
            fs::write(&file, config).unwrap();
            let program = program.clone();
            let command = move || {
                let mut command = Command::new(&program);
                command.arg("-c").arg(&file);
                command
            };
            let needs_password = password.is_some();
            let is_ready = move || resp_is_up(resp, needs_password);
            let server = Server::new(format!("olric-{index}"), dir.path(), command, is_ready);
            // One after the other, so that each finds those before it.
            server.start();
            nodes.push((server, resp));
        }
        let olric = Self(Nodes { nodes, _dir: dir });
        if password.is_none() {
            let members = || olric.members();
            eventually("all Olric nodes know each other", || members() == Some(count));
        }
        Ok(olric)
    }

    /// How many members the first node knows.
    fn members(&self) -> Option<usize> {
        let answer = resp_command(self.nodes[0].1, b"*1\r\n$15\r\nCLUSTER.MEMBERS\r\n")?;
        let count = answer.strip_prefix('*')?.split("\r\n").next()?;
        count.parse().ok()
    }
}

/// kubo: one node, or several that are connected to each other and to nobody else.
pub struct Kubo(Nodes);

impl Deref for Kubo {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.0
    }
}

impl Kubo {
    /// A single node that knows no other.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn single() -> Result<Self, Missing> {
        Self::cluster(1)
    }

    /// Nodes that fetch from each other what they lack.
    ///
    /// # Errors
    /// [`Missing`], which was reported.
    ///
    /// # Panics
    /// When they cannot be started.
    pub fn cluster(count: usize) -> Result<Self, Missing> {
        let program = require_or_report("ipfs")?;
        let dir = Dir::new();
        let ports = ports::free(3 * count);
        let mut nodes = Vec::new();
        let mut peers: Vec<String> = Vec::new();
        for (index, ports) in ports.chunks_exact(3).enumerate() {
            let (api, gateway, swarm) = (ports[0], ports[1], ports[2]);
            let repo = dir.path().join(format!("kubo-{index}"));
            let ipfs = |arguments: &[&str]| {
                let output = Command::new(&program).args(arguments).env("IPFS_PATH", &repo).output().unwrap();
                assert!(
                    output.status.success(),
                    "ipfs {arguments:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                String::from_utf8(output.stdout).unwrap()
            };
            ipfs(&["init", "--empty-repo", "--profile=test,flatfs"]);
            let id = ipfs(&["config", "Identity.PeerID"]);
            let listen = if count == 1 {
                "[]".to_owned()
            } else {
                format!("[\"/ip4/127.0.0.1/tcp/{}\"]", swarm.port())
            };
            ipfs(&["config", "Addresses.API", &format!("/ip4/127.0.0.1/tcp/{}", api.port())]);
            ipfs(&["config", "Addresses.Gateway", &format!("/ip4/127.0.0.1/tcp/{}", gateway.port())]);
            ipfs(&["config", "--json", "Addresses.Swarm", &listen]);
            ipfs(&["config", "Routing.Type", "none"]);
            ipfs(&["config", "--json", "Peering.Peers", &format!("[{}]", peers.join(","))]);
            peers.push(format!(
                "{{\"ID\":\"{}\",\"Addrs\":[\"/ip4/127.0.0.1/tcp/{}\"]}}",
                id.trim(),
                swarm.port()
            ));
            let program = program.clone();
            let command = move || {
                let mut command = Command::new(&program);
                command.arg("daemon").env("IPFS_PATH", &repo);
                if count == 1 {
                    command.arg("--offline");
                }
                command
            };
            let is_ready = move || http_status(api, "POST", "/api/v0/id") == Some(200);
            nodes.push((Server::new(format!("kubo-{index}"), dir.path(), command, is_ready), api));
        }
        nodes.iter().for_each(|(server, _)| server.launch());
        nodes.iter().for_each(|(server, _)| server.wait_ready());
        for (_, address) in &nodes {
            eventually("every kubo knows the others", || {
                let peers = http(*address, "POST", "/api/v0/swarm/peers")
                    .map(|(_, body)| body.matches("\"Peer\"").count());
                count == 1 || peers.is_some_and(|peers| peers >= count - 1)
            });
        }
        Ok(Self(Nodes { nodes, _dir: dir }))
    }
}

fn http_status(address: SocketAddr, method: &str, path: &str) -> Option<u16> {
    http(address, method, path).map(|(status, _)| status)
}

/// Status and body of a request, read to the connection's end.
fn http(address: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let mut stream = connect(address)?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

fn resp_is_up(address: SocketAddr, needs_password: bool) -> bool {
    resp_command(address, b"*1\r\n$4\r\nPING\r\n")
        .is_some_and(|answer| answer.contains("PONG") || (needs_password && answer.starts_with('-')))
}

/// The first piece of an answer to a RESP command.
fn resp_command(address: SocketAddr, command: &[u8]) -> Option<String> {
    let mut stream = connect(address)?;
    stream.write_all(command).ok()?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).into_owned())
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rqlite_elects_a_leader_and_another_one_when_that_is_killed() {
        let Ok(rqlite) = Rqlite::cluster(3) else { return };
        let first = rqlite.leader();
        rqlite.node(first).kill();
        eventually("another leader", || rqlite.leader() != first);
        rqlite.node(first).start();
    }

    #[test]
    fn olric_nodes_know_each_other() {
        let Ok(olric) = Olric::cluster(2) else { return };
        assert_eq!(olric.members(), Some(2));
        let Ok(_) = Olric::with_password("secret") else { return };
    }

    #[test]
    fn kubo_nodes_fetch_from_each_other() {
        let Ok(kubo) = Kubo::cluster(2) else { return };
        for address in kubo.addresses() {
            assert_eq!(http_status(address, "POST", "/api/v0/id"), Some(200));
        }
    }
}

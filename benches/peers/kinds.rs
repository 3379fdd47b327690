//! The peers: how each is installed, prepared with functions and started.

use crate::install::{self, Program};
use crate::options::Options;
use crate::servers::{Function, Server};
use orama_benches::process::{self, Role, role_command};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Threads that serve, where a server has such an option. workerd has one thread, so it runs in as many processes.
pub const WORKERS: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// Flags of `wasmtime serve`: pooled instances, whose slots keep the memory that a request touched.
const WASMTIME_SERVE: [&str; 12] = [
    "-Opooling-allocator=y",
    "-Omemory-init-cow=y",
    "-Opooling-pagemap-scan=auto",
    "-Opooling-memory-keep-resident=2097152",
    "-Opooling-table-keep-resident=65536",
    "-Opooling-async-stack-keep-resident=65536",
    "-Opooling-max-unused-warm-slots=1000",
    "-Opooling-max-memory-size=67108864",
    "-Opooling-total-core-instances=1000",
    "-Opooling-total-component-instances=1000",
    "-Opooling-total-memories=1000",
    "-Opooling-total-stacks=1000",
];

/// A way to run functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our node.
    Orama,
    /// Go's net/http and wazero, an instance per request.
    Wazero,
    /// workerd, an instance per request.
    Workerd,
    /// `wasmtime serve`, an instance per request.
    Wasmtime,
    /// Go's net/http and native code.
    Go,
    /// may_minihttp and native code.
    MayMinihttp,
}

impl Kind {
    /// All peers, this node first.
    pub const ALL: [Self; 6] =
        [Self::Orama, Self::Wazero, Self::Workerd, Self::Wasmtime, Self::Go, Self::MayMinihttp];

    /// The name for `--only` and for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orama => "orama",
            Self::Wazero => "wazero",
            Self::Workerd => "workerd",
            Self::Wasmtime => "wasmtime-serve",
            Self::Go => "go-native",
            Self::MayMinihttp => "may-minihttp",
        }
    }

    /// A description for the table of versions.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Orama => "this node, functions deployed over HTTP",
            Self::Wazero => "Go's net/http, module compiled once, an instance per request",
            Self::Workerd => {
                "a worker in JavaScript that makes an instance per request; one thread, so two processes"
            }
            Self::Wasmtime => {
                "`wasmtime serve` with pooled instances, one per request; a component by hand, echo only"
            }
            Self::Go => "Go's net/http and the same function as native code: no sandbox",
            Self::MayMinihttp => {
                "may_minihttp answering with the body, as native code: no sandbox, echo only"
            }
        }
    }

    /// Whether the peer runs this function.
    #[must_use]
    pub fn runs(self, function: &Function) -> bool {
        match self {
            Self::Orama | Self::Go => true,
            Self::Wazero => !function.needs_node,
            // Its worker has no functions for files, which net/http imports.
            Self::Workerd => !function.needs_node && function.name != "go-web",
            Self::Wasmtime | Self::MayMinihttp => function.name == "echo",
        }
    }

    /// Whether the peer runs guests in WebAssembly.
    #[must_use]
    pub fn sandboxed(self) -> bool {
        !matches!(self, Self::Go | Self::MayMinihttp)
    }
}

/// A peer that can be started.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The kind of peer.
    pub kind: Kind,
    /// Its installed program.
    pub program: Program,
}

impl Peer {
    /// Builds or installs the peer.
    ///
    /// # Errors
    /// When a tool is missing; the message says how to get it.
    pub fn install(kind: Kind, tools: &Path, options: &Options) -> Result<Self, String> {
        let program = match kind {
            Kind::Orama => install::node(options),
            Kind::Wazero => install::go(tools, "wazero"),
            Kind::Workerd => install::workerd(tools),
            Kind::Wasmtime => install::wasmtime(tools, options.install),
            Kind::Go => install::go(tools, "plain"),
            Kind::MayMinihttp => {
                Ok(Program { path: PathBuf::new(), version: install::locked("may_minihttp") })
            }
        };
        program.map(|program| Self { kind, program })
    }

    /// Writes the files of a first start into `state`: for a node none, as it gets its functions over HTTP.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn prepare(&self, functions: &[Function], state: &Path) -> Result<(), String> {
        let io = |error: io::Error| format!("{}: {error}", state.display());
        match self.kind {
            Kind::Workerd => {
                for function in functions {
                    fs::copy(&function.wasm, state.join(format!("{}.wasm", function.name))).map_err(io)?;
                }
                fs::copy(install::sources().join("workerd/worker.js"), state.join("worker.js"))
                    .map_err(io)?;
                fs::write(state.join("config.capnp"), workerd_config(functions)).map_err(io)
            }
            Kind::Wasmtime => {
                let text = install::sources().join("wasmtime/echo.wat");
                let component = wat::parse_file(&text).map_err(|error| error.to_string())?;
                fs::write(state.join("echo.wasm"), component).map_err(io)
            }
            _ => Ok(()),
        }
    }

    /// Prepares `state` for a restart: with functions deployed and compiled, where the peer keeps that on disk.
    ///
    /// # Errors
    /// When the peer cannot be run.
    pub fn prime(&self, functions: &[Function], state: &Path) -> Result<(), String> {
        self.prepare(functions, state)?;
        match self.kind {
            Kind::Orama => {
                let server = self.start(functions, state)?;
                functions.iter().try_for_each(|function| server.deploy(function, function.name, "{}"))
            }
            Kind::Wazero => {
                fs::create_dir(state.join("cache")).map_err(|error| error.to_string())?;
                self.start(functions, state).map(drop)
            }
            Kind::Wasmtime => {
                let mut compile = Command::new(&self.program.path);
                compile.arg("compile").args(WASMTIME_SERVE).arg("-o").arg(state.join("echo.cwasm"));
                install::run(compile.arg(state.join("echo.wasm"))).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Starts the peer and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, functions: &[Function], state: &Path) -> Result<Server, String> {
        let path = &self.program.path;
        let mut server = Server::new(self.kind);
        match self.kind {
            Kind::Orama => {
                let mut command = Command::new(path);
                command
                    .args(["serve", "--listen", "127.0.0.1:0", "--workers", &WORKERS.to_string(), "--home"])
                    .arg(state);
                server.spawn(&mut command, 1, |line| after("listening on http://", line))?;
                server.api_key = process::Server::api_key(state);
            }
            Kind::Wazero => {
                let mut command = Command::new(path);
                command.env("GOMAXPROCS", WORKERS.to_string());
                if state.join("cache").exists() {
                    command.arg("-cache").arg(state.join("cache"));
                }
                command.args(
                    functions.iter().map(|function| format!("{}={}", function.name, function.wasm.display())),
                );
                server.spawn(&mut command, 1, |line| after("", line))?;
            }
            Kind::Workerd => {
                for _ in 0..WORKERS.get() {
                    let mut command = Command::new(path);
                    command.args(["serve", "--control-fd=1"]).arg(state.join("config.capnp"));
                    server.spawn(&mut command, functions.len(), workerd_address)?;
                }
            }
            Kind::Wasmtime => {
                let mut command = Command::new(path);
                command.args(["serve", "--addr=127.0.0.1:0"]).args(WASMTIME_SERVE);
                command.env("TOKIO_WORKER_THREADS", WORKERS.to_string());
                let compiled = state.join("echo.cwasm");
                if compiled.exists() {
                    command.arg("--allow-precompiled").arg(compiled);
                } else {
                    command.arg(state.join("echo.wasm"));
                }
                server.spawn(&mut command, 1, |line| after("Serving HTTP on http://", line))?;
            }
            Kind::Go => {
                let mut command = Command::new(path);
                server.spawn(command.env("GOMAXPROCS", WORKERS.to_string()), 1, |line| after("", line))?;
            }
            Kind::MayMinihttp => {
                let mut command = role_command(Role::BareHttp, state, WORKERS);
                server.spawn(&mut command, 1, |line| after("", line))?;
            }
        }
        Ok(server)
    }
}

/// workerd's configuration: a worker with its own socket for each function.
fn workerd_config(functions: &[Function]) -> String {
    let mut services = String::new();
    let mut sockets = String::new();
    for Function { name, .. } in functions {
        services += &format!(
            "    (name = \"{name}\", worker = (compatibilityDate = \"2026-11-01\", modules = [\n      \
             (name = \"worker.js\", esModule = embed \"worker.js\"),\n      \
             (name = \"function.wasm\", wasm = embed \"{name}.wasm\")])),\n"
        );
        sockets += &format!(
            "    (name = \"{name}\", address = \"127.0.0.1:0\", http = (), service = \"{name}\"),\n"
        );
    }
    format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n  services = [\n{services}  ],\n  sockets = [\n{sockets}  ],\n);\n"
    )
}

/// Reads an address from a line of workerd's control stream.
fn workerd_address(line: &str) -> Option<(String, SocketAddr)> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let port = u16::try_from(event["port"].as_u64()?).ok()?;
    Some((event["socket"].as_str()?.to_owned(), SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Reads the address of a server from a line that begins with `prefix`.
fn after(prefix: &str, line: &str) -> Option<(String, SocketAddr)> {
    Some((String::new(), line.strip_prefix(prefix)?.trim_end_matches('/').parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_lines_of_servers() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let line = r#"{"event":"listen","socket":"go-hello","port":34989}"#;
        assert_eq!(workerd_address(line), Some(("go-hello".to_owned(), at(34989))));
        assert_eq!(workerd_address("error: no"), None);
        assert_eq!(after("at http://", "at http://127.0.0.1:8080/"), Some((String::new(), at(8080))));
        assert_eq!(after("", "127.0.0.1:80"), Some((String::new(), at(80))));
        assert_eq!(after("at http://", "127.0.0.1:80"), None);
    }

    #[test]
    fn workerd_has_a_socket_and_a_worker_for_each_function() {
        let function = |name| Function { name, wasm: PathBuf::new(), answer: Vec::new(), needs_node: false };
        let config = workerd_config(&[function("echo"), function("go-hello")]);
        for name in ["echo", "go-hello"] {
            assert!(config.contains(&format!("service = \"{name}\"")), "{config}");
            assert!(config.contains(&format!("embed \"{name}.wasm\"")), "{config}");
        }
        assert_eq!(config.matches('(').count(), config.matches(')').count());
    }
}

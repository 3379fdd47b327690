//! The cost of rqlite, Olric and kubo behind a node. A warm invocation is compared with one on an embedded node. Each host
//! function is measured on an embedded node, on servers with warm local caches, and on servers without the near cache.

// A benchmark that cannot be set up panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use orama_benches::client::{Connection, post};
use orama_benches::host_calls::measure;
use orama_benches::is_dry_run;
use orama_benches::process::{Role, Server, become_role};
use orama_test_support::backends::{Kubo, Olric, Rqlite};
use orama_test_support::guests;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Rounds in which the two nodes take turns, so that other load on the machine affects both.
const ROUNDS: usize = 31;
const REQUESTS: usize = 1_000;
const INPUT: &[u8] = br#"{"name":"World","path":"/api/v1/hello"}"#;

/// The servers of one node.
struct Servers {
    platform: Rqlite,
    database: Rqlite,
    olric: Olric,
    kubo: Kubo,
}

impl Servers {
    fn start() -> Option<Self> {
        let (platform, database) = (Rqlite::single().ok()?, Rqlite::single().ok()?);
        Some(Self { platform, database, olric: Olric::single().ok()?, kubo: Kubo::single().ok()? })
    }

    fn node(&self, home: &Path, more: &[(&str, &str)]) -> Server {
        let config = home.join("cluster.toml");
        let databases = format!(
            "[database.namespaces]\ndefault = {{ kind = \"rqlite\", urls = [\"{}\"] }}\n",
            self.database.urls().concat()
        );
        std::fs::write(&config, databases).unwrap();
        let (platform, kubo) = (self.platform.urls().concat(), self.kubo.urls().concat());
        let olric = self.olric.addresses()[0].to_string();
        let mut env = vec![
            ("ORAMA_CONFIG", config.to_str().unwrap()),
            ("ORAMA_DATABASE_PLATFORM_KIND", "rqlite"),
            ("ORAMA_DATABASE_PLATFORM_URLS", &platform),
            ("ORAMA_CACHE_KIND", "olric"),
            ("ORAMA_CACHE_ADDRESSES", &olric),
            ("ORAMA_PUBSUB_KIND", "olric"),
            ("ORAMA_PUBSUB_ADDRESSES", &olric),
            ("ORAMA_BLOBS_KIND", "ipfs"),
            ("ORAMA_BLOBS_API_URL", &kubo),
        ];
        env.extend_from_slice(more);
        Server::start_with(Role::Node, home, &env)
    }
}

/// A node with a function to invoke.
struct Target {
    server: Server,
    request: Vec<u8>,
    connection: Connection,
}

impl Target {
    fn new(server: Server, home: &TempDir, wasm: &[u8]) -> Self {
        let api_key = Server::api_key(home.path());
        server.deploy(&api_key, "f", wasm, "{}");
        let request = post("/v1/functions/f/invoke", &api_key, INPUT);
        let connection = Connection::open(server.address);
        Self { server, request, connection }
    }

    /// Measures the median latency and the CPU time per request.
    fn round(&mut self) -> (Duration, Duration) {
        let before = self.server.cpu();
        let mut times: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(self.connection.call(&self.request).status, 200);
                begun.elapsed()
            })
            .collect();
        times.sort();
        (times[REQUESTS / 2], (self.server.cpu() - before) / REQUESTS as u32)
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_nanos() as f64 / 1e3
}

fn invocations(servers: &Servers) {
    println!("\nwarm invocation, one client, embedded and on rqlite, Olric and kubo in turns");
    let mut functions = vec![("echo", guests::wat("echo"))];
    functions.extend(orama_benches::built(vec![("tinygo-hello", guests::tinygo("hello", &[]))]));
    for (name, wasm) in functions {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let nodes = [Server::start(Role::Node, homes[0].path()), servers.node(homes[1].path(), &[])];
        let mut targets: Vec<_> =
            nodes.into_iter().zip(&homes).map(|(node, home)| Target::new(node, home, &wasm)).collect();
        let mut times = [Vec::new(), Vec::new()];
        let mut cpu = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for turn in 0..2 {
                // The node that is second in one round is first in the next.
                let index = (round + turn) % 2;
                let (p50, used) = targets[index].round();
                times[index].push(p50);
                cpu[index].push(used);
            }
        }
        let [embedded, cluster] = times.map(median);
        let [embedded_cpu, cluster_cpu] = cpu.map(median);
        println!(
            "{name:<14} p50 {embedded:>7.1} us embedded {cluster:>7.1} us on servers, ratio {:.3}; \
             CPU {embedded_cpu:>6.1} us and {cluster_cpu:>6.1} us, ratio {:.3}",
            cluster / embedded,
            cluster_cpu / embedded_cpu,
        );
    }
}

fn main() {
    become_role();
    let quick = is_dry_run();
    let Some(servers) = Servers::start() else { return };
    if !quick {
        invocations(&servers);
    }
    // A cluster holds the data of one home, so each column has its own servers.
    let cold = Servers::start().unwrap();
    let homes = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let nodes = [
        Server::start(Role::Node, homes[0].path()),
        servers.node(homes[1].path(), &[]),
        cold.node(homes[2].path(), &[("ORAMA_CACHE_NEAR_SECONDS", "0")]),
    ];
    let columns: Vec<_> =
        nodes.iter().zip(&homes).map(|(node, home)| measure(node, home.path(), quick)).collect();
    println!("\nhost calls, us per call: {:>26} {:>12} {:>14}", "embedded", "on servers", "no near-cache");
    for ((name, embedded), rest) in columns[0].iter().zip(columns[1].iter().zip(&columns[2])) {
        let us = |time: &Duration| time.as_nanos() as f64 / 1e3;
        println!("{name:<28} {:>20.2} {:>12.2} {:>14.2}", us(embedded), us(&rest.0.1), us(&rest.1.1));
    }
}

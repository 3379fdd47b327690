//! `orama serve`: one node, until it is told to stop.

use crate::args::Serve;
use crate::error::{CliError, Result};
use crate::output;
use orama_server::store::settings::{Backends, NamespaceDatabase, OlricAt, RqliteAt};
use orama_server::{Config, Node, Overrides, StopSignals};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The variable that says what is logged.
const LOG_VARIABLE: &str = "ORAMA_LOG";

/// Runs the command.
pub fn run(args: Serve) -> Result<()> {
    start_logging("info")?;
    let config = load(&Overrides {
        config_file: args.config,
        listen: args.listen,
        home: args.home,
        workers: args.workers,
    })?;
    if args.check {
        return output::line(&summary(&config));
    }
    let running = Running::start(config)?;
    output::line(&format!("listening on http://{}", running.node.local_addr()))?;
    running.until_signal()
}

/// What a configuration that was accepted says of the node and its backends.
fn summary(config: &Config) -> String {
    let Backends { cluster, platform, namespaces, cache, pubsub, blobs } = &config.backends;
    let rqlite = |at: &RqliteAt| {
        let urls: Vec<_> = at.urls.iter().map(ToString::to_string).collect();
        format!("rqlite at {}", urls.join(", "))
    };
    let olric = |at: &Option<OlricAt>| match at {
        Some(at) => format!("olric at {}", at.addresses.join(", ")),
        None => "memory".to_owned(),
    };
    let mut lines = vec![
        "the configuration is good".to_owned(),
        format!("listen: {}", config.listen),
        format!("home: {}", config.home.display()),
        format!("cluster: {cluster}"),
        format!("database.platform: {}", platform.as_ref().map_or_else(|| "sqlite".to_owned(), rqlite)),
    ];
    lines.extend(namespaces.iter().map(|(namespace, database)| {
        let at = match database {
            NamespaceDatabase::Sqlite => "sqlite".to_owned(),
            NamespaceDatabase::Rqlite(at) => rqlite(at),
        };
        format!("database.namespaces.{namespace}: {at}")
    }));
    lines.push(match config.backends.databases_are_mapped() {
        true => "any other namespace: no database".to_owned(),
        false => "database of each namespace: sqlite".to_owned(),
    });
    lines.push(format!("cache: {}", olric(cache)));
    lines.push(format!("pubsub: {}", olric(pubsub)));
    let blobs = blobs.as_ref().map_or_else(|| "local".to_owned(), |at| format!("ipfs at {}", at.api_url));
    lines.push(format!("blobs: {blobs}"));
    lines.extend(config.remarks().into_iter().map(|remark| format!("note: {remark}")));
    lines.join("\n")
}

/// A node, and what will stop it.
pub struct Running {
    pub node: Node,
    signals: StopSignals,
}

impl Running {
    /// Starts a node; it serves when this returns.
    pub fn start(config: Config) -> Result<Self> {
        let signals = StopSignals::catch().map_err(no_signals)?;
        let node = Node::start(config)
            .map_err(|error| CliError::failed(format!("the node did not start: {error}")))?;
        Ok(Self { node, signals })
    }

    /// Serves until SIGTERM or Ctrl-C, then drains.
    pub fn until_signal(self) -> Result<()> {
        self.node.run_until(self.signals).map_err(no_signals)
    }
}

fn no_signals(error: std::io::Error) -> CliError {
    CliError::failed(format!("cannot wait for signals: {error}"))
}

/// Reads the configuration. A bad one is wrong usage: nothing was started.
pub fn load(overrides: &Overrides) -> Result<Config> {
    Config::load(overrides).map_err(|error| CliError::usage(output::one_line(&error.to_string())))
}

/// Logs go to standard error.
pub fn start_logging(default: &str) -> Result<()> {
    let directives = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::builder().parse(directives.as_deref().unwrap_or(default)).map_err(|error| {
        CliError::usage(format!("{LOG_VARIABLE} is not a log filter: {error}"))
            .hint("for example ORAMA_LOG=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| CliError::failed(format!("cannot start logging: {error}")))
}

//! `orama serve`: runs a node until a signal stops it.

use crate::args::Serve;
use crate::error::{CliError, Result};
use crate::output;
use orama_server::store::settings::{Backends, NamespaceDatabase, OlricAt, RqliteAt};
use orama_server::{Config, Node, Overrides, StopSignals};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The variable that filters the log.
const LOG_VARIABLE: &str = "ORAMA_LOG";

/// Runs the command.
pub fn run(args: Serve) -> Result<()> {
    start_logging("info")?;
    let config = load(&Overrides {
        config_file: args.config,
        listen: args.listen.map(|listen| listen.0),
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

/// Describes a valid configuration: the node and its backends.
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
        "the configuration is valid".to_owned(),
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

/// A node that serves, and the signals that stop it.
pub struct Running {
    /// The node.
    pub node: Node,
    signals: StopSignals,
}

impl Running {
    /// Starts a node. It serves when this returns.
    ///
    /// # Errors
    /// When a part of the node cannot be started.
    pub fn start(config: Config) -> Result<Self> {
        let signals = StopSignals::catch().map_err(no_signals)?;
        let node = Node::start(config)
            .map_err(|error| CliError::failed("the node did not start").caused_by(error))?;
        Ok(Self { node, signals })
    }

    /// Serves until SIGTERM or Ctrl-C, then drains.
    ///
    /// # Errors
    /// When signals cannot be awaited.
    pub fn until_signal(self) -> Result<()> {
        self.node.run_until(self.signals).map_err(no_signals)
    }
}

fn no_signals(error: std::io::Error) -> CliError {
    CliError::failed("cannot wait for signals").caused_by(error)
}

/// Reads the configuration.
///
/// # Errors
/// Wrong usage, when it is not valid. Nothing was started.
pub fn load(overrides: &Overrides) -> Result<Config> {
    Config::load(overrides)
        .map_err(|error| CliError::usage("the configuration is not valid").caused_by(error))
}

/// Starts logging to standard error, filtered by `ORAMA_LOG` or else by `default`.
///
/// # Errors
/// Wrong usage, when `ORAMA_LOG` is not a filter.
pub fn start_logging(default: &str) -> Result<()> {
    let directives = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::builder().parse(directives.as_deref().unwrap_or(default)).map_err(|error| {
        CliError::usage(format!("{LOG_VARIABLE} is not a log filter"))
            .caused_by(error)
            .hint("set a level or a filter for a module, for example ORAMA_LOG=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| CliError::failed("cannot start logging").caused_by(error))
}

//! `orama serve`: runs a node until a signal stops it.

mod check;

use crate::args::Serve;
use crate::error::{CliError, Result};
use crate::{output, suggest};
use orama_server::config::Loaded;
use orama_server::log::{Log, LogError};
use orama_server::{Config, Node, Overrides, StopSignals};

/// The variables that the command line reads and a node does not.
const OWN_VARIABLES: [&str; 4] = ["ORAMA_GATEWAY_URL", "ORAMA_API_KEY", "ORAMA_NAMESPACE", "ORAMA_CONTEXT"];

/// Runs the command.
pub fn run(args: Serve) -> Result<()> {
    // First: a service manager may send SIGHUP as soon as the process is there.
    let signals = StopSignals::catch_with_reload().map_err(no_signals)?;
    let overrides = Overrides {
        config_file: args.config,
        listen: args.listen.map(|listen| listen.0),
        home: args.home,
        workers: args.workers,
    };
    let loaded = read(&overrides)?;
    if args.check {
        return check::run(&loaded, args.json);
    }
    let log = Log::start(&loaded.config.log).map_err(no_log)?;
    for warning in misspelt(&loaded) {
        tracing::warn!("{warning}");
    }
    let node = start(loaded.config.clone())?;
    output::line(&format!("listening on http://{}", node.local_addr()))?;
    node.run_reloading(signals, |node| reload(node, &log, &overrides, &loaded)).map_err(no_signals)
}

/// Takes over what a running node can of the configuration as it is now; says what it cannot.
fn reload(node: &Node, log: &Log, overrides: &Overrides, loaded: &Loaded) {
    let new = match Loaded::read(overrides) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "the configuration was not read again; everything stays as it was");
            return;
        }
    };
    if let Err(error) = log.set_filter(&new.config.log) {
        tracing::error!(%error, "the log is filtered as before");
    }
    node.reload(&new.config);
    let waiting = loaded.needs_restart(&new);
    if !waiting.is_empty() {
        tracing::warn!(keys = waiting.join(", "), "these keys have other values now, which need a restart");
    }
    tracing::info!("the configuration was read again");
}

/// A line for each variable that was probably meant to be another one.
fn misspelt(loaded: &Loaded) -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let similar = |rest: &str, known: &[String]| {
        suggest::similar(rest, known.iter().map(String::as_str)).map(str::to_owned)
    };
    let line = |misspelt: orama_server::config::Misspelt| {
        let meant = misspelt.meant(similar).map(|name| format!("; did you mean {name}?"));
        format!(
            "nothing reads the variable {}{}",
            output::one_line(&misspelt.name),
            meant.unwrap_or_default()
        )
    };
    loaded.misspelt(names, &OWN_VARIABLES).into_iter().map(line).collect()
}

fn start(config: Config) -> Result<Node> {
    Node::start(config).map_err(|error| CliError::failed("the node did not start").caused_by(error))
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
        Ok(Self { node: start(config)?, signals })
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

fn no_log(error: LogError) -> CliError {
    CliError::failed("cannot start logging").caused_by(error)
}

fn read(overrides: &Overrides) -> Result<Loaded> {
    Loaded::read(overrides)
        .map_err(|error| CliError::usage("the configuration is not valid").caused_by(error))
}

/// Reads the configuration.
///
/// # Errors
/// Wrong usage, when it is not valid. Nothing was started.
pub fn load(overrides: &Overrides) -> Result<Config> {
    read(overrides).map(|loaded| loaded.config)
}

/// Starts logging to standard error, filtered by `ORAMA_LOG` or else by `default`.
///
/// # Errors
/// Wrong usage, when `ORAMA_LOG` is not a filter.
pub fn start_logging(default: &str) -> Result<()> {
    let started = Log::start_with_variable(default);
    started.map(drop).map_err(|error| match error {
        LogError::Filter(_) => CliError::usage("ORAMA_LOG is not valid")
            .caused_by(error)
            .hint("set a level or a filter for a module, for example ORAMA_LOG=debug"),
        other => no_log(other),
    })
}

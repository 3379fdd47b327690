//! `orama serve`: one node, until it is told to stop.

use crate::args::Serve;
use crate::error::{CliError, Result};
use crate::output;
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
    let running = Running::start(config)?;
    output::line(&format!("listening on http://{}", running.node.local_addr()))?;
    running.until_signal()
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

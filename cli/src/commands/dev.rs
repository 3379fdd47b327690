//! `orama dev`: a node for the functions of a folder, which follows their sources.

mod find;
mod keys;
mod orders;
mod screen;
mod session;
mod swap;
mod tail;
mod watch;

use super::{demo, secrets, serve};
use crate::args::Dev;
use crate::client::Client;
use crate::compiler;
use crate::credentials::{ApiKey, Credentials};
use crate::error::{CliError, Result, io};
use crate::output;
use keys::Keys;
use orama_runtime::Effort;
use orama_server::config::{Config, Overrides};
use orama_server::{Node, StartError};
use screen::Screen;
use session::{Event, Session};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use swap::Tools;

/// Where the node's data are below the first folder.
const HOME: &str = ".orama/dev";

/// How long requests may go on when the command ends: a function that hangs is no reason to wait.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the command.
pub fn run(args: Dev) -> Result<()> {
    serve::start_logging("warn")?;
    let roots = args.dirs.iter().map(|dir| real(dir)).collect::<Result<Vec<PathBuf>>>()?;
    let secrets = args.env_file.as_deref().map(secrets::values).transpose()?.unwrap_or_default();
    let first = args.dirs.first().map_or(Path::new("."), PathBuf::as_path);
    let home = args.home.clone().unwrap_or_else(|| first.join(HOME));
    let config = config(args.config.as_deref(), listen(&args)?, &home)?;
    prepare(&home)?;
    let (events, inbox) = mpsc::channel();
    catch_signals(events.clone())?;
    let node = Node::start(config).map_err(not_started)?;

    let credentials = Credentials::of_home(&home)?;
    let screen = Screen::new(head(&format!("http://{}", node.local_addr()), &home, &credentials));
    let client = Arc::new(Client::new(credentials)?);
    for (name, value) in &secrets {
        secrets::send(&client, name, value)?;
    }
    let tools = Tools { compiler: args.compiler, scheduler: args.scheduler };
    let mut session = Session::new(client, screen, roots, tools, args.data, events.clone())?;
    let keys = Keys::start(move |order| events.send(Event::Order(order)).is_ok())?;
    let ended = session.begin().and_then(|()| session.follow(&inbox));
    // First, as a second Ctrl-C may end the process while the node still drains.
    drop(keys);
    compiler::remove_now();
    drop(node);
    ended
}

/// A path without links, as the system names it when something changes there.
fn real(dir: &Path) -> Result<PathBuf> {
    match fs::canonicalize(dir) {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => Err(CliError::failed(format!("{} is not a folder", dir.display()))),
        Err(error) => Err(io("open", dir, error)),
    }
}

/// Where to listen: a free port unless one is asked for or the default one is free.
fn listen(args: &Dev) -> Result<Option<SocketAddr>> {
    if let Some(listen) = &args.listen {
        return Ok(Some(listen.0));
    }
    let mut default = config(args.config.as_deref(), None, Path::new(HOME))?.listen;
    if demo::is_taken(default) {
        output::line(&format!("{default} is in use; a free port is taken instead"))?;
        default.set_port(0);
    }
    Ok(Some(default))
}

/// The configuration of a node for development. The variables of a node are not read, as they may lead to the databases of
/// another one.
///
/// # Errors
/// Wrong usage, when the file is not valid.
pub fn config(file: Option<&Path>, listen: Option<SocketAddr>, home: &Path) -> Result<Config> {
    let (config_file, home) = (file.map(Path::to_owned), Some(home.to_owned()));
    let overrides = Overrides { config_file, listen, home, workers: None };
    let mut config = Config::load_with(&overrides, &|_| None)
        .map_err(|error| CliError::usage("the configuration is not valid").caused_by(error))?;
    config.effort = Effort::Quick;
    config.drain_grace = config.drain_grace.min(GRACE);
    Ok(config)
}

/// Makes the home, and has git ignore everything in it.
fn prepare(home: &Path) -> Result<()> {
    let ignore = home.join(".gitignore");
    fs::create_dir_all(home)
        .and_then(|()| fs::write(&ignore, "*\n"))
        .map_err(|error| io("write", &ignore, error))
}

fn not_started(error: StartError) -> CliError {
    let is_in_use = matches!(error, StartError::Home(_));
    let error = CliError::failed("the node did not start").caused_by(error);
    match is_in_use {
        true => error.hint("another `orama dev` of this folder may run; --home chooses another home"),
        false => error,
    }
}

/// The first signal ends the command, the second one the process.
fn catch_signals(events: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| CliError::failed("cannot wait for signals").caused_by(error))?;
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            drop(events.send(Event::End));
        }
        if let Some(again) = signals.next() {
            drop(signal_hook::low_level::emulate_default_handler(again));
        }
    });
    Ok(())
}

/// Where the node is, and how to use it from elsewhere. The key is one of this home alone.
fn head(address: &str, home: &Path, credentials: &Credentials) -> String {
    let key = match &credentials.api_key {
        ApiKey::Sent(key) => key.as_str(),
        ApiKey::Missing | ApiKey::SavedFor(_) => "none",
    };
    let home = home.display();
    format!(
        "listening on {address} (data in {home})\n\
         key       {key}\n\
         commands  ORAMA_HOME={home} orama function ..."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_ignored_by_git_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join(HOME);
        prepare(&home).unwrap();
        prepare(&home).unwrap();
        assert_eq!(fs::read_to_string(home.join(".gitignore")).unwrap(), "*\n");
    }

    #[test]
    fn a_folder_is_named_where_it_is_none() {
        assert!(real(Path::new("/nonexistent/f")).unwrap_err().described().contains("/nonexistent/f"));
        assert!(real(Path::new("/dev/null")).unwrap_err().described().contains("is not a folder"));
    }
}

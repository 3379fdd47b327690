//! Contexts: the nodes that a user has logged in to, with a key for each, in a file of the home.

use crate::credentials::{File, home};
use crate::error::{CliError, Exit, Result, io};
use orama_server::store::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The file's name in the home. Only its owner may read it.
const FILE_NAME: &str = "contexts.json";

/// The context of the node of this machine, whose key is in `credentials.json`.
pub const LOCAL: &str = "local";

/// All contexts of a user.
#[derive(Default, Serialize, Deserialize)]
pub struct Contexts {
    /// The one that commands use; `None` is [`LOCAL`].
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, File>,
}

impl Contexts {
    /// Reads the contexts. There are none where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read() -> Result<Self> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io("read", &path, error)),
        };
        // serde's message may quote a value, and the file holds keys: only the position is shown, and no cause is kept.
        serde_json::from_slice(&text).map_err(|error| {
            let (path, line, column) = (path.display(), error.line(), error.column());
            CliError::failed(format!("{path} is not valid (line {line}, column {column})"))
                .hint("remove the file, and log in again with `orama login <address>`")
        })
    }

    /// Writes the contexts, for their owner alone.
    ///
    /// # Errors
    /// When there is no home, or it cannot be written.
    pub fn write(&self) -> Result<()> {
        let path =
            path().ok_or_else(|| CliError::failed("there is no home folder").hint("set ORAMA_HOME"))?;
        let dir = path.parent().map_or_else(PathBuf::new, PathBuf::from);
        files::private_dir(&dir).map_err(|error| io("create", &dir, error))?;
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| CliError::failed("cannot write the contexts").caused_by(error))?;
        files::write_atomic(&path, &text).map_err(|error| io("write", &path, error))
    }

    /// The name of the context that commands use, where nothing else is said.
    pub fn current(&self) -> &str {
        self.current.as_deref().unwrap_or(LOCAL)
    }

    /// The names of all contexts with their addresses and namespaces; without [`LOCAL`].
    pub fn list(&self) -> impl Iterator<Item = (&str, &File)> {
        self.contexts.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// What a context's name stands for; `None` for [`LOCAL`].
    ///
    /// # Errors
    /// Not found, with the names that there are.
    pub fn find(&self, name: &str) -> Result<Option<&File>> {
        if name == LOCAL {
            return Ok(None);
        }
        self.contexts.get(name).map(Some).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).chain([LOCAL]).collect();
            let message = format!("there is no context {:?}", crate::output::one_line(name));
            CliError::new(Exit::NotFound, message).hint(format!("the contexts are {}", names.join(", ")))
        })
    }

    /// Makes a context the one that commands use.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn choose(&mut self, name: &str) -> Result<()> {
        self.find(name)?;
        self.current = (name != LOCAL).then(|| name.to_owned());
        Ok(())
    }

    /// Adds or replaces a context.
    pub fn put(&mut self, name: &str, file: File) {
        self.contexts.insert(name.to_owned(), file);
    }

    /// Removes a context. If it was in use, [`LOCAL`] is then.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn remove(&mut self, name: &str) -> Result<()> {
        if self.find(name)?.is_none() {
            return Err(CliError::usage(format!("the context {LOCAL} is always there")));
        }
        self.contexts.remove(name);
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(())
    }
}

fn path() -> Option<PathBuf> {
    home().map(|home| home.join(FILE_NAME))
}

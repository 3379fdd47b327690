//! Reads the configuration: the file, then the variables, then the flags. Notes where each value was said.

use super::given::Given;
use super::keys::keys;
use super::raw::{self, RawConfig};
use super::{Config, ConfigError, Overrides, Place, issuers, key::variable_of};
use orama_platform::secrets::{KEY_VARIABLE, MasterKeys};
use orama_runtime::web::Cors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// The variable that names the file.
pub(super) const FILE_VARIABLE: &str = "ORAMA_CONFIG";

/// A configuration that was read, and where its values were said.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each key was said that was.
    pub(super) origins: BTreeMap<String, Place>,
    /// What was said of backends: the key, and the value as the file would say it.
    pub(super) backends: Vec<(String, String)>,
    /// Variables that the configuration names, as those of passwords.
    pub(super) named_variables: Vec<String>,
}

impl Loaded {
    /// Reads and checks the whole configuration.
    ///
    /// # Errors
    /// [`ConfigError`], a single line that names the file and line or the variable, the key, and what is accepted.
    pub fn read(overrides: &Overrides) -> Result<Self, ConfigError> {
        // A variable that is not UTF-8 is seen as its nearest text, so that it is refused by name and not ignored.
        Self::read_with(overrides, &|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    /// [`Self::read`] with the environment as a function.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with(
        overrides: &Overrides,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        // An empty variable counts as unset, as shells make it hard to unset one for a single command.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let (mut origins, mut raw) = (BTreeMap::new(), RawConfig::default());
        let mut config = Config::defaults();
        let file = overrides.config_file.clone().or_else(|| variable(FILE_VARIABLE).map(PathBuf::from));
        if let Some(path) = file {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
            let table = DeTable::parse(&text).map_err(|e| ConfigError::Syntax {
                path: path.clone(),
                line: line_of(&text, e.span().map_or(0, |span| span.start)),
                message: e.message().to_owned(),
            })?;
            let mut reader = Reader {
                path: &path,
                text: &text,
                config: &mut config,
                raw: &mut raw,
                origins: &mut origins,
            };
            reader.table("", table.get_ref())?;
        }
        read_variables(&variable, &mut config, &mut raw, &mut origins)?;
        read_flags(overrides, &mut config, &mut origins);
        if let Some(cors) = &config.cors {
            // Each value was checked; that nobody is allowed shows only at the end.
            Cors::try_from(cors.clone()).map_err(ConfigError::Cors)?;
        }
        let (backends, named_variables) = (raw.said(&mut origins), raw.named_variables());
        config.backends = raw.finish(&config.backends.cluster, &variable)?;
        find_home(&mut config, &variable)?;
        Ok(Self { config, origins, backends, named_variables })
    }
}

fn read_variables(
    variable: &dyn Fn(&str) -> Option<String>,
    config: &mut Config,
    raw: &mut RawConfig,
    origins: &mut BTreeMap<String, Place>,
) -> Result<(), ConfigError> {
    for key in keys() {
        let name = key.variable();
        let Some(value) = variable(&name) else { continue };
        let place = Place::Variable(name);
        key.set(config, &Given::Variable(&value)).map_err(|message| ConfigError::BadValue {
            place: place.clone(),
            key: key.name.to_owned(),
            message,
        })?;
        origins.insert(key.name.to_owned(), place);
    }
    for key in raw::key_names().filter(|key| !key.contains('*')) {
        let name = variable_of(&key);
        if let Some(value) = variable(&name) {
            raw.set(&key, &Given::Variable(&value), Place::Variable(name))?;
        }
    }
    if let Some(value) = variable(KEY_VARIABLE).map(Zeroizing::new) {
        let keys = MasterKeys::parse(value.split(',').map(str::trim));
        config.secrets_keys = Some(keys.map_err(ConfigError::SecretsKey)?);
        origins.insert(KEY_VARIABLE.to_owned(), Place::Variable(KEY_VARIABLE.to_owned()));
    }
    Ok(())
}

fn read_flags(overrides: &Overrides, config: &mut Config, origins: &mut BTreeMap<String, Place>) {
    let Overrides { config_file: _, listen, home, workers } = overrides;
    let mut say = |key: &str| origins.insert(key.to_owned(), Place::Flag);
    if let Some(listen) = listen {
        config.listen = *listen;
        say("listen");
    }
    if let Some(workers) = workers {
        config.workers = *workers;
        say("workers");
    }
    if let Some(home) = home {
        config.home.clone_from(home);
        say("home");
    }
}

/// Makes the home absolute; nobody may have said one.
fn find_home(config: &mut Config, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
    if config.home.as_os_str().is_empty() {
        let user = variable("HOME").map(PathBuf::from).or_else(std::env::home_dir);
        config.home = user.ok_or(ConfigError::NoHome)?.join(".orama");
    }
    config.home = std::path::absolute(&config.home).map_err(|e| ConfigError::BadValue {
        place: Place::Flag,
        key: "home".to_owned(),
        message: format!("{}: {e}", config.home.display()),
    })?;
    Ok(())
}

/// Reads a file into a configuration.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    config: &'a mut Config,
    raw: &'a mut RawConfig,
    origins: &'a mut BTreeMap<String, Place>,
}

impl Reader<'_> {
    /// Walked by hand, as an error must name both key and line whichever of the two is wrong.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        // In the file's order, so that the first mistake is told first.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let line = line_of(self.text, key.span().start);
            let name = format!("{prefix}{}", key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                let prefix = format!("{name}.");
                if keys().any(|known| known.name.starts_with(&prefix)) || raw::is_table(&prefix) {
                    self.table(&prefix, inner)?;
                    continue;
                }
            }
            if name == issuers::KEY {
                self.issuers(line, value.get_ref())?;
            } else {
                self.key(name, line, value.get_ref())?;
            }
        }
        Ok(())
    }

    fn issuers(&mut self, line: usize, list: &DeValue<'_>) -> Result<(), ConfigError> {
        for (issuer, line) in issuers::parse(self.path, self.text, line, list)? {
            self.config.issuers.push(issuer);
            let key = issuers::numbered(
                self.config.issuers.iter().filter(|issuer| issuer.issuer.is_some()).count(),
            );
            self.origins.insert(key, Place::File(self.path.to_owned(), line));
        }
        Ok(())
    }

    fn key(&mut self, name: String, line: usize, value: &DeValue<'_>) -> Result<(), ConfigError> {
        let known = keys().find(|known| known.name == name);
        if known.is_none() && !raw::is_key(&name) {
            return Err(ConfigError::UnknownKey { path: self.path.to_owned(), line, key: name });
        }
        let place = Place::File(self.path.to_owned(), line);
        let bad = |message| ConfigError::BadValue { place: place.clone(), key: name.clone(), message };
        let given = given(value).map_err(bad)?;
        match known {
            Some(known) => {
                known.set(self.config, &given).map_err(bad)?;
                self.origins.insert(name, place);
            }
            None => self.raw.set(&name, &given, place)?,
        }
        Ok(())
    }
}

fn given<'v>(value: &'v DeValue<'_>) -> Result<Given<'v>, String> {
    Ok(match value {
        DeValue::String(text) => Given::Text(text),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map(Given::Integer)
            .map_err(|_| format!("the number {} is too large", n.as_str()))?,
        DeValue::Array(values) => {
            let texts = values.iter().map(|value| match value.get_ref() {
                DeValue::String(text) => Ok(&**text),
                other => Err(format!("expected texts in the list, got {}", other.type_str())),
            });
            Given::List(texts.collect::<Result<_, _>>()?)
        }
        DeValue::Float(n) => {
            Given::Float(n.as_str().parse().map_err(|_| format!("{} is no number", n.as_str()))?)
        }
        DeValue::Boolean(yes) => Given::Boolean(*yes),
        other => Given::Other(other.type_str()),
    })
}

/// The line of a byte offset, counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

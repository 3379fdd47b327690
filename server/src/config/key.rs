//! What is known of one key of the configuration. Everything else about it is derived from here: what the file and the variables
//! may say, what `orama serve --check` prints, and docs/CONFIG.md.

use super::Config;
use super::given::Given;
use crate::shares::{Rate, Rates};
use orama_runtime::limits::Setting;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Takes a value that was given.
pub(super) type Set = fn(&mut Config, &Given<'_>) -> Result<(), String>;

/// What a key takes, and the field of [`Config`] that has it.
pub(super) enum Takes {
    /// A whole number within bounds.
    Number(Setting, fn(&mut Config) -> &mut u32),
    /// Seconds within bounds.
    Seconds(Setting, fn(&mut Config) -> &mut Duration),
    /// `true` or `false`.
    Switch(fn(&mut Config) -> &mut bool),
    /// A rate, or `off` for none.
    Rate(fn(&mut Config) -> &mut Option<Rate>),
    /// The path of a file.
    Path(fn(&mut Config) -> &mut Option<PathBuf>),
    /// Anything else: what it is in words, how it is taken, and how it is shown, as the file would say it.
    Other { form: &'static str, set: Set, get: fn(&Config) -> Option<String> },
}

/// One key of the file, with its table's name before a dot.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What it decides, in one line.
    pub(super) about: &'static str,
    pub(super) takes: Takes,
    /// The default in words, where it depends on the machine.
    pub(super) default: Option<&'static str>,
    /// The flag of `orama serve` that says it too.
    pub(super) flag: Option<&'static str>,
    /// The variable, where it is not the usual one.
    variable: Option<&'static str>,
    /// What SIGHUP takes over.
    pub(super) reloads: Reloads,
}

/// What SIGHUP takes over of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reloads {
    Nothing,
    /// A new value.
    Value,
    /// What its file holds now; another file needs a restart.
    Content,
}

impl Key {
    pub(super) const fn new(name: &'static str, about: &'static str, takes: Takes) -> Self {
        Self { name, about, takes, default: None, flag: None, variable: None, reloads: Reloads::Nothing }
    }

    pub(super) const fn default(self, words: &'static str) -> Self {
        Self { default: Some(words), ..self }
    }

    pub(super) const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    pub(super) const fn named(self, variable: &'static str) -> Self {
        Self { variable: Some(variable), ..self }
    }

    pub(super) const fn reloads(self, what: Reloads) -> Self {
        Self { reloads: what, ..self }
    }

    /// The environment variable that says it too.
    pub(super) fn variable(&self) -> String {
        self.variable.map_or_else(|| variable_of(self.name), str::to_owned)
    }

    /// Takes a value over.
    ///
    /// # Errors
    /// What is accepted, and what was given.
    pub(super) fn set(&self, config: &mut Config, given: &Given<'_>) -> Result<(), String> {
        match &self.takes {
            Takes::Number(setting, field) => *field(config) = given.setting(*setting)?,
            Takes::Seconds(setting, field) => *field(config) = given.seconds(*setting)?,
            Takes::Switch(field) => *field(config) = given.boolean()?,
            Takes::Rate(field) => *field(config) = Rates::parse(given.text()?)?,
            Takes::Path(field) => *field(config) = Some(given.path()?),
            Takes::Other { set, .. } => set(config, given)?,
        }
        Ok(())
    }

    /// The value as the file would say it; `None` where there is none. The configuration is not changed.
    pub(super) fn value(&self, config: &mut Config) -> Option<String> {
        match &self.takes {
            Takes::Number(_, field) => Some(field(config).to_string()),
            Takes::Seconds(_, field) => Some(field(config).as_secs().to_string()),
            Takes::Switch(field) => Some(field(config).to_string()),
            Takes::Rate(field) => {
                Some(quoted(&field(config).map_or_else(|| "off".to_owned(), |rate| rate.to_string())))
            }
            Takes::Path(field) => field(config).as_deref().map(quoted_path),
            Takes::Other { get, .. } => get(config),
        }
    }

    /// What it takes, in words.
    pub(super) fn form(&self) -> String {
        match &self.takes {
            Takes::Number(Setting { min, max, unit, .. }, _) => format!("{min} to {max} {unit}"),
            Takes::Seconds(Setting { min, max, .. }, _) => format!("{min} to {max} seconds"),
            Takes::Switch(_) => "`true` or `false`".to_owned(),
            Takes::Rate(_) => "a rate, such as `\"20/s burst 100\"`, or `\"off\"`".to_owned(),
            Takes::Path(_) => "the path of a file".to_owned(),
            Takes::Other { form, .. } => (*form).to_owned(),
        }
    }
}

/// The usual variable of a key: `ORAMA_` and the key in capitals, `_` for the dot.
pub(super) fn variable_of(key: &str) -> String {
    format!("ORAMA_{}", key.to_ascii_uppercase().replace('.', "_"))
}

/// A text as the file would say it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

pub(super) fn quoted_path(path: impl AsRef<Path>) -> String {
    quoted(&path.as_ref().to_string_lossy())
}

/// Texts as the file would say them.
pub(super) fn quoted_list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

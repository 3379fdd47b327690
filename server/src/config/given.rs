//! A value of the configuration as it was given.

use orama_runtime::limits::Setting;
use std::path::PathBuf;
use std::time::Duration;

/// A value as it was given. Variables are text even where the file has a number.
pub(super) enum Given<'a> {
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<&'a str>),
    Variable(&'a str),
    Other(&'static str),
}

impl Given<'_> {
    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Variable(text) => Ok(text),
            Self::Integer(n) => Err(format!("expected a text in quotes, got the number {n}")),
            Self::Float(n) => Err(format!("expected a text in quotes, got the number {n}")),
            Self::Boolean(yes) => Err(format!("expected a text in quotes, got {yes}")),
            Self::List(_) => Err("expected a text in quotes, got a list".to_owned()),
            Self::Other(kind) => Err(format!("expected a text in quotes, got {kind}")),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, String> {
        match self {
            Self::Integer(n) => Ok(*n),
            Self::Variable(text) => {
                text.trim().parse().map_err(|_| format!("expected a whole number, got {text:?}"))
            }
            Self::Text(text) => Err(format!("expected a whole number without quotes, got {text:?}")),
            Self::Float(n) => Err(format!("expected a whole number, got {n}")),
            Self::Boolean(yes) => Err(format!("expected a whole number, got {yes}")),
            Self::List(_) => Err("expected a whole number, got a list".to_owned()),
            Self::Other(kind) => Err(format!("expected a whole number, got {kind}")),
        }
    }

    /// Texts; a variable has commas between them.
    pub(super) fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::List(texts) => Ok(texts.iter().map(|text| (*text).to_owned()).collect()),
            Self::Variable(text) => Ok(text.split(',').map(|text| text.trim().to_owned()).collect()),
            Self::Text(_) | Self::Integer(_) | Self::Float(_) | Self::Boolean(_) | Self::Other(_) => {
                Err("expected a list of texts, such as [\"a\", \"b\"]".to_owned())
            }
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Boolean(yes) => Ok(*yes),
            Self::Variable(text) => {
                text.trim().parse().map_err(|_| format!("expected true or false, got {text:?}"))
            }
            Self::Text(_) | Self::Integer(_) | Self::Float(_) | Self::List(_) | Self::Other(_) => {
                Err("expected true or false without quotes".to_owned())
            }
        }
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self) -> Result<f64, String> {
        let share = match self {
            Self::Float(share) => Some(*share),
            Self::Integer(n) => Some(*n as f64),
            Self::Variable(text) => text.trim().parse().ok(),
            Self::Text(_) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => None,
        };
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        share.filter(is_share).ok_or_else(|| "expected a number from 0 to 1, such as 0.01".to_owned())
    }

    pub(super) fn path(&self) -> Result<PathBuf, String> {
        match self.text()? {
            "" => Err("the path is empty".to_owned()),
            path => Ok(PathBuf::from(path)),
        }
    }

    pub(super) fn setting(&self, setting: Setting) -> Result<u32, String> {
        setting.check(self.integer()?)
    }

    pub(super) fn seconds(&self, setting: Setting) -> Result<Duration, String> {
        self.setting(setting).map(|s| Duration::from_secs(u64::from(s)))
    }
}

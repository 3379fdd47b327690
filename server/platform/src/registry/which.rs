//! How a version of a function is named.

use orama_runtime::names::AliasName;
use std::fmt;

/// The alias that a name without a version stands for.
pub const LIVE: &str = "live";

/// Which version of a function is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// What the name alone stands for: the version of the alias `live`, or the newest if that is not set; or one of those over
    /// which its calls are spread.
    Live,
    /// One by its number.
    Number(u32),
    /// One by its alias.
    Alias(AliasName),
}

impl Which {
    /// Parses the part of a function's path name after the `@`.
    ///
    /// # Errors
    /// A sentence that says what may stand there.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "the text after the @ must be a version number from 1 on, or an alias";
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().filter(|number| *number > 0).map(Self::Number).ok_or(EXPECTED);
        }
        AliasName::new(text).map(Self::Alias).map_err(|_| EXPECTED)
    }
}

impl Which {
    /// What messages call it; `None` for what the name alone stands for.
    #[must_use]
    pub fn named(&self) -> Option<String> {
        match self {
            Self::Live => None,
            Self::Number(version) => Some(format!("version {version}")),
            Self::Alias(alias) => Some(format!("alias {:?}", alias.as_str())),
        }
    }
}

/// A version as paths name it, behind the function's name.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => Ok(()),
            Self::Number(number) => write!(f, "@{number}"),
            Self::Alias(alias) => write!(f, "@{alias}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_or_an_alias() {
        let alias = |name| Which::Alias(AliasName::new(name).unwrap());
        for (text, which) in [
            ("7", Which::Number(7)),
            ("4294967295", Which::Number(u32::MAX)),
            ("live", alias("live")),
            ("canary-2", alias("canary-2")),
        ] {
            assert_eq!(Which::parse(text), Ok(which), "{text}");
        }
        for bad in ["", "0", "4294967296", "+1", "-1", "1a", "a.b", "a@b", "ä"] {
            assert!(Which::parse(bad).is_err(), "{bad}");
        }
        assert_eq!((Which::Live.to_string(), Which::Number(7).to_string()), (String::new(), "@7".to_owned()));
    }
}

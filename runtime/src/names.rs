//! Types for the names that tenants choose: namespaces, functions, secrets. A value of such a type is a valid name.

use crate::limits::NAME_MAX_BYTES;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {given:?} is not valid: it must start with a letter, contain only letters, digits, '-' and '_', and have at most {NAME_MAX_BYTES} characters"
)]
pub struct InvalidName {
    what: &'static str,
    given: String,
}

fn check(what: &'static str, name: &str) -> Result<Arc<str>, InvalidName> {
    let bytes = name.as_bytes();
    let valid = bytes.len() <= NAME_MAX_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if valid {
        return Ok(Arc::from(name));
    }
    // A refused name may be as long as a request's path. The message shows only its first characters.
    Err(InvalidName { what, given: name.chars().take(2 * NAME_MAX_BYTES).collect() })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks a name.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule for names.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check($what, name).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }
    };
}

name_type!(
    /// A tenant. Everything that a function can reach belongs to exactly one.
    Namespace, "namespace");
name_type!(
    /// A function's name, unique in its namespace.
    FunctionName, "function name");
name_type!(
    /// The name of an alias of a function, which stands for one of its versions.
    AliasName, "alias");
name_type!(
    /// A secret's name, unique in its namespace.
    SecretName, "secret name");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        for good in ["a", "hello", "Hello-World_2", &"x".repeat(63)] {
            assert_eq!(FunctionName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "_a", "a b", "a/b", "a@1", "ä", "a\0", &"x".repeat(64)] {
            assert!(FunctionName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_refused_name_is_told_with_its_rule() {
        let message = Namespace::new("9lives").unwrap_err().to_string();
        assert!(message.contains("namespace \"9lives\"") && message.contains("63"), "{message}");
    }
}

//! Files of `NAME=VALUE` lines, as `secrets set --env-file` reads them.

use crate::error::{CliError, Result};
use orama_runtime::names::SecretName;

/// Reads the lines. Empty lines and those that begin with `#` are left out, and `export ` before a name is.
///
/// A value in single quotes is taken as it is. In double quotes, `\n`, `\r`, `\t`, `\"`, `\\` and `\$` are one character each.
/// Without quotes, the value ends before ` #`, and white space around it does not count. Nothing is ever replaced by a variable.
///
/// # Errors
/// With the number of the first line that cannot be read. No message repeats a value.
pub fn parse(text: &str, source: &str) -> Result<Vec<(SecretName, String)>> {
    let mut found: Vec<(SecretName, String)> = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| CliError::failed(format!("{source}:{}: {what}", index + 1));
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("expected NAME=VALUE"))?;
        let name = SecretName::new(name.trim()).map_err(|error| wrong(&error.to_string()))?;
        let value = value_of(value.trim_start())
            .ok_or_else(|| wrong("the value's quote does not end on this line, or something follows it"))?;
        if found.iter().any(|(other, _)| *other == name) {
            return Err(wrong(&format!("{name} is there twice")));
        }
        found.push((name, value));
    }
    if found.is_empty() {
        return Err(CliError::failed(format!("{source} has no NAME=VALUE line")));
    }
    Ok(found)
}

/// The value that a text means; `None` if its quotes do not match.
fn value_of(text: &str) -> Option<String> {
    let (value, rest) = match text.chars().next() {
        Some('\'') => text.get(1..)?.split_once('\'').map(|(value, rest)| (value.to_owned(), rest))?,
        Some('"') => unescape(text.get(1..)?)?,
        _ => {
            let end = text.find(" #").unwrap_or(text.len());
            return text.get(..end).map(|value| value.trim_end().to_owned());
        }
    };
    let rest = rest.trim();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

/// The text to the closing quote, and what follows that.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_are_meant() {
        let text = "\u{feff}# keys\n\nA=plain # a comment\nexport B = 'as $it is \\n#' # more\n\
                    C=\"two\\nlines \\\"q\\\" \\$x \\d\"\r\nD=\nE=a#b=c\n";
        let found = parse(text, ".env").unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("A", "plain"),
            ("B", "as $it is \\n#"),
            ("C", "two\nlines \"q\" $x \\d"),
            ("D", ""),
            ("E", "a#b=c"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_by_its_number_alone() {
        for (text, line) in [
            ("A=1\nhidden", 2),
            ("A='hidden", 1),
            ("\nA=\"hidden\\", 2),
            ("A='hid'den", 1),
            ("A B=hidden", 1),
            ("A=1\nA=hidden", 2),
        ] {
            let error = parse(text, ".env").unwrap_err().described();
            assert!(error.starts_with(&format!(".env:{line}: ")) && !error.contains("hidden"), "{error}");
        }
        assert!(parse("# nothing\n", ".env").is_err());
    }
}

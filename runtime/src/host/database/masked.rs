//! SQL without its values, for traces: each literal becomes a `?`, and comments go.

use crate::services::Statement;

/// How much of a statement is looked at, in bytes.
const READ_MAX: usize = 2048;

/// The statements of a batch, one behind the other.
pub(super) fn all(statements: &[Statement]) -> String {
    let mut text = String::new();
    for statement in statements {
        if text.len() >= READ_MAX {
            break;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        mask(&statement.sql, &mut text);
    }
    text
}

/// Appends a statement without its values. Whatever SQLite may read as text counts as a value, names in double quotes too.
fn mask(sql: &str, to: &mut String) {
    let mut rest = sql.get(..sql.floor_char_boundary(READ_MAX)).unwrap_or_default();
    let mut in_word = false;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '\'' | '"' => quoted(rest, c),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '0'..='9' if !in_word => number(rest),
            '.' if !in_word && rest[1..].starts_with(|c: char| c.is_ascii_digit()) => 1 + number(&rest[1..]),
            _ => 0,
        };
        if skipped == 0 {
            in_word = c.is_alphanumeric() || matches!(c, '_' | '$') || (in_word && c == '.');
            to.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if !matches!(c, '-' | '/') {
            // The letter of x'00' is part of the value.
            if in_word && to.ends_with(['x', 'X']) {
                to.pop();
            }
            to.push('?');
        }
        in_word = false;
        rest = &rest[skipped..];
    }
}

/// The length of a text in quotes, which are doubled within it.
fn quoted(text: &str, quote: char) -> usize {
    let mut end = 1;
    loop {
        match text[end..].find(quote) {
            None => return text.len(),
            Some(at) if text[end + at + 1..].starts_with(quote) => end += at + 2,
            Some(at) => return end + at + 1,
        }
    }
}

/// The length of a number, also hexadecimal or with an exponent.
fn number(text: &str) -> usize {
    let mut last = ' ';
    let is_over = |c: char| {
        let is_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
        last = c;
        !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || is_sign)
    };
    text.find(is_over).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_left() {
        for (sql, masked) in [
            ("SELECT a FROM t WHERE b = 'it''s' AND c=\"x\"\"y\"", "SELECT a FROM t WHERE b = ? AND c=?"),
            (
                "INSERT INTO t1 VALUES (1, -2.5e-3, 0xFF, x'00ff', .5, ?2)",
                "INSERT INTO t1 VALUES (?, -?, ?, ?, ?, ??)",
            ),
            ("SELECT 1 -- the key is 7\n, 2/* 3 */;", "SELECT ? \n, ?;"),
            ("SELECT 'open", "SELECT ?"),
            ("SELECT [a 1], `b`, t.c2 FROM t", "SELECT [a ?], `b`, t.c2 FROM t"),
            ("SELECT é1, 'ü'", "SELECT é1, ?"),
            ("SELECT /* open", "SELECT "),
        ] {
            let mut text = String::new();
            mask(sql, &mut text);
            assert_eq!(text, masked);
        }
    }
}

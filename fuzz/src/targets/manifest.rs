//! Any text may stand in `function.yaml`: it is read into values within their limits, or refused at a place in the text.

use crate::{Target, texts};
use orama_cli::manifest::parse;
use orama_runtime::limits::{MEMORY_MB, RETRY_COUNT, RETRY_DELAY_SECONDS, TIMEOUT_SECONDS};

pub const TARGET: Target = Target { name: "manifest", check, seeds };

pub fn check(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match parse(text) {
        Ok(manifest) => {
            assert!(MEMORY_MB.range().contains(&manifest.memory_mb));
            assert!(TIMEOUT_SECONDS.range().contains(&manifest.timeout_seconds));
            assert!(RETRY_COUNT.range().contains(&manifest.retry_count));
            assert!(RETRY_DELAY_SECONDS.range().contains(&manifest.retry_delay_seconds));
        }
        Err(error) => {
            assert!(!error.message.is_empty());
            assert!(error.at.column >= 1);
            // As YAML counts them.
            let lines = text.split(['\n', '\r']).count();
            assert!((1..=lines + 1).contains(&error.at.line), "line {} of {lines}", error.at.line);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "name: hello\n",
        "# a comment\nname: my-function\npublic: true\nmemory: 128\ntimeout: 300\nretry:\n  count: 5\n  delay: 0\nenv:\n  MY_VAR: \"value\"\n  OTHER: 'x: y'\n",
        "{name: a, env: {A: \"\\u00e9\", B: |\n  x\n}}\n",
        "name: &a b\nenv: {X: *a}\n---\nname: c\n",
        "name: 7\nname: 8\nmemory: 1e3\nretry: [1, 2]\nunknown: ~\n",
    ])
}

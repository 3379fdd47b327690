//! Any text may stand in `function.yaml`: it is read into values within their limits, or refused at a place in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orama_cli::manifest::parse;
use orama_runtime::limits::{MEMORY_MB, RETRY_COUNT, RETRY_DELAY_SECONDS, TIMEOUT_SECONDS};

fuzz_target!(|text: &str| {
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
            let lines = text.split('\n').count();
            assert!((1..=lines + 1).contains(&error.at.line), "line {} of {lines}", error.at.line);
        }
    }
});

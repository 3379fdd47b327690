//! Any text may stand in the node's config file: it is a configuration, or an error of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orama_server::{Config, Overrides};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for the config file"));

fuzz_target!(|text: &[u8]| {
    let file = FOLDER.path().join("orama.toml");
    fs::write(&file, text).expect("the config file is written");
    let overrides =
        Overrides { config_file: Some(file), home: Some(PathBuf::from("/nowhere")), ..Overrides::default() };
    if let Err(error) = Config::load_with(&overrides, &|_| None) {
        let message = error.to_string();
        assert!(!message.is_empty() && !message.contains('\n'), "not one line: {message:?}");
    }
});

//! Any text may stand in the node's config file: it is a configuration, or an error of one line.

use crate::{Target, ready, texts};
use orama_server::{Config, Overrides};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use tempfile::TempDir;

pub const TARGET: Target = Target { name: "config", check, seeds };

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| ready(tempfile::tempdir()));

pub fn check(text: &[u8]) {
    let file = FOLDER.path().join("orama.toml");
    ready(fs::write(&file, text));
    let overrides =
        Overrides { config_file: Some(file), home: Some(PathBuf::from("/nowhere")), ..Overrides::default() };
    if let Err(error) = Config::load_with(&overrides, &|_| None) {
        let message = error.to_string();
        assert!(!message.is_empty() && !message.contains('\n'), "not one line: {message:?}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "",
        "listen = \"127.0.0.1:6001\"\nhome = \"/var/lib/orama\"\nworkers = 4\nio_driver = \"auto\"\ninstance_slots = 1024\ncpu_level = \"x86-64-v3\"\nmodule_cache_mb = 512\ndrain_grace_seconds = 30\nheader_timeout_seconds = 10\nbody_timeout_seconds = 30\nidle_timeout_seconds = 75\n",
        "[egress]\nallow = [\"127.0.0.1:9000\", \"10.1.0.0/16\", \"push.internal\"]\ndeny = [\"10.0.0.1\"]\n[database]\nplatform = { kind = \"rqlite\", urls = [\"http://127.0.0.1:24001\"] }\n[database.namespaces]\ndefault = { kind = \"sqlite\" }\n[cache]\nkind = \"olric\"\naddresses = [\"127.0.0.1:23320\"]\n",
        "workers = 0\n",
        "listen = 6001\nunknown = [1, { a = 2 }]\n[table]\nx = 1979-05-27T07:32:00Z\n",
        "listen = \"\"\"\n[::1]:0\"\"\"\n",
    ])
}

//! Fills `corpus/` with what the fuzz targets start from: the tests' guests, and texts that use every key.

use std::error::Error;
use std::fs;
use std::path::Path;

const MANIFESTS: &[&str] = &[
    "name: hello\n",
    "# a comment\nname: my-function\npublic: true\nmemory: 128\ntimeout: 300\nretry:\n  count: 5\n  delay: 0\nenv:\n  MY_VAR: \"value\"\n  OTHER: 'x: y'\n",
    "{name: a, env: {A: \"\\u00e9\", B: |\n  x\n}}\n",
    "name: &a b\nenv: {X: *a}\n---\nname: c\n",
    "name: 7\nname: 8\nmemory: 1e3\nretry: [1, 2]\nunknown: ~\n",
];

const CONFIGS: &[&str] = &[
    "",
    "listen = \"127.0.0.1:6001\"\nhome = \"/var/lib/orama\"\nworkers = 4\nio_driver = \"auto\"\ninstance_slots = 1024\ncpu_level = \"x86-64-v3\"\nmodule_cache_mb = 512\ndrain_grace_seconds = 30\nheader_timeout_seconds = 10\nbody_timeout_seconds = 30\nidle_timeout_seconds = 75\n",
    "workers = 0\n",
    "listen = 6001\nunknown = [1, { a = 2 }]\n[table]\nx = 1979-05-27T07:32:00Z\n",
    "listen = \"\"\"\n[::1]:0\"\"\"\n",
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = here.join("corpus");
    let mut modules = 0;
    fs::create_dir_all(corpus.join("validate"))?;
    for entry in fs::read_dir(here.join("../tests/guests/wat"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wat") {
            let name = path.with_extension("wasm");
            let name = name.file_name().ok_or("a guest has no name")?;
            fs::write(corpus.join("validate").join(name), wat::parse_file(&path)?)?;
            modules += 1;
        }
    }
    for (target, texts) in [("manifest", MANIFESTS), ("config", CONFIGS)] {
        fs::create_dir_all(corpus.join(target))?;
        for (number, text) in texts.iter().enumerate() {
            fs::write(corpus.join(target).join(number.to_string()), text)?;
        }
    }
    println!(
        "{modules} modules, {} manifests and {} configs in {}",
        MANIFESTS.len(),
        CONFIGS.len(),
        corpus.display()
    );
    Ok(())
}

//! Any bytes may be deployed: they are accepted, or refused with a reason; and memory only ever helps.

use crate::{Target, ready};
use orama_runtime::limits::MEMORY_MB;
use orama_runtime::{Engine, EngineConfig};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

pub const TARGET: Target = Target { name: "validate", check, seeds };

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    // Few slots: nothing is run here.
    ready(Engine::new(&EngineConfig { instance_slots: 16, ..EngineConfig::default() }))
});

pub fn check(wasm: &[u8]) {
    let strict = ENGINE.validate(wasm, MEMORY_MB.min);
    let generous = ENGINE.validate(wasm, MEMORY_MB.max);
    match (&strict, &generous) {
        (Ok(()), Err(error)) => panic!("accepted with less memory, refused with more: {error}"),
        (_, Err(error)) => assert!(!error.to_string().trim().is_empty(), "a refusal says why"),
        _ => {}
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/wat");
    let files = ready(fs::read_dir(guests)).map(|entry| ready(entry).path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "wat")).collect();
    files.sort();
    files.iter().map(|path| ready(wat::parse_file(path))).collect()
}

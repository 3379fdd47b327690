//! Any bytes may be deployed: validation answers, it never panics, and what it accepts it accepts again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orama_runtime::limits::MEMORY_MB;
use orama_runtime::{Engine, EngineConfig};
use std::sync::LazyLock;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    // Few slots: nothing is run here, and a sanitizer has its own use for the address space.
    Engine::new(&EngineConfig { instance_slots: 16, ..EngineConfig::default() }).expect("an engine")
});

fuzz_target!(|wasm: &[u8]| {
    let strict = ENGINE.validate(wasm, MEMORY_MB.min);
    let generous = ENGINE.validate(wasm, MEMORY_MB.max);
    match (&strict, &generous) {
        (Ok(()), Err(error)) => panic!("accepted with less memory, refused with more: {error}"),
        (_, Err(error)) => assert!(!error.to_string().trim().is_empty(), "a refusal says why"),
        _ => {}
    }
});

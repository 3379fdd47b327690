//! Modules with checkpoints beside the modules that they were made from.

use super::*;
use wasmtime::{Engine, Instance, Module as Compiled, Store, TypedFunc};

/// Four pages of memory and a segment of 140,000 bytes: room for areas that exceed a chunk, and for areas out of bounds.
const MODULE: &str = r#"(module
    (memory (export "memory") 4)
    (table $a 20 funcref) (table $b 20 funcref)
    (elem $elements func $f $f $f)
    (data $bytes "SEGMENT")
    (func $f)
    (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "copy") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "init") (param i32 i32 i32)
        (memory.init $bytes (local.get 0) (local.get 1) (local.get 2)))
    (func (export "drop") (data.drop $bytes))
    (func (export "table") (param i32 i32 i32) (result i32)
        (table.init $a $elements (local.get 0) (local.get 1) (local.get 2))
        (table.copy $b $a (i32.const 3) (local.get 0) (local.get 2))
        (table.fill $a (local.get 0) (ref.null func) (local.get 2))
        (i32.add
            (ref.is_null (table.get $a (local.get 0)))
            (i32.shl (ref.is_null (table.get $b (i32.const 3))) (i32.const 1)))))"#;

fn module() -> Vec<u8> {
    let segment: String = (0..140_000_u32).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
    wat::parse_str(MODULE.replace("SEGMENT", &segment)).unwrap()
}

/// An instance in an engine of its own.
struct Run(Store<()>, Instance);

impl Run {
    fn new(wasm: &[u8]) -> Self {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &Compiled::new(&engine, wasm).unwrap(), &[]).unwrap();
        let mut run = Self(store, instance);
        run.memory().iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 31 % 251) as u8);
        run
    }

    fn memory(&mut self) -> &mut [u8] {
        self.1.get_memory(&mut self.0, "memory").unwrap().data_mut(&mut self.0)
    }

    /// What a call gives, or its trap, and the memory after it.
    fn call(&mut self, name: &str, arguments: (i32, i32, i32)) -> (Result<(), wasmtime::Trap>, blake3::Hash) {
        let function: TypedFunc<(i32, i32, i32), ()> = self.1.get_typed_func(&mut self.0, name).unwrap();
        let ended = function.call(&mut self.0, arguments).map_err(|error| error.downcast().unwrap());
        (ended, blake3::hash(self.memory()))
    }
}

#[test]
fn operations_do_the_same_with_checkpoints() {
    let plain = module();
    let changed = rewrite(&plain).unwrap().wasm;
    assert_ne!(plain, *changed);
    wasmparser::validate(&changed).unwrap();
    let (mut before, mut after) = (Run::new(&plain), Run::new(&changed));
    let places = [0, 1, 100, 65_536, 70_001, 131_073, 262_144, -1];
    let lengths = [0, 1, 65_536, 65_537, 131_072, 140_000, 140_001, 200_000, 262_144, -1];
    let (mut worked, mut trapped) = (0, 0);
    for name in ["fill", "copy", "init"] {
        for (to, from, length) in places
            .iter()
            .flat_map(|to| places.iter().flat_map(move |from| lengths.map(|length| (*to, *from, length))))
        {
            let wanted = before.call(name, (to, from, length));
            assert_eq!(after.call(name, (to, from, length)), wanted, "{name} {to} {from} {length}");
            *if wanted.0.is_ok() { &mut worked } else { &mut trapped } += 1;
        }
    }
    assert!(worked > 200 && trapped > 200, "{worked} {trapped}");
}

#[test]
fn a_dropped_segment_has_no_bytes() {
    let plain = module();
    for wasm in [&plain[..], &rewrite(&plain).unwrap().wasm] {
        let mut run = Run::new(wasm);
        let drop: TypedFunc<(), ()> = run.1.get_typed_func(&mut run.0, "drop").unwrap();
        drop.call(&mut run.0, ()).unwrap();
        let before = blake3::hash(run.memory());
        let (ended, after) = run.call("init", (0, 0, 100_000));
        assert_eq!((ended, after), (Err(wasmtime::Trap::MemoryOutOfBounds), before));
        assert_eq!(run.call("init", (0, 0, 0)).0, Ok(()));
    }
}

#[test]
fn operations_on_tables_do_the_same_with_checkpoints() {
    let plain = module();
    let changed = rewrite(&plain).unwrap().wasm;
    let call = |wasm: &[u8], arguments: (i32, i32, i32)| {
        let mut run = Run::new(wasm);
        let table: TypedFunc<(i32, i32, i32), i32> = run.1.get_typed_func(&mut run.0, "table").unwrap();
        table.call(&mut run.0, arguments).map_err(|error| error.downcast::<wasmtime::Trap>().unwrap())
    };
    assert_eq!(call(&plain, (5, 0, 3)), Ok(1));
    for arguments in [(5, 0, 3), (17, 1, 2), (0, 0, 0), (18, 0, 3), (0, 1, 3), (-1, 0, 1)] {
        assert_eq!(call(&changed, arguments), call(&plain, arguments), "{arguments:?}");
    }
}

#[test]
fn straight_code_has_a_checkpoint_in_each_stretch() {
    let calls = |instructions: usize| {
        let code = "(drop (i32.add (i32.const 70000) (i32.const 1)))".repeat(instructions);
        let plain = wat::parse_str(format!("(module (func (export \"f\") {code}))")).unwrap();
        let changed = rewrite(&plain).unwrap().wasm;
        wasmparser::validate(&changed).unwrap();
        // The module itself has no call.
        let outline = Outline::read(&changed).unwrap();
        let operators = outline.bodies[0].get_operators_reader().unwrap().into_iter();
        let calls = operators.filter(|o| matches!(o, Ok(wasmparser::Operator::Call { .. }))).count();
        (calls, matches!(changed, Cow::Borrowed(_)))
    };
    assert_eq!(calls(1000), (0, true), "8,000 bytes are one stretch");
    assert_eq!(calls(10_000), (4, false), "80,000 bytes are five stretches");
}

#[test]
fn a_module_without_need_stays_as_it_is() {
    for text in [
        "(module)",
        "(module (func (export \"f\") (result i32) (i32.const 252)))",
        "(module (func (param f64) (result i32) (i32.trunc_sat_f64_s (local.get 0))))",
    ] {
        let plain = wat::parse_str(text).unwrap();
        assert!(matches!(rewrite(&plain).unwrap().wasm, Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn what_is_not_a_module_is_an_error() {
    let plain = module();
    assert!(rewrite(b"").is_err());
    assert!(rewrite(&plain[..plain.len() / 2]).is_err());
}

fn sections(wasm: &[u8]) -> Vec<u8> {
    let payloads = Parser::new(0).parse_all(wasm);
    payloads.filter_map(|payload| payload.unwrap().as_section().map(|(id, _)| id)).collect()
}

/// What is in the memory of a new instance.
fn memory(wasm: &[u8]) -> Result<Vec<u8>, wasmtime::Trap> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let module = Compiled::new(&engine, wasm).unwrap();
    let instance = Instance::new(&mut store, &module, &[]).map_err(|error| error.downcast().unwrap())?;
    Ok(instance.get_memory(&mut store, "memory").unwrap().data(&store).to_vec())
}

#[test]
fn an_image_and_the_remaining_segments_make_the_memory_of_the_plain_module() {
    let cases = [
        ("", 0),
        (r#"(data (i32.const 100) "abc")"#, 3),
        (r#"(data (i32.const 100) "abc") (data (i32.const 7) "d")"#, 96),
        (r#"(data (i32.const 100) "abc") (data (i32.const 101) "XY")"#, 3),
        (r#"(data (i32.const 100) "") (data "passive") (data (i32.const 65535) "z")"#, 1),
        (r#"(data (i32.const 65535) "zz")"#, 0),
        (r#"(data (i32.const 5) "abc") (data (i32.const -1) "abc")"#, 3),
        (r#"(data (i32.const 5) "abc") (data (global.get $g) "def") (data (i32.const 10) "h")"#, 3),
        (r#"(data (i32.add (i32.const 5) (i32.const 6)) "abc")"#, 0),
    ];
    let code = r#"(func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0)))"#;
    for (segments, length, code) in cases.into_iter().flat_map(|(text, n)| [(text, n, ""), (text, n, code)]) {
        let code = if segments.is_empty() { "" } else { code };
        let head = r#"(global $g i32 (i32.const 9)) (memory (export "memory") 1)"#;
        let plain = wat::parse_str(format!("(module {head} {code} {segments})")).unwrap();
        let Rewritten { wasm, image } = rewrite(&plain).unwrap();
        wasmparser::validate(&wasm).unwrap();
        assert_eq!(image.bytes.len(), length, "{segments}");
        let ids = sections(&wasm);
        assert_eq!(ids.contains(&DATA_COUNT_SECTION), !code.is_empty(), "{segments}");
        // The remaining segments are put on top of the image.
        let found = memory(&wasm).map(|mut found| {
            for (at, byte) in (image.start as usize..).zip(&image.bytes) {
                found[at] = if found[at] == 0 { *byte } else { found[at] };
            }
            found
        });
        assert_eq!(found, memory(&plain), "{segments}");
    }
}

#[test]
fn segments_far_apart_make_no_large_image() {
    let text = r#"(module (memory (export "memory") 1000)
        (data (i32.const 100) "abc") (data (i32.const 60000000) "d") (data (i32.const 200) "e"))"#;
    let plain = wat::parse_str(text).unwrap();
    let Rewritten { wasm, image } = rewrite(&plain).unwrap();
    assert_eq!((image.start, image.bytes), (100, b"abc".to_vec()));
    assert_eq!(memory(&wasm).unwrap()[60_000_000], b'd');
}

#[test]
fn the_longest_beginning_that_makes_an_image_is_baked() {
    // The first two alone are too far apart; the third one fills the image.
    let filler = "x".repeat(1_000_000);
    let text = format!(
        r#"(module (memory (export "memory") 1000)
            (data (i32.const 0) "abc") (data (i32.const 1900000) "d") (data (i32.const 4096) "{filler}"))"#
    );
    let plain = wat::parse_str(text).unwrap();
    let Rewritten { wasm, image } = rewrite(&plain).unwrap();
    assert_eq!((image.start, image.bytes.len()), (0, 1_900_001));
    assert!(memory(&wasm).unwrap().iter().all(|byte| *byte == 0));
}

use super::*;
use crate::engine::EngineConfig;
use crate::memory::{ImageBytes, MemoryImage};
use crate::services::ThreadScheduler;
use crate::{CpuLevel, instance};

/// The start-up set: calls whose results are the same for every invocation.
const START_UP: [&str; 44] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "proc_raise",
    "random_get",
    "sched_yield",
    // Under each of the three names of the host's module.
    "snapshot_pending",
    "snapshot_pending",
    "snapshot_pending",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

fn engine() -> Engine {
    Engine::new(&EngineConfig { instance_slots: 16, cpu: CpuLevel::Native, ..EngineConfig::default() })
        .unwrap()
}

fn load(engine: &Engine, text: &str) -> Arc<LoadedModule> {
    let module = wasmtime::Module::new(&engine.0.wasmtime, wat::parse_str(text).unwrap()).unwrap();
    Arc::new(
        LoadedModule::link(
            engine,
            &module,
            MemoryImage::of_bytes(&engine.0.memories, &ImageBytes::default()),
        )
        .unwrap(),
    )
}

fn park(engine: &Engine, module: &Arc<LoadedModule>) -> Result<Parked, NotParked> {
    let state = instance::idle_state();
    let host = Arc::new(Host::without_services(Arc::new(ThreadScheduler)));
    ThreadScheduler::block_on(engine.park(module, &state.function, &host))
}

#[test]
fn a_starting_guest_waits_at_every_call_that_could_tell_it_about_a_request() {
    let engine = engine();
    let mut passed = Vec::new();
    for [module, name, parameters, results] in engine.0.imports.all() {
        let zeros: String = parameters.split_whitespace().map(|ty| format!("({ty}.const 0) ")).collect();
        let drops = "drop ".repeat(results.split_whitespace().count());
        let loaded = load(
            &engine,
            &format!(
                "(module (import \"{module}\" \"{name}\" (func $call (param {parameters}) (result {results})))
                   (memory (export \"memory\") 1)
                   (func (export \"orama_alloc\") (param i32) (result i32) (i32.const 1024))
                   (func (export \"_start\") (call $call {zeros}) {drops}))"
            ),
        );
        match park(&engine, &loaded) {
            Ok(parked) => assert_eq!(parked.memory_bytes(), 64 << 10, "{module} {name}"),
            Err(_) => passed.push(name),
        }
    }
    passed.sort();
    assert_eq!(passed, START_UP);
}

#[test]
fn a_starting_guest_can_read_the_monotonic_clock_and_not_the_time_of_day() {
    let engine = engine();
    let reads = |clock: u32| {
        load(
            &engine,
            &format!(
                "(module (import \"wasi_snapshot_preview1\" \"clock_time_get\"
                     (func $time (param i32 i64 i32) (result i32)))
                   (memory (export \"memory\") 1)
                   (func (export \"_start\") (drop (call $time (i32.const {clock}) (i64.const 1) (i32.const 0)))))"
            ),
        )
    };
    assert_eq!(park(&engine, &reads(1)).err(), Some(NotParked::Ended));
    for other in [0, 2, 3, 4] {
        assert!(park(&engine, &reads(other)).is_ok(), "clock {other}");
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let engine = engine();
    let failing = |body: &str| {
        let loaded = load(&engine, &format!("(module (memory (export \"memory\") 1) {body})"));
        park(&engine, &loaded).err().unwrap()
    };
    let trapped = failing("(func (export \"_start\") unreachable)");
    assert!(trapped.is_permanent() && trapped.to_string().contains("unreachable"), "{trapped}");
    let trapped = failing("(func $s unreachable) (start $s) (func (export \"_start\"))");
    assert!(trapped.is_permanent(), "{trapped}");
    assert!(!NotParked::Failed(Failure::Overloaded).is_permanent());
}

#[test]
fn a_guest_can_be_started_on_one_thread_and_run_on_another() {
    let engine = engine();
    let echo = load(
        &engine,
        "(module (import \"wasi_snapshot_preview1\" \"fd_read\" (func $read (param i32 i32 i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1)
           (func (export \"_start\")
             (i32.store (i32.const 0) (i32.const 64))
             (i32.store (i32.const 4) (i32.const 64))
             (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
             (i32.store (i32.const 4) (i32.load (i32.const 8)))
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))",
    );
    let parked: Vec<_> = (0..8).map(|_| park(&engine, &echo).unwrap()).collect();
    assert_eq!(engine.instances_alive(), 8);
    std::thread::scope(|scope| {
        for (index, parked) in parked.into_iter().enumerate() {
            scope.spawn(move || {
                let input = format!("request {index}");
                let invocation = Invocation { input: input.clone().into(), ..Invocation::default() };
                let ended = ThreadScheduler::block_on(parked.run(invocation));
                assert_eq!((ended.outcome.result, ended.outcome.output), (Ok(()), input.into_bytes()));
            });
        }
    });
    assert_eq!(engine.instances_alive(), 0);
    drop(park(&engine, &echo).unwrap());
    assert_eq!(engine.instances_alive(), 0);
}

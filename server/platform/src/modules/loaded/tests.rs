use super::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Stands for code of this size, in bytes.
#[derive(Debug, Default)]
struct Stub(usize, AtomicBool);

impl Stub {
    fn of(bytes: usize) -> Self {
        Self(bytes, AtomicBool::new(false))
    }

    fn is_evicted(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

impl Code for Stub {
    fn bytes(&self) -> usize {
        self.0
    }

    fn evict(&self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

const MODULES: usize = 4 * MODULES_AGES as usize;

/// Bounded to `MODULES` modules, and to the bytes of ten modules of a megabyte.
fn bounded() -> Loaded<Stub, String> {
    Loaded::new(Bounds { bytes: 10 * weight(&Stub::of(1 << 20)), modules: MODULES })
}

fn hash(n: usize) -> WasmHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    WasmHash::from_bytes(bytes)
}

fn load(loaded: &Loaded<Stub, String>, n: usize, bytes: usize) -> Arc<Stub> {
    loaded.get_or_load(hash(n), || Ok(Arc::new(Stub::of(bytes)))).unwrap()
}

/// Collects the evicted modules that the cache tells of.
fn listen(loaded: &Loaded<Stub, String>) -> Arc<Mutex<Vec<WasmHash>>> {
    let told = Arc::<Mutex<Vec<WasmHash>>>::default();
    let to = Arc::clone(&told);
    loaded.on_evicted(Box::new(move |hashes| to.lock().extend_from_slice(hashes)));
    told
}

#[test]
fn those_not_used_for_longest_go_and_whoever_holds_them_is_told() {
    let loaded = bounded();
    let told = listen(&loaded);
    for n in 0..MODULES {
        load(&loaded, n, 1);
    }
    assert_eq!(told.lock().len(), 0);
    loaded.get(&hash(0)).unwrap();
    load(&loaded, MODULES, 1);
    load(&loaded, MODULES + 1, 1);
    assert_eq!(*told.lock(), [hash(1), hash(2)]);
    assert!(loaded.get(&hash(0)).is_some() && loaded.get(&hash(1)).is_none());
    let usage = loaded.usage();
    assert_eq!((usage.modules, usage.evicted), (MODULES as u64, 2));
}

#[test]
fn bytes_are_bounded_and_one_module_may_be_larger_than_all_the_room() {
    let loaded = bounded();
    for n in 0..20 {
        load(&loaded, n, 1 << 20);
    }
    assert_eq!(loaded.usage().modules, 10);
    load(&loaded, 100, 1 << 30);
    assert_eq!(loaded.usage().modules, 1);
    assert!(loaded.get(&hash(100)).is_some());
    load(&loaded, 101, 1);
    let usage = loaded.usage();
    assert_eq!((usage.modules, usage.bytes), (1, weight(&Stub::of(1))));
}

#[test]
fn what_is_noted_in_each_age_is_never_evicted() {
    let loaded = bounded();
    let used = load(&loaded, 0, 1);
    let mut noted = loaded.age();
    for n in 1..20 * MODULES {
        load(&loaded, n, 1);
        let age = loaded.age();
        if age != noted {
            noted = age;
            loaded.get(&hash(0)).unwrap();
        }
    }
    assert!(!used.is_evicted());
    assert!(noted <= 20 * MODULES_AGES, "told {noted} times in 20 rounds");
}

#[test]
fn those_who_want_the_same_module_load_it_once() {
    let (loaded, loads, together) = (bounded(), AtomicUsize::new(0), Barrier::new(8));
    let modules: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    loaded.get_or_load(hash(1), || {
                        loads.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok(Arc::new(Stub::of(1)))
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert_eq!(loads.into_inner(), 1);
    assert!(modules.iter().all(|module| Arc::ptr_eq(module, &modules[0])));
}

#[test]
fn a_failed_load_is_told_and_tried_again() {
    let loaded = bounded();
    assert_eq!(loaded.get_or_load(hash(1), || Err("no".to_owned())).unwrap_err(), "no");
    assert_eq!(load(&loaded, 1, 7).0, 7);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        loaded.get_or_load(hash(2), || panic!("a load that breaks off"))
    }));
    assert!(panicked.is_err());
    assert_eq!(load(&loaded, 2, 8).0, 8);
    assert!(loaded.loads.is_idle());
}

#[test]
fn room_is_made_from_the_oldest_and_code_in_use_lives_on() {
    let loaded = bounded();
    let told = listen(&loaded);
    let running = load(&loaded, 0, 1);
    for n in 1..MODULES {
        load(&loaded, n, 1);
    }
    assert_eq!(loaded.make_room(), 4);
    assert_eq!(*told.lock(), [0, 1, 2, 3].map(hash));
    assert!(running.is_evicted());
    // A new load is other code than the code that still runs.
    assert!(!load(&loaded, 0, 1).is_evicted());
    loaded.remove(&hash(0));
    assert!(loaded.get(&hash(0)).is_none());
    assert_eq!(bounded().make_room(), 0);
}

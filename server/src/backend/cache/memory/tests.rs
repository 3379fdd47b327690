use super::*;
use crate::backend::conformance::cache as suite;

#[test]
fn it_is_a_cache() {
    let cache = MemoryCache::new(16 << 20);
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&cache);
    }
}

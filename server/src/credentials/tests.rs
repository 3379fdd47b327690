use super::*;

const HASH: KeyHash = [1; 32];

/// The name of a known credential, or the status of a refusal.
fn found(memory: &mut CredentialMemory<&'static str>) -> Option<Result<&'static str, u16>> {
    memory.find(&HASH).map(|found| found.map_err(|why| why.error.status.as_u16()))
}

#[test]
fn a_change_of_the_registry_empties_the_memory() {
    let registry = AtomicU64::new(0);
    let mut memory = CredentialMemory::new(2);
    let generation = memory.refresh(&registry);
    memory.keep(generation, HASH, "key", u64::MAX);
    memory.refresh(&registry);
    assert_eq!(found(&mut memory), Some(Ok("key")));
    registry.fetch_add(1, Ordering::Release);
    let generation = memory.refresh(&registry);
    assert_eq!(found(&mut memory), None);
    memory.keep_refusal(generation, HASH, &ApiError::unauthorized("no").into());
    assert_eq!(found(&mut memory), Some(Err(401)));
    registry.fetch_add(1, Ordering::Release);
    memory.refresh(&registry);
    assert_eq!(found(&mut memory), None);
}

#[test]
fn what_was_looked_up_before_a_change_is_not_kept() {
    let registry = AtomicU64::new(0);
    let mut memory = CredentialMemory::new(2);
    let before = memory.refresh(&registry);
    registry.fetch_add(1, Ordering::Release);
    memory.refresh(&registry);
    memory.keep(before, HASH, "key", u64::MAX);
    memory.keep_refusal(before, HASH, &ApiError::unauthorized("no").into());
    assert_eq!(found(&mut memory), None);
}

#[test]
fn a_token_is_known_until_the_second_in_which_it_expires() {
    let mut memory = CredentialMemory::new(2);
    memory.keep(0, HASH, "token", 1_000);
    let mut at = |now_s| memory.find_at(&HASH, || now_s, Instant::now).map(Result::unwrap);
    assert_eq!(at(999), Some("token"));
    assert_eq!(at(1_000), None);
}

#[test]
fn a_refusal_is_remembered_for_a_moment() {
    let mut memory = CredentialMemory::<&str>::new(2);
    memory.keep_refusal(0, HASH, &ApiError::unauthorized("no").into());
    assert_eq!(found(&mut memory), Some(Err(401)));
    let later = Instant::now() + UNKNOWN_KNOWN_FOR;
    assert!(memory.find_at(&HASH, || 0, || later).is_none());
}

#[test]
fn a_failed_lookup_says_nothing_about_the_credential() {
    let mut memory = CredentialMemory::<&str>::new(2);
    for error in [ApiError::unavailable("later"), ApiError::forbidden("no"), ApiError::internal("broken")] {
        memory.keep_refusal(0, HASH, &error.into());
        assert_eq!(found(&mut memory), None);
    }
}

#[test]
fn the_memory_is_bounded() {
    let mut memory = CredentialMemory::new(3);
    let hash = |n: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        hash
    };
    for n in 0..10 {
        memory.keep(0, hash(n), n, u64::MAX);
    }
    let left: Vec<_> = (0..10).filter_map(|n| memory.find(&hash(n))).map(Result::unwrap).collect();
    assert_eq!(left, [7, 8, 9], "the least recently used ones were evicted");
    for n in 0..=CREDENTIALS_UNKNOWN_MAX {
        memory.keep_refusal(0, hash(n + 10), &ApiError::unauthorized("no").into());
    }
    assert_eq!(memory.refused.len(), CREDENTIALS_UNKNOWN_MAX);
}

#[test]
fn a_pair_has_a_hash_of_its_own() {
    assert_ne!(hash_of_both("a.b.c", "orama_d"), hash_of_both("a.b.", "corama_d"));
    assert_ne!(hash_of_both("a.b.c", "orama_d"), auth::key_hash("a.b.corama_d"));
}

//! Who gets what of a share.

use super::*;
use orama_runtime::names::Namespace;

fn shares(limit: usize, namespace_percent: u32) -> Arc<Shares> {
    Shares::new(Limits { of_node: [limit; KINDS.len()], namespace_percent }, Rates::default())
}

fn namespace(shares: &Shares, name: &str) -> Option<Arc<Party>> {
    Some(shares.namespace(&Namespace::new(name).unwrap()))
}

fn address(shares: &Shares, text: &str) -> Arc<Party> {
    shares.party(PartyId::Address(address_key(text.parse().unwrap())))
}

/// How many single ones parties get until they are refused, and by whose limit.
fn fill(shares: &Arc<Shares>, parties: &[Option<Arc<Party>>; 2]) -> (Permit, Scope) {
    let mut permit = shares.permit(Kind::WebSockets, parties.clone());
    loop {
        if let Err(refused) = permit.grow(1) {
            return (permit, refused.scope);
        }
    }
}

#[test]
fn one_that_is_alone_gets_half_and_each_newcomer_finds_room() {
    let shares = shares(1000, 50);
    let mut held = Vec::new();
    let mut before = usize::MAX;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let (permit, scope) = fill(&shares, &[namespace(&shares, name), None]);
        assert_eq!(scope, Scope::Namespace);
        assert!(permit.amount() >= 1000_usize >> (held.len() + 1).min(6), "{name}: {}", permit.amount());
        assert!(permit.amount() <= before);
        before = permit.amount();
        held.push(permit);
    }
    assert_eq!(held[0].amount(), 500);
    drop(held);
    assert_eq!(shares.used(Kind::WebSockets), 0);
}

#[test]
fn an_address_leaves_something_to_the_namespace_that_it_calls() {
    let shares = shares(999, 50);
    let stranger = Some(address(&shares, "192.0.2.1"));
    let (anonymous, scope) = fill(&shares, &[namespace(&shares, "shop"), stranger]);
    assert_eq!(scope, Scope::Address);
    assert!((320..=334).contains(&anonymous.amount()), "{}", anonymous.amount());
    let (own, scope) = fill(&shares, &[namespace(&shares, "shop"), None]);
    assert_eq!(scope, Scope::Namespace);
    assert!(own.amount() > 150, "{}", own.amount());
}

#[test]
fn with_all_allowed_to_one_only_the_node_is_the_limit() {
    let shares = shares(16, 100);
    let (permit, scope) = fill(&shares, &[namespace(&shares, "a"), None]);
    assert_eq!((permit.amount(), scope), (16, Scope::Node));
    assert_eq!(shares.refused(Kind::WebSockets, Scope::Node), 1);
}

#[test]
fn what_was_refused_has_taken_nothing() {
    let shares = shares(100, 50);
    let parties = [namespace(&shares, "a"), Some(address(&shares, "192.0.2.1"))];
    let mut permit = shares.permit(Kind::BodyBytes, parties.clone());
    assert_eq!(permit.grow(40).unwrap_err().scope, Scope::Address);
    assert_eq!(permit.grow(60).unwrap_err().scope, Scope::Namespace);
    assert_eq!(permit.grow(101).unwrap_err().scope, Scope::Node);
    assert_eq!((permit.amount(), shares.used(Kind::BodyBytes)), (0, 0));
    assert!(parties.iter().flatten().all(|party| party.used(Kind::BodyBytes).load(Ordering::Relaxed) == 0));
    permit.set(30).unwrap();
    permit.set(10).unwrap();
    assert_eq!(shares.used(Kind::BodyBytes), 10);
    drop(permit);
    assert_eq!(shares.used(Kind::BodyBytes), 0);
}

#[test]
fn a_party_is_the_same_for_all_who_ask_while_it_is_known() {
    let shares = shares(10, 50);
    let kept = address(&shares, "192.0.2.1");
    for n in 0..100_000_u32 {
        address(&shares, &std::net::Ipv4Addr::from(n).to_string());
    }
    assert!(Arc::ptr_eq(&kept, &address(&shares, "192.0.2.1")), "one that is held is not forgotten");
    assert!(Arc::ptr_eq(&address(&shares, "2001:db8::1"), &address(&shares, "2001:db8::2")));
}

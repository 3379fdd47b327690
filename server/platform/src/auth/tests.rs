//! Keys and roles.

use super::*;

#[test]
fn keys_are_random_recognised_and_hidden() {
    let (a, b) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    assert_ne!(a, b);
    assert!(looks_like_key(a.reveal()) && a.reveal().len() == 49, "{}", a.reveal().len());
    assert_ne!(key_hash(a.reveal()), key_hash(b.reveal()));
    assert!(!format!("{a:?}").contains(a.reveal()));
    for bad in [
        "",
        "orama_",
        &a.reveal()[..48],
        &format!("{}x", a.reveal()),
        &a.reveal().replace("orama_", "Orama_"),
    ] {
        assert!(!looks_like_key(bad), "{bad}");
    }
}

#[test]
fn each_role_may_do_what_is_documented() {
    use Action::{AnyNamespace, Deploy, Invoke, ManageKeys, Operate, Read};
    let allowed = |role: Role| {
        [Invoke, Read, Deploy, ManageKeys, AnyNamespace, Operate].map(|action| role.allows(action))
    };
    assert_eq!(allowed(Role::Operator), [true; 6]);
    assert_eq!(allowed(Role::Admin), [true, true, true, true, false, false]);
    assert_eq!(allowed(Role::Deploy), [true, true, true, false, false, false]);
    assert_eq!(allowed(Role::Invoke), [true, false, false, false, false, false]);
    for role in [Role::Operator, Role::Admin, Role::Deploy, Role::Invoke] {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert_eq!(Role::parse("root"), None);
}

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

#[test]
fn a_text_is_a_key_a_token_or_neither() {
    let key = ApiKey::generate().unwrap();
    for (text, form) in [
        (key.reveal(), Form::Key),
        ("orama_", Form::Key),
        ("orama_a.b.c", Form::Key),
        ("a.b.c", Form::Token),
        ("..", Form::Token),
        ("a.b", Form::Other),
        ("a.b.c.d", Form::Other),
        ("Orama_x", Form::Other),
        ("", Form::Other),
    ] {
        assert_eq!(Form::of(text), form, "{text}");
    }
}

#[test]
fn of_a_token_and_a_key_the_token_says_who_and_the_higher_role_what() {
    let credential = |namespace: &str, role, wallet: Option<&str>| Credential {
        namespace: Namespace::new(namespace).unwrap(),
        role,
        key_id: if wallet.is_none() { "k-1".to_owned() } else { String::new() },
        functions: None,
        shown: wallet.unwrap_or("k-1").into(),
        caller: wallet.map(|wallet| Arc::new(Caller { wallet: wallet.to_owned(), ..Caller::default() })),
    };
    let token = credential("shop", Role::Invoke, Some("0xa"));
    for role in [Role::Operator, Role::Admin, Role::Deploy, Role::Invoke] {
        let joined = Credential::joined(&token, &credential("shop", role, None)).unwrap();
        assert_eq!((joined.role, joined.key_id.as_str()), (role, "k-1"));
        assert_eq!(&*joined.shown, "0xa");
        assert_eq!((joined.namespace.as_str(), joined.caller.unwrap().wallet.as_str()), ("shop", "0xa"));
    }
    let other = credential("blog", Role::Operator, None);
    assert_eq!(Credential::joined(&token, &other).unwrap_err(), DifferentNamespaces);
}

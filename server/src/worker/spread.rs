//! Functions whose calls are spread over versions by weight: which version a caller gets.

use super::cache::Ready;
use super::callers::Visitor;
use super::core::Core;
use super::invoke::permitted;
use super::run::{Access, NotReady, ready};
use crate::error::ApiError;
use http::HeaderMap;
use http::header::COOKIE;
use orama_platform::registry::{Sticky, Traffic};
use std::net::IpAddr;
use std::rc::Rc;

/// What decides the version of a caller: the value that callers are told apart by, or else chance.
pub(super) fn seed(traffic: Option<&Traffic>, headers: &HeaderMap, request_id: &str) -> u64 {
    let told = traffic.and_then(|traffic| match traffic.sticky.as_ref()? {
        Sticky::Header(name) => headers.get(name.as_str()).map(|value| value.as_bytes()),
        Sticky::Cookie(name) => cookie(headers, name.as_bytes()),
    });
    seed_of(told.filter(|value| !value.is_empty()).unwrap_or(request_id.as_bytes()))
}

fn seed_of(text: &[u8]) -> u64 {
    let mut beginning = [0; 8];
    blake3::Hasher::new().update(text).finalize_xof().fill(&mut beginning);
    u64::from_le_bytes(beginning)
}

/// The function's version for a visitor, where its calls are spread.
///
/// # Errors
/// As [`permitted`].
pub(super) async fn spread(
    core: &Rc<Core>,
    visitor: &Visitor,
    client: IpAddr,
    ready: Rc<Ready>,
    seed: u64,
) -> Result<Rc<Ready>, ApiError> {
    let Some(traffic) = &ready.traffic else { return Ok(ready) };
    let name = format!("{}@{}", ready.function.name, traffic.pick(seed));
    permitted(core, visitor, client, (&ready.function.namespace, &name)).await
}

/// The function's version for a call by another function, where its calls are spread.
///
/// # Errors
/// As [`super::run::ready`].
pub(super) async fn spread_call(
    core: &Rc<Core>,
    found: Rc<Ready>,
    request_id: &str,
) -> Result<Rc<Ready>, NotReady> {
    let Some(traffic) = &found.traffic else { return Ok(found) };
    // Nothing tells the calls of functions apart.
    let name = format!("{}@{}", found.function.name, traffic.pick(seed_of(request_id.as_bytes())));
    ready(core, &found.function.namespace, &name, Access::All).await
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::collections::BTreeMap;

    fn traffic(sticky: &str) -> Traffic {
        Traffic::new(&BTreeMap::from([(1, 1), (2, 1)]), Sticky::parse(sticky)).unwrap()
    }

    #[test]
    fn the_same_caller_gets_the_same_version_and_others_go_by_chance() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("ann"));
        headers.append(COOKIE, HeaderValue::from_static("abc=1; ab=ann"));
        for sticky in ["header:X-User", "cookie:ab"] {
            let traffic = traffic(sticky);
            assert_eq!(seed(Some(&traffic), &headers, "id-1"), seed(Some(&traffic), &headers, "id-2"));
            assert_eq!(seed(Some(&traffic), &headers, "id-1"), seed_of(b"ann"), "on every node");
            let nobody = HeaderMap::new();
            assert_ne!(seed(Some(&traffic), &nobody, "id-1"), seed(Some(&traffic), &nobody, "id-2"));
        }
        assert_ne!(seed(Some(&traffic("cookie:b")), &headers, "id-1"), seed_of(b"ann"), "another cookie");
    }
}

//! A guest's fetch connects to the address that was checked, and without the operator's word to no address that is not public,
//! however it is written, whatever a name server says, and wherever redirects lead.

use crate::input::Input;
use crate::{Target, ready, texts};
use http::{HeaderValue, StatusCode, Uri};
use ipnet::IpNet;
use orama_runtime::services::FetchRequest;
use orama_store::egress::fuzzing::{Fetch, Gate};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{LazyLock, Mutex, PoisonError};
use tokio::runtime::Runtime;
use url::{Host, Url};

pub const TARGET: Target = Target { name: "egress", check, seeds };

/// Networks that are nobody's on the internet, as the registries of special addresses list them.
const NOT_PUBLIC: [&str; 25] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "168.63.129.16/32",
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/9",
    "ff00::/8",
];

/// What the operator allows, exactly.
const ALLOWED: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7)), 9000);

/// Public by its number, and this machine's own here.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34));

/// Public, and that of a server of the node's.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 216, 35));

/// Public, and denied.
const DENIED: &str = "151.101.0.0/16";

struct Stand {
    networks: Vec<IpNet>,
    denied: IpNet,
    gate: Gate,
    _runtime: Runtime,
}

/// What a name server says next.
static FOUND: Mutex<Vec<IpAddr>> = Mutex::new(Vec::new());

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let runtime = ready(tokio::runtime::Builder::new_current_thread().enable_time().build());
    let (allow, deny) = (vec![ready("10.9.8.7:9000".parse())], vec![ready(DENIED.parse())]);
    let look_up = |_: &str, port: u16| {
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    };
    let servers = vec![ready(Host::parse(&SERVER.to_string()))];
    let gate = Gate::new(
        (allow, deny),
        servers,
        |address| address.to_canonical() == OWN,
        look_up,
        runtime.handle().clone(),
    );
    let networks = NOT_PUBLIC.iter().map(|network| ready(network.parse())).collect();
    Stand { networks, denied: ready(DENIED.parse()), gate, _runtime: runtime }
});

/// Whether a connection to an address may be made.
fn may_connect(address: IpAddr, port: u16) -> bool {
    let Stand { networks, denied, .. } = &*STAND;
    let canonical = address.to_canonical();
    // A gateway (RFC 6052) leads to the IPv4 address in the last 32 bits.
    let reached = match canonical {
        IpAddr::V6(v6) if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
            IpAddr::V4(Ipv4Addr::from_bits(v6.to_bits() as u32))
        }
        _ => canonical,
    };
    let is_global = match reached {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => (0x2000..0x4000).contains(&address.segments()[0]),
    };
    let is_special = networks.iter().any(|network| network.contains(&reached));
    (canonical, port) == ALLOWED
        || (is_global && !is_special && !denied.contains(&reached) && ![OWN, SERVER].contains(&reached))
}

pub fn check(bytes: &[u8]) {
    if let Some((b'n', rest)) = bytes.split_first() {
        return names_are_checked(&mut Input::new(rest));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut urls = text.split('\n');
    let headers = ["authorization", "cookie", "x-api-key", "accept"]
        .map(|name| (name.to_owned(), "of the guest".to_owned()));
    let url = urls.next().unwrap_or_default().to_owned();
    let request =
        FetchRequest { method: "GET".to_owned(), url, headers: headers.to_vec(), body: bytes::Bytes::new() };
    let Ok(mut fetch) = Fetch::first(request) else { return };
    let first = fetch.url().origin();
    let mut left_origin = false;
    for location in urls.map(Some).chain([None]).take(10) {
        connection(fetch.url());
        let has_credentials =
            ["authorization", "cookie", "x-api-key"].iter().any(|name| fetch.headers().contains_key(*name));
        assert!(!(left_origin && has_credentials), "another origin gets credentials: {}", fetch.url());
        let Some(Ok(location)) = location.map(HeaderValue::from_str) else { return };
        match fetch.redirect(StatusCode::FOUND, location) {
            Ok(true) => left_origin |= fetch.url().origin() != first,
            _ => return,
        }
    }
}

/// Where the HTTP client connects to for a URL, and whether that was checked. It takes the host of the URI for an address where
/// it reads as one, and looks all others up.
fn connection(url: &Url) {
    let gate = &STAND.gate;
    assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    let checked = gate.target(url);
    let Ok(uri) = url.as_str().parse::<Uri>() else { return };
    let Some(host) = uri.host() else { return };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = uri.port_u16().unwrap_or(if url.scheme() == "https" { 443 } else { 80 });
    let Ok((checked_host, checked_port)) = checked else { return };
    assert_eq!((checked_host.as_str(), checked_port), (host, port), "{url}: checked, and connected to");
    match bare.parse::<IpAddr>() {
        Ok(address) => assert!(may_connect(address, port), "{url} connects to {address}:{port}"),
        // Systems read more than four numbers as an address: 127.1, 2130706433. What they make of it is checked.
        Err(_) => {
            let address = numbers(bare).unwrap_or(ALLOWED.0);
            answered(bare, port, vec![address, IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
    }
}

/// An address as `inet_aton` reads it.
fn numbers(host: &str) -> Option<IpAddr> {
    let mut value = 0_u64;
    let parts: Vec<&str> = host.split('.').collect();
    for (index, part) in parts.iter().enumerate() {
        let number = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(part, 8),
            None => part.parse(),
        };
        let is_last = index + 1 == parts.len();
        let shift = 8 * (3_usize.checked_sub(index)?);
        value |= if is_last { number.ok()? } else { number.ok()? << shift };
    }
    Some(IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(value).ok()?)))
}

/// What passes of a name server's answer may be connected to, and nothing is lost that may.
fn answered(name: &str, port: u16, found: Vec<IpAddr>) {
    let passes: Vec<_> = found.iter().copied().filter(|address| may_connect(*address, port)).collect();
    *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = found;
    match STAND.gate.resolve(name, port) {
        Ok(resolved) => {
            let all: Vec<_> = passes.iter().map(|address| SocketAddr::new(*address, port)).collect();
            assert_eq!(resolved, all, "{name}: what passes, and what may");
        }
        Err(why) => assert!(
            passes.is_empty() || why == "no name",
            "{name}: {why}, and {passes:?} may be connected to"
        ),
    }
}

/// Addresses that a name server may say, near the edges of networks.
fn names_are_checked(input: &mut Input<'_>) {
    let port = if input.below(2) == 0 { ALLOWED.1 } else { 443 };
    let mut found = Vec::new();
    for _ in 0..=input.below(4) {
        let network = STAND.networks[input.below(STAND.networks.len())];
        found.push(match input.below(6) {
            0 => network.broadcast(),
            1 => match network.network() {
                IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1))),
                IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits().wrapping_sub(1))),
            },
            2 => match network.broadcast() {
                IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
                IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits().wrapping_add(1))),
            },
            3 => IpAddr::V4(Ipv4Addr::from_bits(input.number() as u32)),
            4 => {
                let of = [OWN, SERVER, ALLOWED.0, IpAddr::V4(Ipv4Addr::new(151, 101, 1, 1))][input.below(4)];
                let IpAddr::V4(of) = of else { return };
                let gateway = u128::from(0x0064_ff9b_u32) << 96 | u128::from(of.to_bits());
                [IpAddr::V4(of), IpAddr::V6(of.to_ipv6_mapped()), IpAddr::V6(Ipv6Addr::from_bits(gateway))]
                    [input.below(3)]
            }
            _ => {
                let high = u128::from(input.number() as u64) << 64;
                IpAddr::V6(Ipv6Addr::from_bits(high | u128::from(input.number() as u64)))
            }
        });
    }
    answered("a.name", port, found);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "http://example.com/\n/next?x=1\nhttps://other.example:444/\n//10.9.8.7:9000/x",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://017700000001",
        "http://127.1:80",
        "http://127。0。0。1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::a00:1]:80/",
        "http://[::127.0.0.1]",
        "http://0/",
        "http://user:pass@10.0.0.1:8080/@example.com",
        "http://example.com\\@10.0.0.1/",
        "http:10.9.8.7:9000",
        "http:\\\\10.9.8.7:9000\\x",
        "https://ｅｘａｍｐｌｅ.com/\nhttp://①②⑦.0.0.1/",
        "http://169.254.169.254/latest\nhttp://93.184.216.34/",
        "http://93.184.216.35:4001",
        "http://151.101.1.1/",
        "http://10.9.8.7:9000/\nhttp://10.9.8.7:9001/",
        "http://[fe80::1%25eth0]/",
        "http://127.0.0.1./",
        "http://%31%32%37.0.0.1/",
        "HTTP://EXAMPLE.com:80/\nhttp://example.com./\nfile:///etc/passwd",
        "http://1.1.1.1/\n\thttp://0x0a.0x09.0x08.0x07:9000/",
        "http://xn--fa-hia.de\nhttp://::1/",
    ]);
    seeds.extend(
        (0..6).map(|kind| vec![b'n', kind, 4, kind, kind, 3, kind, 8, 8, 8, 8, 0, 0, 0, 0, 9, kind, 1, 2]),
    );
    seeds
}

//! Sockets that a node listens on: one for each core, on one address.

use crate::config::Config;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel keeps until a core accepts them.
const LISTEN_BACKLOG: i32 = 1024;

/// A listener for each core on the same address: the kernel spreads connections over them.
pub(super) fn listen(config: &Config) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second node would share the port unnoticed, so the first socket asks for it alone.
    let alone = bind(config.listen, false)?;
    let address = alone.local_addr()?;
    drop(alone);
    (0..config.workers.get()).map(|_| bind(address, true)).collect()
}

fn bind(address: SocketAddr, share_port: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, share_port)?;
    rustix::net::bind(&socket, &address)?;
    if share_port {
        rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    }
    Ok(TcpListener::from(socket))
}

/// The address under which clients on this machine reach a listener.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

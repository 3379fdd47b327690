//! Free ports: for servers that need a fixed port, and for tests of connections that are refused.

use rustix::net::{Shutdown, shutdown};
use std::net::{SocketAddr, TcpListener};

/// Distinct addresses on this machine on which nobody listens.
///
/// # Panics
/// When the system has no port left.
#[must_use]
pub fn free(count: usize) -> Vec<SocketAddr> {
    // All are taken before any is given back, so that no two are the same.
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    for listener in &listeners {
        // Closing is not enough: a process that another thread is just starting would hold the port for a moment.
        shutdown(listener, Shutdown::Both).unwrap();
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::free;
    use crate::children::while_some_are_started;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_port_is_free_although_processes_are_being_started() {
        while_some_are_started(|| {
            for _ in 0..300 {
                // So many that a process is started meanwhile.
                let address = free(20)[0];
                assert!(TcpStream::connect(address).is_err(), "{address} is listened on");
                TcpListener::bind(address).unwrap();
            }
        });
    }
}

//! A proxy between a client and a server, which counts what passes and behaves as badly as a network can.

use crate::lock;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a [`Proxy`] behaves from now on, also on connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// As it should.
    None,
    /// Connections are closed, and new ones as soon as they are accepted.
    Closed,
    /// Nothing passes and nothing is closed: a half-open connection.
    Silent,
    /// What the client sends arrives, what the server says does not.
    Deaf,
    /// Each piece that the server says is late by so long.
    Slow(Duration),
    /// Bytes of no protocol come instead of what the server says.
    Garbage,
}

struct Shared {
    target: SocketAddr,
    fault: Mutex<Fault>,
    connections: AtomicU64,
    sent_bytes: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

/// A listener whose connections go on to a server.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            fault: Mutex::new(Fault::None),
            connections: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let accepting = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(shared)) = (client, accepting.upgrade()) else { return };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves so from now on.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
        if fault == Fault::Closed {
            for connection in lock(&self.shared.open).drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes that clients sent so far: who asks nothing sends none.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Fault::Closed);
        // Wakes the listener, which then sees that nobody is left.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(self: Arc<Self>, client: TcpStream) {
        if *lock(&self.fault) == Fault::Closed {
            return;
        }
        let Ok(server) = TcpStream::connect(self.target) else { return };
        for end in [&client, &server] {
            let _ = end.set_nodelay(true);
            lock(&self.open).extend(end.try_clone());
        }
        let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
        let this = Arc::clone(&self);
        let up = std::thread::spawn(move || this.copy(from_client, to_server, true));
        self.copy(server, client, false);
        let _ = up.join();
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, is_client: bool) {
        let mut bytes = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            if is_client {
                self.sent_bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            let fault = *lock(&self.fault);
            let sent = match fault {
                Fault::Closed => break,
                Fault::Silent => Ok(()),
                Fault::Deaf if !is_client => Ok(()),
                Fault::Garbage if !is_client => to.write_all(b"\x00\xff!garbage\r\n\r\n{]$-9\r\n"),
                Fault::Slow(late) if !is_client => {
                    std::thread::sleep(late);
                    to.write_all(&bytes[..read])
                }
                _ => to.write_all(&bytes[..read]),
            };
            if sent.is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut writer);
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn it_passes_counts_and_fails_as_it_is_told() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(&ask(&mut stream).unwrap(), b"ping");
        assert_eq!((proxy.connections(), proxy.sent_bytes()), (1, 4));
        for fault in [Fault::Silent, Fault::Deaf] {
            proxy.set(fault);
            assert!(ask(&mut stream).is_err(), "{fault:?}");
        }
        proxy.set(Fault::Garbage);
        assert_ne!(&ask(&mut TcpStream::connect(proxy.address()).unwrap()).unwrap(), b"ping");
        proxy.set(Fault::Closed);
        assert!(ask(&mut stream).is_err());
        assert!(ask(&mut TcpStream::connect(proxy.address()).unwrap()).is_err());
        proxy.set(Fault::Slow(Duration::from_millis(1)));
        assert_eq!(&ask(&mut TcpStream::connect(proxy.address()).unwrap()).unwrap(), b"ping");
    }
}

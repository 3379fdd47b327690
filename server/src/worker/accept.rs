//! Accepts connections and spreads them: the kernel hashes them onto the cores' listeners, so that a few busy ones
//! often meet on one core while another is idle.

use super::core::Core;
use super::{Command, Peer};
use crate::http::{refuse_connection, serve_connection};
use crate::shares::{Kind, NoRoom, Permit};
use monoio::net::{TcpListener, TcpStream};
use std::io;
use std::net::{IpAddr, TcpStream as StdStream};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Pause after a failed accept: mostly the process has no file descriptor left.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What goes with a connection from core to core.
pub(crate) struct Admitted {
    address: IpAddr,
    /// Its place among the node's connections.
    permit: Permit,
}

/// Accepts until the listener is closed.
pub(super) async fn accept(listener: TcpListener, core: Rc<Core>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => take(&core, stream, peer.ip()),
            // What a drain makes of a listener.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn take(core: &Rc<Core>, stream: TcpStream, address: IpAddr) {
    let admitted = match admit(core, address) {
        Ok(permit) => Admitted { address, permit },
        Err(_) => return refuse_connection(&stream),
    };
    match idler(core) {
        Some(peer) => hand_over(peer, stream, admitted),
        None => {
            core.counters.connection_opened();
            spawn(core, stream, admitted);
        }
    }
}

/// A place for a connection: one of the node's, and of its address where that is the client's own.
fn admit(core: &Core, address: IpAddr) -> Result<Permit, NoRoom> {
    let shares = &core.shared.shares;
    let is_proxy = core.shared.trusted_proxies.contains(address);
    let party = (!is_proxy).then(|| Arc::clone(&core.callers.address(address).party));
    let mut permit = shares.permit(Kind::Connections, [party, None]);
    permit.grow(1)?;
    Ok(permit)
}

/// The core with the fewest connections, if it has fewer than this one.
fn idler(core: &Core) -> Option<&Peer> {
    // What a core hands over when all of them are draining may find nobody.
    if core.connections.is_draining() {
        return None;
    }
    let peers = core.shared.peers.get()?;
    let fewest = peers.iter().min_by_key(|peer| peer.counters.connections())?;
    (fewest.counters.connections() < core.counters.connections()).then_some(fewest)
}

fn hand_over(peer: &Peer, stream: TcpStream, admitted: Admitted) {
    // Counted at once: the next ones may be accepted before the peer has seen this one.
    peer.counters.connection_opened();
    // SAFETY: nobody else owns the descriptor that `into_raw_fd` gives up.
    let stream = unsafe { StdStream::from_raw_fd(stream.into_raw_fd()) };
    // A core that has ended, or whose queue is full, drops the connection, as it does with its own.
    if peer.commands.try_send(Command::Serve(stream, admitted)).is_err() {
        peer.counters.connection_closed();
    }
}

/// Serves a connection that another core has accepted and counted.
pub(super) fn take_over(core: &Rc<Core>, stream: StdStream, admitted: Admitted) {
    match TcpStream::from_std(stream) {
        Ok(stream) => spawn(core, stream, admitted),
        Err(error) => {
            core.counters.connection_closed();
            tracing::warn!(%error, "a connection could not be handed over");
        }
    }
}

fn spawn(core: &Rc<Core>, stream: TcpStream, admitted: Admitted) {
    let core = Rc::clone(core);
    monoio::spawn(async move {
        let Admitted { address, permit } = admitted;
        serve_connection(stream, address, Rc::clone(&core), Rc::clone(&core.connections)).await;
        core.counters.connection_closed();
        drop(permit);
    });
}

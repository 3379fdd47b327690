//! The connections to a cluster's nodes: opened when needed, shared, and replaced when they fail.

use super::{OlricError, Shape};
use crate::limits::{
    OLRIC_BUSY, OLRIC_CONNECT_TIMEOUT, OLRIC_CONNECTIONS, OLRIC_KEEPALIVE, OLRIC_TIMEOUT, OLRIC_TROUBLE,
};
use crate::settings::OlricAt;
use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, Value};
use rustix::net::sockopt;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// Probes of the kernel that may stay unanswered.
const KEEPALIVE_PROBES: u32 = 3;

/// What is open to the nodes of one cluster.
pub(super) struct Connections {
    addresses: Vec<Arc<str>>,
    login: RedisConnectionInfo,
    open: Mutex<Vec<Arc<Live>>>,
    /// Nodes that could not be reached, or were late, and until when others are preferred.
    troubled: Mutex<HashMap<Arc<str>, Instant>>,
    /// Whoever holds it opens a connection, and the others use that.
    opening: tokio::sync::Mutex<()>,
    /// The address from which the next connection is tried.
    next: AtomicUsize,
}

/// An open connection. Those who use it hold it, so their number says how busy it is.
struct Live {
    address: Arc<str>,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // It would wait for all answers, and on a half-open connection none comes.
        self.driver.abort();
    }
}

/// A connection among the open ones.
enum Found {
    Free(Arc<Live>),
    /// All have much to do, and another one may be opened.
    Busy(Arc<Live>),
    None,
}

impl Connections {
    pub(super) fn new(at: &OlricAt) -> Self {
        // Olric knows neither HELLO nor CLIENT.
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = &at.password {
            login = login.set_password(password.reveal());
        }
        // Several nodes do not all begin with the same address.
        let first = getrandom::u32().unwrap_or(0) as usize;
        Self {
            addresses: at.addresses.iter().map(|address| Arc::from(address.as_str())).collect(),
            login,
            open: Mutex::default(),
            troubled: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            next: AtomicUsize::new(first),
        }
    }

    /// Runs a command on the member, or on any node.
    pub(super) async fn ask(
        &self,
        command: &Cmd,
        shape: Shape,
        member: Option<&str>,
        until: Instant,
    ) -> Result<Value, OlricError> {
        let Ok(live) = timeout_at(until, self.take(member)).await else {
            return Err(OlricError::Unreachable("no connection in time".to_owned()));
        };
        let live = live?;
        let mut connection = live.connection.clone();
        match timeout_at(until, connection.send_packed_command(command)).await {
            Ok(Ok(value)) => {
                let answer = said(value, shape);
                if answer == Err(OlricError::Strange) {
                    self.close(&live);
                }
                answer
            }
            Ok(Err(error)) => {
                self.close(&live);
                Err(OlricError::Lost(reason(&error)))
            }
            Err(_) => {
                // Its other connections may be half open as well, and there may be no other way to notice.
                self.open.lock().retain(|other| other.address != live.address);
                self.trouble(&live.address);
                Err(OlricError::Late)
            }
        }
    }

    pub(super) async fn subscriber(&self) -> Result<(PubSubSink, PubSubStream), OlricError> {
        let mut failure = OlricError::Unreachable("it has no address".to_owned());
        for address in self.candidates() {
            let connected = async {
                let stream = connect(&address).await?;
                let opened = PubSub::new(&self.login, stream).await.map_err(|error| reason(&error))?;
                let (mut sink, stream) = opened.split();
                let pong = sink.ping().await.map_err(|error| reason(&error))?;
                said(pong, Shape::Pong).map_err(|error| error.to_string())?;
                Ok((sink, stream))
            };
            match timeout(OLRIC_CONNECT_TIMEOUT, connected).await {
                Ok(Ok(subscriber)) => return Ok(subscriber),
                failed => failure = self.failed(&address, failed.ok().and_then(Result::err)),
            }
        }
        Err(failure)
    }

    async fn take(&self, member: Option<&str>) -> Result<Arc<Live>, OlricError> {
        match self.find(member) {
            Found::Free(live) => return Ok(live),
            Found::Busy(live) => {
                let Ok(_turn) = self.opening.try_lock() else { return Ok(live) };
                return Ok(self.open(member).await.unwrap_or(live));
            }
            Found::None => {}
        }
        let _turn = self.opening.lock().await;
        match self.find(member) {
            Found::Free(live) | Found::Busy(live) => Ok(live),
            Found::None => self.open(member).await,
        }
    }

    /// The connection that has the least to do.
    fn find(&self, member: Option<&str>) -> Found {
        let mut open = self.open.lock();
        open.retain(|live| !live.driver.is_finished());
        let fits = |live: &&Arc<Live>| match member {
            Some(member) => *live.address == *member,
            None => self.addresses.contains(&live.address),
        };
        let Some(live) = open.iter().filter(fits).min_by_key(|live| Arc::strong_count(live)) else {
            return Found::None;
        };
        let is_busy = Arc::strong_count(live) > OLRIC_BUSY;
        if is_busy && open.iter().filter(fits).count() < OLRIC_CONNECTIONS {
            return Found::Busy(Arc::clone(live));
        }
        Found::Free(Arc::clone(live))
    }

    async fn open(&self, member: Option<&str>) -> Result<Arc<Live>, OlricError> {
        let candidates = match member {
            None => self.candidates(),
            Some(member) if self.is_troubled(member) => Vec::new(),
            Some(member) => vec![Arc::from(member)],
        };
        let mut failure = OlricError::Unreachable("it could not be reached a moment ago".to_owned());
        for address in candidates {
            match timeout(OLRIC_CONNECT_TIMEOUT, self.open_to(&address)).await {
                Ok(Ok(live)) => {
                    let live = Arc::new(live);
                    self.open.lock().push(Arc::clone(&live));
                    self.troubled.lock().remove(&address);
                    return Ok(live);
                }
                failed => failure = self.failed(&address, failed.ok().and_then(Result::err)),
            }
            if member.is_some() {
                // The others answer, so nothing else tells of it.
                tracing::warn!(error = %failure, "a member of Olric's cluster is not reached under the address it announces");
            }
        }
        Err(failure)
    }

    /// A connection that has proved that somebody answers on it.
    async fn open_to(&self, address: &Arc<str>) -> Result<Live, String> {
        let stream = connect(address).await?;
        // The deadlines are ours.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.login, stream, config)
            .await
            .map_err(|error| reason(&error))?;
        let mut live = Live { address: Arc::clone(address), connection, driver: tokio::spawn(driver) };
        let pong = live.connection.send_packed_command(&redis::cmd("PING")).await;
        let pong = pong.map_err(|error| reason(&error))?;
        said(pong, Shape::Pong).map_err(|error| error.to_string())?;
        Ok(live)
    }

    /// Nobody uses it any more who does not already.
    fn close(&self, live: &Arc<Live>) {
        self.open.lock().retain(|other| !Arc::ptr_eq(other, live));
    }

    fn failed(&self, address: &Arc<str>, why: Option<String>) -> OlricError {
        self.trouble(address);
        let why = why.unwrap_or_else(|| "no answer in time".to_owned());
        OlricError::Unreachable(format!("{address}: {why}"))
    }

    /// All addresses, each time from another one on; those in trouble at last.
    fn candidates(&self) -> Vec<Arc<str>> {
        let mut addresses = self.addresses.clone();
        if !addresses.is_empty() {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        addresses.sort_by_key(|address| self.is_troubled(address));
        addresses
    }

    fn trouble(&self, address: &Arc<str>) {
        let now = Instant::now();
        let mut troubled = self.troubled.lock();
        troubled.retain(|_, until| *until > now);
        troubled.insert(Arc::clone(address), now + OLRIC_TROUBLE);
    }

    fn is_troubled(&self, address: &str) -> bool {
        self.troubled.lock().get(address).is_some_and(|until| *until > Instant::now())
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    // The kernel notices when the other end is gone without a word, also on a connection that nobody uses.
    let kept = || -> rustix::io::Result<()> {
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, OLRIC_KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, OLRIC_KEEPALIVE)?;
        sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
        sockopt::set_tcp_user_timeout(&stream, OLRIC_TIMEOUT.as_millis() as u32)
    };
    kept().map_err(|error| error.to_string())?;
    Ok(stream)
}

fn said(value: Value, shape: Shape) -> Result<Value, OlricError> {
    match value {
        Value::ServerError(error) => Err(OlricError::Said {
            code: error.code().to_owned(),
            detail: error.details().unwrap_or_default().to_owned(),
        }),
        value if shape.fits(&value) => Ok(value),
        _ => Err(OlricError::Strange),
    }
}

/// Without what was received, which may be a tenant's.
fn reason(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::AuthenticationFailed => "it refused the password".to_owned(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "it sent what is no RESP".to_owned(),
        ErrorKind::Io => error.to_string(),
        kind => format!("{kind:?}"),
    }
}

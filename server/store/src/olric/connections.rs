//! The connections to a cluster's members: opened on first use, shared, and replaced when they fail.

use super::{OlricError, Shape};
use crate::causes::Problem;
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

/// Unanswered keep-alive probes after which the kernel closes a connection.
const KEEPALIVE_PROBES: u32 = 3;

/// The open connections to a cluster.
pub(super) struct Connections {
    addresses: Vec<Arc<str>>,
    login: RedisConnectionInfo,
    open: Mutex<Vec<Arc<Live>>>,
    /// Members that could not be reached or were late, with the time until which others are preferred.
    troubled: Mutex<HashMap<Arc<str>, Instant>>,
    /// Held while a connection is opened, so that other callers wait for it instead of opening more.
    opening: tokio::sync::Mutex<()>,
    /// The address at which the next attempt starts.
    next: AtomicUsize,
}

/// An open connection. Its users hold it, so their number tells how busy it is.
struct Live {
    address: Arc<str>,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // Otherwise it would wait for all answers, which never arrive on a half-open connection.
        self.driver.abort();
    }
}

/// The choice among the open connections.
enum Found {
    Free(Arc<Live>),
    /// All are busy, and another one may be opened.
    Busy(Arc<Live>),
    None,
}

impl Connections {
    pub(super) fn new(at: &OlricAt) -> Self {
        // Olric supports neither HELLO nor CLIENT.
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = &at.password {
            login = login.set_password(password.reveal());
        }
        // Random, so that nodes do not all start with the same address.
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

    /// Runs a command on the given member, or on any.
    pub(super) async fn ask(
        &self,
        command: &Cmd,
        shape: Shape,
        member: Option<&str>,
        until: Instant,
    ) -> Result<Value, OlricError> {
        let Ok(live) = timeout_at(until, self.take(member)).await else {
            return Err(OlricError::Unreachable("the connection timed out".into()));
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
                Err(OlricError::Lost(reason(error)))
            }
            Err(_) => {
                // Its other connections may also be half open, and nothing else may reveal it.
                self.open.lock().retain(|other| other.address != live.address);
                self.trouble(&live.address);
                Err(OlricError::Late)
            }
        }
    }

    pub(super) async fn subscriber(&self) -> Result<(PubSubSink, PubSubStream), OlricError> {
        let mut failure = OlricError::Unreachable("it has no address".into());
        for address in self.candidates() {
            let connected = async {
                let stream = connect(&address).await?;
                let opened = PubSub::new(&self.login, stream).await.map_err(reason)?;
                let (mut sink, stream) = opened.split();
                let pong = sink.ping().await.map_err(reason)?;
                said(pong, Shape::Pong).map_err(Problem::of)?;
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

    /// The least busy connection.
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
        let mut failure = OlricError::Unreachable("it could not be reached recently".into());
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
                // The other members answer, so nothing else reports this.
                tracing::warn!(error = %failure, "a member of Olric's cluster cannot be reached at the address that it announces");
            }
        }
        Err(failure)
    }

    /// Opens a connection and checks that the member answers.
    async fn open_to(&self, address: &Arc<str>) -> Result<Live, Problem> {
        let stream = connect(address).await?;
        // This file enforces deadlines itself.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.login, stream, config).await.map_err(reason)?;
        let mut live = Live { address: Arc::clone(address), connection, driver: tokio::spawn(driver) };
        let pong = live.connection.send_packed_command(&redis::cmd("PING")).await;
        let pong = pong.map_err(reason)?;
        said(pong, Shape::Pong).map_err(Problem::of)?;
        Ok(live)
    }

    /// Retires a connection: calls in progress finish, new ones do not use it.
    fn close(&self, live: &Arc<Live>) {
        self.open.lock().retain(|other| !Arc::ptr_eq(other, live));
    }

    fn failed(&self, address: &Arc<str>, why: Option<Problem>) -> OlricError {
        self.trouble(address);
        let why = why.unwrap_or_else(|| "timed out".into());
        OlricError::Unreachable(why.at(address))
    }

    /// All addresses, each time starting with another one; those that failed recently come last.
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

async fn connect(address: &str) -> Result<TcpStream, Problem> {
    let stream = TcpStream::connect(address).await.map_err(Problem::of)?;
    stream.set_nodelay(true).map_err(Problem::of)?;
    // Keep-alive detects a vanished peer even on an idle connection.
    let kept = || -> rustix::io::Result<()> {
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, OLRIC_KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, OLRIC_KEEPALIVE)?;
        sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
        sockopt::set_tcp_user_timeout(&stream, OLRIC_TIMEOUT.as_millis() as u32)
    };
    kept().map_err(Problem::of)?;
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

/// The message without received data, which may belong to a tenant.
fn reason(error: RedisError) -> Problem {
    match error.kind() {
        ErrorKind::AuthenticationFailed => "it refused the password".into(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "its answer is not valid RESP".into(),
        ErrorKind::Io => Problem::of(error),
        kind => format!("{kind:?}").into(),
    }
}

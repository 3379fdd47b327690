//! The load: connections that send the next request when the answer has come, or one request at each tick of a clock.
//! Every answer is compared with what it must be, every latency is kept.

use crate::stats::percentile;
use orama_benches::client::Connection;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A function of a server, as its clients see it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is served: connections are dealt to these in turns.
    pub addresses: Vec<SocketAddr>,
    /// The request's bytes.
    pub request: Vec<u8>,
    /// The body that is right.
    pub answer: Vec<u8>,
}

/// What one run of load measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Right answers in a second.
    pub rate: f64,
    /// Latency of right answers.
    pub p50_us: f64,
    /// Latency of right answers.
    pub p99_us: f64,
    /// What the server's processes used, by right answers.
    pub cpu_us: f64,
    /// Requests without a right answer, of all.
    pub failed: f64,
}

/// How long connections are busy before it counts.
const WARM_UP: Duration = Duration::from_millis(200);
/// Waits before a server that refused a connection is asked again.
const RETRY: Duration = Duration::from_millis(5);

/// One client: its connection, made again after it broke.
struct Client<'a> {
    target: &'a Target,
    address: SocketAddr,
    connection: Option<Connection>,
}

impl<'a> Client<'a> {
    fn new(target: &'a Target, index: usize) -> Self {
        let address = target.addresses[index % target.addresses.len()];
        Self { target, address, connection: Connection::try_open(address).ok() }
    }

    /// Sends the request: from its last byte to the answer's first, when the answer is right.
    fn call(&mut self) -> Option<Duration> {
        if self.connection.is_none() {
            self.connection = Connection::try_open(self.address).ok();
        }
        let Some(connection) = &mut self.connection else {
            thread::sleep(RETRY);
            return None;
        };
        match connection.try_call(&self.target.request) {
            Ok(answer) if answer.status == 200 && answer.body == self.target.answer => Some(answer.waited),
            Ok(_) => None,
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }
}

/// Keeps `connections` busy for `length`; `cpu` tells what the server has used so far.
pub fn saturate(target: &Target, connections: usize, length: Duration, cpu: impl Fn() -> Duration) -> Run {
    let (counts, stop, ready) =
        (AtomicBool::new(false), AtomicBool::new(false), Barrier::new(connections + 1));
    let client = |index| {
        let mut client = Client::new(target, index);
        let (mut latencies, mut failed) = (Vec::new(), 0_u64);
        ready.wait();
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let right = client.call().is_some();
            if !counts.load(Ordering::Relaxed) {
                continue;
            }
            if right {
                latencies.push(begun.elapsed());
            } else {
                failed += 1;
            }
        }
        (latencies, failed)
    };
    let (results, elapsed, cpu) = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections).map(|index| scope.spawn(move || client(index))).collect();
        ready.wait();
        thread::sleep(WARM_UP);
        let (before, begun) = (cpu(), Instant::now());
        counts.store(true, Ordering::Relaxed);
        thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        let (elapsed, used) = (begun.elapsed(), cpu().saturating_sub(before));
        let results: Vec<_> = clients.into_iter().filter_map(|client| client.join().ok()).collect();
        (results, elapsed, used)
    });
    let failed: u64 = results.iter().map(|(_, failed)| failed).sum();
    let mut latencies: Vec<Duration> = results.into_iter().flat_map(|(latencies, _)| latencies).collect();
    latencies.sort_unstable();
    let us = |percent| percentile(&latencies, percent).map_or(f64::NAN, micros);
    let right = latencies.len() as f64;
    // Nothing came at all: nothing is right.
    let failed = if failed == 0 && right == 0.0 { 1.0 } else { failed as f64 / (right + failed as f64) };
    Run {
        rate: right / elapsed.as_secs_f64(),
        p50_us: us(50),
        p99_us: us(99),
        cpu_us: micros(cpu) / right,
        failed,
    }
}

/// What a slow and steady caller sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paced {
    /// From the request's last byte to the answer's first.
    pub p50_us: f64,
    /// From the request's last byte to the answer's first.
    pub p99_us: f64,
    /// Requests without a right answer, of all.
    pub failed: f64,
}

/// One connection, a request at each multiple of `every` (at once when the answer before it came later).
pub fn pace(target: &Target, every: Duration, length: Duration) -> Paced {
    let mut client = Client::new(target, 0);
    let (mut latencies, mut failed) = (Vec::new(), 0_u64);
    let mut due = Instant::now();
    let end = due + length;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match client.call() {
            Some(waited) => latencies.push(waited),
            None => failed += 1,
        }
        due += every;
    }
    latencies.sort_unstable();
    let us = |percent| percentile(&latencies, percent).map_or(f64::NAN, micros);
    let total = latencies.len() as f64 + failed as f64;
    Paced { p50_us: us(50), p99_us: us(99), failed: failed as f64 / total }
}

/// Calls until the answer is right.
///
/// # Errors
/// When it is not within `limit`.
pub fn first_answer(target: &Target, limit: Duration) -> Result<(), String> {
    let begun = Instant::now();
    let mut client = Client::new(target, 0);
    while client.call().is_none() {
        if begun.elapsed() > limit {
            return Err(format!("no right answer within {} s", limit.as_secs()));
        }
    }
    Ok(())
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// Answers each request of `PING` with `PONG`, every fourth one with `WRONG`.
    fn server() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
                thread::spawn(move || {
                    let mut request = [0; 4];
                    while stream.read_exact(&mut request).is_ok() {
                        let wrong = count.fetch_add(1, Ordering::Relaxed) % 4 == 3;
                        let body = if wrong { "WRONG" } else { "PONG" };
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Target { addresses: vec![address], request: b"PING".to_vec(), answer: b"PONG".to_vec() }
    }

    #[test]
    fn wrong_answers_are_counted_and_right_ones_timed() {
        let run = saturate(&server(), 3, Duration::from_millis(100), || Duration::ZERO);
        assert!((0.1..0.4).contains(&run.failed), "{run:?}");
        assert!(
            run.rate > 0.0 && run.p50_us > 0.0 && run.p99_us >= run.p50_us && run.cpu_us == 0.0,
            "{run:?}"
        );
    }

    #[test]
    fn a_paced_caller_sends_as_often_as_it_was_told() {
        let paced = pace(&server(), Duration::from_millis(5), Duration::from_millis(200));
        assert_eq!(paced.failed, 0.25);
        assert!(paced.p99_us >= paced.p50_us && paced.p50_us > 0.0, "{paced:?}");
    }

    #[test]
    fn a_server_that_is_not_there_fails_every_request() {
        let mut target = server();
        target.addresses = vec![TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()];
        let run = saturate(&target, 2, Duration::from_millis(50), || Duration::ZERO);
        assert_eq!((run.rate, run.failed), (0.0, 1.0));
        assert!(first_answer(&target, Duration::from_millis(20)).is_err());
    }
}

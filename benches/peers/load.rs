//! The load: connections that send a request after each answer, or one request at each tick of a clock. Every answer is
//! compared with the right one, and every latency is kept.

use crate::stats::percentile;
use orama_benches::client::Connection;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A function of a server, as clients call it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server's addresses; connections use them in turns.
    pub addresses: Vec<SocketAddr>,
    /// The request's bytes.
    pub request: Vec<u8>,
    /// The right body of an answer.
    pub answer: Vec<u8>,
}

/// The results of one run of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Right answers per second.
    pub rate: f64,
    /// Median latency of right answers.
    pub p50_us: f64,
    /// 99th percentile of the latency of right answers.
    pub p99_us: f64,
    /// CPU time of the server's processes per right answer.
    pub cpu_us: f64,
    /// Share of requests without a right answer.
    pub failed: f64,
}

/// How long connections are busy before the measurement.
const WARM_UP: Duration = Duration::from_millis(200);
/// Wait before the next attempt after a server refused a connection.
const RETRY: Duration = Duration::from_millis(5);

/// One client, which opens a new connection after one broke.
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

    /// Sends the request. Returns the time from its last byte to the answer's first, if the answer is right.
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

/// Keeps `connections` busy for `length`. `cpu` returns the CPU time that the server has used so far.
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
    // Without any answer all requests failed.
    let failed = if failed == 0 && right == 0.0 { 1.0 } else { failed as f64 / (right + failed as f64) };
    Run {
        rate: right / elapsed.as_secs_f64(),
        p50_us: us(50),
        p99_us: us(99),
        cpu_us: micros(cpu) / right,
        failed,
    }
}

/// The results of a slow and steady load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paced {
    /// Median time from the request's last byte to the answer's first.
    pub p50_us: f64,
    /// 99th percentile of that time.
    pub p99_us: f64,
    /// Share of requests without a right answer.
    pub failed: f64,
}

/// Sends a request at each multiple of `every` on one connection; at once when the previous answer came later than that.
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

/// Calls until an answer is right.
///
/// # Errors
/// When there is none within `limit`.
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
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// Answers each request of `PING` with `PONG`, every fourth one with `WRONG`.
    fn server() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, count) = (stream.unwrap(), Arc::clone(&count));
                thread::spawn(move || serve(stream, &count));
            }
        });
        Target { addresses: vec![address], request: b"PING".to_vec(), answer: b"PONG".to_vec() }
    }

    fn serve(mut stream: TcpStream, count: &AtomicUsize) {
        let mut request = [0; 4];
        while stream.read_exact(&mut request).is_ok() {
            let wrong = count.fetch_add(1, Ordering::Relaxed) % 4 == 3;
            let body = if wrong { "WRONG" } else { "PONG" };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
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
    fn a_paced_caller_sends_at_its_pace() {
        let paced = pace(&server(), Duration::from_millis(5), Duration::from_millis(200));
        assert_eq!(paced.failed, 0.25);
        assert!(paced.p99_us >= paced.p50_us && paced.p50_us > 0.0, "{paced:?}");
    }

    #[test]
    fn without_a_server_every_request_fails() {
        let mut target = server();
        // Nothing can listen on port 0.
        target.addresses = vec!["127.0.0.1:0".parse().unwrap()];
        let run = saturate(&target, 2, Duration::from_millis(50), || Duration::ZERO);
        assert_eq!((run.rate, run.failed), (0.0, 1.0));
        assert!(first_answer(&target, Duration::from_millis(20)).is_err());
    }
}

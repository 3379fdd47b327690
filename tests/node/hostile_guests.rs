//! Guests that do what no guest should, on a real node: each ends at its deadline at the latest and with the right error, and
//! neither the node nor a neighbour is the worse for it.

use crate::harness::{Node, Options, eventually, lock};
use crate::honest::{Honest, deploy_as, tenant};
use orama_test_support::guests;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Mutex;

mod storms;
mod texts;

/// The timeout of every guest here, in milliseconds.
const TIMEOUT_MS: f64 = 1000.0;
/// What a busy machine may add before a guest is asked, in milliseconds. Beside that a guest has a tenth of its timeout.
const BUSY_MS: f64 = 1000.0;
/// Longest error that a caller is told, in bytes, whatever a module calls its functions.
const ERROR_MAX_BYTES: usize = 4 << 10;
/// Guests that run at once.
const AT_ONCE: usize = 8;

/// How a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// What it should not do is refused to it, and it ends by itself.
    Well,
    /// With this code, and words that its error has.
    Fails(&'static str, &'static str),
    /// At its deadline.
    Late,
    /// It is not deployed.
    Undeployed,
}

use Ends::{Fails, Late, Undeployed, Well};

/// A guest and its end.
struct Row {
    name: String,
    wasm: Vec<u8>,
    input: &'static str,
    memory_mb: u32,
    /// Whether its environment is as large as one may be.
    has_environment: bool,
    ends: Ends,
}

impl Row {
    fn new(name: &str, wasm: Vec<u8>, ends: Ends) -> Self {
        Self { name: name.to_owned(), wasm, input: "", memory_mb: 64, has_environment: false, ends }
    }
}

/// Guests of `tests/guests/wat`.
const FILES: &[(&str, Ends)] = &[
    ("alloc_at_the_edge", Fails("FUNCTION_TRAP", "get_request_id")),
    ("alloc_exits", Fails("FUNCTION_EXIT", "3")),
    ("alloc_minus_one", Fails("FUNCTION_TRAP", "get_request_id")),
    ("alloc_recurses", Well),
    ("alloc_spins", Late),
    ("alloc_traps", Fails("FUNCTION_TRAP", "broken_allocator")),
    ("closes_stdio", Well),
    ("data_out_of_range", Fails("FUNCTION_TRAP", "out of bounds")),
    ("elements_out_of_range", Fails("FUNCTION_TRAP", "out of bounds")),
    ("exception", Undeployed),
    ("flood_log", Late),
    ("flood_stderr", Late),
    ("flood_stderr_one_line", Late),
    ("flood_stdout", Fails("OUTPUT_TOO_LARGE", "")),
    ("iovecs_overlapping", Fails("OUTPUT_TOO_LARGE", "")),
    ("iovecs_too_many", Well),
    ("memory_64", Undeployed),
    ("memory_grow_forever", Late),
    ("memory_grow_huge", Well),
    ("memory_grow_then_trap", Fails("OUT_OF_MEMORY", "64 MB")),
    ("memory_min_4_gib", Undeployed),
    ("memory_shared", Undeployed),
    ("no_files", Well),
    ("poll_many", Well),
    ("poll_nothing", Well),
    ("sleep_hour", Late),
    ("sleep_longest", Late),
    ("spin", Late),
    ("spin_bad_writes", Late),
    ("spin_clock", Late),
    ("spin_empty_reads", Late),
    ("spin_empty_writes", Late),
    ("spin_memory_fill", Late),
    ("spin_random", Late),
    ("spin_tail_calls", Late),
    ("spin_yield", Late),
    ("start_section_exits", Fails("FUNCTION_EXIT", "4")),
    ("start_section_spins", Late),
    ("start_section_traps", Fails("FUNCTION_TRAP", "trap_in_start")),
    ("table_grow_until_refused", Well),
    ("table_min_huge", Undeployed),
    ("trap_fill", Fails("FUNCTION_TRAP", "out of bounds")),
    ("trap_null_call", Fails("FUNCTION_TRAP", "uninitialized")),
    ("trap_stack_overflow", Fails("FUNCTION_TRAP", "call stack exhausted")),
    ("trap_stack_overflow_in_host", Fails("FUNCTION_TRAP", "call stack exhausted")),
    ("trap_unreachable", Fails("FUNCTION_TRAP", "unreachable")),
    ("writes_not_utf8", Well),
    ("wrong_direction", Well),
];

fn rows() -> Vec<Row> {
    let files = FILES.iter().map(|(name, ends)| Row::new(name, guests::wat(name), *ends));
    files.chain(texts::rows()).chain(storms::rows()).collect()
}

/// A node, and the tenant whose guests are hostile.
struct Place {
    node: Node,
    key: String,
}

impl Place {
    /// Deploys and runs a guest, and checks how it ended. Returns by how much it was late, in milliseconds.
    fn run(&self, Row { name, wasm, input, memory_mb, has_environment, ends }: &Row) -> f64 {
        let function = format!("g-{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let env = if *has_environment { json!({ "BIG": "x".repeat(65_000) }) } else { json!({}) };
        let metadata =
            json!({ "timeout_seconds": 1, "memory_limit_mb": memory_mb, "env_vars": env }).to_string();
        let deployed = deploy_as(&self.node, &self.key, &function, wasm, &[("metadata", &metadata)]);
        if *ends == Undeployed {
            deployed.refusal(422, "INVALID_MODULE");
            return 0.0;
        }
        assert_eq!(deployed.status, 201, "{name}: {}", deployed.text());
        let path = format!("/v1/functions/{function}/invoke");
        let answer = self.node.request_as(&self.key, "POST", &path).body(input).send();
        let record = self.record(&function, answer.header("x-request-id").unwrap());
        let duration = record["duration_ms"].as_f64().unwrap();
        assert!(duration <= TIMEOUT_MS * 1.1 + BUSY_MS, "{name} ended after {duration} ms");
        let (status, code, words) = match ends {
            Late => (504, "TIMEOUT", "timeout of 1 s"),
            Fails(code, words) => (500, *code, *words),
            Well | Undeployed => {
                assert_eq!(
                    (answer.status, &record["status"]),
                    (200, &json!("success")),
                    "{name}: {answer:?}"
                );
                return 0.0;
            }
        };
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (status, Some(code)),
            "{name}: {answer:?}"
        );
        let error = answer.refusal(status, code);
        assert!(error.contains(words) && error.len() <= ERROR_MAX_BYTES, "{name}: {error}");
        assert_eq!(record["status"], if *ends == Late { "timeout" } else { "error" }, "{name}: {record}");
        if *ends != Late {
            return 0.0;
        }
        assert!(duration >= TIMEOUT_MS, "{name} ended after {duration} ms, before its deadline");
        duration - TIMEOUT_MS
    }

    /// Runs what is left, one after another.
    fn work_through<'a>(
        &self,
        left: &Mutex<impl Iterator<Item = &'a Row>>,
        late: &Mutex<Vec<(f64, &'a str)>>,
    ) {
        loop {
            let row = lock(left).next();
            let Some(row) = row else { return };
            let by = self.run(row);
            lock(late).push((by, &row.name));
        }
    }

    fn record(&self, function: &str, id: &str) -> Value {
        let path = format!("/v1/functions/{function}/logs?request_id={id}");
        let logs = self.node.request_as(&self.key, "GET", &path).send().expect(200).json();
        assert_eq!(logs["count"], 1, "{function}: {logs}");
        logs["invocations"][0].clone()
    }
}

/// Fails unless everything that was held is given back.
fn nothing_is_left(node: &Node) {
    eventually("nothing runs", || node.metric("orama_invocations_running") == 0.0);
    let used = |kind: &str| node.metric(&format!("orama_share_used{{kind=\"{kind}\"}}"));
    for kind in ["invocations", "body_bytes", "answer_bytes", "websockets"] {
        eventually("a share is given back", || used(kind) == 0.0);
    }
    // That of the request itself.
    eventually("the control plane is idle", || used("control_requests") <= 1.0);
    eventually("connections are closed", || used("connections") <= 1.0);
    // Parked guests have some, and each core keeps a MiB at hand.
    eventually("memory is given back", || {
        used("guest_memory_bytes") <= node.metric("orama_parked_memory_bytes") + f64::from(8 << 20)
    });
}

#[test]
fn hostile_guests_end_by_their_deadline_with_the_right_error_and_harm_nobody() {
    // Not more than they could have anyway: 8 at once of 64 MB, and some of 256.
    let config = "guest_memory_mb = 2048\nanswer_memory_mb = 64\nbody_memory_mb = 140\ncompile_memory_mb = 512\n\
                  [cache]\nmemory_mb = 64\n";
    let node = Node::start(Options { config: config.to_owned(), ..Options::default() });
    let honest = Honest::settle(&node);
    let place = Place { key: tenant(&node, "hostile", "deploy"), node };
    let rows = rows();
    let distinct: HashSet<&[u8]> = rows.iter().map(|row| &row.wasm[..]).collect();
    assert!(distinct.len() >= 60, "{} guests", distinct.len());
    let (left, late) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    honest.beside(&place.node, "hostile guests", || {
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| place.work_through(&left, &late));
            }
        });
    });
    let late = late.into_inner().unwrap();
    let (by, name) = late.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    eprintln!("{} runs of {} guests; the latest was {name}, {by:.1} ms late", rows.len(), distinct.len());
    deploy_as(&place.node, &place.key, "echo", &guests::wat("echo"), &[]).expect(201);
    let echo = place.node.request_as(&place.key, "POST", "/v1/functions/echo/invoke");
    assert_eq!(echo.body("[1]").send().expect(200).text(), "[1]");
    nothing_is_left(&place.node);
}

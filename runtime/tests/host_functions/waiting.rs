//! Services that do not answer at once, and work that takes long: others run meanwhile, and the deadline holds.

use crate::common::{Turns, block_on, function, invocation, node, thread_cpu_ns};
use crate::guest::{
    Arg, BUMP, FUNCTIONS, Got, call, good, import_and_call, input, module, run_at_depth, s, text,
};
use crate::recorder::{Recorder, When};
use bytes::Bytes;
use orama_runtime::invocation::{Failure, Outcome};
use orama_runtime::limits::{DB_ARGUMENTS_MAX_BYTES, FETCH_RESPONSE_MAX_BYTES, STORAGE_MAX_BYTES};
use orama_runtime::names::Namespace;
use orama_runtime::services::{FetchResponse, Scheduler, ThreadScheduler, Wait};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What becomes of work that is handed to the scheduler.
#[derive(Clone, Copy, PartialEq)]
enum Offload {
    Thread,
    Lost,
    Never,
}

/// Counts what it is asked for.
#[derive(Clone)]
struct Counting {
    sleeps: Arc<AtomicUsize>,
    yields: Arc<AtomicUsize>,
    offloaded: Arc<AtomicUsize>,
    offload: Offload,
}

impl Counting {
    fn new(offload: Offload) -> Self {
        Self { sleeps: Arc::default(), yields: Arc::default(), offloaded: Arc::default(), offload }
    }
}

impl Scheduler for Counting {
    fn yield_now(&self, namespace: &Namespace) -> Wait {
        self.yields.fetch_add(1, Ordering::Relaxed);
        Turns.yield_now(namespace)
    }

    fn sleep(&self, duration: Duration) -> Wait {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        Turns.sleep(duration)
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> Wait {
        self.offloaded.fetch_add(1, Ordering::Relaxed);
        match self.offload {
            Offload::Thread => {
                let worker = std::thread::spawn(work);
                Box::pin(std::future::poll_fn(move |context| {
                    context.waker().wake_by_ref();
                    if worker.is_finished() { Poll::Ready(()) } else { Poll::Pending }
                }))
            }
            Offload::Lost => Box::pin(async {}),
            Offload::Never => Box::pin(std::future::pending()),
        }
    }
}

type Guest = Pin<Box<dyn Future<Output = Outcome>>>;

fn start(text: &str, recorder: &Arc<Recorder>, scheduler: impl Scheduler, arguments: &[Arg]) -> Guest {
    let (module, host) = (module(text), recorder.host(scheduler));
    let invocation = invocation("request-1", &input(arguments));
    let function = Arc::new(function(128, 60));
    Box::pin(async move { node().engine.run(&module, &function, invocation, &host).await.outcome })
}

fn poll(guest: &mut Guest) -> Poll<Outcome> {
    guest.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn recorder(when: When) -> Arc<Recorder> {
    Arc::new(Recorder { when, found: Some("found".into()), ..Recorder::default() })
}

#[test]
fn an_answer_that_is_there_at_once_is_not_waited_for() {
    for (name, _, _) in FUNCTIONS {
        let scheduler = Counting::new(Offload::Never);
        let recorder = recorder(When::AtOnce);
        let got =
            run_at_depth(0, &text("env", name, BUMP), &recorder.host(scheduler.clone()), &good(name), 60);
        assert_eq!((got.result, recorder.calls().len()), (Ok(()), 1), "{name}");
        let asked = [&scheduler.sleeps, &scheduler.offloaded].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(asked, [0, 0], "{name}");
    }
}

#[test]
fn an_answer_that_comes_later_is_the_same() {
    for (name, _, _) in FUNCTIONS {
        let said = |when, scheduler: &dyn Fn(&Arc<Recorder>) -> Arc<orama_runtime::services::Host>| {
            let recorder = recorder(when);
            let got = run_at_depth(0, &text("env", name, BUMP), &scheduler(&recorder), &good(name), 60);
            assert_eq!(recorder.given_up.load(Ordering::Relaxed), 0, "{name}");
            (got.result.clone(), got.raw & 0xffff_ffff, got.bytes, got.log)
        };
        let at_once = said(When::AtOnce, &|recorder| recorder.host(Turns));
        let later = When::After(Duration::from_millis(5));
        assert_eq!(said(later, &|recorder| recorder.host(Turns)), at_once, "{name}");
        assert_eq!(said(later, &|recorder| recorder.host(ThreadScheduler)), at_once, "{name}");
    }
}

#[test]
fn a_service_that_never_answers_is_given_up_at_the_deadline() {
    std::thread::scope(|scope| {
        for (name, _, _) in FUNCTIONS {
            scope.spawn(move || {
                let recorder = recorder(When::Never);
                let begun = Instant::now();
                let host = recorder.host(ThreadScheduler);
                let got = run_at_depth(0, &text("env", name, BUMP), &host, &good(name), 1);
                assert_eq!(got.result, Err(Failure::Timeout(1)), "{name}");
                assert!(begun.elapsed() >= Duration::from_secs(1), "{name}");
                assert_eq!(recorder.given_up.load(Ordering::Relaxed), 1, "{name}");
                let last = got.log.last().unwrap();
                assert!(last.starts_with("error: stopped at the timeout of 1 s"), "{name}: {last}");
            });
        }
    });
}

#[test]
fn a_guest_that_waited_long_goes_on_until_its_own_deadline() {
    let (import, call) = import_and_call("env", "cache_incr");
    // Counts to so many after its call: some milliseconds, so that the epoch is looked at.
    let guest = |count: u64| {
        format!(
            r#"(module {import}
                (memory (export "memory") 2)
                (func (export "_start") (local $n i64)
                    (drop {call})
                    (loop $again
                        (local.set $n (i64.add (local.get $n) (i64.const 1)))
                        (br_if $again (i64.lt_u (local.get $n) (i64.const {count}))))))"#
        )
    };
    let waited = recorder(When::After(Duration::from_millis(1500)));
    let got = run_at_depth(0, &guest(20_000_000), &waited.host(ThreadScheduler), &[], 60);
    assert_eq!(got.result, Ok(()), "{:?}", got.log);
    let waited = recorder(When::After(Duration::from_millis(700)));
    let begun = Instant::now();
    let got = run_at_depth(0, &guest(u64::MAX), &waited.host(ThreadScheduler), &[], 1);
    assert_eq!(got.result, Err(Failure::Timeout(1)), "{:?}", got.log);
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn services_are_told_the_invocations_deadline() {
    for name in ["db_query", "db_execute_v2", "db_transaction", "db_query_batch", "http_fetch"] {
        let recorder = recorder(When::AtOnce);
        call(&recorder, name, &good(name));
        let left = recorder.left.lock().unwrap().unwrap();
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{name}: {left:?}");
    }
}

#[test]
fn others_run_while_a_guest_waits_and_one_that_is_dropped_gives_its_call_up() {
    let waits = recorder(When::Never);
    let mut waiting = start(&text("env", "cache_get", BUMP), &waits, Turns, &good("cache_get"));
    assert!(poll(&mut waiting).is_pending());
    let others = recorder(When::AtOnce);
    assert_eq!(call(&others, "cache_get", &good("cache_get")).text(), "found");
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(waits.given_up.load(Ordering::Relaxed), 0);
    drop(waiting);
    assert_eq!(waits.given_up.load(Ordering::Relaxed), 1);
}

#[test]
fn only_long_json_is_read_elsewhere() {
    let list = |bytes: usize| format!("[\"{}\"]", "x".repeat(bytes));
    for (bytes, offloaded) in [(10, 0), (60_000, 0), (70_000, 1), (DB_ARGUMENTS_MAX_BYTES - 100, 1)] {
        let scheduler = Counting::new(Offload::Thread);
        let recorder = recorder(When::AtOnce);
        let host = recorder.host(scheduler.clone());
        let arguments = [s("INSERT"), s(list(bytes))];
        run_at_depth(0, &text("env", "db_execute", BUMP), &host, &arguments, 60);
        assert_eq!(scheduler.offloaded.load(Ordering::Relaxed), offloaded, "{bytes}");
        assert_eq!(recorder.calls().len(), 1, "{bytes}");
    }
}

#[test]
fn reading_that_goes_wrong_elsewhere_fails_the_call_or_ends_at_the_deadline() {
    let arguments = [s("INSERT"), s(format!("[\"{}\"]", "x".repeat(100_000)))];
    let run = |offload: Offload, timeout: u32| -> Got {
        let recorder = recorder(When::AtOnce);
        let host = recorder.host(Counting::new(offload));
        let got = run_at_depth(0, &text("env", "db_execute_v2", BUMP), &host, &arguments, timeout);
        assert_eq!(recorder.calls(), []);
        got
    };
    assert_eq!(run(Offload::Lost, 60).json()["error"], "the argument list could not be parsed");
    assert_eq!(run(Offload::Never, 1).result, Err(Failure::Timeout(1)));
}

/// Far below what an unsliced host call takes, and above what the ticks in which the kernel counts, of 4 ms, add up to.
const LONGEST_TURN: Duration = Duration::from_millis(40);

#[test]
fn work_on_much_data_lets_others_in() {
    let (lines, bytes) = ("\n".repeat(FETCH_RESPONSE_MAX_BYTES), vec![0xff; FETCH_RESPONSE_MAX_BYTES]);
    let response = |body: Bytes| FetchResponse { status: 200, headers: Vec::new(), body };
    let fetched = |body: Bytes| Recorder { response: response(body), ..Recorder::default() };
    let found = Recorder { found: Some(vec![7; STORAGE_MAX_BYTES].into()), ..Recorder::default() };
    // The worst that can be written: a number of two bytes for each byte of a blob.
    let numbers = format!("[[{}1]]", "1,".repeat(DB_ARGUMENTS_MAX_BYTES / 2 - 4));
    let cases = [
        ("storage_put", Recorder::default(), vec![s(vec![7; STORAGE_MAX_BYTES])]),
        ("storage_get", found, vec![s("cid")]),
        ("http_fetch", fetched(lines.into()), good("http_fetch")),
        ("http_fetch", fetched(bytes.into()), good("http_fetch")),
        ("db_execute", Recorder::default(), vec![s("INSERT"), s(numbers)]),
    ];
    for (index, (name, recorder, arguments)) in cases.into_iter().enumerate() {
        // Reading the input and, with it, preparing the arguments are not what is measured.
        let (guest, scheduler) = (text("env", name, BUMP), Counting::new(Offload::Thread));
        let mut guest = start(&guest, &Arc::new(recorder), scheduler.clone(), &arguments);
        let (mut longest, mut turns) = (Duration::ZERO, 0);
        let outcome = loop {
            let begun = thread_cpu_ns();
            let polled = poll(&mut guest);
            let turn = Duration::from_nanos(thread_cpu_ns() - begun);
            turns += 1;
            // The first turn has the guest read up to 32 MiB of input in one call of its own.
            if turns > 1 {
                longest = longest.max(turn);
            }
            if let Poll::Ready(outcome) = polled {
                break outcome;
            }
        };
        assert_eq!(outcome.result, Ok(()), "{index} {name}");
        assert!(turns > 2 && longest < LONGEST_TURN, "{index} {name}: {turns} turns, {longest:?}");
    }
}

#[test]
fn the_thread_scheduler_sleeps_as_long_as_asked() {
    let begun = Instant::now();
    block_on(ThreadScheduler.sleep(Duration::from_millis(30)));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    block_on(ThreadScheduler.sleep(Duration::ZERO));
}

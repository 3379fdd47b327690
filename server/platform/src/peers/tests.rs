//! Tests with several nodes in one process.

use super::*;
use orama_runtime::invocation::Level;
use orama_store::pubsub::memory::MemoryPubSub;

struct Node {
    peers: Peers,
    records: Records,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn node(name: &str, pubsub: &Arc<MemoryPubSub>) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(dir.path()).unwrap();
    let flush: FlushCores = Arc::new(|| Box::pin(async {}));
    let pubsub = Arc::clone(pubsub);
    let peers = Peers::new(name.to_owned(), pubsub, records.clone(), flush);
    let task = tokio::spawn(peers.clone().run());
    Node { peers, records, task, _dir: dir }
}

fn function() -> Function {
    Function { namespace: Namespace::new("a").unwrap(), name: FunctionName::new("f").unwrap() }
}

fn record(n: i64, message: &str) -> Record {
    Record {
        request_id: format!("r-{n}").as_str().into(),
        function: Arc::new(function()),
        version: 1,
        trigger_type: "pubsub",
        attempt: 2,
        status: Status::Error,
        duration_us: 5,
        input_size: 6,
        output_size: 7,
        error: Some("why".to_owned()),
        started_at_ms: jiff::Timestamp::now().as_millisecond() - 10_000 + n,
        messages: vec![LogMessage { level: Level::Info, message: message.to_owned(), timestamp_ms: n }],
        error_code: "TIMEOUT",
        caller: Some("somebody".into()),
        ..Extras::default().into_record(Arc::new(function()))
    }
}

async fn know_each_other(nodes: &[&Node]) {
    while nodes.iter().any(|node| node.peers.0.known.lock().len() < nodes.len() - 1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_all_nodes_come_together_and_who_is_silent_is_named() {
    let pubsub = Arc::<MemoryPubSub>::default();
    let (a, b, c) = (node("a:1", &pubsub), node("b:1", &pubsub), node("c:1", &pubsub));
    know_each_other(&[&a, &b, &c]).await;
    let (of_b, of_c) = (record(1, "b"), record(2, "c"));
    b.records.submit(vec![of_b.clone()]);
    c.records.submit(vec![of_c.clone()]);
    let Function { namespace, name } = function();
    let filter = Filter { limit: 10, ..Filter::default() };
    let mut gathered = a.peers.ask(&namespace, &name, &filter).await;
    gathered.records.sort_by_key(|record| record.started_at_ms);
    assert_eq!(gathered.records, [of_b.clone(), of_c], "{gathered:?}");
    assert_eq!((gathered.missing, gathered.complete_since_ms), (Vec::<String>::new(), None));
    let other = FunctionName::new("other").unwrap();
    assert!(a.peers.ask(&namespace, &other, &filter).await.records.is_empty());
    c.task.abort();
    let gathered = a.peers.ask(&namespace, &name, &filter).await;
    assert_eq!((gathered.records, gathered.missing), (vec![of_b], vec!["c:1".to_owned()]));
    assert!(a.peers.0.questions.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_bounded_and_says_from_when_on_it_is_whole() {
    let pubsub = Arc::<MemoryPubSub>::default();
    let (a, b) = (node("a:1", &pubsub), node("b:1", &pubsub));
    know_each_other(&[&a, &b]).await;
    let text = "x".repeat(PEER_ANSWER_MAX_BYTES / 4);
    b.records.submit((0..8).map(|n| record(n, &text)).collect());
    let Function { namespace, name } = function();
    let filter = Filter { limit: 10, ..Filter::default() };
    let gathered = a.peers.ask(&namespace, &name, &filter).await;
    let ids: Vec<_> = gathered.records.iter().map(|record| record.request_id.as_str()).collect();
    assert_eq!(ids, ["r-7", "r-6", "r-5"]);
    assert_eq!(gathered.complete_since_ms, gathered.records.last().map(|record| record.started_at_ms));
}

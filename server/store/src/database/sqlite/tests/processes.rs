//! The life of SQL processes.

use super::*;
use rustix::process::{Pid, Signal, kill_process};

pub(super) fn process_of(node: &Node, namespace: &Namespace) -> Arc<Process> {
    let tenant = node.databases.0.tenant(namespace);
    let process = tenant.processes.lock().last().cloned();
    process.expect("a process that was started")
}

pub(super) fn id_of(node: &Node, namespace: &Namespace) -> u32 {
    process_of(node, namespace).id()
}

fn is_there(id: u32) -> bool {
    id != 0 && Path::new(&format!("/proc/{id}")).exists()
}

pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn kill(id: u32) {
    // It may have ended already.
    let _ = kill_process(Pid::from_raw(id.cast_signed()).unwrap(), Signal::KILL);
}

/// The kernel's words on each thread that runs SQL. (A test program has threads of its own beside them.)
fn threads_of(id: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let all = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    all.filter(|status| status.starts_with("Name:\tsql-")).collect()
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_and_fails_what_was_under_way() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x INTEGER PRIMARY KEY)");
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    for round in 0..12_i64 {
        node.rows(&ns, "SELECT 1");
        let id = id_of(&node, &ns);
        // At another moment of a write each time.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(1500 * round.unsigned_abs()));
            kill(id);
        });
        for n in 0..40 {
            let number = round * 1000 + n;
            let insert = suite::exec("INSERT INTO t VALUES (?)", vec![SqlValue::Integer(number)]);
            let outcome = suite::run(&node.databases, &ns, vec![insert]);
            if outcome.committed {
                acknowledged.push(number);
                continue;
            }
            assert_eq!(code(&outcome), ErrorCode::Unavailable, "{outcome:?}");
            unknown += 1;
        }
        killer.join().unwrap();
        eventually("it is no zombie", || !is_there(id));
    }
    assert!(unknown > 0, "at least one call was under way");
    assert!(unknown <= 12, "{unknown} calls failed in 12 kills");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&node.rows(&ns, "SELECT x FROM t")).unwrap();
    let there: std::collections::HashSet<_> = rows.iter().map(|row| row["x"].as_i64().unwrap()).collect();
    assert!(acknowledged.iter().all(|number| there.contains(number)), "an acknowledged row is lost");
    assert!(there.len() <= acknowledged.len() + unknown);
}

#[test]
fn processes_without_calls_end_and_leave_no_log() {
    let node = Node::with_idle(tempfile::tempdir().unwrap(), Duration::from_millis(300));
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let first = process_of(&node, &ns);
    eventually("it ends", || first.is_gone());
    assert!(!is_there(first.id()));
    assert_eq!(names(&node.folder(&ns)), ["data.db"]);
    node.does(&ns, "INSERT INTO t VALUES (1)");
    assert_ne!(id_of(&node, &ns), first.id());
    assert_eq!(node.rows(&ns, "SELECT * FROM t"), r#"[{"x":1}]"#);
}

#[test]
fn processes_are_bounded_and_namespaces_come_back() {
    let node = Node::new();
    let all: Vec<_> = (0..DB_PROCESSES_MAX + 4).map(|_| namespace()).collect();
    for ns in &all {
        node.does(ns, "CREATE TABLE t (x)");
        let open = all.iter().filter(|ns| {
            let tenant = node.databases.0.tenant(ns);
            let processes = tenant.processes.lock();
            processes.iter().any(|process| !process.is_gone() && is_there(process.id()))
        });
        assert!(open.count() <= DB_PROCESSES_MAX);
    }
    assert!(!process_of(&node, &all[0]).is_serving(), "the longest unused has ended");
    assert_eq!(node.rows(&all[0], "SELECT * FROM t"), "[]");
    node.does(&all[0], "INSERT INTO t VALUES (1)");
}

#[test]
fn a_process_is_confined_before_it_reads_a_statement() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let id = id_of(&node, &ns);
    let threads = threads_of(id);
    assert_eq!(threads.len(), DB_READERS_MAX + 1);
    for status in threads {
        assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    assert!(environment.len() < 200, "{}", String::from_utf8_lossy(&environment));
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    assert!(!data.contains("unlimited"), "{data}");
}

#[test]
fn processes_end_with_the_node_and_with_the_namespace() {
    let node = Node::new();
    let (gone, stays) = (namespace(), namespace());
    node.does(&gone, "CREATE TABLE t (x)");
    node.does(&stays, "CREATE TABLE t (x)");
    let ids = [id_of(&node, &gone), id_of(&node, &stays)];
    node.databases.remove(&gone).unwrap();
    assert!(!is_there(ids[0]) && is_there(ids[1]));
    assert!(!node.folder(&gone).exists());
    node.databases.close();
    assert!(!is_there(ids[1]));
}

#[test]
fn answers_and_arguments_of_megabytes_pass() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let bytes = |n: u8| SqlValue::Blob(vec![n; 3 << 19]);
    let inserts = (0..8).map(|n| suite::exec("INSERT INTO t VALUES (?)", vec![bytes(n)])).collect();
    assert!(suite::run(&node.databases, &ns, inserts).committed);
    let rows = node.rows(&ns, "SELECT hex(x) AS h FROM t");
    assert!(rows.len() > 8 * 3_000_000 && rows.starts_with("[{\"h\":\"0000"), "{}", rows.len());
}

#[test]
fn a_call_whose_deadline_has_passed_harms_no_other() {
    let node = Node::new();
    let ns = namespace();
    node.does(&ns, "CREATE TABLE t (x)");
    let id = id_of(&node, &ns);
    let passed = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
    for _ in 0..20 {
        let outcome = wait(node.databases.run(&ns, READ, vec![suite::query("SELECT 1", vec![])], passed));
        assert_eq!(code(&outcome), ErrorCode::DeadlineExceeded, "{outcome:?}");
        node.does(&ns, "INSERT INTO t VALUES (1)");
    }
    assert_eq!(id_of(&node, &ns), id, "its process was not ended");
}

use super::*;
use crate::conformance::database::{exec, query};
use crate::database::sqlite::wire::Access;
use crate::limits::{DB_MAX_BYTES, DB_VALUE_MAX_BYTES};
use orama_runtime::services::{ErrorCode, SqlValue, Statement};

struct Stand {
    tenant: Tenant,
    folder: tempfile::TempDir,
}

impl Stand {
    fn new() -> Self {
        count();
        let folder = tempfile::tempdir().unwrap();
        Self { tenant: Tenant::new(folder.path().join(layout::FILE)), folder }
    }

    fn run(&self, statement: Statement) -> BatchOutcome {
        self.run_within(statement, DB_MAX_BYTES as u64)
    }

    /// Runs one in a database that may have so many bytes.
    fn run_within(&self, statement: Statement, max_bytes: u64) -> BatchOutcome {
        let writes = statement.kind == orama_runtime::services::StatementKind::Exec;
        let access = if writes { Access::Write { max_bytes } } else { Access::Read };
        self.tenant.run(access, &[statement], &Arc::new(watch()))
    }
}

fn count() {
    watch::count_writes_of_this_thread();
}

fn watch() -> Watch {
    Watch::new(Instant::now() + Duration::from_secs(120))
}

fn refusal(outcome: &BatchOutcome) -> (ErrorCode, &str) {
    let error = &outcome.failure.as_ref().unwrap().error;
    (error.code, &error.message)
}

#[test]
fn a_call_that_writes_too_much_is_ended() {
    let stand = Stand::new();
    let temporary = tempfile::tempdir().unwrap();
    let anywhere = Connection::open_in_memory().unwrap();
    anywhere.pragma_update(None, "temp_store_directory", temporary.path().to_string_lossy()).unwrap();
    let mut watch = watch();
    watch.written_max = 16 << 20;
    // Sorting what has no end fills a temporary file.
    let sort = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT i, randomblob(10000) AS b FROM n ORDER BY b";
    let outcome = stand.tenant.run(Access::Read, &[query(sort, vec![])], &Arc::new(watch));
    let (code, message) = refusal(&outcome);
    assert_eq!(code, ErrorCode::PayloadTooLarge, "{outcome:?}");
    assert!(message.contains("wrote more than 16 MiB"), "{outcome:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "it has no name");
}

#[test]
fn a_full_database_is_told_and_can_be_emptied() {
    let stand = Stand::new();
    assert!(stand.run(exec("CREATE TABLE t (x)", vec![])).committed);
    let blob = || exec("INSERT INTO t VALUES (?)", vec![SqlValue::Blob(vec![0; DB_VALUE_MAX_BYTES - 100])]);
    assert!(stand.run_within(blob(), 6 << 20).committed);
    let outcome = stand.run_within(blob(), 6 << 20);
    let (code, message) = refusal(&outcome);
    assert_eq!(code, ErrorCode::PayloadTooLarge);
    assert!(message.contains("`database_bytes`") && message.contains("6291456 bytes"), "{outcome:?}");
    assert!(stand.run_within(blob(), 10 << 20).committed, "more is allowed now");
    let small = || exec("INSERT INTO t VALUES (1)", vec![]);
    assert!(stand.run_within(small(), 1 << 20).committed, "what fits into its pages needs no other");
    let outcome = stand.run_within(blob(), 1 << 20);
    assert_eq!(refusal(&outcome).0, ErrorCode::PayloadTooLarge, "it is larger than allowed, and stays");
    assert_eq!(stand.run(query("SELECT 1", vec![])).failure, None);
    assert!(stand.run(exec("DELETE FROM t", vec![])).committed);
    stand.tenant.close();
    assert_eq!(std::fs::read_dir(stand.folder.path()).unwrap().count(), 1, "the log is in the file");
}

#[test]
fn the_operator_is_told_what_the_tenant_is_not() {
    let stand = Stand::new();
    std::fs::write(stand.folder.path().join(layout::FILE), [b'x'; 5000]).unwrap();
    let watch = Arc::new(watch());
    let outcome = stand.tenant.run(Access::Read, &[query("SELECT 1", vec![])], &watch);
    assert_eq!(refusal(&outcome).0, ErrorCode::Internal);
    assert!(!refusal(&outcome).1.contains('/'), "{outcome:?}");
    let note = watch.take_note().unwrap();
    assert!(
        note.contains(&stand.folder.path().display().to_string()) && note.contains("not a database"),
        "{note}"
    );
}

use super::*;
use crate::backend::conformance::database as suite;
use tokio::runtime::Runtime;

struct Node {
    databases: SqliteDatabases,
    dir: tempfile::TempDir,
    _backplane: Runtime,
}

impl Node {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    fn over(dir: tempfile::TempDir) -> Self {
        let backplane =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let databases =
            SqliteDatabases::open(&dir.path().join("databases"), backplane.handle().clone()).unwrap();
        Self { databases, dir, _backplane: backplane }
    }
}

#[test]
fn it_is_a_database() {
    let node = Node::new();
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&node.databases);
    }
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
}

#[test]
fn files_are_the_owners_alone() {
    let node = Node::new();
    let ns = Namespace::new("a").unwrap();
    suite::does(&node.databases, &ns, "CREATE TABLE t (x)");
    let dir = node.dir.path().join("databases");
    assert_eq!(mode(&dir), 0o700);
    for file in ["a.db", "a.db-wal", "a.db-shm"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}

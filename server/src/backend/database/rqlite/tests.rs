use super::*;
use crate::backend::conformance::database as suite;
use orama_runtime::services::Database;
use orama_test_support::backends::Rqlite;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::runtime::Runtime;

fn at(addresses: &[SocketAddr]) -> RqliteAt {
    let urls = addresses.iter().map(|address| format!("http://{address}").parse().unwrap()).collect();
    RqliteAt { urls, user: None, password: None }
}

fn backplane() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One database for every namespace that a test asks for, emptied in between: a case of the suite has at most two.
struct Suite {
    servers: Vec<Rqlite>,
    databases: Mutex<Vec<(Namespace, RqliteDatabase)>>,
    backplane: Runtime,
}

impl Suite {
    fn of(&self, namespace: &Namespace) -> RqliteDatabase {
        let mut databases = self.databases.lock().unwrap();
        if let Some((_, database)) = databases.iter().find(|(known, _)| known == namespace) {
            return database.clone();
        }
        let servers = &self.servers[databases.len()];
        let handle = self.backplane.handle().clone();
        let database = RqliteDatabase::new(namespace, &at(&servers.addresses()), handle).unwrap();
        databases.push((namespace.clone(), database.clone()));
        database
    }

    fn empty(&self) {
        for (_, database) in self.databases.lock().unwrap().drain(..) {
            database.remove().unwrap();
        }
    }
}

impl Database for Suite {
    fn run(
        &self,
        namespace: &Namespace,
        mode: BatchMode,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Answer<BatchOutcome> {
        self.of(namespace).run(mode, statements, deadline)
    }
}

#[test]
fn it_is_a_database() {
    let (Ok(one), Ok(two)) = (Rqlite::single(), Rqlite::single()) else { return };
    let suite = Suite { servers: vec![one, two], databases: Mutex::default(), backplane: backplane() };
    for (name, case) in suite::CASES {
        eprintln!("case: {name}");
        case(&suite);
        suite.empty();
    }
}

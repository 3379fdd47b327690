//! What tenants' SQL may do: the settings of a connection, and SQLite's authorizer, which sees every statement before it runs.

use crate::database::policy;
use crate::limits::{
    DB_CACHE_BYTES, DB_INSTRUCTIONS_MAX, DB_PATTERN_MAX_BYTES, DB_TRIGGER_DEPTH_MAX, DB_VALUE_MAX_BYTES,
};
use orama_runtime::limits::DB_SQL_MAX_BYTES;
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Statements kept prepared on a connection.
const STATEMENTS_MAX: usize = 32;

/// The guard of one connection.
#[derive(Debug, Default)]
pub(in crate::database) struct Guard {
    /// The node itself speaks.
    host: AtomicBool,
    /// What the last refusal was for.
    refused: Mutex<Option<String>>,
}

impl Guard {
    /// Sets a connection up for tenants' SQL. What the node itself sets comes before.
    pub(in crate::database) fn install(connection: &Connection) -> rusqlite::Result<Arc<Self>> {
        connection.pragma_update(None, "foreign_keys", true)?;
        // Negative is in KiB.
        connection.pragma_update(None, "cache_size", -((DB_CACHE_BYTES >> 10) as i64))?;
        // A file that was tampered with is found out, and cannot call functions by its schema.
        connection.pragma_update(None, "cell_size_check", true)?;
        for (setting, value) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
        ] {
            connection.set_db_config(setting, value)?;
        }
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_LENGTH, DB_VALUE_MAX_BYTES as i32),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, DB_SQL_MAX_BYTES as i32),
            (Limit::SQLITE_LIMIT_VDBE_OP, DB_INSTRUCTIONS_MAX),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, DB_PATTERN_MAX_BYTES),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, DB_TRIGGER_DEPTH_MAX),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, value)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let guard = Arc::new(Self::default());
        let authorizer = Arc::clone(&guard);
        connection.authorizer(Some(move |context: AuthContext<'_>| authorizer.decide(&context)))?;
        Ok(guard)
    }

    /// Runs a statement of the node's own, such as `COMMIT`. Never from the cache of prepared statements: a tenant that
    /// wrote the same text would find it there, past the authorizer.
    pub(super) fn as_host(&self, connection: &Connection, sql: &str) -> rusqlite::Result<()> {
        self.host.store(true, Ordering::Relaxed);
        let result = connection.execute_batch(sql);
        self.host.store(false, Ordering::Relaxed);
        result
    }

    /// What the last refusal was for.
    pub(in crate::database) fn take_refusal(&self) -> Option<String> {
        self.refused.lock().take()
    }

    fn decide(&self, context: &AuthContext<'_>) -> Authorization {
        if self.host.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        match refusal(context) {
            None => Authorization::Allow,
            Some(reason) => {
                *self.refused.lock() = Some(reason);
                Authorization::Deny
            }
        }
    }
}

/// Why an action is not allowed; `None` when it is. What is not named here is refused.
pub(in crate::database) fn refusal(context: &AuthContext<'_>) -> Option<String> {
    let refuse = |what: &str| Some(what.to_owned());
    match context.action {
        // Writing to the schema's table passes here, as CREATE and DROP do it; statements that name it themselves are
        // refused by SQLite, in defensive mode in any case.
        AuthAction::Select
        | AuthAction::Recursive
        | AuthAction::Read { .. }
        | AuthAction::Insert { .. }
        | AuthAction::Update { .. }
        | AuthAction::Delete { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::DropVtable { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => None,
        AuthAction::Function { function_name } => policy::function_refusal(function_name),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            policy::pragma_refusal(pragma_name, pragma_value.is_some())
        }
        // `CREATE TABLE temp.t` is the same action as `CREATE TABLE t`.
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
            if context.database_name == Some("main") =>
        {
            None
        }
        AuthAction::CreateVtable { module_name, .. } if context.database_name == Some("main") => {
            policy::module_refusal(module_name)
        }
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. } => refuse(policy::TEMPORARY),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => refuse(policy::TRANSACTIONS),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => refuse(policy::OTHER_DATABASES),
        _ => refuse("this kind of statement is not supported"),
    }
}

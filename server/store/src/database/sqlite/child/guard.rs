//! Restricts tenants' SQL: the settings of a connection, and SQLite's authorizer, which inspects every statement before it runs.

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
    /// Whether the node's own statement runs.
    host: AtomicBool,
    /// The reason of the last refusal.
    refused: Mutex<Option<String>>,
}

impl Guard {
    /// Prepares a connection for tenants' SQL. The node's own settings must be made before.
    pub(in crate::database) fn install(connection: &Connection) -> rusqlite::Result<Arc<Self>> {
        connection.pragma_update(None, "foreign_keys", true)?;
        // Negative is in KiB.
        connection.pragma_update(None, "cache_size", -((DB_CACHE_BYTES >> 10) as i64))?;
        // Detects a manipulated file and keeps its schema from calling functions.
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

    /// Runs a statement of the node's own, such as `COMMIT`. It must not enter the cache of prepared statements, where a tenant
    /// that sends the same text would get it without the authorizer.
    pub(super) fn as_host(&self, connection: &Connection, sql: &str) -> rusqlite::Result<()> {
        self.host.store(true, Ordering::Relaxed);
        let result = connection.execute_batch(sql);
        self.host.store(false, Ordering::Relaxed);
        result
    }

    /// Takes the reason of the last refusal.
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

/// Why an action is refused; `None` if it is allowed. An action that is not listed is refused.
pub(in crate::database) fn refusal(context: &AuthContext<'_>) -> Option<String> {
    let refuse = |what: &str| Some(what.to_owned());
    match context.action {
        // CREATE and DROP write to the schema table, so writing to it passes here. SQLite itself refuses statements that name
        // the schema table, because the connection is in defensive mode.
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

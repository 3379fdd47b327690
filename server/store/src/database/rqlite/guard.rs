//! What tenants' SQL may do on rqlite: the node parses each statement by SQLite's grammar before a server sees it.
//!
//! A server executes whatever its SQLite supports, including a second statement after the first one. The text must
//! therefore be one statement of a kind that is listed here; a statement that cannot be parsed is refused.

use super::tokens::{Tokens, parser, plain, unreadable};
use crate::database::policy;
use orama_runtime::services::{ServiceError, StatementKind};
use sqlite3_parser::ast::{
    Cmd, InsertBody, OneSelect, QualifiedName, ResultColumn, Select, Stmt, TriggerCmd,
};
use sqlite3_parser::lexer::sql::TokenType;
use sqlite3_parser::{Bump, FallibleIterator};

/// SQLite's internal tables that a tenant may change: positions of sequences, and statistics of ANALYZE.
const OWN_TABLES_WRITTEN: [&str; 4] = ["sqlite_sequence", "sqlite_stat1", "sqlite_stat3", "sqlite_stat4"];

/// Suffixes of the names of shadow tables of FTS5 and R*Tree.
const SHADOWS: [&str; 8] = ["_data", "_idx", "_content", "_docsize", "_config", "_node", "_rowid", "_parent"];

/// The kind of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// SELECT or VALUES; how many columns it has, where its text alone says it.
    Rows { columns: Option<usize> },
    /// PRAGMA or EXPLAIN: rows that cannot be selected by another query.
    Report,
    /// INSERT; whether all of its rows are literal.
    Insert { is_plain: bool },
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// Definitions that are evaluated later: tables, triggers.
    Define,
    /// Any other change.
    Other,
}

impl Kind {
    /// Whether it changes rows and therefore has counts.
    pub(super) fn changes_rows(self) -> bool {
        matches!(self, Self::Insert { .. } | Self::Update | Self::Delete)
    }
}

/// A statement that may run.
#[derive(Debug)]
pub(in crate::database) struct Allowed<'a> {
    pub(super) tokens: Tokens<'a>,
    pub(super) kind: Kind,
    /// Tables that it changes and that may be shadow tables, judging by their names.
    pub(super) maybe_shadows: Vec<String>,
}

/// Parses a statement and refuses what tenants may not do.
pub(in crate::database) fn check(sql: &str, asked_for: StatementKind) -> Result<Allowed<'_>, ServiceError> {
    let tokens = Tokens::read(sql)?;
    let memory = Bump::new();
    let mut parser = parser(&memory, sql);
    let Some(command) = parser.next().map_err(|error| unreadable(&error))? else {
        return Err(ServiceError::invalid("the string has no SQL statement"));
    };
    if !matches!(parser.next(), Ok(None)) {
        return Err(ServiceError::invalid("the string has more than one SQL statement"));
    }
    let (kind, maybe_shadows) = match &command {
        Cmd::Explain(statement) | Cmd::ExplainQueryPlan(statement) => {
            statement_kind(statement)?;
            (Kind::Report, Vec::new())
        }
        Cmd::Stmt(statement) => statement_kind(statement)?,
    };
    check_names(&tokens)?;
    let is_read = matches!(kind, Kind::Rows { .. } | Kind::Report);
    if asked_for == StatementKind::Query && !is_read {
        return Err(ServiceError::invalid("a query may not change anything; run this statement as an exec"));
    }
    Ok(Allowed { tokens, kind, maybe_shadows })
}

/// The result of a check by [`policy`].
fn allowed(refusal: Option<String>) -> Result<(), ServiceError> {
    refusal.map_or(Ok(()), |reason| Err(ServiceError::invalid(reason)))
}

fn statement_kind(statement: &Stmt<'_>) -> Result<(Kind, Vec<String>), ServiceError> {
    let refuse = |why: &str| Err(ServiceError::invalid(why));
    let written = |table: &QualifiedName<'_>| written(std::iter::once(table));
    Ok(match statement {
        Stmt::Select(select) => (Kind::Rows { columns: columns(select) }, Vec::new()),
        Stmt::Pragma(name, body) => {
            allowed(policy::pragma_refusal(&plain(name.name.0), body.is_some()))?;
            (Kind::Report, Vec::new())
        }
        Stmt::Insert { tbl_name, body, .. } => {
            (Kind::Insert { is_plain: writes_rows_out(body) }, written(tbl_name)?)
        }
        Stmt::Update { tbl_name, .. } => (Kind::Update, written(tbl_name)?),
        Stmt::Delete { tbl_name, .. } => (Kind::Delete, written(tbl_name)?),
        Stmt::CreateTable { temporary, tbl_name, .. } => {
            check_place(*temporary, tbl_name)?;
            (Kind::Define, Vec::new())
        }
        Stmt::CreateTrigger { temporary, trigger_name, commands, .. } => {
            check_place(*temporary, trigger_name)?;
            let tables = commands.iter().filter_map(|command| match command {
                TriggerCmd::Update { tbl_name, .. }
                | TriggerCmd::Insert { tbl_name, .. }
                | TriggerCmd::Delete { tbl_name, .. } => Some(tbl_name),
                TriggerCmd::Select(_) => None,
            });
            (Kind::Define, self::written(tables)?)
        }
        Stmt::CreateView { temporary, view_name, .. } => {
            check_place(*temporary, view_name)?;
            (Kind::Other, Vec::new())
        }
        Stmt::CreateIndex { idx_name, .. } => {
            check_place(false, idx_name)?;
            (Kind::Other, Vec::new())
        }
        Stmt::CreateVirtualTable { tbl_name, module_name, .. } => {
            check_place(false, tbl_name)?;
            allowed(policy::module_refusal(&plain(module_name.0)))?;
            (Kind::Other, Vec::new())
        }
        Stmt::AlterTable(table, _) => (Kind::Define, written(table)?),
        Stmt::DropTable { tbl_name, .. } => (Kind::Other, written(tbl_name)?),
        Stmt::DropIndex { .. }
        | Stmt::DropTrigger { .. }
        | Stmt::DropView { .. }
        | Stmt::Reindex { .. }
        | Stmt::Analyze(_) => (Kind::Other, Vec::new()),
        Stmt::Begin(..) | Stmt::Commit(_) | Stmt::Rollback { .. } | Stmt::Savepoint(_) | Stmt::Release(_) => {
            return refuse(policy::TRANSACTIONS);
        }
        Stmt::Attach { .. } | Stmt::Detach(_) | Stmt::Vacuum(..) => {
            return refuse(policy::OTHER_DATABASES);
        }
    })
}

/// Whether an INSERT has only literal rows and no clause that reads or changes others.
fn writes_rows_out(body: &InsertBody<'_>) -> bool {
    match body {
        InsertBody::DefaultValues => true,
        InsertBody::Select(select, upsert) => {
            upsert.is_none()
                && select.with.is_none()
                && select.body.compounds.is_none()
                && matches!(select.body.select, OneSelect::Values(_))
        }
    }
}

/// Checks that something is created in the main database, and not temporarily.
fn check_place(temporary: bool, name: &QualifiedName<'_>) -> Result<(), ServiceError> {
    let is_main = name.db_name.as_ref().is_none_or(|database| plain(database.0) == "main");
    if temporary || !is_main {
        return Err(ServiceError::invalid(policy::TEMPORARY));
    }
    Ok(())
}

/// Refuses changes to SQLite's internal tables. Returns the tables that may be shadow tables.
fn written<'a, 'b: 'a>(
    tables: impl Iterator<Item = &'a QualifiedName<'b>>,
) -> Result<Vec<String>, ServiceError> {
    let mut maybe_shadows = Vec::new();
    for table in tables {
        let name = plain(table.name.0);
        if name.starts_with("sqlite_") && !OWN_TABLES_WRITTEN.contains(&name.as_str()) {
            return Err(ServiceError::invalid(format!("table {name} may not be modified")));
        }
        if SHADOWS.iter().any(|end| name.ends_with(end)) {
            maybe_shadows.push(name);
        }
    }
    Ok(maybe_shadows)
}

/// How many columns a SELECT has, where no star hides some.
fn columns(select: &Select<'_>) -> Option<usize> {
    match &select.body.select {
        OneSelect::Values(rows) => rows.first().map(|row| row.len()),
        OneSelect::Select { columns, .. } => {
            columns.iter().all(|column| matches!(column, ResultColumn::Expr(..))).then_some(columns.len())
        }
    }
}

/// Refuses functions and pragma tables wherever they occur, also in views, triggers, defaults and checks.
fn check_names(tokens: &Tokens<'_>) -> Result<(), ServiceError> {
    use TokenType::{TK_COMMA, TK_DOT, TK_FROM, TK_ID, TK_IN, TK_JOIN, TK_LP, TK_STRING, TK_USING};
    for (index, token) in tokens.all.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| tokens.kind(before));
        // A module of virtual tables may have a function's name.
        if before != Some(TK_USING)
            && let Some(function) = tokens.call(index)
        {
            allowed(policy::function_refusal(&function))?;
        }
        // A table's name may also be a string literal.
        let is_name = token.kind == TK_ID
            || (token.kind == TK_STRING
                && matches!(before, Some(TK_FROM | TK_JOIN | TK_COMMA | TK_LP | TK_DOT | TK_IN)));
        if is_name && let Some(pragma) = plain(tokens.text(index)).strip_prefix("pragma_") {
            // The arguments of such a table select rows; they set nothing.
            allowed(policy::pragma_refusal(pragma, false))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

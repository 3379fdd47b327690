//! The shapes of JSON that has no types on this side: statements, which the runtime reads and writes as it does for guests, and
//! what is read key by key.

#![expect(dead_code, reason = "types that describe and are not made")]

use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Statements for the namespace's database.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::routes) struct Statements {
    #[schema(max_items = 100)]
    ops: Vec<Statement>,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct Statement {
    kind: StatementKind,
    sql: String,
    /// One for each `?` of the statement.
    args: Option<Vec<Value>>,
}

#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
enum StatementKind {
    Exec,
    Query,
}

/// What statements did.
#[derive(ToSchema)]
pub(in crate::routes) struct StatementResults {
    committed: bool,
    results: Vec<StatementResult>,
    /// -1 where none failed.
    failed_index: i64,
    error: String,
    code: String,
}

/// `rows` of a query; `rows_affected` and `last_insert_id` of an exec.
#[derive(ToSchema)]
struct StatementResult {
    kind: StatementKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_affected: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_insert_id: Option<i64>,
    error: String,
}

/// What fires a function: either a topic, or a schedule.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::routes) struct TriggerOfFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// A cron expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// Of the schedule; UTC unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

/// What the node says of itself while it runs.
#[derive(ToSchema)]
pub(super) struct Health {
    /// `ok`
    status: String,
}

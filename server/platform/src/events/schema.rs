//! The tables of `events.db`.

use orama_store::replica::Layout;
use rusqlite_migration::{M, Migrations};

/// All migrations in order. A released migration never changes; a new layout is a new migration.
const STEPS: &[&str] = &[FIRST, LATER, TRACES];

/// The same for shared events.
pub(crate) const SHARED: Layout = Layout { stream: "events", steps: STEPS };

pub(crate) fn migrations() -> Migrations<'static> {
    Migrations::new(STEPS.iter().map(|step| M::up(step)).collect())
}

// Ids are never reused (AUTOINCREMENT), so an outcome never applies to another job. A message stays while a job or a dead letter
// needs it.
const FIRST: &str = "
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    topic TEXT NOT NULL,
    data TEXT NOT NULL,
    depth INTEGER NOT NULL,
    published_at_ms INTEGER NOT NULL
) STRICT;

-- One for each trigger that had a job. Who holds the lease runs its jobs.
CREATE TABLE queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    trigger_id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    lease_owner TEXT,
    lease_until_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX queues_by_function ON queues (namespace, function);

-- due_ms is 0 until an attempt has failed, then the time of the next one.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL REFERENCES queues (id),
    message INTEGER NOT NULL REFERENCES messages (id),
    attempts INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX jobs_in_order ON jobs (queue, due_ms, id);
CREATE INDEX jobs_by_message ON jobs (message);
CREATE INDEX jobs_by_time ON jobs (due_ms) WHERE due_ms > 0;

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dead_letter_id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    trigger_id TEXT NOT NULL,
    message INTEGER NOT NULL REFERENCES messages (id),
    size_bytes INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    request_id TEXT NOT NULL,
    failed_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX dead_letters_by_function ON dead_letters (namespace, function, id);
CREATE INDEX dead_letters_by_namespace ON dead_letters (namespace, id, size_bytes);
CREATE INDEX dead_letters_by_message ON dead_letters (message);
CREATE INDEX dead_letters_by_age ON dead_letters (failed_at_ms);
";

// What a function reads of a message (`store::Kind`); messages that wait for their time; when schedules are due; and outboxes. A
// trigger has its row in `schedules` from when a node first saw it. `since_ms` says which of its beginnings the row is about.
const LATER: &str = "
ALTER TABLE messages ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;

CREATE TABLE later (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    topic TEXT NOT NULL,
    data TEXT NOT NULL,
    depth INTEGER NOT NULL,
    published_at_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX later_by_time ON later (due_ms);
CREATE INDEX later_by_namespace ON later (namespace);

CREATE TABLE schedules (
    trigger_id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    last_run_ms INTEGER,
    last_status TEXT,
    skipped INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX schedules_by_function ON schedules (namespace, function);

-- Namespaces whose database has an outbox.
CREATE TABLE outboxes (
    namespace TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
";

// The trace that a message belongs to, as the header `traceparent` tells it.
const TRACES: &str = "
ALTER TABLE messages ADD COLUMN trace TEXT;
ALTER TABLE later ADD COLUMN trace TEXT;
";

//! The registry's tables and statements.

use orama_store::replica::Layout;
use rusqlite_migration::{M, Migrations};

/// All migrations in order. A released migration never changes; a new layout is a new migration.
const STEPS: &[&str] = &[FIRST, SERVICES, START, QUOTAS, BOUNDS, RATES, WEB, SCHEDULES, IN_USE, KEYS, AUDIT];

/// The same for a shared registry.
pub(crate) const SHARED: Layout = Layout { stream: "registry", steps: STEPS };

pub(crate) fn migrations() -> Migrations<'static> {
    Migrations::new(STEPS.iter().map(|step| M::up(step)).collect())
}

const FIRST: &str = "
CREATE TABLE namespaces (
    name TEXT PRIMARY KEY,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    key_hash BLOB NOT NULL UNIQUE,
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    role TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

-- A row outlives its function's deletion, so that version numbers are never given twice.
CREATE TABLE functions (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    last_version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE function_versions (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    wasm_hash BLOB NOT NULL,
    wasm_cid TEXT NOT NULL,
    memory_limit_mb INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    is_public INTEGER NOT NULL,
    retry_count INTEGER NOT NULL,
    retry_delay_seconds INTEGER NOT NULL,
    env TEXT NOT NULL,
    deployed_at_ms INTEGER NOT NULL,
    UNIQUE (namespace, name, version),
    FOREIGN KEY (namespace, name) REFERENCES functions (namespace, name) ON DELETE CASCADE
) STRICT;

CREATE INDEX function_versions_by_cid ON function_versions (wasm_cid);
";

// Secrets are encrypted with the key `key_id`. A new value increments the version. A table with row ids, because values of up
// to 64 KiB would make the tree of a WITHOUT ROWID table deep.
const SERVICES: &str = "
-- Set while a namespace is being deleted; until that is done, its name is taken.
ALTER TABLE namespaces ADD COLUMN deleted_at_ms INTEGER;

CREATE INDEX api_keys_by_namespace ON api_keys (namespace);

CREATE TABLE secrets (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    nonce BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE INDEX secrets_by_key ON secrets (key_id);

CREATE TABLE triggers (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    topic TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    UNIQUE (namespace, topic, function),
    FOREIGN KEY (namespace, function) REFERENCES functions (namespace, name) ON DELETE CASCADE
) STRICT;

CREATE INDEX triggers_by_function ON triggers (namespace, function);

-- What guests stored: who may read which blob.
CREATE TABLE stored_objects (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    cid TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, cid)
) STRICT, WITHOUT ROWID;

CREATE INDEX stored_objects_by_cid ON stored_objects (cid);
";

// How instances are started. Older versions behaved like `auto`.
const START: &str = "
ALTER TABLE function_versions ADD COLUMN start TEXT NOT NULL DEFAULT 'auto';
";

// Quotas set by operators, and the sizes that quotas count. The size of a module that was deployed earlier is not known; it
// counts as 0 until the module is deployed again.
const QUOTAS: &str = "
CREATE TABLE quotas (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    quota TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (namespace, quota)
) STRICT, WITHOUT ROWID;

ALTER TABLE function_versions ADD COLUMN wasm_bytes INTEGER NOT NULL DEFAULT 0;

ALTER TABLE function_versions ADD COLUMN env_bytes INTEGER NOT NULL DEFAULT 0;

UPDATE function_versions SET env_bytes = octet_length(env);

-- Holds all that is summed up, so that no row is read for it.
CREATE INDEX function_versions_by_module ON function_versions (namespace, wasm_hash, wasm_bytes, env_bytes);
";

// What a function's author bounds; 0 is what all versions did before.
const BOUNDS: &str = "
ALTER TABLE function_versions ADD COLUMN concurrency INTEGER NOT NULL DEFAULT 0;

ALTER TABLE function_versions ADD COLUMN keep_versions INTEGER NOT NULL DEFAULT 0;
";

// What operators set beside the rates of the nodes' configuration.
const RATES: &str = "
CREATE TABLE rates (
    namespace TEXT NOT NULL REFERENCES namespaces (name) ON DELETE CASCADE,
    rate TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (namespace, rate)
) STRICT, WITHOUT ROWID;
";

// Triggers that a schedule fires, that stand for many topics, that come from function.yaml, and that are paused. `topic` is also
// what makes a trigger unique; that of a schedule begins with `_orama/cron:`.
const SCHEDULES: &str = "
ALTER TABLE triggers ADD COLUMN cron TEXT;

ALTER TABLE triggers ADD COLUMN timezone TEXT;

ALTER TABLE triggers ADD COLUMN is_pattern INTEGER NOT NULL DEFAULT 0;

ALTER TABLE triggers ADD COLUMN of_file INTEGER NOT NULL DEFAULT 0;

ALTER TABLE triggers ADD COLUMN is_enabled INTEGER NOT NULL DEFAULT 1;

ALTER TABLE triggers ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;

UPDATE triggers SET is_pattern = 1 WHERE instr(topic, '*') > 0;

CREATE INDEX triggers_on_patterns ON triggers (namespace) WHERE is_pattern = 1;

CREATE INDEX triggers_by_schedule ON triggers (id) WHERE cron IS NOT NULL;
";

// How the web reaches a function; the defaults are what all versions did before. `cors` is JSON.
const WEB: &str = "
ALTER TABLE function_versions ADD COLUMN is_internal INTEGER NOT NULL DEFAULT 0;

ALTER TABLE function_versions ADD COLUMN cors TEXT;

ALTER TABLE function_versions ADD COLUMN max_body_mb INTEGER NOT NULL DEFAULT 1;
";

// Which versions are in use, and where they come from; `origin` is JSON. Nobody used to note who deployed a version.
const IN_USE: &str = "
CREATE TABLE aliases (
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    alias TEXT NOT NULL,
    version INTEGER NOT NULL,
    set_at_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, function, alias),
    FOREIGN KEY (namespace, function) REFERENCES functions (namespace, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE traffic (
    namespace TEXT NOT NULL,
    function TEXT NOT NULL,
    version INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    sticky TEXT,
    PRIMARY KEY (namespace, function, version),
    FOREIGN KEY (namespace, function) REFERENCES functions (namespace, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

ALTER TABLE functions ADD COLUMN is_enabled INTEGER NOT NULL DEFAULT 1;

ALTER TABLE function_versions ADD COLUMN origin TEXT;
";

// What a key is called, how long it holds, what it is for, and when it was last used. `functions` is a JSON list; NULL means all.
const KEYS: &str = "
ALTER TABLE api_keys ADD COLUMN name TEXT;

ALTER TABLE api_keys ADD COLUMN expires_at_ms INTEGER;

ALTER TABLE api_keys ADD COLUMN functions TEXT;

CREATE TABLE key_uses (
    key_id TEXT PRIMARY KEY REFERENCES api_keys (id) ON DELETE CASCADE,
    last_used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

// Who changed what. A row outlives its namespace; `since_ms` is when that was created, as its name may be used again. The index
// has all that is counted.
const AUDIT: &str = "
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_namespace ON audit (namespace, id, outcome);
";

/// Takes the next number of (namespace ?1, name ?2) at the time ?3. A function is created by its first deploy, or by the first
/// one after its deletion.
pub(super) const NEXT_VERSION: &str = "
INSERT INTO functions (namespace, name, last_version, created_at_ms) VALUES (?1, ?2, 1, ?3)
ON CONFLICT (namespace, name) DO UPDATE SET
    last_version = last_version + 1,
    created_at_ms = CASE
        WHEN EXISTS (SELECT 1 FROM function_versions v WHERE v.namespace = ?1 AND v.name = ?2)
        THEN created_at_ms ELSE excluded.created_at_ms END
RETURNING last_version, created_at_ms";

pub(super) const INSERT_VERSION: &str = "
INSERT INTO function_versions (id, namespace, name, version, wasm_hash, wasm_cid, memory_limit_mb,
    timeout_seconds, is_public, retry_count, retry_delay_seconds, env, deployed_at_ms, start,
    wasm_bytes, env_bytes, concurrency, keep_versions, is_internal, cors, max_body_mb, origin)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
    max(?15, coalesce((SELECT max(wasm_bytes) FROM function_versions WHERE namespace = ?2 AND wasm_hash = ?5), 0)), ?16, ?17, ?18, ?19, ?20, ?21, ?22)";

/// The columns that `stored` reads, in its order; `$env` is the environment, or an empty one that costs nothing.
macro_rules! select {
    ($env:literal, $rest:literal) => {
        concat!(
            "SELECT v.id, v.namespace, v.name, v.version, v.wasm_hash, v.wasm_cid, v.memory_limit_mb, ",
            "v.timeout_seconds, ",
            // They belong to the function: its newest version decides for all versions.
            "(SELECT n.is_public FROM function_versions n WHERE n.namespace = v.namespace AND n.name = v.name ",
            "ORDER BY n.version DESC LIMIT 1), ",
            "(SELECT n.concurrency FROM function_versions n WHERE n.namespace = v.namespace AND n.name = v.name ",
            "ORDER BY n.version DESC LIMIT 1), ",
            "(SELECT n.is_internal FROM function_versions n WHERE n.namespace = v.namespace AND n.name = v.name ",
            "ORDER BY n.version DESC LIMIT 1), ",
            "v.retry_count, v.retry_delay_seconds, ",
            $env,
            ", v.deployed_at_ms, ",
            "f.created_at_ms, v.start, v.keep_versions, v.cors, v.max_body_mb, f.is_enabled ",
            "FROM function_versions v JOIN functions f USING (namespace, name) ",
            $rest
        )
    };
}

/// Version ?3 of (?1, ?2), or the newest when ?3 is NULL.
pub(super) const FUNCTION: &str = select!(
    "v.env",
    "WHERE v.namespace = ?1 AND v.name = ?2 AND v.version = coalesce(?3,
        (SELECT max(version) FROM function_versions WHERE namespace = ?1 AND name = ?2))"
);

/// The live versions of the functions of ?1 after the name ?2, at most ?3.
pub(super) const FUNCTIONS: &str = select!(
    "'{}'",
    "WHERE v.namespace = ?1 AND v.name > ?2 AND v.version = coalesce(
        (SELECT a.version FROM aliases a WHERE a.namespace = ?1 AND a.function = v.name AND a.alias = 'live'),
        (SELECT max(w.version) FROM function_versions w WHERE w.namespace = ?1 AND w.name = v.name))
     ORDER BY v.name LIMIT ?3"
);

/// The versions of (?1, ?2) below ?3, or all if that is NULL, at most ?4.
pub(super) const VERSIONS: &str = select!(
    "'{}'",
    "WHERE v.namespace = ?1 AND v.name = ?2 AND (?3 IS NULL OR v.version < ?3) ORDER BY v.version DESC LIMIT ?4"
);

/// Deletes version ?3 of (?1, ?2), or all when ?3 is NULL.
pub(super) const DELETE: &str = "
DELETE FROM function_versions WHERE namespace = ?1 AND name = ?2 AND (?3 IS NULL OR version = ?3)
RETURNING wasm_hash, wasm_cid";

/// Deletes the versions of (?1, ?2) up to ?3 that are not in use.
pub(super) const DELETE_UP_TO: &str = "
DELETE FROM function_versions WHERE namespace = ?1 AND name = ?2 AND version <= ?3
    AND version NOT IN (SELECT a.version FROM aliases a WHERE a.namespace = ?1 AND a.function = ?2)
    AND version NOT IN (SELECT s.version FROM traffic s WHERE s.namespace = ?1 AND s.function = ?2)
RETURNING wasm_hash, wasm_cid";

/// The newest version of (?1, ?2) that a deploy takes away when it leaves ?3, itself included.
pub(super) const LAST_DROPPED: &str = "
SELECT version FROM function_versions WHERE namespace = ?1 AND name = ?2
ORDER BY version DESC LIMIT 1 OFFSET ?3 - 1";

/// What becomes free with the versions of (?1, ?2) up to ?3 that are not in use, when the module ?4 stays: versions, bytes of
/// environments, and bytes of modules that no other version in the namespace runs.
pub(super) const FREED: &str = "
WITH used AS MATERIALIZED (
    SELECT version FROM aliases WHERE namespace = ?1 AND function = ?2
    UNION SELECT version FROM traffic WHERE namespace = ?1 AND function = ?2)
SELECT count(*), coalesce(sum(env_bytes), 0),
    (SELECT coalesce(sum(n), 0) FROM
        (SELECT max(d.wasm_bytes) AS n FROM function_versions d
         WHERE d.namespace = ?1 AND d.name = ?2 AND d.version <= ?3 AND d.wasm_hash <> ?4
             AND d.version NOT IN used
             AND NOT EXISTS (SELECT 1 FROM function_versions k WHERE k.namespace = ?1
                 AND k.wasm_hash = d.wasm_hash AND (k.name <> ?2 OR k.version > ?3 OR k.version IN used))
         GROUP BY d.wasm_hash))
FROM function_versions WHERE namespace = ?1 AND name = ?2 AND version <= ?3 AND version NOT IN used";

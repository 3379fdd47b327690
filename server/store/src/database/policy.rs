//! What tenants' SQL may name: the one table that both guards of databases read.
//!
//! Embedded databases ask it from SQLite's authorizer, and rqlite's from a parser, because servers do not let a client install
//! an authorizer. What one guard refuses, the other refuses too. The column [`Rule`] names the functions for which rqlite must
//! differ: a cluster's servers would each compute another value.

/// Every pragma that is allowed, also as a table `pragma_<name>`, and whether it may have an argument. These only report; all
/// others change settings or reveal where files are. An argument names a table or an index; given to a pragma that takes no
/// name, it would set a value.
const PRAGMAS: [(&str, bool); 14] = [
    ("table_info", true),        // migrations ask which columns a table has
    ("table_xinfo", true),       // the same with hidden and generated columns
    ("table_list", true),        // which tables and views exist
    ("index_list", true),        // which indexes a table has
    ("index_info", true),        // which columns an index has
    ("index_xinfo", true),       // the same with the columns of the table's key
    ("foreign_key_list", true),  // which foreign keys a table has
    ("foreign_key_check", true), // which rows violate a foreign key
    ("collation_list", false),   // which collations SQL can use
    ("function_list", false),    // which functions SQL can use
    ("user_version", false),     // reads a number in the file's header; libraries for migrations ask for it
    ("encoding", false),         // how text is stored
    ("data_version", false),     // FTS5 asks for it
    ("page_size", false),        // R*Tree asks for it
];

/// Every module that a virtual table may use: those that keep their content in the namespace's own database. Others read files,
/// the process or the server.
const MODULES: [&str; 4] = [
    "fts5",      // full-text search
    "fts5vocab", // the terms of an fts5 table
    "rtree",     // ranges in several dimensions
    "rtree_i32", // the same with integers
];

/// What applies to a function. One that is not in the table may be called everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// May not be called anywhere; the reason.
    Refused(&'static str),
    /// On rqlite, the node computes the value where one value is right, and refuses the call elsewhere.
    Random,
    /// On rqlite, the node puts its own time in.
    Time,
    /// On rqlite, may only refer to statements of the same call, because the next call may have another connection.
    Connection,
}

const CODE: Rule = Rule::Refused("it runs other programs' code");
const POINTERS: Rule = Rule::Refused("its values are pointers");
const FILES: Rule = Rule::Refused("it reads or writes files of the machine");
const USERS: Rule = Rule::Refused("it changes who may use the database");

/// Every function with a rule. Some exist only in other builds of SQLite, which a namespace's servers may run.
const FUNCTIONS: [(&str, Rule); 27] = [
    ("load_extension", CODE),
    ("edit", CODE),
    ("fts3_tokenizer", POINTERS),
    ("fts5", POINTERS),
    ("sqlite_log", Rule::Refused("it writes into the log of the process")),
    ("readfile", FILES),
    ("writefile", FILES),
    ("lsmode", FILES),
    ("fsdir", FILES),
    ("lsdir", FILES),
    ("zipfile", FILES),
    ("auth_enabled", USERS),
    ("authenticate", USERS),
    ("auth_user_add", USERS),
    ("auth_user_change", USERS),
    ("random", Rule::Random),
    ("randomblob", Rule::Random),
    ("date", Rule::Time),
    ("time", Rule::Time),
    ("datetime", Rule::Time),
    ("julianday", Rule::Time),
    ("unixepoch", Rule::Time),
    ("strftime", Rule::Time),
    ("timediff", Rule::Time),
    ("last_insert_rowid", Rule::Connection),
    ("changes", Rule::Connection),
    ("total_changes", Rule::Connection),
];

/// Why temporary things are refused.
pub(super) const TEMPORARY: &str =
    "temporary tables, views and triggers are not available: they would not exist in the next call";

/// Why statements that control transactions are refused.
pub(super) const TRANSACTIONS: &str = "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not available: a call is a transaction; \
                                       db_transaction takes several statements";

/// Why other databases are refused. VACUUM attaches one internally.
pub(super) const OTHER_DATABASES: &str =
    "ATTACH, DETACH and VACUUM are not available: a namespace has exactly one database";

/// Why a pragma may not run; `None` if it may.
pub(super) fn pragma_refusal(name: &str, has_argument: bool) -> Option<String> {
    let known = PRAGMAS.iter().find(|(known, _)| is(known, name));
    let allowed = known.is_some_and(|(_, takes_name)| *takes_name || !has_argument);
    (!allowed).then(|| format!("PRAGMA {name} is not available in this form"))
}

/// Why a virtual table may not use a module; `None` if it may.
pub(super) fn module_refusal(name: &str) -> Option<String> {
    let allowed = MODULES.iter().any(|known| is(known, name));
    (!allowed).then(|| format!("virtual tables of the module {name} are not available"))
}

/// Why a function may not be called; `None` if it may.
pub(super) fn function_refusal(name: &str) -> Option<String> {
    match function(name)? {
        (name, Rule::Refused(why)) => Some(format!("the function {name}() is not available: {why}")),
        _ => None,
    }
}

/// A function's name, as the table has it, and its rule; `None` if none applies.
pub(super) fn function(name: &str) -> Option<(&'static str, Rule)> {
    FUNCTIONS.iter().find(|(known, _)| is(known, name)).copied()
}

/// SQL compares these names without regard to case.
fn is(known: &str, name: &str) -> bool {
    known.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests;

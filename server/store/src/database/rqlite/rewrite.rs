//! Rewrites statements so that every server of a cluster stores the same values.
//!
//! Each server runs the statements of the cluster's log, and runs some of them again at its start. Values that depend on the
//! clock, on randomness or on the connection are therefore computed here, and replace the calls in the text.

use super::guard::{Allowed, Kind};
use super::tokens::{Tokens, plain};
use crate::database::policy::{self, Rule};
use crate::limits::DB_RANDOM_MAX_BYTES;
use jiff::Timestamp;
use orama_runtime::services::{ServiceError, SqlValue};
use rusqlite::types::Value;
use sqlite3_parser::lexer::sql::TokenType;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::ops::Range;

/// Maximum parameters of a statement in SQLite.
const PARAMETERS_MAX: usize = 32_766;

/// The state of the connection after the execs of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) last_insert_id: i64,
    pub(super) changes: u64,
}

/// A statement as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::database) struct Rewritten {
    pub(in crate::database) sql: String,
    pub(super) params: Vec<Value>,
    /// Whether it may change at most one row, because it has one random value for all rows.
    pub(super) one_row: bool,
}

/// Replacements in a text.
struct Edits<'a> {
    tokens: &'a Tokens<'a>,
    edits: Vec<(Range<usize>, String)>,
}

impl Edits<'_> {
    fn replace(&mut self, first: usize, last: usize, by: String) {
        let (Some(from), Some(to)) = (self.tokens.all.get(first), self.tokens.all.get(last)) else { return };
        self.edits.push((from.at.start..to.at.end, by));
    }

    fn insert_before(&mut self, index: usize, text: String) {
        let Some(token) = self.tokens.all.get(index) else { return };
        self.edits.push((token.at.start..token.at.start, text));
    }

    fn apply(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| range.start);
        let Range { start: mut from, end } = self.tokens.statement();
        let mut sql = String::with_capacity(end - from + 64);
        for (range, by) in self.edits {
            sql.push_str(self.tokens.sql.get(from..range.start).unwrap_or_default());
            sql.push_str(&by);
            from = range.end;
        }
        sql.push_str(self.tokens.sql.get(from..end).unwrap_or_default());
        sql
    }
}

/// Rewrites a query: replaces functions of the connection if the batch had execs.
pub(super) fn query(
    allowed: &Allowed<'_>,
    args: Vec<SqlValue>,
    left: Option<Left>,
) -> Result<Rewritten, ServiceError> {
    let mut edits = Edits { tokens: &allowed.tokens, edits: Vec::new() };
    if let Some(left) = left {
        connection_functions(&mut edits, |function| {
            Some(match function {
                "last_insert_rowid" => left.last_insert_id.to_string(),
                _ => left.changes.to_string(),
            })
        });
    }
    let params = bind(&mut edits, args, &TimeParameters::default(), "")?;
    Ok(Rewritten { sql: edits.apply(), params, one_row: false })
}

/// Rewrites an exec. `is_first` means that no earlier statement of the batch changed rows.
pub(in crate::database) fn exec(
    allowed: &Allowed<'_>,
    args: Vec<SqlValue>,
    is_first: bool,
    now: Timestamp,
) -> Result<Rewritten, ServiceError> {
    let tokens = &allowed.tokens;
    let mut edits = Edits { tokens, edits: Vec::new() };
    // Views, triggers and defaults are evaluated later, and each time again.
    let is_kept = matches!(allowed.kind, Kind::Define | Kind::Other) && !makes_rows(tokens);
    let now = moment(now);
    let times = if is_kept { TimeParameters::default() } else { time(&mut edits, &now)? };
    let one_row = random(&mut edits, allowed)?;
    if !is_kept {
        let mut refused = false;
        connection_functions(&mut edits, |function| {
            refused |= is_first || function == "total_changes";
            None
        });
        if refused {
            return Err(ServiceError::invalid(
                "last_insert_rowid(), changes() and total_changes() of an earlier call are not available: \
                 the servers of the database need not have the same connection; use the result of that call",
            ));
        }
    }
    let params = bind(&mut edits, args, &times, &now)?;
    Ok(Rewritten { sql: edits.apply(), params, one_row })
}

/// Whether it is CREATE TABLE … AS SELECT.
fn makes_rows(tokens: &Tokens<'_>) -> bool {
    use TokenType::{TK_BEGIN, TK_SELECT, TK_TRIGGER, TK_VIEW};
    let has = |kind| tokens.all.iter().take(6).any(|token| token.kind == kind);
    !has(TK_VIEW) && !has(TK_TRIGGER) && !tokens.has(TK_BEGIN) && tokens.has(TK_SELECT)
}

/// A time in SQLite's format, with milliseconds like SQLite's own clock.
fn moment(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Parameters within functions of time.
#[derive(Default)]
struct TimeParameters {
    /// Each is a whole argument.
    whole: HashSet<usize>,
    /// Each is a part of one.
    inner: HashSet<usize>,
}

/// Replaces functions of time. Returns the parameters whose argument may be `'now'`.
fn time(edits: &mut Edits<'_>, now: &str) -> Result<TimeParameters, ServiceError> {
    use TokenType::{TK_COMMA, TK_CTIME_KW, TK_DOT, TK_ID, TK_LP, TK_RP, TK_STRING, TK_VARIABLE};
    let tokens = edits.tokens;
    let mut parameters = TimeParameters::default();
    // For each open parenthesis: the function of time that it belongs to, and its commas so far.
    let mut open: Vec<(Option<(&str, usize)>, usize)> = Vec::new();
    // How many of them are of functions of time.
    let mut functions = 0_usize;
    for (index, token) in tokens.all.iter().enumerate() {
        match token.kind {
            TK_CTIME_KW => edits.replace(index, index, moment_of(&plain(tokens.text(index)), now)),
            TK_LP => {
                let called = index.checked_sub(1).and_then(|before| tokens.call(before));
                let known = called.and_then(|called| policy::function(&called));
                let of_time = known.and_then(|(name, rule)| match rule {
                    Rule::Time { place } => Some((name, place)),
                    _ => None,
                });
                functions += usize::from(of_time.is_some());
                open.push((of_time, 0));
            }
            TK_RP => {
                let Some((function, commas)) = open.pop() else { continue };
                functions -= usize::from(function.is_some());
                let is_empty = tokens.kind(index.saturating_sub(1)) == Some(TK_LP);
                match function.map(|(name, _)| name) {
                    Some("strftime") if commas == 0 && !is_empty => {
                        edits.insert_before(index, format!(", '{now}'"));
                    }
                    Some("date" | "time" | "datetime" | "julianday" | "unixepoch") if is_empty => {
                        edits.insert_before(index, format!("'{now}'"));
                    }
                    _ => {}
                }
            }
            TK_COMMA => {
                if let Some((_, commas)) = open.last_mut() {
                    *commas += 1;
                }
            }
            TK_STRING | TK_ID | TK_VARIABLE if functions > 0 => {
                let before = index.checked_sub(1).and_then(|before| tokens.kind(before));
                let is_between = matches!(before, Some(TK_LP | TK_COMMA))
                    && matches!(tokens.kind(index + 1), Some(TK_RP | TK_COMMA));
                let is_whole = match open.last() {
                    Some((Some((name, place)), commas)) if is_between => {
                        // A format or a modifier is no time.
                        if commas != place && *name != "timediff" {
                            continue;
                        }
                        true
                    }
                    _ => false,
                };
                let is_text = (token.kind == TK_STRING || tokens.text(index).starts_with('"'))
                    && before != Some(TK_DOT);
                if token.kind == TK_VARIABLE {
                    let of_kind = if is_whole { &mut parameters.whole } else { &mut parameters.inner };
                    of_kind.insert(index);
                } else if is_text && is_now(&plain(tokens.text(index)), is_whole)? {
                    edits.replace(index, index, format!("'{now}'"));
                }
            }
            _ => {}
        }
    }
    Ok(parameters)
}

/// What `CURRENT_DATE`, `CURRENT_TIME` or `CURRENT_TIMESTAMP` is at a moment.
fn moment_of(word: &str, now: &str) -> String {
    let (day, rest) = now.split_at_checked(10).unwrap_or((now, ""));
    let time = rest.get(1..9).unwrap_or_default();
    match word {
        "current_date" => format!("'{day}'"),
        "current_time" => format!("'{time}'"),
        _ => format!("'{day} {time}'"),
    }
}

/// Whether a text is the time of the call to a function of time.
///
/// # Errors
/// In a part of an argument it may also mean the text. `'subsec'` in the place of a time is SQLite's short form of
/// `'now', 'subsec'`.
fn is_now(text: &str, is_whole: bool) -> Result<bool, ServiceError> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("subsec") || is("subsecond") {
        return Err(ServiceError::invalid(
            "'subsec' in the place of a time is not available: the servers of the database would each have another time \
             here; write 'now', 'subsec'",
        ));
    }
    if is("now") && !is_whole {
        return Err(ServiceError::invalid(
            "'now' is available as a whole argument of a function of time, and not as a part of one: the servers of the \
             database would each have another time here; give the time as an argument",
        ));
    }
    Ok(is("now"))
}

/// Replaces random functions. Returns `true` if the statement may change only one row.
fn random(edits: &mut Edits<'_>, allowed: &Allowed<'_>) -> Result<bool, ServiceError> {
    use TokenType::{TK_INTEGER, TK_RP, TK_SELECT, TK_VIEW};
    let tokens = edits.tokens;
    let is_view = tokens.all.iter().take(4).any(|token| token.kind == TK_VIEW);
    let has_select = tokens.has(TK_SELECT);
    let mut one_row = false;
    for index in 0..tokens.all.len() {
        let called = tokens.call(index).and_then(|called| policy::function(&called));
        let bytes = match called {
            // A view is read on one server.
            _ if is_view => continue,
            Some(("randomblob", _)) => Some(tokens.text(index + 2).parse::<usize>()),
            Some((_, Rule::Random)) => None,
            _ => continue,
        };
        let can_put_in = match allowed.kind {
            Kind::Insert { is_plain } => is_plain && !has_select,
            Kind::Update => !has_select,
            _ => false,
        };
        if !can_put_in {
            return Err(ServiceError::invalid(
                "random() and randomblob() are available in INSERT … VALUES and in an UPDATE of one row: the servers of the \
                 database would each have other values here; give the value as an argument",
            ));
        }
        let (last, text) = match bytes {
            None => (index + 2, format!("({})", i64::from_ne_bytes(random_bytes()?))),
            Some(Ok(count)) if count <= DB_RANDOM_MAX_BYTES && tokens.kind(index + 2) == Some(TK_INTEGER) => {
                let mut bytes = vec![0; count.max(1)];
                getrandom::fill(&mut bytes).map_err(|_| no_randomness())?;
                (index + 3, blob_literal(&bytes))
            }
            Some(_) => {
                return Err(ServiceError::invalid(format!(
                    "randomblob() takes a literal number up to {DB_RANDOM_MAX_BYTES} here; otherwise pass the value as an argument"
                )));
            }
        };
        if tokens.kind(last) != Some(TK_RP) {
            return Err(ServiceError::invalid("wrong number of arguments to random() or randomblob()"));
        }
        edits.replace(index, last, text);
        one_row |= allowed.kind == Kind::Update;
    }
    Ok(one_row)
}

fn random_bytes() -> Result<[u8; 8], ServiceError> {
    getrandom::u64().map(u64::to_ne_bytes).map_err(|_| no_randomness())
}

fn no_randomness() -> ServiceError {
    ServiceError::new(orama_runtime::services::ErrorCode::Internal, "the system provides no random bytes")
}

/// Calls `put` for each call of a function of the connection, and replaces the call by what it returns.
fn connection_functions(edits: &mut Edits<'_>, mut put: impl FnMut(&str) -> Option<String>) {
    let tokens = edits.tokens;
    for index in 0..tokens.all.len() {
        if let Some((function, Rule::Connection)) =
            tokens.call(index).and_then(|called| policy::function(&called))
            && tokens.kind(index + 2) == Some(TokenType::TK_RP)
            && let Some(text) = put(function)
        {
            edits.replace(index, index + 2, format!("({text})"));
        }
    }
}

/// Matches arguments to parameters. Writes arguments that cannot be sent as JSON into the text.
fn bind(
    edits: &mut Edits<'_>,
    args: Vec<SqlValue>,
    times: &TimeParameters,
    now: &str,
) -> Result<Vec<Value>, ServiceError> {
    let tokens = edits.tokens;
    let uses = parameters(tokens)?;
    if uses.len() != args.len() {
        return Err(ServiceError::invalid(format!(
            "the statement has {} parameters, but {} arguments were given",
            uses.len(),
            args.len()
        )));
    }
    let mut params = Vec::with_capacity(args.len());
    for (arg, uses) in args.into_iter().zip(&uses) {
        let here = || uses.iter().copied();
        params.push(match arg {
            SqlValue::Null => Value::Null,
            SqlValue::Integer(number) => Value::Integer(number),
            SqlValue::Real(number) if number.is_nan() => Value::Null,
            SqlValue::Real(number) if number.is_infinite() => {
                let text = if number > 0.0 { "(9e999)" } else { "(-9e999)" };
                here().for_each(|index| edits.replace(index, index, keeping(tokens.text(index), text)));
                Value::Null
            }
            SqlValue::Real(number) => Value::Real(number),
            SqlValue::Text(text) => {
                let is_in = |times: &HashSet<usize>| here().any(|index| times.contains(&index));
                if is_in(&times.inner) {
                    is_now(&text, false)?;
                }
                if is_in(&times.whole) && is_now(&text, true)? {
                    Value::Text(now.to_owned())
                } else if crate::rqlite::is_taken_for_blob(&text) {
                    // Sent as bytes, which the server converts to text.
                    here().for_each(|index| {
                        let by = format!("(CAST({} AS TEXT) || '')", tokens.text(index));
                        edits.replace(index, index, by);
                    });
                    Value::Blob(text.into_bytes())
                } else {
                    Value::Text(text)
                }
            }
            SqlValue::Blob(bytes) => Value::Blob(bytes),
        });
    }
    Ok(params)
}

/// The positions of each parameter, in SQLite's order of arguments.
fn parameters(tokens: &Tokens<'_>) -> Result<Vec<Vec<usize>>, ServiceError> {
    let mut uses: Vec<Vec<usize>> = Vec::new();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (index, token) in tokens.all.iter().enumerate() {
        if token.kind != TokenType::TK_VARIABLE {
            continue;
        }
        let text = tokens.text(index);
        let number = match text.strip_prefix('?') {
            Some("") => uses.len() + 1,
            Some(number) => number.parse().unwrap_or(0),
            None => match names.get(text) {
                Some(number) => *number,
                None => {
                    names.insert(text, uses.len() + 1);
                    uses.len() + 1
                }
            },
        };
        if !(1..=PARAMETERS_MAX).contains(&number) {
            return Err(ServiceError::invalid(format!(
                "a statement has at most {PARAMETERS_MAX} parameters: variable number must be between ?1 and ?{PARAMETERS_MAX}"
            )));
        }
        if uses.len() < number {
            uses.resize(number, Vec::new());
        }
        if let Some(of_one) = uses.get_mut(number - 1) {
            of_one.push(index);
        }
    }
    Ok(uses)
}

/// Replaces a parameter by a value and keeps the parameter's number. A word may stand right before it.
fn keeping(parameter: &str, value: &str) -> String {
    format!("(iif({parameter} IS NULL, {value}, NULL))")
}

/// A blob literal.
pub(super) fn blob_literal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len() + 3);
    text.push_str("x'");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests;

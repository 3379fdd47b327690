//! The results of `db_*` as JSON. Rows are JSON already, so they are not copied: a result is a list of parts, which are joined in
//! the guest's memory.

use crate::services::{BatchOutcome, OutboxOutcome, ServiceError, StatementKind, StatementResult};

/// `{"rows":[...],"error":""}`
pub(super) fn rows(result: Result<String, ServiceError>) -> Vec<String> {
    let (rows, error) = match result {
        Ok(rows) => (rows, String::new()),
        Err(why) => ("[]".to_owned(), why.message),
    };
    vec!["{\"rows\":".to_owned(), rows, format!(",\"error\":{}}}", quoted(&error))]
}

/// `{"rows_affected":n,"last_insert_id":n,"error":""}`
pub(super) fn affected(result: Result<(u64, i64), ServiceError>) -> String {
    match result {
        Ok((rows_affected, last_insert_id)) => exec("", rows_affected, last_insert_id, ""),
        Err(why) => exec("", 0, 0, &why.message),
    }
}

/// `{"committed":bool,"results":[...],"failed_index":n,"error":"","code":""}`
pub(super) fn transaction(kinds: &[StatementKind], outcome: BatchOutcome) -> Vec<String> {
    batch(format!("{{\"committed\":{},", outcome.committed), kinds, outcome)
}

/// The same with `"seq":n,"published":bool,"publish_error":""`
pub(super) fn with_message(kinds: &[StatementKind], outcome: OutboxOutcome) -> Vec<String> {
    let OutboxOutcome { batch, seq, published } = outcome;
    let is_published = matches!(published, Some(Ok(_)));
    let error = match &published {
        Some(Err(error)) => error.message.as_str(),
        Some(Ok(_)) | None => "",
    };
    let message = format!("\"seq\":{seq},\"published\":{is_published},\"publish_error\":{},", quoted(error));
    self::batch(format!("{{{message}\"committed\":{},", batch.committed), kinds, batch)
}

/// `{"results":[...],"failed_index":n,"error":"","code":""}`
pub(super) fn query_batch(kinds: &[StatementKind], outcome: BatchOutcome) -> Vec<String> {
    batch("{".to_owned(), kinds, outcome)
}

fn quoted(text: &str) -> String {
    // Writing a string to memory cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

fn exec(kind: &str, rows_affected: u64, last_insert_id: i64, error: &str) -> String {
    let error = quoted(error);
    format!(
        "{{{kind}\"rows_affected\":{rows_affected},\"last_insert_id\":{last_insert_id},\"error\":{error}}}"
    )
}

/// One result for each statement up to the one that failed. A statement before it that was rolled back, or not run, reports no
/// effect and no error.
fn batch(begin: String, kinds: &[StatementKind], outcome: BatchOutcome) -> Vec<String> {
    const EXEC: &str = "\"kind\":\"exec\",";
    let (mut parts, mut text) = (Vec::new(), begin);
    text.push_str("\"results\":[");
    let failed = outcome.failure.as_ref().and_then(|failure| failure.index);
    let (message, code) = outcome
        .failure
        .as_ref()
        .map_or(("", ""), |failure| (failure.error.message.as_str(), failure.error.code.as_str()));
    let reported = failed.map_or(outcome.results.len(), |index| index.saturating_add(1));
    let mut results = outcome.results.into_iter().peekable();
    for (index, kind) in kinds.iter().enumerate().take(reported) {
        if index > 0 {
            text.push(',');
        }
        let error = if failed == Some(index) { message } else { "" };
        match kind {
            StatementKind::Exec => {
                let result = results.next_if(|result| matches!(result, StatementResult::Exec { .. }));
                let Some(StatementResult::Exec { rows_affected, last_insert_id }) = result else {
                    text.push_str(&exec(EXEC, 0, 0, error));
                    continue;
                };
                text.push_str(&exec(EXEC, rows_affected, last_insert_id, error));
            }
            StatementKind::Query => {
                text.push_str("{\"kind\":\"query\",\"rows\":");
                match results.next_if(|result| matches!(result, StatementResult::Query { .. })) {
                    Some(StatementResult::Query { rows, .. }) => {
                        parts.push(std::mem::take(&mut text));
                        parts.push(rows);
                    }
                    _ => text.push_str("[]"),
                }
                text.push_str(",\"error\":");
                text.push_str(&quoted(error));
                text.push('}');
            }
        }
    }
    let failed_index = failed.map_or_else(|| "-1".to_owned(), |index| index.to_string());
    text.push_str(&format!(
        "],\"failed_index\":{failed_index},\"error\":{},\"code\":{}}}",
        quoted(message),
        quoted(code)
    ));
    parts.push(text);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{BatchFailure, ErrorCode};
    use StatementKind::{Exec, Query};

    fn did(rows_affected: u64) -> StatementResult {
        StatementResult::Exec { rows_affected, last_insert_id: 7 }
    }

    fn gave(rows: &str) -> StatementResult {
        StatementResult::Query { rows: rows.to_owned(), row_count: 1 }
    }

    fn failed(index: Option<usize>) -> Option<BatchFailure> {
        Some(BatchFailure {
            index,
            error: ServiceError::new(ErrorCode::InvalidArgument, "no \"such\" table"),
        })
    }

    fn told(kinds: &[StatementKind], outcome: BatchOutcome) -> serde_json::Value {
        serde_json::from_str(&transaction(kinds, outcome).concat()).unwrap()
    }

    #[test]
    fn what_went_well_is_told_in_order() {
        let results = vec![did(2), gave(r#"[{"n":9007199254740993}]"#), did(0)];
        let outcome = BatchOutcome { committed: true, results, failure: None };
        assert_eq!(
            transaction(&[Exec, Query, Exec], outcome).concat(),
            r#"{"committed":true,"results":[{"kind":"exec","rows_affected":2,"last_insert_id":7,"error":""},{"kind":"query","rows":[{"n":9007199254740993}],"error":""},{"kind":"exec","rows_affected":0,"last_insert_id":7,"error":""}],"failed_index":-1,"error":"","code":""}"#
        );
        let nothing = BatchOutcome { committed: true, ..BatchOutcome::default() };
        assert_eq!(
            query_batch(&[], nothing).concat(),
            r#"{"results":[],"failed_index":-1,"error":"","code":""}"#
        );
    }

    #[test]
    fn an_undone_batch_has_a_result_for_each_statement_up_to_the_failed_one() {
        let outcome = BatchOutcome { committed: false, results: vec![], failure: failed(Some(2)) };
        let told = told(&[Exec, Query, Exec, Exec], outcome);
        assert_eq!(
            told["results"],
            serde_json::json!([
                {"kind": "exec", "rows_affected": 0, "last_insert_id": 0, "error": ""},
                {"kind": "query", "rows": [], "error": ""},
                {"kind": "exec", "rows_affected": 0, "last_insert_id": 0, "error": "no \"such\" table"},
            ])
        );
        assert_eq!((&told["failed_index"], &told["code"]), (&2.into(), &"INVALID_ARGUMENT".into()));
    }

    #[test]
    fn a_query_that_fails_after_the_commit_does_not_hide_it() {
        let outcome = BatchOutcome { committed: true, results: vec![did(1)], failure: failed(Some(1)) };
        let told = told(&[Exec, Query, Exec], outcome);
        assert_eq!(told["committed"], true);
        assert_eq!(told["results"][0]["rows_affected"], 1);
        assert_eq!(
            told["results"][1],
            serde_json::json!({"kind": "query", "rows": [], "error": "no \"such\" table"})
        );
        assert_eq!(told["results"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_batch_that_failed_as_a_whole_names_no_statement() {
        let outcome = BatchOutcome { failure: failed(None), ..BatchOutcome::default() };
        let told = told(&[Exec], outcome);
        assert_eq!((&told["failed_index"], &told["results"]), (&(-1).into(), &serde_json::json!([])));
    }
}

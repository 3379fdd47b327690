//! Splits a text of SQL into its statements.

use super::rqlite::unreadable;
use orama_runtime::services::ServiceError;
use sqlite3_parser::lexer::Scanner;
use sqlite3_parser::lexer::sql::{TokenType, Tokenizer};

/// The statements of a text without the semicolons between them. A trigger's statements belong to it.
///
/// # Errors
/// [`ServiceError`] with the line and the column of what is no token of SQL.
pub fn split(text: &str) -> Result<Vec<&str>, ServiceError> {
    let mut scanner = Scanner::new(Tokenizer::new());
    let (mut statements, mut current) = (Vec::new(), Current::default());
    loop {
        match scanner.scan(text.as_bytes()) {
            Ok((_, Some((_, TokenType::TK_SEMI)), _)) if current.may_end() => {
                statements.extend(current.take(text));
            }
            Ok((at, Some((_, kind)), end)) => current.add(kind, at, end),
            Ok((_, None, _)) => break,
            Err(error) => return Err(unreadable(&error)),
        }
    }
    statements.extend(current.take(text));
    Ok(statements)
}

/// The statement that is being read.
#[derive(Default)]
struct Current {
    /// Where it begins and ends so far.
    at: Option<(usize, usize)>,
    /// How many tokens it has after `EXPLAIN QUERY PLAN`.
    tokens: usize,
    begins_with_create: bool,
    is_trigger: bool,
    /// The last tokens, the very last one second.
    last: [Option<TokenType>; 2],
}

impl Current {
    fn add(&mut self, kind: TokenType, at: usize, end: usize) {
        let begin = self.at.map_or(at, |(begin, _)| begin);
        self.at = Some((begin, end));
        self.last = [self.last[1], Some(kind)];
        let explains = matches!(kind, TokenType::TK_EXPLAIN | TokenType::TK_QUERY | TokenType::TK_PLAN);
        if self.tokens == 0 && explains {
            return;
        }
        self.begins_with_create |= self.tokens == 0 && kind == TokenType::TK_CREATE;
        // CREATE TRIGGER, or CREATE TEMP TRIGGER; a view may have the name `trigger`.
        let names_kind = match self.tokens {
            1 => true,
            2 => self.last[0] == Some(TokenType::TK_TEMP),
            _ => false,
        };
        self.is_trigger |= self.begins_with_create && names_kind && kind == TokenType::TK_TRIGGER;
        self.tokens += 1;
    }

    /// Whether a semicolon ends it: that of a trigger follows its END, which follows a semicolon. That of a CASE does not.
    fn may_end(&self) -> bool {
        !self.is_trigger || self.last == [Some(TokenType::TK_SEMI), Some(TokenType::TK_END)]
    }

    fn take<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let (begin, end) = std::mem::take(self).at?;
        text.get(begin..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_at_their_own_semicolons_only() {
        let text = "-- first; still a comment\nCREATE TABLE t (a TEXT DEFAULT ';');\n\n;;/* ; */ INSERT INTO t VALUES ('x;''y'), (\";\");\
            CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; DELETE FROM t; END;\n\
            EXPLAIN QUERY PLAN CREATE TRIGGER h DELETE ON t BEGIN SELECT 1; END; SELECT [a;b] FROM t -- the end";
        assert_eq!(
            split(text).unwrap(),
            [
                "CREATE TABLE t (a TEXT DEFAULT ';')",
                "INSERT INTO t VALUES ('x;''y'), (\";\")",
                "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; DELETE FROM t; END",
                "EXPLAIN QUERY PLAN CREATE TRIGGER h DELETE ON t BEGIN SELECT 1; END",
                "SELECT [a;b] FROM t",
            ]
        );
        assert_eq!(split("CREATE VIEW trigger AS SELECT 1; SELECT 2; END").unwrap().len(), 3);
        for empty in ["", " \n", ";;", "-- nothing", "/* nothing */;"] {
            assert!(split(empty).unwrap().is_empty(), "{empty:?}");
        }
        let error = split("SELECT 1;\nSELECT 'x").unwrap_err().message;
        assert!(error.contains("line 2"), "{error}");
    }
}

//! Splits SQL into tokens, with bounds that keep the time and the stack of parsing small.

use crate::limits::DB_REMOTE_TOKENS_MAX;
use orama_runtime::services::{ErrorCode, ServiceError};
use sqlite3_parser::lexer::sql::{Error, Parser, Tokenizer};
use sqlite3_parser::lexer::{Scanner, sql::TokenType};
use std::ops::Range;

/// Maximum nesting of parentheses: SQLite's own maximum for expressions.
const DEPTH_MAX: usize = 1000;

/// SQLite's maximum number of columns. The parser compares all of them with one another, which takes quadratic time.
const COLUMNS_MAX: usize = 2000;

/// The maximum outside of parentheses, where several lists follow each other: common table expressions, columns, tables, ORDER
/// BY.
const OUTER_MAX: usize = 2 * COLUMNS_MAX;

/// A token and its position in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenType,
    pub(super) at: Range<usize>,
}

/// A statement's text and its tokens, without the semicolons at its end.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    pub(super) sql: &'a str,
    pub(super) all: Vec<Token>,
}

impl<'a> Tokens<'a> {
    /// Splits a text.
    pub(super) fn read(sql: &'a str) -> Result<Self, ServiceError> {
        let mut scanner = Scanner::new(Tokenizer::new());
        let mut all = Vec::new();
        loop {
            match scanner.scan(sql.as_bytes()) {
                Ok((_, Some(_), _)) if all.len() == DB_REMOTE_TOKENS_MAX => {
                    // The tokens so far may give a more precise error.
                    Self { sql, all }.bound()?;
                    return Err(too_many());
                }
                Ok((at, Some((_, kind)), end)) => all.push(Token { kind, at: at..end }),
                Ok((_, None, _)) => break,
                Err(error) => return Err(unreadable(&error)),
            }
        }
        while all.last().is_some_and(|token| token.kind == TokenType::TK_SEMI) {
            all.pop();
        }
        let tokens = Self { sql, all };
        match tokens.kind(0) {
            None | Some(TokenType::TK_SEMI) => {
                return Err(ServiceError::invalid("the string has no SQL statement"));
            }
            Some(_) => {}
        }
        tokens.bound()?;
        Ok(tokens)
    }

    /// A token's kind; `None` beyond the end.
    pub(super) fn kind(&self, index: usize) -> Option<TokenType> {
        self.all.get(index).map(|token| token.kind)
    }

    /// The text of a token.
    pub(super) fn text(&self, index: usize) -> &'a str {
        self.all.get(index).and_then(|token| self.sql.get(token.at.clone())).unwrap_or_default()
    }

    /// The name of the function whose call begins with a token, in lower case without quotes.
    pub(super) fn call(&self, index: usize) -> Option<String> {
        let is_call = self.kind(index + 1) == Some(TokenType::TK_LP);
        (is_call && self.kind(index) != Some(TokenType::TK_STRING)).then(|| plain(self.text(index)))
    }

    /// Whether a kind of token is there.
    pub(super) fn has(&self, kind: TokenType) -> bool {
        self.all.iter().any(|token| token.kind == kind)
    }

    /// The statement without comments and semicolons around it.
    pub(super) fn statement(&self) -> Range<usize> {
        let begin = self.all.first().map_or(0, |token| token.at.start);
        begin..self.all.last().map_or(begin, |token| token.at.end)
    }

    /// Refuses texts that would take long to parse.
    fn bound(&self) -> Result<(), ServiceError> {
        let defines = self.kind(0) == Some(TokenType::TK_CREATE);
        // For each open parenthesis: whether it belongs to IN, whose list may be long, and its commas so far.
        let mut open = vec![(false, 0_usize)];
        for (index, token) in self.all.iter().enumerate() {
            // SQLite reads a byte order mark as a space, and the parser as a letter.
            if token.kind != TokenType::TK_STRING && self.text(index).contains('\u{feff}') {
                return Err(ServiceError::invalid(
                    "a byte order mark (U+FEFF) outside of a string literal; remove it",
                ));
            }
            let before = index.checked_sub(1).and_then(|before| self.kind(before));
            match token.kind {
                TokenType::TK_LP if open.len() > DEPTH_MAX => {
                    return Err(ServiceError::invalid(format!("more than {DEPTH_MAX} nested parentheses")));
                }
                TokenType::TK_LP => open.push((before == Some(TokenType::TK_IN), 0)),
                TokenType::TK_RP if open.len() > 1 => drop(open.pop()),
                TokenType::TK_COMMA => {
                    // Outside of parentheses there may be several lists, one after the other.
                    let max = if open.len() == 1 && !defines { OUTER_MAX } else { COLUMNS_MAX };
                    let Some((is_in, commas)) = open.last_mut() else { continue };
                    let is_between_rows =
                        before == Some(TokenType::TK_RP) && self.kind(index + 1) == Some(TokenType::TK_LP);
                    let counts = defines || !(*is_in || is_between_rows);
                    *commas += usize::from(counts);
                    if *commas >= max {
                        return Err(ServiceError::invalid(format!(
                            "a list of more than {COLUMNS_MAX} columns"
                        )));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn too_many() -> ServiceError {
    let message = format!(
        "the statement has more than {DB_REMOTE_TOKENS_MAX} tokens; pass values as arguments, in several statements"
    );
    ServiceError::new(ErrorCode::PayloadTooLarge, message)
}

/// A name without its quotes, in lower case.
pub(super) fn plain(name: &str) -> String {
    let mut letters = name.chars();
    let inner = match (letters.next(), letters.next_back()) {
        (Some('['), Some(']')) => letters.as_str().to_owned(),
        (Some(quote @ ('"' | '`' | '\'')), Some(end)) if quote == end => {
            letters.as_str().replace(&format!("{quote}{quote}"), &quote.to_string())
        }
        _ => name.to_owned(),
    };
    inner.to_ascii_lowercase()
}

/// A syntax error with its position.
pub(in crate::database) fn unreadable(error: &Error) -> ServiceError {
    let (what, at) = match error {
        Error::UnrecognizedToken(at) => ("unrecognized token".to_owned(), at),
        Error::UnterminatedLiteral(at) => ("an unterminated quote".to_owned(), at),
        Error::UnterminatedBracket(at) => ("an unterminated bracket".to_owned(), at),
        Error::UnterminatedBlockComment(at) => ("an unterminated comment".to_owned(), at),
        Error::BadVariableName(at) => ("a parameter without a name".to_owned(), at),
        Error::BadNumber(at) => ("a malformed number".to_owned(), at),
        Error::ExpectedEqualsSign(at) => ("! without =".to_owned(), at),
        Error::MalformedBlobLiteral(at) => ("a malformed blob".to_owned(), at),
        Error::MalformedHexInteger(at) => ("a malformed hexadecimal number".to_owned(), at),
        Error::ParserError(what, at) => (what.to_string(), at),
        other => (other.to_string(), &None),
    };
    let place =
        at.as_ref().map_or_else(String::new, |at| format!(" at line {}, column {}", at.line, at.column));
    ServiceError::invalid(format!("{what}{place}"))
}

/// A parser over the statement's text.
pub(super) fn parser<'a>(memory: &'a sqlite3_parser::Bump, sql: &'a str) -> Parser<'a> {
    Parser::new(memory, sql.as_bytes())
}

//! Log entries: the changes of one commit, as text.

use std::collections::BTreeSet;

/// The first word of every entry.
const MAGIC: &str = "orama1";

/// A position in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The number of commits; 0 before the first one.
    pub(super) generation: i64,
    /// The id of the last commit.
    pub(super) id: String,
    /// The layout of the tables: the number of migrations that were run.
    pub(super) schema: usize,
}

/// A statement that changes one row, or the layout if it has no table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) table: String,
    pub(super) sql: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) generation: i64,
    pub(super) id: String,
    /// The layout after it.
    pub(super) schema: usize,
    pub(super) changes: Vec<Change>,
}

impl Entry {
    pub(super) fn position(&self) -> Position {
        Position { generation: self.generation, id: self.id.clone(), schema: self.schema }
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|change| change.table.as_str()).collect::<BTreeSet<_>>().into_iter()
    }

    /// Parses the text of an entry. `None` if it is not valid.
    pub(super) fn read(generation: i64, id: &str, text: &str) -> Option<Self> {
        let (schema, mut rest) = read_schema(text)?;
        let mut changes = Vec::new();
        while !rest.is_empty() {
            let (head, tail) = rest.split_once('\n')?;
            let (bytes, table) = head.split_once(' ')?;
            let (sql, tail) = tail.split_at_checked(bytes.parse().ok()?)?;
            changes.push(Change { table: table.to_owned(), sql: sql.to_owned() });
            rest = tail.strip_prefix('\n')?;
        }
        Some(Self { generation, id: id.to_owned(), schema, changes })
    }
}

/// Parses the layout after an entry. Also returns the text of its changes.
pub(super) fn read_schema(text: &str) -> Option<(usize, &str)> {
    let (head, rest) = text.split_once('\n')?;
    let schema = head.strip_prefix(MAGIC)?.strip_prefix(' ')?;
    Some((schema.parse().ok()?, rest))
}

/// The text of an entry.
pub(super) fn write(schema: usize, changes: &[Change]) -> String {
    let bytes: usize = changes.iter().map(|change| change.sql.len() + change.table.len() + 16).sum();
    let mut text = String::with_capacity(bytes + 16);
    text.push_str(&format!("{MAGIC} {schema}\n"));
    for Change { table, sql } in changes {
        text.push_str(&format!("{} {table}\n", sql.len()));
        text.push_str(sql);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let change = |table: &str, sql: &str| Change { table: table.to_owned(), sql: sql.to_owned() };
        let all = [change("a b", "x\n3 y\nz"), change("", "é\u{2028}"), change("c", "")];
        for changes in [&all[..], &[]] {
            let text = write(7, changes);
            let entry = Entry::read(3, "id", &text).unwrap();
            assert_eq!((entry.schema, &*entry.changes), (7, changes));
            assert_eq!(entry.position(), Position { generation: 3, id: "id".to_owned(), schema: 7 });
        }
    }

    #[test]
    fn what_is_damaged_is_no_entry() {
        let whole = write(1, &[Change { table: "t".to_owned(), sql: "é;".to_owned() }]);
        for length in (0..whole.len()).filter(|length| whole.is_char_boundary(*length)) {
            let part = &whole[..length];
            // An entry without changes ends after its first line.
            assert_eq!(Entry::read(1, "", part).is_some(), part.ends_with("1\n"), "{part:?}");
        }
        for text in
            ["", "orama2 1\n", "orama1 x\n", "orama1 1\n1 t\né\n", "orama1 1\n99999999999999999999 t\nx\n"]
        {
            assert!(Entry::read(1, "", text).is_none(), "{text:?}");
        }
    }
}

//! Reads YAML into a small tree in which every key and value has its place in the text.
//!
//! `function.yaml` needs only mappings, lists and scalars. The reader refuses the rest of YAML: anchors, aliases, tags, several
//! documents, keys that are not scalars, and duplicate keys.

use super::{ManifestError, Position};
use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, StrInput};

/// Deepest nesting: the document, a section of it, a list in that, and a few levels for a misplaced value, which then gets its
/// own message.
const MAX_DEPTH: usize = 8;

/// A value and its place.
pub struct Node {
    pub at: Position,
    pub kind: Kind,
}

/// The kind of a value.
pub enum Kind {
    /// Text as YAML reads it; `plain` without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry>),
}

/// A key with its value.
pub struct Entry {
    pub key: String,
    pub at: Position,
    pub value: Node,
}

impl Node {
    /// Whether the value is empty: `key:`, `key: ~` or `key: null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value's name in a message.
    pub fn describe(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, plain: true } => format!("{:?}", shorten(text)),
            Kind::Scalar { text, plain: false } => format!("the text {:?}", shorten(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The first 80 characters of a value, enough to find it.
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Reads the one document of `text`; `None` when it is empty.
///
/// # Errors
/// The first problem with its place.
pub fn read(text: &str) -> Result<Option<Node>, ManifestError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options) };
    let mut document = None;
    while let Some((event, at)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if document.is_none() => {
                let (event, at) = reader.expect()?;
                document = Some(reader.node(event, at, 0)?);
            }
            _ => {
                return Err(ManifestError::new(
                    at,
                    "a manifest is one YAML document; a second one begins here",
                ));
            }
        }
    }
    Ok(document)
}

struct Reader<'input> {
    parser: Parser<'input, StrInput<'input>>,
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<Option<(Event<'input>, Position)>, ManifestError> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, position(&span.start)))),
            Some(Err(error)) => Err(ManifestError::new(
                position(error.marker()),
                format!("this is not valid YAML: {}", error.info()),
            )),
        }
    }

    fn expect(&mut self) -> Result<(Event<'input>, Position), ManifestError> {
        self.next()?
            .ok_or_else(|| ManifestError::new(Position::START, "the text ends in the middle of a value"))
    }

    fn node(&mut self, event: Event<'input>, at: Position, depth: usize) -> Result<Node, ManifestError> {
        if depth > MAX_DEPTH {
            return Err(ManifestError::new(at, "the values are nested too deeply"));
        }
        refuse_extras(&event, at)?;
        let kind = match event {
            Event::Scalar(text, style, ..) => {
                Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(ManifestError::new(at, "expected a value here")),
        };
        Ok(Node { at, kind })
    }

    fn list(&mut self, depth: usize) -> Result<Kind, ManifestError> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.expect()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Kind::List(items));
            }
            items.push(self.node(event, at, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, ManifestError> {
        let mut entries: Vec<Entry> = Vec::new();
        // A map, so that many keys do not cost quadratic time.
        let mut seen = std::collections::HashMap::new();
        loop {
            let (event, at) = self.expect()?;
            refuse_extras(&event, at)?;
            let key = match event {
                Event::MappingEnd => return Ok(Kind::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(ManifestError::new(at, "a key must be plain text")),
            };
            if let Some(first) = seen.insert(key.clone(), at) {
                return Err(ManifestError::new(
                    at,
                    format!("duplicate key {:?}; the first one is in line {}", shorten(&key), first.line),
                ));
            }
            let (event, value_at) = self.expect()?;
            let value = self.node(event, value_at, depth + 1)?;
            entries.push(Entry { key, at, value });
        }
    }
}

fn refuse_extras(event: &Event<'_>, at: Position) -> Result<(), ManifestError> {
    let (anchor, tag) = match event {
        Event::Scalar(_, _, anchor, tag)
        | Event::SequenceStart(_, anchor, tag)
        | Event::MappingStart(_, anchor, tag) => (*anchor != 0, tag.is_some()),
        Event::Alias(_) | Event::UnresolvedAlias(_) | Event::Anchor(..) => (true, false),
        _ => (false, false),
    };
    if anchor {
        return Err(ManifestError::new(
            at,
            "anchors and aliases (& and *) are not supported: write the value out, or put it in quotes",
        ));
    }
    if tag {
        return Err(ManifestError::new(
            at,
            "tags (!) are not supported: put the value in quotes to make it text",
        ));
    }
    Ok(())
}

// The parser counts lines from 1 and columns from 0; editors count both from 1.
fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col().saturating_add(1) }
}

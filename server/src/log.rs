//! What the node says of itself on standard error: filtered, as text or as JSON, one line for each event. The filter can be
//! changed while the node runs.

use crate::config::{LOG_VARIABLE, LogFormat, LogSettings};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// The target of the lines of requests.
pub(crate) const ACCESS: &str = "access";

/// Why nothing can be logged as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("not a log filter: {0}")]
    Filter(#[from] ParseError),
    /// This process logs already.
    #[error(transparent)]
    Started(#[from] TryInitError),
    /// The log has ended.
    #[error(transparent)]
    Ended(#[from] reload::Error),
}

/// The log of this process.
pub struct Log(Handle<EnvFilter, Registry>);

impl Log {
    /// Starts logging to standard error.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn start(settings: &LogSettings) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(filter(settings)?);
        let colours = settings.format == LogFormat::Text && io::stderr().is_terminal();
        let lines = fmt::layer().with_writer(Lines { format: settings.format, colours }).with_ansi(colours);
        let lines = match settings.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).try_init()?;
        Ok(Self(handle))
    }

    /// Starts with what `ORAMA_LOG` says, or else with `default`, for commands without a configuration.
    ///
    /// # Errors
    /// [`LogError`]
    pub fn start_with_variable(default: &str) -> Result<Self, LogError> {
        let said = std::env::var(LOG_VARIABLE).ok().filter(|text| !text.is_empty());
        Self::start(&LogSettings::text(said.as_deref().unwrap_or(default)))
    }

    /// Filters by other settings from now on. Their format is not looked at.
    ///
    /// # Errors
    /// [`LogError`]; the filter stays as it was.
    pub fn set_filter(&self, settings: &LogSettings) -> Result<(), LogError> {
        Ok(self.0.reload(filter(settings)?)?)
    }
}

/// Whether a text is a filter.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(|_| ()).map_err(|error| LogError::from(error).to_string())
}

fn parse(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// Who wants to see requests sees them, whatever level others have, unless the filter speaks of them.
fn filter(settings: &LogSettings) -> Result<EnvFilter, ParseError> {
    if settings.access && !settings.filter.contains(ACCESS) {
        return parse(&format!("{},{ACCESS}=info", settings.filter));
    }
    parse(&settings.filter)
}

/// Writes events to standard error. What foreign texts in an event hold of control characters is escaped, so that nobody writes
/// a line of the log but the node.
struct Lines {
    format: LogFormat,
    colours: bool,
}

/// One event; the subscriber writes it with a single call.
struct Line<'a>(&'a Lines);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(self.0.one_line(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn one_line<'t>(&self, event: &'t str) -> Cow<'t, str> {
        let text = event.strip_suffix('\n').unwrap_or(event);
        // With colours, the subscriber has escaped the foreign ones.
        let is_harmless = |c: char| !c.is_control() || (self.colours && c == '\u{1b}');
        if text.chars().all(is_harmless) {
            return Cow::Borrowed(event);
        }
        let mut line = String::with_capacity(event.len() + 16);
        for c in text.chars() {
            match self.format {
                _ if is_harmless(c) => line.push(c),
                LogFormat::Text => line.extend(c.escape_default()),
                LogFormat::Json => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            }
        }
        line.push('\n');
        Cow::Owned(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let lines = |format, colours| Lines { format, colours };
        let text = lines(LogFormat::Text, false);
        assert_eq!(text.one_line("a=b\n"), "a=b\n");
        assert_eq!(
            text.one_line("a\nINFO forged\r\u{1b}[2J\u{9b}\n"),
            "a\\nINFO forged\\r\\u{1b}[2J\\u{9b}\n"
        );
        assert_eq!(lines(LogFormat::Text, true).one_line("\u{1b}[2mx\n"), "\u{1b}[2mx\n");
        let json = lines(LogFormat::Json, false).one_line("{\"a\":\"\u{7f}\u{9b}\"}\n").into_owned();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["a"], "\u{7f}\u{9b}");
    }

    #[test]
    fn requests_are_seen_where_they_are_asked_for() {
        let of = |text: &str, access| {
            filter(&LogSettings { access, ..LogSettings::text(text) }).unwrap().to_string()
        };
        assert!(of("warn", true).contains("access=info"), "{}", of("warn", true));
        assert!(!of("warn", false).contains("access"));
        assert_eq!(of("warn,access=off", true), of("warn,access=off", false));
        assert!(check("a=b=c").is_err());
    }
}

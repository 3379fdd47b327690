//! What the developer asks for while `orama dev` runs: keys of a terminal, or lines of any other standard input.

use crate::error::{CliError, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, BufReader, IsTerminal, Read, stdin};

/// What there is to press, for people.
pub const HELP: &str = "i invokes again, f fires the schedules, b builds everything, q quits";

/// Longest line, in bytes: an input for a function.
const LINE_MAX_BYTES: u64 = 1 << 20;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// To invoke a function: the one of the last time unless it is named, with the input of the last time unless it is given.
    Invoke {
        /// Its name.
        function: Option<String>,
        /// The input.
        data: Option<String>,
    },
    /// To fire the schedules of a function, or of all.
    Fire(Option<String>),
    /// To build every function.
    Build,
    /// To end.
    Quit,
    /// Something else.
    Unknown,
}

impl Order {
    /// Reads a line such as `i hello {"name": "World"}`. An empty one invokes, as Enter does.
    fn read(line: &str) -> Self {
        let mut words = line.trim().splitn(3, char::is_whitespace);
        let (word, function) = (words.next().unwrap_or_default(), words.next().map(str::to_owned));
        let data = words.next().map(|data| data.trim().to_owned());
        match word {
            "" | "i" => Self::Invoke { function, data },
            "f" => Self::Fire(function),
            "b" => Self::Build,
            "q" => Self::Quit,
            _ => Self::Unknown,
        }
    }
}

/// A terminal whose keys are told without Enter and are not shown. It is as before when this is dropped.
pub struct Keys(Option<Termios>);

impl Keys {
    /// Begins to read standard input on a thread of its own. `tell` says whether to go on. The end of the input means nothing.
    ///
    /// # Errors
    /// When the terminal cannot be changed.
    pub fn start(tell: impl Fn(Order) -> bool + Send + 'static) -> Result<Self> {
        if !stdin().is_terminal() {
            std::thread::spawn(move || read_lines(stdin().lock(), tell));
            return Ok(Self(None));
        }
        let failed = |error| CliError::failed("cannot read keys of the terminal").caused_by(error);
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut keys = before.clone();
        // Signals stay: Ctrl-C is one.
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &keys).map_err(failed)?;
        std::thread::spawn(move || {
            for key in stdin().lock().bytes().map_while(std::result::Result::ok) {
                if !tell(Order::read(&char::from(key).to_string())) {
                    return;
                }
            }
        });
        Ok(Self(Some(before)))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs no care.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn read_lines(input: impl Read, tell: impl Fn(Order) -> bool) {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line) {
            Ok(1..) if tell(Order::read(&String::from_utf8_lossy(&line))) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_line_is_an_order_with_a_function_and_an_input() {
        let orders = RefCell::new(Vec::new());
        let lines = "i\n\ni hello\ni hello  {\"a\": \"b c\"}\nf\nf hello\nb\nx\nq\nf\n";
        read_lines(lines.as_bytes(), |order| {
            let goes_on = order != Order::Quit;
            orders.borrow_mut().push(order);
            goes_on
        });
        let invoke = |function: Option<&str>, data: Option<&str>| Order::Invoke {
            function: function.map(Into::into),
            data: data.map(Into::into),
        };
        let expected = [
            invoke(None, None),
            invoke(None, None),
            invoke(Some("hello"), None),
            invoke(Some("hello"), Some("{\"a\": \"b c\"}")),
            Order::Fire(None),
            Order::Fire(Some("hello".into())),
            Order::Build,
            Order::Unknown,
            Order::Quit,
        ];
        assert_eq!(orders.into_inner(), expected);
    }
}

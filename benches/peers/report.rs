//! The results as tables with ratios to this node, in Markdown that is readable on a terminal, and as JSON.

use crate::measure::Showing;
use serde_json::{Value, json};
use std::fmt::Write;

/// The content of a report.
pub struct Report {
    /// The machine: properties and their values.
    pub machine: Vec<(&'static str, String)>,
    /// The method: length and number of runs.
    pub method: String,
    /// The functions' names.
    pub functions: Vec<&'static str>,
    /// Peers in the order of the tables, this node first.
    pub peers: Vec<Entry>,
}

/// A peer in a report.
pub struct Entry {
    /// The peer's name.
    pub name: &'static str,
    /// The peer's description.
    pub what: &'static str,
    /// The peer's version, or why it was not measured.
    pub version: Result<String, String>,
    /// The peer's results.
    pub showing: Showing,
}

impl Report {
    /// The report as Markdown, which refers to plots in the same folder.
    #[must_use]
    pub fn markdown(&self, plots: &[(&str, &str)]) -> String {
        let mut text = String::from("# Beside other ways to run functions\n\nWritten by the command in ");
        text += "[benches/peers](../../benches/peers/README.md); not to be edited. ";
        text += "What the columns mean and how it was measured: [Performance](../PERFORMANCE.md).\n\n";
        for (what, value) in &self.machine {
            let _ = writeln!(text, "- {what}: {value}");
        }
        let _ = writeln!(text, "- runs: {}\n", self.method);
        text +=
            &table(&["peer", "what", "version"], &self.peers.iter().map(Entry::about).collect::<Vec<_>>());
        for (file, title) in plots {
            let _ = write!(text, "\n![{title}]({file})\n");
        }
        text + &self.tables()
    }

    /// The tables alone.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut text = String::new();
        for function in &self.functions {
            let _ = write!(text, "\n## {function}\n\n{}", self.load(function));
        }
        text += "\n## Starts\n\n";
        text += &self.starts();
        let _ = write!(text, "\n## Memory\n\n{}", self.memory());
        let _ = write!(text, "\n## 200 requests a second on one connection\n\n{}", self.paced());
        let notes: Vec<_> = self
            .peers
            .iter()
            .flat_map(|peer| peer.showing.notes.iter().map(|note| (peer.name, note)))
            .collect();
        if !notes.is_empty() {
            text += "\n## What went wrong\n\n";
            for (name, note) in notes {
                let _ = writeln!(text, "- {name}: {note}");
            }
        }
        text
    }

    /// Peers that were measured.
    pub fn measured(&self) -> impl Iterator<Item = &Entry> {
        self.peers.iter().filter(|peer| peer.version.is_ok())
    }

    fn ours(&self, value: impl Fn(&Showing) -> Option<f64>) -> Option<f64> {
        self.peers.first().and_then(|peer| value(&peer.showing))
    }

    /// Two cells: a value of a peer, and its ratio to this node's.
    fn cells(&self, entry: &Entry, digits: usize, value: impl Fn(&Showing) -> Option<f64>) -> [String; 2] {
        let theirs = value(&entry.showing);
        [number(theirs, digits), ratio(theirs, self.ours(value))]
    }

    fn load(&self, function: &'static str) -> String {
        let heads = [
            "peer",
            "CPU us",
            "ratio",
            "requests/s",
            "ratio",
            "p50 us",
            "p99 us",
            "1: p50 us",
            "ratio",
            "1: p99 us",
            "1: CPU us",
            "failed",
        ];
        let row = |entry: &Entry| {
            let run =
                |connections| move |showing: &Showing| showing.load.get(&(function, connections)).copied();
            let busy = run(32)(&entry.showing)?;
            let mut row = vec![entry.name.to_owned()];
            row.extend(self.cells(entry, 1, |it| Some(run(32)(it)?.cpu_us)));
            row.extend(self.cells(entry, 0, |it| Some(run(32)(it)?.rate)));
            row.extend([number(Some(busy.p50_us), 0), number(Some(busy.p99_us), 0)]);
            row.extend(self.cells(entry, 0, |it| Some(run(1)(it)?.p50_us)));
            let calm = run(1)(&entry.showing);
            row.extend([calm.map(|it| it.p99_us), calm.map(|it| it.cpu_us)].map(|value| number(value, 0)));
            let failed = busy.failed.max(calm.map_or(0.0, |it| it.failed));
            row.push(if failed == 0.0 { "0".to_owned() } else { format!("{:.1}%", 100.0 * failed) });
            Some(row)
        };
        table(&heads, &self.measured().filter_map(row).collect::<Vec<_>>())
    }

    fn starts(&self) -> String {
        let mut heads = vec!["peer, ms to the first answer".to_owned()];
        for function in &self.functions {
            heads.extend([
                format!("new {function}"),
                "ratio".to_owned(),
                format!("restart, {function}"),
                "ratio".to_owned(),
            ]);
        }
        let row = |entry: &Entry| {
            let mut row = vec![entry.name.to_owned()];
            for function in &self.functions {
                row.extend(self.cells(entry, 1, |it| it.cold_ms.get(function).copied()));
                row.extend(self.cells(entry, 1, |it| it.restart_ms.get(function).copied()));
            }
            row
        };
        table(&heads, &self.measured().map(row).collect::<Vec<_>>())
    }

    fn memory(&self) -> String {
        let row = |entry: &Entry| {
            let mut row = vec![entry.name.to_owned()];
            row.extend(self.cells(entry, 1, |it| Some(it.memory_mb?.0)));
            row.extend(self.cells(entry, 1, |it| Some(it.memory_mb?.1)));
            row
        };
        let heads = ["peer", "at rest MiB", "ratio", "after load MiB", "ratio"];
        table(&heads, &self.measured().map(row).collect::<Vec<_>>())
    }

    fn paced(&self) -> String {
        let mut rows = Vec::new();
        for function in &self.functions {
            let base = |showing: &Showing| Some(showing.paced.get(&(*function, "command"))?.p50_us);
            let of_all =
                self.measured().flat_map(|entry| entry.showing.paced.iter().map(move |it| (entry, it)));
            for (entry, ((_, start), paced)) in of_all.filter(|(_, ((name, _), _))| name == function) {
                let start = if start.is_empty() { String::new() } else { format!(", start: {start}") };
                rows.push(vec![
                    (*function).to_owned(),
                    format!("{}{start}", entry.name),
                    number(Some(paced.p50_us), 0),
                    ratio(Some(paced.p50_us), self.ours(base)),
                    number(Some(paced.p99_us), 0),
                    number(Some(100.0 * paced.failed), 1),
                ]);
            }
        }
        table(&["function", "who", "first byte p50 us", "to start: command", "p99 us", "failed %"], &rows)
    }

    /// All results as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let machine: Value =
            self.machine.iter().map(|(what, value)| ((*what).to_owned(), json!(value))).collect();
        let peers: Vec<Value> = self.peers.iter().map(Entry::json).collect();
        json!({ "machine": machine, "method": self.method, "peers": peers })
    }
}

impl Entry {
    fn about(&self) -> Vec<String> {
        let version = self.version.clone().unwrap_or_else(|missing| format!("left out: {missing}"));
        vec![self.name.to_owned(), self.what.to_owned(), version]
    }

    fn json(&self) -> Value {
        let Showing { cold_ms, restart_ms, load, paced, memory_mb, notes } = &self.showing;
        let load: Vec<Value> = load
            .iter()
            .map(|((function, connections), run)| {
                json!({ "function": function, "connections": connections, "requests_per_second": run.rate,
                    "p50_us": run.p50_us, "p99_us": run.p99_us, "cpu_us": run.cpu_us, "failed_share": run.failed })
            })
            .collect();
        let paced: Vec<Value> = paced
            .iter()
            .map(|((function, start), paced)| {
                json!({ "function": function, "start": start, "first_byte_p50_us": paced.p50_us,
                    "first_byte_p99_us": paced.p99_us, "failed_share": paced.failed })
            })
            .collect();
        json!({ "name": self.name, "what": self.what, "version": self.version.as_ref().ok(),
            "left_out": self.version.as_ref().err(), "cold_start_ms": cold_ms, "restart_ms": restart_ms, "load": load,
            "paced": paced, "memory_at_rest_mib": memory_mb.map(|it| it.0),
            "memory_after_load_mib": memory_mb.map(|it| it.1), "notes": notes })
    }
}

/// Formats a value with a number of decimals, or a dash.
fn number(value: Option<f64>, digits: usize) -> String {
    value
        .filter(|value| value.is_finite())
        .map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Formats the ratio of a value to this node's, or a dash.
fn ratio(theirs: Option<f64>, ours: Option<f64>) -> String {
    let ratio = theirs.zip(ours).map(|(theirs, ours)| theirs / ours).filter(|ratio| ratio.is_finite());
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// Formats a Markdown table with aligned columns: text to the left, figures to the right.
fn table<T: AsRef<str>>(heads: &[T], rows: &[Vec<String>]) -> String {
    let is_figure = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    let figures: Vec<bool> = (0..heads.len())
        .map(|column| rows.iter().all(|row| row.get(column).is_some_and(is_figure)))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].as_ref().chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from("|");
        for ((cell, width), figure) in cells.zip(&widths).zip(&figures) {
            let _ =
                if *figure { write!(line, " {cell:>width$} |") } else { write!(line, " {cell:<width$} |") };
        }
        line + "\n"
    };
    let rules: Vec<String> = widths
        .iter()
        .zip(&figures)
        .map(
            |(width, figure)| {
                if *figure { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(*width) }
            },
        )
        .collect();
    let mut text = line(&mut heads.iter().map(AsRef::as_ref));
    text += &line(&mut rules.iter().map(String::as_str));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
pub mod tests;

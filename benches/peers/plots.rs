//! Plots of a report as SVG: bars with their values, in panels that each have their own scale.

use crate::measure::Showing;
use crate::report::Report;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// Files and titles of the plots, in the order of the report.
pub const PLOTS: [(&str, &str); 6] = [
    ("cpu.svg", "CPU time of the server per request, 32 connections (us)"),
    ("throughput.svg", "Requests per second, 32 connections, load generator on the same cores"),
    ("latency.svg", "Latency on one connection: median, and pale below it the 99th percentile (us)"),
    (
        "paced.svg",
        "200 requests a second, first byte of the answer: median, and pale below it the 99th percentile (us)",
    ),
    ("starts.svg", "From a new module to its first answer, and pale below it from a restart (ms)"),
    ("memory.svg", "Resident memory at rest, and pale below it after load (MiB)"),
];

const WIDTH: u32 = 920;
const LINE: i32 = 20;
const HEAD: i32 = 34;
const PANEL_HEAD: i32 = 28;
/// Where bars begin, and the length of the longest.
const BARS_AT: i32 = 190;
const BARS_LONG: f64 = 560.0;
const OURS: RGBColor = RGBColor(0x0b, 0x72, 0x85);
const OTHERS: RGBColor = RGBColor(0x86, 0x8e, 0x96);

/// A bar, and a second value that is shown pale below it.
struct Bar {
    label: String,
    ours: bool,
    value: f64,
    second: Option<f64>,
}

/// Bars that share a scale.
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

/// Writes all plots into a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<(), String> {
    for (file, title) in PLOTS {
        let panels = match file {
            "cpu.svg" => {
                by_function(report, |it, function| Some((it.load.get(&(function, 32))?.cpu_us, None)))
            }
            "throughput.svg" => {
                by_function(report, |it, function| Some((it.load.get(&(function, 32))?.rate, None)))
            }
            "latency.svg" => by_function(report, |it, function| {
                it.load.get(&(function, 1)).map(|run| (run.p50_us, Some(run.p99_us)))
            }),
            "starts.svg" => by_function(report, |it, function| {
                Some((*it.cold_ms.get(function)?, it.restart_ms.get(function).copied()))
            }),
            "paced.svg" => paced(report),
            _ => vec![Panel {
                title: "all functions deployed".to_owned(),
                bars: bars(report, |it| it.memory_mb.map(|(rest, after)| (rest, Some(after)))),
            }],
        };
        draw(&dir.join(file), title, &panels).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}

fn by_function(
    report: &Report,
    values: impl Fn(&Showing, &'static str) -> Option<(f64, Option<f64>)>,
) -> Vec<Panel> {
    let panel = |function: &&'static str| Panel {
        title: (*function).to_owned(),
        bars: bars(report, |showing| values(showing, function)),
    };
    report.functions.iter().map(panel).collect()
}

fn bars(report: &Report, values: impl Fn(&Showing) -> Option<(f64, Option<f64>)>) -> Vec<Bar> {
    let ours = report.peers.first().map(|peer| peer.name);
    let bar = |entry: &crate::report::Entry| {
        let (value, second) = values(&entry.showing)?;
        Some(Bar { label: entry.name.to_owned(), ours: Some(entry.name) == ours, value, second })
    };
    report.measured().filter_map(bar).collect()
}

fn paced(report: &Report) -> Vec<Panel> {
    let panel = |function: &&'static str| {
        let mut bars = Vec::new();
        for (index, entry) in report.measured().enumerate() {
            for ((_, start), paced) in entry.showing.paced.iter().filter(|((name, _), _)| name == function) {
                let label =
                    if start.is_empty() { entry.name.to_owned() } else { format!("{}, {start}", entry.name) };
                bars.push(Bar { label, ours: index == 0, value: paced.p50_us, second: Some(paced.p99_us) });
            }
        }
        Panel { title: (*function).to_owned(), bars }
    };
    report.functions.iter().map(panel).filter(|panel| !panel.bars.is_empty()).collect()
}

fn draw(path: &Path, title: &str, panels: &[Panel]) -> Result<(), Box<dyn std::error::Error>> {
    let lines: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let height = HEAD + PANEL_HEAD * i32::try_from(panels.len())? + LINE * i32::try_from(lines)? + LINE;
    let area = SVGBackend::new(path, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    let text =
        |size: i32| ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(title, (16, HEAD / 2 + 4), text(19)))?;
    let mut y = HEAD;
    for panel in panels {
        y += PANEL_HEAD;
        area.draw(&Text::new(panel.title.as_str(), (16, y - 10), text(17)))?;
        let values = panel.bars.iter().flat_map(|bar| [Some(bar.value), bar.second]).flatten();
        let longest = values.filter(|value| value.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            let color = if bar.ours { OURS } else { OTHERS };
            let to = |value: f64| BARS_AT + (value.max(0.0) / longest * BARS_LONG).round() as i32;
            let bar_of = |value: f64, from: i32, until: i32, color: RGBAColor| {
                area.draw(&Rectangle::new([(BARS_AT, y + from), (to(value), y + until)], color.filled()))
            };
            // Two values share the line; one alone takes all of it.
            let split = if bar.second.is_some() { LINE / 2 } else { LINE - 3 };
            bar_of(bar.value, 3, split, color.mix(1.0))?;
            if let Some(second) = bar.second {
                bar_of(second, split, LINE - 3, color.mix(0.4))?;
            }
            let middle = y + LINE / 2;
            area.draw(&Text::new(bar.label.as_str(), (28, middle), text(16)))?;
            let said = bar.second.map_or_else(
                || short(bar.value),
                |second| format!("{} / {}", short(bar.value), short(second)),
            );
            let end = to(bar.second.map_or(bar.value, |second| second.max(bar.value)));
            area.draw(&Text::new(said, (end + 6, middle), text(16)))?;
            y += LINE;
        }
    }
    area.present()?;
    Ok(())
}

/// Formats a value with three digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    /// Elements are closed in the order in which they were opened, attributes are quoted, texts escaped.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some(at) = rest.find('<') {
            assert!(!rest[..at].contains('>'), "a bare > in {:?}", &rest[..at]);
            let end = at + rest[at..].find('>').unwrap();
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.trim()), "in {tag}");
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
    }

    #[test]
    fn every_plot_is_well_formed_svg_with_every_peer_that_was_measured() {
        let dir = tempfile::tempdir().unwrap();
        write(&report(), dir.path()).unwrap();
        for (file, title) in PLOTS {
            let svg = std::fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(
                svg.starts_with("<svg ") && svg.contains("xmlns=\"http://www.w3.org/2000/svg\""),
                "{svg}"
            );
            assert_well_formed(&svg);
            for text in [title, "orama", "wazero"] {
                assert!(svg.contains(text), "{file} lacks {text}: {svg}");
            }
            assert!(!svg.contains("workerd") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn the_longest_bar_is_the_longest_value() {
        let dir = tempfile::tempdir().unwrap();
        write(&report(), dir.path()).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("cpu.svg")).unwrap();
        let widths: Vec<f64> = svg
            .split("<rect ")
            .skip(2)
            .map(|rect| rect.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths.len(), 2, "{svg}");
        assert!((widths[1] / widths[0] - 3.0).abs() < 0.05, "{widths:?}");
    }

    #[test]
    fn a_report_without_figures_can_be_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let mut empty = report();
        empty.peers.clear();
        write(&empty, dir.path()).unwrap();
        for (file, _) in PLOTS {
            assert_well_formed(&std::fs::read_to_string(dir.path().join(file)).unwrap());
        }
    }
}

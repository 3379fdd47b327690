//! Tests of the tables and the JSON.

use super::*;
use crate::load::{Paced, Run};

fn run(cpu_us: f64, rate: f64, failed: f64) -> Run {
    Run { rate, p50_us: 100.0, p99_us: 900.0, cpu_us, failed }
}

fn entry(name: &'static str, factor: f64) -> Entry {
    let paced = |p50_us| Paced { p50_us, p99_us: 2.0 * p50_us, failed: 0.0 };
    let mut showing = Showing {
        cold_ms: [("echo", 10.0 * factor)].into(),
        restart_ms: [("echo", 5.0 * factor)].into(),
        load: [
            (("echo", 1), run(20.0 * factor, 9000.0, 0.0)),
            (("echo", 32), run(15.0 * factor, 60000.0 / factor, (factor - 1.0) / 100.0)),
        ]
        .into(),
        memory_mb: Some((20.0, 30.0 * factor)),
        ..Showing::default()
    };
    if name == "orama" {
        showing.paced = [(("echo", "command"), paced(400.0)), (("echo", "parked"), paced(100.0))].into();
    } else {
        showing.paced = [(("echo", ""), paced(800.0))].into();
    }
    Entry { name, what: "a server", version: Ok("1.2".to_owned()), showing }
}

/// This node, a peer that costs three times as much, and one that is not installed.
pub fn report() -> Report {
    let missing = Entry {
        name: "workerd",
        what: "another",
        version: Err("needs npm".to_owned()),
        showing: Showing::default(),
    };
    let mut wazero = entry("wazero", 3.0);
    wazero.showing.notes.push("it broke".to_owned());
    Report {
        machine: vec![("processor", "test".to_owned())],
        method: "2 runs".to_owned(),
        functions: vec!["echo"],
        peers: vec![entry("orama", 1.0), wazero, missing],
    }
}

/// The cells of the first row of the table under `head` that begins with `name`.
fn row(text: &str, head: &str, name: &str) -> Vec<String> {
    let section = text.split("\n## ").find(|section| section.starts_with(head)).unwrap();
    let line = section.lines().find(|line| line.contains(name)).unwrap();
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn values_stand_beside_their_ratio_to_ours() {
    let text = report().tables();
    assert_eq!(row(&text, "echo", "orama")[1..5], ["15.0", "1.00", "60000", "1.00"]);
    assert_eq!(row(&text, "echo", "wazero")[1..5], ["45.0", "3.00", "20000", "0.33"]);
    assert_eq!(row(&text, "echo", "wazero").last().unwrap(), "2.0%");
    assert_eq!(row(&text, "Starts", "wazero")[1..], ["30.0", "3.00", "15.0", "3.00"]);
    assert_eq!(row(&text, "Memory", "wazero")[1..], ["20.0", "1.00", "90.0", "3.00"]);
    assert_eq!(row(&text, "200", "start: parked")[2..5], ["100", "0.25", "200"]);
    assert_eq!(row(&text, "200", "wazero")[2..5], ["800", "2.00", "1600"]);
    assert!(text.contains("- wazero: it broke"));
}

#[test]
fn a_missing_peer_is_named_and_has_no_figures() {
    let text = report().markdown(&[("cpu.svg", "CPU")]);
    assert!(text.contains("left out: needs npm"), "{text}");
    assert!(text.contains("![CPU](cpu.svg)"), "{text}");
    assert_eq!(text.matches("workerd").count(), 1, "{text}");
}

#[test]
fn a_missing_value_is_a_dash() {
    let mut report = report();
    report.peers[0].showing = Showing::default();
    let text = report.tables();
    assert_eq!(row(&text, "echo", "wazero")[1..3], ["45.0", "-"]);
    assert_eq!(row(&text, "Memory", "orama")[1..], ["-", "-", "-", "-"]);
}

#[test]
fn the_json_has_every_figure() {
    let json = report().json();
    let peer = &json["peers"][1];
    assert_eq!(peer["load"][1]["cpu_us"], 45.0);
    assert_eq!(peer["cold_start_ms"]["echo"], 30.0);
    assert_eq!(peer["paced"][0]["first_byte_p50_us"], 800.0);
    assert_eq!(json["peers"][2]["left_out"], "needs npm");
    assert_eq!(json["machine"]["processor"], "test");
}

#[test]
fn columns_are_aligned() {
    let text = table(
        &["name", "n"],
        &[vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "22".to_owned()]],
    );
    assert_eq!(text, "| name   |   n |\n| ------ | --: |\n| a      |   1 |\n| longer |  22 |\n");
}

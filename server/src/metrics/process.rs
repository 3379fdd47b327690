//! What the system says of this process, by the names that Prometheus' own clients use. SQL and compiling processes are not
//! counted.

use super::{Text, seconds};
use crate::process::{self, Allowed};
use std::fs;
use std::time::Duration;

/// This process at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessGauges {
    /// Processor time of all threads, in microseconds.
    pub cpu_us: u64,
    /// Start, in microseconds of Unix time.
    pub started_us: u64,
    /// Memory that is not on disk.
    pub resident_bytes: u64,
    /// Address space, most of which is reserved for instances and never used.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub open_fds: u64,
    /// How many there may be.
    pub max_fds: u64,
}

impl ProcessGauges {
    /// Reads them; `None` where the system does not tell.
    #[must_use]
    pub fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot_s: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Self::parse(&stat, boot_s)
    }

    /// Reads a line of `/proc/PID/stat`. The name of the program, in brackets, may hold anything.
    fn parse(stat: &str, boot_s: u64) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The manual of the file counts from 1, and the third field is the first behind the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks_us =
            |ticks: u64| ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1);
        Some(Self {
            cpu_us: ticks_us(field(14)?.saturating_add(field(15)?)),
            threads: field(20)?,
            started_us: boot_s.saturating_mul(1_000_000).saturating_add(ticks_us(field(22)?)),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)?.saturating_mul(rustix::param::page_size() as u64),
            open_fds: process::descriptors_open().unwrap_or_default(),
            max_fds: Allowed::now().descriptors,
        })
    }
}

pub(super) fn render(text: &mut Text, gauges: Option<&ProcessGauges>) {
    let Some(gauges) = gauges else { return };
    let cpu_s = seconds(gauges.cpu_us);
    text.single("process_cpu_seconds_total", "counter", "Processor time of the node's threads.", cpu_s);
    let started = Duration::from_micros(gauges.started_us).as_secs_f64();
    text.single("process_start_time_seconds", "gauge", "Start of the process, in Unix time.", started);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory that is not on disk.", gauges.resident_bytes),
        ("process_virtual_memory_bytes", "Address space, most of it reserved only.", gauges.virtual_bytes),
        ("process_threads", "Threads.", gauges.threads),
        ("process_open_fds", "Open files and sockets.", gauges.open_fds),
        ("process_max_fds", "Open files and sockets that the system allows.", gauges.max_fds),
    ] {
        text.single(name, "gauge", help, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_no_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 12 0 1000 4096000 100 18446744073709551615";
        let gauges = ProcessGauges::parse(stat, 1_000).unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!((gauges.cpu_us, gauges.threads), (300 * 1_000_000 / ticks, 12));
        assert_eq!(gauges.started_us, (1_000 + 1000 / ticks) * 1_000_000);
        assert_eq!(gauges.virtual_bytes, 4_096_000);
        assert_eq!(gauges.resident_bytes, 100 * rustix::param::page_size() as u64);
        assert_eq!(ProcessGauges::parse("7 (a) S 1", 0), None);
    }

    #[test]
    fn this_process_is_found() {
        let gauges = ProcessGauges::now().unwrap();
        assert!(gauges.threads > 0 && gauges.resident_bytes > 1 << 20 && gauges.open_fds > 2, "{gauges:?}");
        assert!(gauges.resident_bytes <= gauges.virtual_bytes && gauges.open_fds <= gauges.max_fds);
    }
}

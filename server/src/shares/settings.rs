//! What the operator chooses about shares, and what holds otherwise.

use super::{KINDS, Kind, Limits, Rates, TrustedProxies};
use crate::limits::{
    ANSWER_MEMORY_MB, BODY_MEMORY_MB, CONNECTIONS, CONTROL_REQUESTS_MAX, GUEST_MEMORY_FALLBACK_MB,
    GUEST_MEMORY_MB, GUEST_MEMORY_PART, NAMESPACE_SHARE_PERCENT, WEBSOCKETS,
};
use std::fs;

/// The operator's choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSettings {
    /// Linear memory of all guests, in MB; `None` takes a part of what the machine or the control group has.
    pub guest_memory_mb: Option<u32>,
    /// Bodies of requests held at once, in MB.
    pub body_memory_mb: u32,
    /// Answers not taken by their clients, in MB.
    pub answer_memory_mb: u32,
    /// Connections open at once.
    pub connections: u32,
    /// WebSockets open at once.
    pub websockets: u32,
    /// What one namespace may hold of each when it is alone, in percent.
    pub namespace_percent: u32,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// How often.
    pub rates: Rates,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            guest_memory_mb: None,
            body_memory_mb: BODY_MEMORY_MB.default,
            answer_memory_mb: ANSWER_MEMORY_MB.default,
            connections: CONNECTIONS.default,
            websockets: WEBSOCKETS.default,
            namespace_percent: NAMESPACE_SHARE_PERCENT.default,
            trusted_proxies: TrustedProxies::default(),
            rates: Rates::DEFAULT,
        }
    }
}

impl ShareSettings {
    /// The limits of a node that may have so many files and sockets open, and runs so many instances at once.
    #[must_use]
    pub fn limits(&self, descriptors: u64, instance_slots: usize) -> Limits {
        let bytes = |mb: u32| (mb as usize) << 20;
        // The others are for files and for connections to servers.
        let sockets = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).max(1);
        let of_node = KINDS.map(|kind| match kind {
            Kind::Invocations => instance_slots,
            Kind::BodyBytes => bytes(self.body_memory_mb),
            Kind::AnswerBytes => bytes(self.answer_memory_mb),
            Kind::Connections => sockets.min(self.connections as usize),
            Kind::WebSockets => sockets.min(self.websockets as usize),
            Kind::ControlRequests => CONTROL_REQUESTS_MAX,
            Kind::GuestMemoryBytes => bytes(self.guest_memory_mb.unwrap_or_else(guest_memory_default_mb)),
        });
        Limits { of_node, namespace_percent: self.namespace_percent }
    }
}

/// A part of the memory that this process may use.
fn guest_memory_default_mb() -> u32 {
    let limits = [machine_memory_bytes(), control_group_limit_bytes()];
    let Some(least) = limits.into_iter().flatten().min() else { return GUEST_MEMORY_FALLBACK_MB };
    let mb = u32::try_from((least / GUEST_MEMORY_PART) >> 20).unwrap_or(u32::MAX);
    mb.clamp(GUEST_MEMORY_MB.min, GUEST_MEMORY_MB.max)
}

fn machine_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb << 10)
}

/// The least of the limits of the control group that this process is in and of those around it.
fn control_group_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut path = std::path::PathBuf::from("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let mut least: Option<u64> = None;
    while path.starts_with("/sys/fs/cgroup") {
        let limit =
            fs::read_to_string(path.join("memory.max")).ok().and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(limit).min();
        if !path.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_no_more_sockets_than_the_system_gives_it() {
        let of = |descriptors, kind: Kind| {
            ShareSettings::default().limits(descriptors, 1024).of_node[kind as usize]
        };
        assert_eq!(of(1024, Kind::Connections), 512);
        assert_eq!(of(u64::MAX, Kind::Connections), CONNECTIONS.default as usize);
        assert_eq!(of(1 << 20, Kind::BodyBytes), (BODY_MEMORY_MB.default as usize) << 20);
    }

    #[test]
    fn guests_get_a_part_of_the_memory_that_is_there() {
        let mb = u64::from(guest_memory_default_mb());
        let machine = machine_memory_bytes().unwrap();
        assert!(
            mb << 20 <= machine / GUEST_MEMORY_PART || mb == u64::from(GUEST_MEMORY_MB.min),
            "{mb} of {machine}"
        );
        assert_eq!(
            ShareSettings { guest_memory_mb: Some(300), ..ShareSettings::default() }.limits(10, 1).of_node
                [Kind::GuestMemoryBytes as usize],
            300 << 20
        );
    }
}

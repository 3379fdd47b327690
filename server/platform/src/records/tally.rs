//! Statistics in memory: of the minute that goes on, for each version, and since the start, for the functions that are used most.
//!
//! The writer's thread adds what it writes, so the cores count nothing twice. What is told as a metric only ever grows: the rest
//! takes what a function had when another one takes its place, and that one begins at 0.

use super::{Function, Record, Stats};
use crate::limits::{STATS_ACTIVE_MAX, STATS_ACTIVE_PER_NAMESPACE, STATS_FUNCTIONS_MAX};
use orama_runtime::names::Namespace;
use std::collections::HashMap;
use std::sync::Arc;

/// Seconds of a minute of statistics.
pub(super) const MINUTE_S: i64 = 60;

/// A function takes another's place among those of the metrics when it is used so many times as much.
const USED_MORE: u64 = 2;

/// What happened to a function besides runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A request was refused before it ran, with this code.
    Refused(&'static str),
    /// A core loaded its code.
    ColdLoad,
}

/// Something that happened to a function, some times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The function.
    pub function: Arc<Function>,
    /// The version.
    pub version: u32,
    /// What happened.
    pub what: What,
    /// How often.
    pub times: u64,
}

/// The statistics of a function since the start of the node.
#[derive(Debug, Clone)]
pub struct Total {
    /// `None` for those that have no place of their own, together.
    pub function: Option<Arc<Function>>,
    /// What they had.
    pub stats: Stats,
}

struct Slot {
    function: Arc<Function>,
    stats: Stats,
    /// Runs of the last minutes, each counting half as much as the one after it.
    used: u64,
}

/// One version's part of a minute.
pub(super) struct Part {
    pub(super) function: Arc<Function>,
    pub(super) version: u32,
    pub(super) stats: Stats,
}

/// All statistics in memory.
#[derive(Default)]
pub(super) struct Tally {
    /// The minute that goes on, as the second of its beginning; 0 before the first.
    minute_s: i64,
    active: HashMap<(Arc<Function>, u32), Stats>,
    /// How many of them each namespace has.
    active_of: HashMap<Namespace, usize>,
    slots: HashMap<Arc<Function>, Slot>,
    rest: Stats,
}

impl Tally {
    /// Adds records. Those of one function that follow each other are looked up once.
    pub(super) fn add(&mut self, records: &[Record]) {
        let is_same =
            |a: &Record, b: &Record| Arc::ptr_eq(&a.function, &b.function) && a.version == b.version;
        for run in records.chunk_by(is_same) {
            let Some(first) = run.first() else { continue };
            self.change(&first.function, first.version, |stats| {
                run.iter().for_each(|record| stats.add(record))
            });
        }
    }

    /// Adds what else happened.
    pub(super) fn note(&mut self, notes: &[Note]) {
        for Note { function, version, what, times } in notes {
            self.change(function, *version, |stats| match what {
                What::Refused(code) => stats.refuse(code, *times),
                What::ColdLoad => stats.cold_loads += times,
            });
        }
    }

    fn change(&mut self, function: &Arc<Function>, version: u32, change: impl Fn(&mut Stats)) {
        let key = (Arc::clone(function), version);
        if let Some(stats) = self.active.get_mut(&key) {
            change(stats);
        } else if self.active.len() < STATS_ACTIVE_MAX {
            let of = self.active_of.entry(function.namespace.clone()).or_default();
            if *of < STATS_ACTIVE_PER_NAMESPACE {
                *of += 1;
                change(self.active.entry(key).or_default());
            }
        }
        if self.slots.len() < STATS_FUNCTIONS_MAX && !self.slots.contains_key(function) {
            let slot = Slot { function: Arc::clone(function), stats: Stats::default(), used: 0 };
            self.slots.insert(Arc::clone(function), slot);
        }
        change(self.slots.get_mut(function).map_or(&mut self.rest, |slot| &mut slot.stats));
    }

    /// Ends the minute if it is over: its second, and what it had.
    pub(super) fn end_minute(&mut self, now_s: i64) -> Option<(i64, Vec<Part>)> {
        let minute_s = now_s.div_euclid(MINUTE_S) * MINUTE_S;
        if self.minute_s == 0 || minute_s <= self.minute_s {
            self.minute_s = self.minute_s.max(minute_s);
            return None;
        }
        Some((std::mem::replace(&mut self.minute_s, minute_s), self.take()))
    }

    /// Ends the minute early, as the node stops.
    pub(super) fn end_now(&mut self) -> (i64, Vec<Part>) {
        (self.minute_s, self.take())
    }

    fn take(&mut self) -> Vec<Part> {
        let active = std::mem::take(&mut self.active);
        self.active_of.clear();
        self.give_places(&active);
        active.into_iter().map(|((function, version), stats)| Part { function, version, stats }).collect()
    }

    /// Gives places to functions that are used more than those that have one.
    fn give_places(&mut self, active: &HashMap<(Arc<Function>, u32), Stats>) {
        let mut runs: HashMap<&Arc<Function>, u64> = HashMap::new();
        for ((function, _), stats) in active {
            *runs.entry(function).or_default() += stats.runs();
        }
        for slot in self.slots.values_mut() {
            slot.used = slot.used / 2 + runs.remove(&slot.function).unwrap_or_default();
        }
        let mut waiting: Vec<_> = runs.into_iter().collect();
        waiting.sort_by_key(|(_, runs)| std::cmp::Reverse(*runs));
        for (function, runs) in waiting.into_iter().take(STATS_FUNCTIONS_MAX) {
            let Some(least) = self.slots.values().min_by_key(|slot| slot.used) else { return };
            if runs <= least.used.saturating_mul(USED_MORE) {
                return;
            }
            let least = Arc::clone(&least.function);
            if let Some(slot) = self.slots.remove(&least) {
                self.rest.merge(&slot.stats);
            }
            let slot = Slot { function: Arc::clone(function), stats: Stats::default(), used: runs };
            self.slots.insert(Arc::clone(function), slot);
        }
    }

    /// The minute that goes on, of one namespace.
    pub(super) fn now(&self, namespace: &Namespace) -> Vec<(Arc<Function>, u32, Stats)> {
        let own = self.active.iter().filter(|((function, _), _)| function.namespace == *namespace);
        own.map(|((function, version), stats)| (Arc::clone(function), *version, stats.clone())).collect()
    }

    /// Everything since the start, by the functions' names; the rest comes last.
    pub(super) fn totals(&self) -> Vec<Total> {
        let of =
            |slot: &Slot| Total { function: Some(Arc::clone(&slot.function)), stats: slot.stats.clone() };
        let mut totals: Vec<_> = self.slots.values().map(of).collect();
        totals.sort_by_cached_key(|total| {
            total.function.as_ref().map(|of| (of.namespace.to_string(), of.name.to_string()))
        });
        totals.push(Total { function: None, stats: self.rest.clone() });
        totals
    }

    /// Forgets what belongs to a namespace; the rest keeps the counts, which must not fall.
    pub(super) fn forget(&mut self, namespace: &Namespace) {
        self.active.retain(|(function, _), _| function.namespace != *namespace);
        self.active_of.remove(namespace);
        let gone = |function: &Arc<Function>, _: &mut Slot| function.namespace == *namespace;
        for (_, slot) in self.slots.extract_if(gone) {
            self.rest.merge(&slot.stats);
        }
    }
}

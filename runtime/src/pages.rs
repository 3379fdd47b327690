//! Chooses by how many pages a module's memory grows before it starts.
//!
//! Some language runtimes derive the size of their heap from that of the memory. In a small memory they collect garbage often; in
//! a large one, each collection takes long. Measured trial runs show which size suits a module.

use crate::engine::Engine;
use crate::function::{FunctionVersion, StartMode};
use crate::instance::idle_state;
use crate::invocation::{Failure, Invocation};
use crate::limits::{
    EXTRA_PAGES_GAIN_MIN, EXTRA_PAGES_GAIN_PERCENT_MIN, EXTRA_PAGES_MAX, EXTRA_PAGES_PATIENCE,
    EXTRA_PAGES_ROUNDS, MEMORY_MB,
};
use crate::module::LoadedModule;
use crate::reclaim;
use crate::services::{Host, ThreadScheduler};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use wasmparser::{BinaryReader, MemorySectionReader};

/// The input of a trial run: small, and valid for most functions.
const INPUT: &[u8] = b"{}";
/// Sizes whose cost exceeds the lowest by less than 1/20 count as equally good. The smallest of them wins.
const EQUAL_COST_DIVISOR: u32 = 20;

/// The measurements of one size.
struct Trial {
    pages: u32,
    /// The shortest time of a start and a run.
    cost: Duration,
    result: Result<(), Failure>,
}

impl Engine {
    /// Measures starts and runs with several memory sizes. Returns the number of pages by which to grow the module's memory: 0
    /// unless another size is clearly better and gives the same result. Blocks this thread for
    /// [`EXTRA_PAGES_PATIENCE`] at most.
    pub fn choose_extra_pages(&self, module: &mut LoadedModule) -> u32 {
        if module.memory.is_none() {
            return 0;
        }
        let until = Instant::now() + EXTRA_PAGES_PATIENCE;
        let mut trials: Vec<Trial> = Vec::new();
        for _ in 0..EXTRA_PAGES_ROUNDS {
            let measured =
                candidates(&trials).into_iter().all(|pages| self.measure(module, pages, until, &mut trials));
            if !measured {
                return 0;
            }
        }
        // On a busy machine some size looks better by chance. A second measurement confirms the choice.
        let best = best_size(&trials);
        if best == 0 {
            return 0;
        }
        trials.clear();
        for _ in 0..EXTRA_PAGES_ROUNDS {
            if !(self.measure(module, 0, until, &mut trials)
                && self.measure(module, best, until, &mut trials))
            {
                return 0;
            }
        }
        best_size(&trials)
    }

    /// Measures one start and run with `pages` more. Returns `false` when the module cannot be measured.
    fn measure(
        &self,
        module: &mut LoadedModule,
        pages: u32,
        until: Instant,
        trials: &mut Vec<Trial>,
    ) -> bool {
        module.extra_pages = pages;
        let Some((cost, result)) = self.trial(module, until) else { return false };
        match trials.iter_mut().find(|trial| trial.pages == pages) {
            Some(trial) if trial.result == result => trial.cost = trial.cost.min(cost),
            // The module gives different results with the same size.
            Some(_) => return false,
            None => trials.push(Trial { pages, cost, result }),
        }
        true
    }

    /// One start and run; `None` when time or instances ran out.
    fn trial(&self, module: &LoadedModule, until: Instant) -> Option<(Duration, Result<(), Failure>)> {
        let function = Arc::new(FunctionVersion {
            memory_limit_mb: MEMORY_MB.max,
            start: StartMode::Command,
            ..idle_state().function.as_ref().clone()
        });
        let host = Arc::new(Host::without_services(Arc::new(ThreadScheduler)));
        let invocation = Invocation { input: INPUT.into(), ..Invocation::default() };
        reclaim::wait_until_idle();
        let begun = Instant::now();
        let mut run = pin!(self.run(module, &function, invocation, &host));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            // The guest yields each millisecond at the latest, so the time is checked as often.
            if Instant::now() >= until {
                return None;
            }
            if let Poll::Ready(ended) = run.as_mut().poll(&mut context) {
                let cost = begun.elapsed();
                let result = ended.outcome.result;
                let is_node_failure = matches!(result, Err(Failure::Overloaded | Failure::Internal(_)));
                return (!is_node_failure).then_some((cost, result));
            }
        }
    }
}

/// The sizes to measure next: after the first round, only those that can still win. 0 stays as the baseline.
fn candidates(trials: &[Trial]) -> Vec<u32> {
    let best = trials.iter().map(|trial| trial.cost).min();
    let can_win = |pages: &u32| match best {
        Some(best) => *pages == 0 || trials.iter().any(|t| t.pages == *pages && t.cost < 2 * best),
        None => true,
    };
    std::iter::successors(Some(0), |pages| Some((pages * 2).max(1)))
        .take_while(|pages| *pages <= EXTRA_PAGES_MAX)
        .filter(can_win)
        .collect()
}

/// Magic number and version of a module.
const HEADER_BYTES: usize = 8;
/// The id of the memory section, and the flag of a memory type with a maximum.
const MEMORY_SECTION: u8 = 5;
const HAS_MAXIMUM: u8 = 1;
/// The pages that every function may have: the smallest memory limit.
const PAGES_FOR_ALL: u64 = (MEMORY_MB.min as u64) << 4;

/// The same module with an initial memory that is larger by `pages`. `None` when it has no memory, or when the new size exceeds
/// the module's maximum or the smallest memory limit of a function. Nothing but the memory section differs, so the module
/// remains valid.
pub(crate) fn with_larger_memory(wasm: &[u8], pages: u32) -> Option<Vec<u8>> {
    if pages == 0 {
        return None;
    }
    let mut at = HEADER_BYTES;
    loop {
        let mut section = BinaryReader::new(wasm.get(at..)?, at);
        let id = section.read_u8().ok()?;
        let length = section.read_var_u32().ok()? as usize;
        let begin = section.original_position();
        let end = begin.checked_add(length)?;
        if id != MEMORY_SECTION {
            at = end;
            continue;
        }
        let memories = MemorySectionReader::new(BinaryReader::new(wasm.get(begin..end)?, begin)).ok()?;
        let memory = memories.into_iter().next()?.ok()?;
        let initial = memory.initial + u64::from(pages);
        if initial > memory.maximum.unwrap_or(u64::MAX).min(PAGES_FOR_ALL) {
            return None;
        }
        let mut body = vec![1, if memory.maximum.is_some() { HAS_MAXIMUM } else { 0 }];
        push_leb128(&mut body, initial);
        if let Some(maximum) = memory.maximum {
            push_leb128(&mut body, maximum);
        }
        let mut larger = wasm.get(..at)?.to_vec();
        larger.push(MEMORY_SECTION);
        push_leb128(&mut larger, body.len() as u64);
        larger.extend_from_slice(&body);
        larger.extend_from_slice(wasm.get(end..)?);
        return Some(larger);
    }
}

fn push_leb128(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The best of the measured sizes.
fn best_size(trials: &[Trial]) -> u32 {
    let Some(plain) = trials.iter().find(|trial| trial.pages == 0) else { return 0 };
    let same = || trials.iter().filter(|trial| trial.result == plain.result);
    let Some(best) = same().map(|trial| trial.cost).min() else { return 0 };
    if best * 100 > plain.cost * (100 - EXTRA_PAGES_GAIN_PERCENT_MIN)
        || plain.cost.saturating_sub(best) < EXTRA_PAGES_GAIN_MIN
    {
        return 0;
    }
    let limit = best + best / EQUAL_COST_DIVISOR;
    same().filter(|trial| trial.cost <= limit).map(|trial| trial.pages).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(costs: &[(u32, u64)]) -> Vec<Trial> {
        costs
            .iter()
            .map(|(pages, us)| Trial { pages: *pages, cost: Duration::from_micros(*us), result: Ok(()) })
            .collect()
    }

    #[test]
    fn the_smallest_of_the_best_is_chosen_when_it_is_clearly_better() {
        // Measured with a TinyGo program.
        assert_eq!(best_size(&trials(&[(0, 134), (1, 37), (2, 42), (4, 64), (8, 106), (64, 377)])), 1);
        assert_eq!(best_size(&trials(&[(0, 134), (1, 134), (2, 39), (4, 38), (8, 37)])), 4);
        assert_eq!(best_size(&trials(&[(0, 100), (1, 95), (2, 90), (4, 86)])), 0, "not clearly better");
        assert_eq!(best_size(&trials(&[(0, 10), (1, 7)])), 0, "too small a gain");
        assert_eq!(best_size(&trials(&[(0, 100), (1, 400)])), 0);
        assert_eq!(best_size(&[]), 0);
    }

    fn memory_of(wasm: &[u8]) -> (u64, Option<u64>) {
        wasmparser::validate(wasm).unwrap();
        let mut payloads = wasmparser::Parser::new(0).parse_all(wasm);
        let memories = payloads.find_map(|payload| match payload.unwrap() {
            wasmparser::Payload::MemorySection(memories) => Some(memories),
            _ => None,
        });
        let memory = memories.unwrap().into_iter().next().unwrap().unwrap();
        (memory.initial, memory.maximum)
    }

    #[test]
    fn a_module_with_a_larger_memory_differs_in_nothing_else() {
        let module = |memory: &str| {
            let text = format!("(module (func) {memory} (global i32 (i32.const 5)) (export \"f\" (func 0)))");
            wat::parse_str(text).unwrap()
        };
        let larger = |memory: &str, pages| with_larger_memory(&module(memory), pages);
        assert_eq!(larger("(memory 2)", 1), Some(module("(memory 3)")));
        assert_eq!(larger("(memory 2)", 14), Some(module("(memory 16)")));
        assert_eq!(larger("(memory 1 300)", 8), Some(module("(memory 9 300)")));
        assert_eq!(memory_of(&larger("(memory 5 5000)", 5).unwrap()), (10, Some(5000)));
        for (memory, pages) in [
            ("(memory 2)", 0),
            ("(memory 2)", 15),
            ("(memory 42)", 8),
            ("(memory 2 3)", 2),
            ("", 1),
            ("(table 5 funcref)", 1),
        ] {
            assert_eq!(larger(memory, pages), None, "{memory} {pages}");
        }
        // Lengths may be written with more bytes than they need.
        let mut padded = module("(memory 2)");
        let section = padded.windows(5).position(|bytes| bytes == [5, 3, 1, 0, 2]).unwrap();
        padded.splice(section + 1..section + 2, [0x83, 0x80, 0x00]);
        assert_eq!(with_larger_memory(&padded, 1), Some(module("(memory 3)")));
    }

    #[test]
    fn a_guest_that_would_end_differently_keeps_its_memory() {
        let mut trials = trials(&[(0, 134), (1, 37), (2, 60)]);
        trials[1].result = Err(Failure::Exit(1));
        assert_eq!(best_size(&trials), 2);
    }
}

//! Makes the snapshot of a program's start, and proves that a run from it ends like one from the start.

use super::rehearsal::{Rehearsal, Seed};
use super::{Facts, RANDOM_STATE_BYTES, Resume, Snapshot, exported_global};
use crate::engine::Engine;
use crate::function::FunctionVersion;
use crate::guest::{Arrival, GuestState, Stop};
use crate::instance::{call, create, finish, prepare, run_entry};
use crate::invocation::{Failure, Invocation, Outcome};
use crate::limits::{
    SNAPSHOT_GAIN_PERCENT_MIN, SNAPSHOT_IMAGE_MAX_BYTES, SNAPSHOT_PATIENCE, SNAPSHOT_RANDOM_STATES_MAX,
    SNAPSHOT_ROUNDS, SNAPSHOT_SET_MAX_BYTES,
};
use crate::mapping::page_bytes;
use crate::memory::{ImageBytes, MemoryImage};
use crate::module::LoadedModule;
use crate::reclaim::{self, GuestStore};
use crate::services::{Host, ThreadScheduler};
use crate::trap::printable;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use wasmtime::{FrameInfo, Instance, Memory, Val, WasmBacktrace};

/// The input of a run that is compared: small, and valid for most functions.
const INPUT: &[u8] = b"{}";
/// Go's runtime asks for random bytes once, for its generator's seed.
const RANDOM_CALLS_OF_GO: u32 = 1;
/// The program counter of a function of Go: its number among the defined functions, after those that Go's linker leaves for
/// values, and a block within it.
const GO_FIRST_FUNCTION: u64 = 0x1000;
const GO_BLOCK_BITS: u32 = 16;
/// The stack pointer is the first global. Below it stands the program counter of what is resumed.
const STACK_POINTER: usize = 0;
const RESUMED_BELOW: u64 = 8;

/// Where the counters of a generator of Go stand behind its buffer and its seed: values used, values there, and blocks made.
const COUNTERS: [usize; 3] = [RANDOM_STATE_BYTES, RANDOM_STATE_BYTES + 4, RANDOM_STATE_BYTES + 8];
const WORD_BYTES: usize = 8;
const STATE_BYTES: usize = RANDOM_STATE_BYTES + 12;

/// Why a function has no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSnapshot {
    #[error(
        "the module is not one of the standard Go compiler, or was built without the names of its functions (-ldflags=-s); nor is it a reactor (_initialize and orama_handle) whose state is all in its memory and in integer globals"
    )]
    NoShape,
    #[error("the function ends without reading its input")]
    Ended,
    #[error("_initialize asks for what a request may change, in {0}; orama_handle is for that")]
    AsksEarly(String),
    #[error("the function fails during its start: {0}")]
    Failed(#[source] Failure),
    #[error("the start takes more than {} seconds", SNAPSHOT_PATIENCE.as_secs())]
    TooLong,
    #[error("the program asks for random numbers during its start, which its invocations must not share")]
    OwnRandomness,
    #[error("the start is not the same each time")]
    Differs,
    #[error("the state of Go's random generator was not found")]
    NoGenerator,
    #[error(
        "after the start, more than {} MiB of the memory are not zero, or they span more than {} MiB",
        SNAPSHOT_SET_MAX_BYTES >> 20,
        SNAPSHOT_IMAGE_MAX_BYTES >> 20
    )]
    TooLarge,
    #[error("a run from the snapshot ends in another way than one from the start")]
    EndsOtherwise,
    #[error("a run from the snapshot is hardly shorter than one from the start")]
    NoGain,
    #[error("the start cannot be stopped and continued: {0}")]
    Unsuited(String),
    /// What another process said.
    #[error("{0}")]
    Told(String),
    /// What another process or the system said, where another attempt may succeed.
    #[error("{0}")]
    Lost(String),
}

/// What wasmtime reports of an instance.
fn unsuited(error: wasmtime::Error) -> NoSnapshot {
    NoSnapshot::Unsuited(format!("{error:#}"))
}

impl NoSnapshot {
    /// Whether another attempt may succeed: the machine was busy, or something failed that is not the program.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::TooLong
                | Self::NoGain
                | Self::Lost(_)
                | Self::Failed(Failure::Overloaded | Failure::Internal(_))
        )
    }
}

/// A snapshot that is not stored yet.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) facts: Facts,
    pub(crate) image: ImageBytes,
}

/// A program that was stopped at the end of its start.
struct Taken {
    memory: Vec<u8>,
    globals: Vec<u64>,
    clock_ns: u64,
    random_bytes: u64,
}

/// Makes a snapshot of a function's start. Blocks, for some runs of the function.
pub(crate) fn make(
    engine: &Engine,
    module: &LoadedModule,
    function: &Arc<FunctionVersion>,
) -> Result<Made, NoSnapshot> {
    let resume = module.resume.as_ref().ok_or(NoSnapshot::NoShape)?;
    let maker = Maker { engine, module, resume, function, until: Instant::now() + SNAPSHOT_PATIENCE };
    // Nobody may know them in advance: the program's hash tables keep the seeds that follow from the first.
    let (seed, other_seed) = (new_seed()?, new_seed()?);
    let (first, other) = (maker.take(&seed)?, maker.take(&other_seed)?);
    let random = match resume.random {
        Some(_) => random_states(&first.memory, &other.memory)?,
        None if first.memory == other.memory && first.globals == other.globals => Vec::new(),
        None => return Err(NoSnapshot::Differs),
    };
    let image = image(&first.memory)?;
    let mut facts = Facts {
        memory_bytes: first.memory.len() as u64,
        globals: first.globals,
        random,
        clock_ns: first.clock_ns,
        start_us: 0,
        resumed_us: 0,
    };
    let kept = Snapshot {
        facts: facts.clone(),
        image: Arc::new(MemoryImage::of_bytes(&engine.0.memories, &image).with_memory(first.memory.len())),
        _place: None,
    };
    let (mut whole, mut resumed) = (Duration::MAX, Duration::MAX);
    for _ in 0..SNAPSHOT_ROUNDS {
        let (plain, took) = maker.run(None, Rehearsal::new(&seed))?;
        whole = whole.min(took);
        let world = Rehearsal::go_on(&seed, first.clock_ns, first.random_bytes);
        let (from_snapshot, took) = maker.run(Some(&kept), world)?;
        resumed = resumed.min(took);
        if !is_same(&plain, &from_snapshot) {
            return Err(NoSnapshot::EndsOtherwise);
        }
    }
    if resumed * 100 > whole * (100 - SNAPSHOT_GAIN_PERCENT_MIN) {
        return Err(NoSnapshot::NoGain);
    }
    facts.start_us = whole.as_micros() as u64;
    facts.resumed_us = resumed.as_micros() as u64;
    Ok(Made { facts, image })
}

/// The innermost functions that the program was in, by name.
fn callers(error: &wasmtime::Error) -> String {
    const SHOWN: usize = 4;
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    let name = |frame: &FrameInfo| match frame.func_name() {
        Some(name) => printable(name),
        None => format!("function {}", frame.func_index()),
    };
    frames.iter().take(SHOWN).map(name).collect::<Vec<_>>().join(", called by ")
}

fn new_seed() -> Result<Seed, NoSnapshot> {
    let mut seed = Seed::default();
    getrandom::fill(&mut seed).map_err(|error| NoSnapshot::Lost(error.to_string()))?;
    Ok(seed)
}

fn is_same(a: &Outcome, b: &Outcome) -> bool {
    let texts = |outcome: &Outcome| {
        let messages = outcome.messages.iter();
        messages.map(|message| (message.level, message.message.clone())).collect::<Vec<_>>()
    };
    a.output == b.output && a.result == b.result && texts(a) == texts(b)
}

/// The part of the memory that is not zero, from its first page to its last.
fn image(memory: &[u8]) -> Result<ImageBytes, NoSnapshot> {
    let page = page_bytes();
    let is_set = |page: &[u8]| page.iter().any(|byte| *byte != 0);
    let set = || memory.chunks(page).enumerate().filter(|(_, page)| is_set(page)).map(|(index, _)| index);
    let first = set().next().unwrap_or(0);
    let (last, count) = set().fold((0, 0), |(_, count), index| (index, count + 1));
    let (start, end) = (first * page, memory.len().min((last + 1) * page));
    if end - start > SNAPSHOT_IMAGE_MAX_BYTES || count * page > SNAPSHOT_SET_MAX_BYTES {
        return Err(NoSnapshot::TooLarge);
    }
    let bytes = memory.get(start..end).unwrap_or_default().to_vec();
    Ok(ImageBytes { start: start as u64, bytes })
}

/// The places of Go's random generators, of which the seed determines every word. Hash seeds and others follow from the seed
/// too; they stay.
fn random_states(a: &[u8], b: &[u8]) -> Result<Vec<u32>, NoSnapshot> {
    if a.len() != b.len() {
        return Err(NoSnapshot::Differs);
    }
    let number = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(*a.get(at..)?.first_chunk()?)) };
    let mut states = Vec::new();
    let mut free_from = 0;
    // The number of words up to here that differ without a break.
    let mut differing = 0;
    for (index, (a, b)) in a.as_chunks::<WORD_BYTES>().0.iter().zip(b.as_chunks().0).enumerate() {
        differing = if a == b { 0 } else { differing + 1 };
        let start = ((index + 1) * WORD_BYTES).checked_sub(RANDOM_STATE_BYTES);
        let Some(start) = start.filter(|start| *start >= free_from) else { continue };
        let counters = COUNTERS.map(|offset| number(start + offset).unwrap_or(u32::MAX));
        if differing * WORD_BYTES >= RANDOM_STATE_BYTES && is_state(counters) {
            states.push(start as u32);
            free_from = start + STATE_BYTES;
        }
    }
    match states.len() {
        0 => Err(NoSnapshot::NoGenerator),
        1..=SNAPSHOT_RANDOM_STATES_MAX => Ok(states),
        _ => Err(NoSnapshot::Unsuited("it has too many random generators".to_owned())),
    }
}

/// Whether these can be the counters of a generator: it makes four blocks at once, up to 16, and keeps back 4 of the last 32
/// values.
fn is_state([used, there, blocks]: [u32; 3]) -> bool {
    used <= there && (there == 32 || there == 28) && blocks % 4 == 0 && blocks < 16
}

struct Maker<'a> {
    engine: &'a Engine,
    module: &'a LoadedModule,
    resume: &'a Resume,
    function: &'a Arc<FunctionVersion>,
    until: Instant,
}

impl Maker<'_> {
    fn store(&self, rehearsal: Rehearsal) -> GuestStore {
        reclaim::wait_until_idle();
        let host = Arc::new(Host::without_services(Arc::new(ThreadScheduler)));
        let invocation = Invocation { input: INPUT.into(), ..Invocation::default() };
        let mut state = GuestState::new(Arc::clone(self.function), invocation, host);
        state.rehearsal = Some(Box::new(rehearsal));
        self.engine.store(state)
    }

    /// Runs the program to its end: from its start, or from a snapshot.
    fn run(&self, snapshot: Option<&Snapshot>, world: Rehearsal) -> Result<(Outcome, Duration), NoSnapshot> {
        let mut store = self.store(world);
        let prepared = self.finish_in_time(prepare(self.module, snapshot, &mut store))?;
        let (instance, entry) = prepared.map_err(unsuited)?;
        // Without making the instance: here the image may be copied, where nodes map it.
        let begun = Instant::now();
        let ended = self.finish_in_time(run_entry(&instance, entry, &mut store))?;
        let took = begun.elapsed();
        let ended = finish(store, ended);
        match ended.outcome.result {
            Err(failure @ (Failure::Overloaded | Failure::Internal(_))) => Err(NoSnapshot::Failed(failure)),
            _ => Ok((ended.outcome, took)),
        }
    }

    /// Runs the program until it could learn something about a request; a reactor to the end of its `_initialize`.
    fn take(&self, seed: &Seed) -> Result<Taken, NoSnapshot> {
        let mut store = self.store(Rehearsal::new(seed));
        store.data_mut().arrival = Some(Arrival::Snapshot);
        let instance = self.finish_in_time(create(self.module, &mut store))?.map_err(unsuited)?;
        let memory = store.data().memory.ok_or(NoSnapshot::NoShape)?;
        let ended = self.finish_in_time(call(&instance, &self.module.entry.first, &mut store))?;
        let is_reactor = self.resume.random.is_none();
        match ended {
            Ok(()) if is_reactor => self.taken(&mut store, &instance, memory),
            Err(error) if error.downcast_ref::<Stop>() == Some(&Stop::Snapshot) => {
                if is_reactor {
                    return Err(NoSnapshot::AsksEarly(callers(&error)));
                }
                let mut taken = self.taken(&mut store, &instance, memory)?;
                self.repeat_call(&mut taken, &error)?;
                Ok(taken)
            }
            ended => Err(match finish(store, ended).outcome.result {
                Ok(()) => NoSnapshot::Ended,
                Err(failure) => NoSnapshot::Failed(failure),
            }),
        }
    }

    /// Reads the state of a program whose start is over.
    fn taken(
        &self,
        store: &mut GuestStore,
        instance: &Instance,
        memory: Memory,
    ) -> Result<Taken, NoSnapshot> {
        let cannot = |why: &str| NoSnapshot::Unsuited(why.to_owned());
        let (has_drawn, calls) = match &self.resume.random {
            Some(random) => {
                let random = exported_global(instance, store, random).map_err(unsuited)?;
                (!matches!(random.get(&mut **store), Val::I32(0)), RANDOM_CALLS_OF_GO)
            }
            None => (false, 0),
        };
        let world = store.data().rehearsal.as_ref().ok_or(NoSnapshot::Differs)?;
        let (clock_ns, random_calls, random_bytes) =
            (world.clock_ns(), world.random_calls, world.random_bytes());
        if store.data().has_state_outside() {
            return Err(cannot("it has opened or closed something before it reads its input"));
        }
        if has_drawn || random_calls > calls {
            return Err(NoSnapshot::OwnRandomness);
        }
        let mut globals = Vec::with_capacity(self.resume.globals.len());
        for export in &self.resume.globals {
            let global = exported_global(instance, store, export).map_err(unsuited)?;
            globals.push(match global.get(&mut **store) {
                Val::I32(value) => u64::from(value.cast_unsigned()),
                Val::I64(value) => value.cast_unsigned(),
                _ => return Err(cannot("it has a global of another type")),
            });
        }
        let memory = memory.data(&**store).to_vec();
        Ok(Taken { memory, globals, clock_ns, random_bytes })
    }

    /// Has a program of Go make the call again in which a trap has stopped it.
    fn repeat_call(&self, taken: &mut Taken, error: &wasmtime::Error) -> Result<(), NoSnapshot> {
        let cannot = |why: &str| NoSnapshot::Unsuited(why.to_owned());
        let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
        let wrapper = frames.first().ok_or_else(|| cannot("it was stopped in no function"))?.func_index();
        let wrapper = wrapper.checked_sub(self.resume.imported);
        let wrapper = wrapper.ok_or_else(|| cannot("it was stopped in no function of its own"))?;
        let counter = (GO_FIRST_FUNCTION + u64::from(wrapper)) << GO_BLOCK_BITS;
        let stack = taken.globals.get(STACK_POINTER).and_then(|pointer| pointer.checked_sub(RESUMED_BELOW));
        let place = stack.and_then(|at| taken.memory.get_mut(at as usize..)?.first_chunk_mut());
        *place.ok_or_else(|| cannot("its stack pointer is not within its memory"))? = counter.to_le_bytes();
        Ok(())
    }

    /// Polls to the end, as long as there is time. Guests yield each millisecond at the latest.
    fn finish_in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, NoSnapshot> {
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return Ok(done);
            }
            if Instant::now() >= self.until {
                return Err(NoSnapshot::TooLong);
            }
        }
    }
}

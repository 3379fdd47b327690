//! Gives turns to compile. One compilation runs at a time, because each uses every compiling thread.
//!
//! Namespaces that wait take turns, so many deploys of one namespace delay another's deploy by one compilation at most. A
//! namespace that compiled for long lately is in debt, and waits behind all others. Several such namespaces delay another's
//! deploy only by the compilation that runs already. Snapshots, for which nobody waits, come behind all compilations.

use crate::limits::{
    COMPILE_DEBT_MAX, COMPILE_DEBT_SHARE, COMPILES_WAITING_MAX, COMPILES_WAITING_NAMESPACE_MAX,
    SNAPSHOTS_WAITING_MAX, SNAPSHOTS_WAITING_NAMESPACE_MAX,
};
use crate::rotation::Rotation;
use orama_runtime::names::Namespace;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The queue of compilations. Bounds how many wait. Clones share everything.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    /// Whether somebody has the turn.
    taken: bool,
    /// The places that wait for the turn.
    waiting: Rotation<Namespace, oneshot::Sender<Turn>>,
    /// The places that wait behind those, because their namespace is in debt.
    behind: Rotation<Namespace, oneshot::Sender<Turn>>,
    /// The places of snapshots, behind all of those.
    snapshots: Rotation<Namespace, oneshot::Sender<Turn>>,
    debts: HashMap<Namespace, Debt>,
    compilation_places: Places,
    snapshot_places: Places,
}

/// Places that are taken.
#[derive(Default)]
struct Places {
    all: usize,
    of: HashMap<Namespace, usize>,
}

impl Places {
    /// Takes one, unless so many are taken by all, or by the namespace.
    fn take(&mut self, namespace: &Namespace, max: usize, namespace_max: usize) -> bool {
        let held = self.of.get(namespace).copied().unwrap_or_default();
        if self.all >= max || held >= namespace_max {
            return false;
        }
        self.all += 1;
        self.of.insert(namespace.clone(), held + 1);
        true
    }

    fn give_back(&mut self, namespace: &Namespace) {
        self.all -= 1;
        if let Some(held) = self.of.get_mut(namespace) {
            *held -= 1;
            if *held == 0 {
                self.of.remove(namespace);
            }
        }
    }
}

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Compilation,
    /// Nobody waits for it.
    Snapshot,
}

/// The compilation time that a namespace owes. Its share of the time since pays it back.
struct Debt {
    compiled: Duration,
    at: Instant,
}

impl Debt {
    fn left(&self, now: Instant) -> Duration {
        self.compiled.saturating_sub(now.saturating_duration_since(self.at) / COMPILE_DEBT_SHARE)
    }
}

impl Default for State {
    fn default() -> Self {
        // One compilation runs at a time, so no namespace needs a bound of its own.
        Self {
            taken: false,
            waiting: Rotation::new(usize::MAX),
            behind: Rotation::new(usize::MAX),
            snapshots: Rotation::new(usize::MAX),
            debts: HashMap::new(),
            compilation_places: Places::default(),
            snapshot_places: Places::default(),
        }
    }
}

impl State {
    fn add_debt(&mut self, namespace: &Namespace, compiled: Duration, now: Instant) {
        self.debts.retain(|_, debt| !debt.left(now).is_zero());
        let left = self.debts.get(namespace).map_or(Duration::ZERO, |debt| debt.left(now));
        self.debts.insert(namespace.clone(), Debt { compiled: left + compiled, at: now });
    }

    fn is_in_debt(&self, namespace: &Namespace, now: Instant) -> bool {
        self.debts.get(namespace).is_some_and(|debt| debt.left(now) > COMPILE_DEBT_MAX)
    }

    /// Takes the place that compiles next out of the queue.
    fn next(&mut self, now: Instant) -> Option<(Namespace, oneshot::Sender<Turn>)> {
        while let Some((namespace, next)) = self.waiting.next() {
            self.waiting.done(&namespace);
            if !self.is_in_debt(&namespace, now) {
                return Some((namespace, next));
            }
            self.behind.push(&namespace, next);
        }
        for queue in [&mut self.behind, &mut self.snapshots] {
            if let Some((namespace, next)) = queue.next() {
                queue.done(&namespace);
                return Some((namespace, next));
            }
        }
        None
    }

    fn places(&mut self, purpose: For) -> &mut Places {
        match purpose {
            For::Compilation => &mut self.compilation_places,
            For::Snapshot => &mut self.snapshot_places,
        }
    }
}

/// A place in the queue, also while its holder compiles. Dropping it frees it.
pub(super) struct Place {
    turns: Turns,
    namespace: Namespace,
    purpose: For,
}

/// The right to compile. Dropping it passes it to the next place.
pub(super) struct Turn {
    turns: Turns,
    namespace: Namespace,
    /// When its place took the turn; `None` until then.
    begun: Option<Instant>,
}

impl Turns {
    /// Whether no compilation runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        !state.taken && state.compilation_places.all == 0
    }

    /// Takes a place for a module of the namespace. `None` if all places, or all of the namespace, are taken.
    pub(super) fn place(&self, namespace: &Namespace, purpose: For) -> Option<Place> {
        let (max, namespace_max) = match purpose {
            For::Compilation => (COMPILES_WAITING_MAX, COMPILES_WAITING_NAMESPACE_MAX),
            For::Snapshot => (SNAPSHOTS_WAITING_MAX, SNAPSHOTS_WAITING_NAMESPACE_MAX),
        };
        let is_taken = self.0.lock().places(purpose).take(namespace, max, namespace_max);
        is_taken.then(|| Place { turns: self.clone(), namespace: namespace.clone(), purpose })
    }
}

impl Place {
    /// Waits for the turn.
    pub(super) async fn turn(&self) -> Turn {
        let now = Instant::now();
        let mine = || Turn { turns: self.turns.clone(), namespace: self.namespace.clone(), begun: Some(now) };
        let next = {
            let mut state = self.turns.0.lock();
            if !state.taken {
                state.taken = true;
                return mine();
            }
            let (sender, receiver) = oneshot::channel();
            match self.purpose {
                For::Compilation => state.waiting.push(&self.namespace, sender),
                For::Snapshot => state.snapshots.push(&self.namespace, sender),
            };
            receiver
        };
        match next.await {
            Ok(mut turn) => {
                turn.begun = Some(Instant::now());
                turn
            }
            // Unreachable: the queue drops a sender only after it has sent the turn.
            Err(_) => mine(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.0.lock().places(self.purpose).give_back(&self.namespace);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut state = self.turns.0.lock();
            let now = Instant::now();
            if let Some(begun) = self.begun {
                state.add_debt(&self.namespace, now.duration_since(begun), now);
            }
            let Some(next) = state.next(now) else {
                state.taken = false;
                return;
            };
            next
        };
        let (namespace, next) = next;
        // If the receiver no longer waits, `send` returns the turn. Dropping it passes it on.
        drop(next.send(Turn { turns: self.turns.clone(), namespace, begun: None }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn namespace(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn namespaces_come_in_turns_however_many_modules_one_of_them_brings() {
        let turns = Turns::default();
        let (flood, calm) = (namespace("flood"), namespace("calm"));
        let places: Vec<_> = (0..10).map(|_| turns.place(&flood, For::Compilation).unwrap()).collect();
        let late = turns.place(&calm, For::Compilation).unwrap();
        let first = poll(pin!(places[0].turn())).expect("nobody has the turn");
        let mut waiting: Vec<_> = places[1..].iter().map(|place| Box::pin(place.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        let mut calm_turn = Box::pin(late.turn());
        assert!(poll(calm_turn.as_mut()).is_none());
        drop(first);
        let second = poll(waiting[0].as_mut()).expect("the one that waited longest");
        assert!(poll(calm_turn.as_mut()).is_none(), "one at a time");
        drop(second);
        let third = poll(calm_turn.as_mut()).expect("the other namespace, before eight others of the first");
        drop(third);
        // The rest follow in order. Those that stopped waiting are passed over.
        drop(waiting.remove(1));
        drop(waiting.remove(0));
        for turn in &mut waiting {
            drop(poll(turn.as_mut()).expect("its turn"));
        }
        drop(poll(pin!(late.turn())).expect("all is free again"));
    }

    #[test]
    fn a_namespace_that_compiled_long_waits_behind_the_others_until_its_share_has_paid() {
        let turns = Turns::default();
        let (heavy, light) = (namespace("heavy"), namespace("light"));
        let begun = Instant::now();
        turns.0.lock().add_debt(&heavy, Duration::from_secs(60), begun);
        turns.0.lock().add_debt(&light, Duration::from_secs(2), begun);
        let places: Vec<_> = (0..3).map(|_| turns.place(&heavy, For::Compilation).unwrap()).collect();
        let late: Vec<_> = (0..2).map(|_| turns.place(&light, For::Compilation).unwrap()).collect();
        let first = poll(pin!(places[0].turn())).expect("nobody has the turn");
        let mut waiting: Vec<_> = places[1..].iter().map(|place| Box::pin(place.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        for place in &late {
            let mut turn = Box::pin(place.turn());
            assert!(poll(turn.as_mut()).is_none());
            waiting.insert(0, turn);
        }
        drop(first);
        for index in [1, 0, 2, 3] {
            drop(poll(waiting[index].as_mut()).expect("the light one first, then in order"));
        }
        let state = turns.0.lock();
        let later = |seconds: u64| begun + Duration::from_secs(seconds);
        assert!(state.is_in_debt(&heavy, later(400)) && !state.is_in_debt(&heavy, later(600)));
        drop(state);
        turns.0.lock().add_debt(&light, Duration::from_secs(1), later(10_000));
        assert_eq!(turns.0.lock().debts.len(), 1, "what is paid is forgotten");
    }

    #[test]
    fn one_namespace_leaves_places_for_others() {
        let turns = Turns::default();
        let flood = namespace("flood");
        let places: Vec<_> = (0..COMPILES_WAITING_NAMESPACE_MAX)
            .map(|_| turns.place(&flood, For::Compilation).unwrap())
            .collect();
        assert!(turns.place(&flood, For::Compilation).is_none());
        let other = turns.place(&namespace("other"), For::Compilation);
        assert!(other.is_some());
        drop(places);
        assert!(turns.place(&flood, For::Compilation).is_some());
        let many: Vec<_> = (0..COMPILES_WAITING_MAX)
            .map_while(|n| turns.place(&namespace(&format!("n{n}")), For::Compilation))
            .collect();
        assert_eq!(many.len(), COMPILES_WAITING_MAX - 1, "one is still taken");
        drop((many, other));
        let state = turns.0.lock();
        assert!(state.compilation_places.of.is_empty() && state.compilation_places.all == 0);
    }

    #[test]
    fn snapshots_take_no_place_of_a_compilation_and_come_behind_all() {
        let turns = Turns::default();
        let (many, other) = (namespace("many"), namespace("other"));
        let snapshots: Vec<_> =
            (0..=SNAPSHOTS_WAITING_NAMESPACE_MAX).map_while(|_| turns.place(&many, For::Snapshot)).collect();
        assert_eq!(snapshots.len(), SNAPSHOTS_WAITING_NAMESPACE_MAX);
        let compilations = [turns.place(&many, For::Compilation), turns.place(&other, For::Compilation)];
        let compilations = compilations.map(Option::unwrap);
        let first = poll(pin!(snapshots[0].turn())).expect("nobody has the turn");
        let mut waiting: Vec<_> = snapshots[1..3].iter().map(|place| Box::pin(place.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        let mut before: Vec<_> = compilations.iter().map(|place| Box::pin(place.turn())).collect();
        assert!(before.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        let mut latest = first;
        for turn in before.iter_mut().chain(&mut waiting) {
            drop(latest);
            latest = poll(turn.as_mut()).expect("compilations first, then in order");
        }
    }
}

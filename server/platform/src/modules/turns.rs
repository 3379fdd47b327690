//! Whose turn it is to compile: one at a time, as each compilation uses every compiling thread, and the namespaces that
//! wait one after another, so that many deploys of one hold up no other's by more than one compilation.

use crate::limits::{COMPILES_WAITING_MAX, COMPILES_WAITING_NAMESPACE_MAX};
use crate::rotation::Rotation;
use orama_runtime::names::Namespace;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Bounds those who wait, and gives them turns. Clones share everything.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    /// Whether somebody has the turn.
    taken: bool,
    /// Those that wait.
    waiting: Rotation<Namespace, oneshot::Sender<Turn>>,
    /// Places taken, of all and of each namespace.
    places: usize,
    places_of: HashMap<Namespace, usize>,
}

impl Default for State {
    fn default() -> Self {
        // All of them together have one turn, so none needs a bound of its own.
        Self { taken: false, waiting: Rotation::new(usize::MAX), places: 0, places_of: HashMap::new() }
    }
}

/// A place among those who wait or have the turn; free again when dropped.
pub(super) struct Place {
    turns: Turns,
    namespace: Namespace,
}

/// The turn to compile; the next one's when dropped.
pub(super) struct Turn(Turns);

impl Turns {
    /// Whether nobody compiles or waits for it.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        !state.taken && state.places == 0
    }

    /// A place for a module of the namespace; `None` when all are taken, or all of that namespace.
    pub(super) fn place(&self, namespace: &Namespace) -> Option<Place> {
        let mut state = self.0.lock();
        let held = state.places_of.get(namespace).copied().unwrap_or_default();
        if state.places >= COMPILES_WAITING_MAX || held >= COMPILES_WAITING_NAMESPACE_MAX {
            return None;
        }
        state.places += 1;
        state.places_of.insert(namespace.clone(), held + 1);
        Some(Place { turns: self.clone(), namespace: namespace.clone() })
    }
}

impl Place {
    /// Waits for the turn.
    pub(super) async fn turn(&self) -> Turn {
        let next = {
            let mut state = self.turns.0.lock();
            if !state.taken {
                state.taken = true;
                return Turn(self.turns.clone());
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(&self.namespace, sender);
            receiver
        };
        match next.await {
            Ok(turn) => turn,
            // Senders are only dropped when they have sent.
            Err(_) => Turn(self.turns.clone()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        state.places -= 1;
        if let Some(held) = state.places_of.get_mut(&self.namespace) {
            *held -= 1;
            if *held == 0 {
                state.places_of.remove(&self.namespace);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.0.lock();
            let Some((namespace, next)) = state.waiting.next() else {
                state.taken = false;
                return;
            };
            state.waiting.done(&namespace);
            next
        };
        // Whoever does not wait any more gives the turn back, which drops it and so passes it on.
        drop(next.send(Turn(self.0.clone())));
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
        let places: Vec<_> = (0..10).map(|_| turns.place(&flood).unwrap()).collect();
        let late = turns.place(&calm).unwrap();
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
        // The rest in its order; one that has left is passed over.
        drop(waiting.remove(1));
        drop(waiting.remove(0));
        for turn in &mut waiting {
            drop(poll(turn.as_mut()).expect("its turn"));
        }
        drop(poll(pin!(late.turn())).expect("all is free again"));
    }

    #[test]
    fn one_namespace_leaves_places_for_others() {
        let turns = Turns::default();
        let flood = namespace("flood");
        let places: Vec<_> =
            (0..COMPILES_WAITING_NAMESPACE_MAX).map(|_| turns.place(&flood).unwrap()).collect();
        assert!(turns.place(&flood).is_none());
        let other = turns.place(&namespace("other"));
        assert!(other.is_some());
        drop(places);
        assert!(turns.place(&flood).is_some());
        let many: Vec<_> =
            (0..COMPILES_WAITING_MAX).map_while(|n| turns.place(&namespace(&format!("n{n}")))).collect();
        assert_eq!(many.len(), COMPILES_WAITING_MAX - 1, "one is still taken");
        drop((many, other));
        assert!(turns.0.lock().places_of.is_empty() && turns.0.lock().places == 0);
    }
}

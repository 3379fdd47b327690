//! The budget that all guests of a node share.

use crate::names::Namespace;

/// Counts the memory of guests: their linear memories, and outputs that are long.
///
/// It is asked on the guest's thread, once for a new instance and each time that it grows, so an implementation must not wait.
pub trait GuestMemory: Send + Sync {
    /// Takes bytes for a guest of a namespace; `false` when there is no room for them.
    fn take(&self, namespace: &Namespace, bytes: usize) -> bool;

    /// Gives back what was taken.
    fn give_back(&self, namespace: &Namespace, bytes: usize);
}

/// No budget: each guest has what its own limit allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unbounded;

impl GuestMemory for Unbounded {
    fn take(&self, _namespace: &Namespace, _bytes: usize) -> bool {
        true
    }

    fn give_back(&self, _namespace: &Namespace, _bytes: usize) {}
}

//! The memory of a core's guests, within the node's share.
//!
//! A guest's memory grows and goes with each invocation, and cores must not meet at one counter that often. So a core keeps a
//! little for each namespace beyond what its guests have, and asks the node only when that is used up or has become too much.

use crate::shares::{Kind, Permit, Shares};
use orama_runtime::names::Namespace;
use orama_runtime::services::GuestMemory;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What a core asks for at once, and the most that it keeps beyond what is used, for each namespace.
const STEP_BYTES: usize = 1 << 20;
const SPARE_MAX_BYTES: usize = 4 << 20;

/// What a namespace's guests have on one core.
struct Account {
    used_bytes: usize,
    permit: Permit,
}

/// All accounts of a core. Only its own thread takes the lock, which is therefore free.
pub(super) struct CoreMemory {
    shares: Arc<Shares>,
    accounts: Mutex<HashMap<Namespace, Account>>,
}

impl CoreMemory {
    pub(super) fn new(shares: Arc<Shares>) -> Self {
        Self { shares, accounts: Mutex::default() }
    }

    /// Gives back what is kept for namespaces of which nothing runs.
    pub(super) fn give_back_spare(&self) {
        self.accounts.lock().retain(|_, account| account.used_bytes > 0);
    }
}

impl Account {
    fn take(&mut self, bytes: usize) -> bool {
        let used_bytes = self.used_bytes + bytes;
        let missing = used_bytes.saturating_sub(self.permit.amount());
        // A round number if there is room for it, or else what is needed.
        let grown = missing == 0
            || self.permit.grow(missing.next_multiple_of(STEP_BYTES)).is_ok()
            || self.permit.grow(missing).is_ok();
        if grown {
            self.used_bytes = used_bytes;
        }
        grown
    }
}

impl GuestMemory for CoreMemory {
    fn take(&self, namespace: &Namespace, bytes: usize) -> bool {
        let mut accounts = self.accounts.lock();
        if let Some(account) = accounts.get_mut(namespace) {
            return account.take(bytes);
        }
        let party = self.shares.namespace(namespace);
        let permit = self.shares.permit(Kind::GuestMemoryBytes, [Some(party), None]);
        let mut account = Account { used_bytes: 0, permit };
        let taken = account.take(bytes);
        accounts.insert(namespace.clone(), account);
        taken
    }

    fn give_back(&self, namespace: &Namespace, bytes: usize) {
        let mut accounts = self.accounts.lock();
        let Some(account) = accounts.get_mut(namespace) else { return };
        account.used_bytes = account.used_bytes.saturating_sub(bytes);
        if account.permit.amount() > account.used_bytes + SPARE_MAX_BYTES {
            // Less never fails.
            let _ = account.permit.set(account.used_bytes + STEP_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::{KINDS, Limits, Rates};

    const MB: usize = 1 << 20;

    fn shares() -> Arc<Shares> {
        let limits = Limits { of_node: [100 * MB; KINDS.len()], namespace_percent: 50 };
        Shares::new(limits, Rates::default())
    }

    #[test]
    fn a_namespace_has_its_part_on_all_cores_together() {
        let shares = shares();
        let cores = [CoreMemory::new(Arc::clone(&shares)), CoreMemory::new(Arc::clone(&shares))];
        let [a, b] = ["a", "b"].map(|name| Namespace::new(name).unwrap());
        assert!(cores[0].take(&a, 30 * MB) && cores[1].take(&a, 20 * MB));
        assert!(!cores[0].take(&a, 65_536) && !cores[1].take(&a, MB));
        assert!(cores[1].take(&b, 25 * MB), "others have theirs");
        cores[1].give_back(&a, 20 * MB);
        assert!(cores[0].take(&a, 5 * MB));
        for (core, namespace, bytes) in [(0, &a, 35 * MB), (1, &b, 25 * MB)] {
            cores[core].give_back(namespace, bytes);
        }
        assert!(shares.used(Kind::GuestMemoryBytes) <= 3 * MB, "{}", shares.used(Kind::GuestMemoryBytes));
        cores.iter().for_each(CoreMemory::give_back_spare);
        assert_eq!(shares.used(Kind::GuestMemoryBytes), 0);
    }

    #[test]
    fn small_guests_ask_the_node_rarely() {
        let shares = shares();
        let core = CoreMemory::new(Arc::clone(&shares));
        let namespace = Namespace::new("a").unwrap();
        assert!(core.take(&namespace, 65_536));
        core.give_back(&namespace, 65_536);
        let kept = shares.used(Kind::GuestMemoryBytes);
        for _ in 0..1000 {
            assert!(core.take(&namespace, 65_536));
            assert_eq!(shares.used(Kind::GuestMemoryBytes), kept);
            core.give_back(&namespace, 65_536);
        }
    }
}

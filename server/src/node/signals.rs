//! The signals that a node hears: those that stop it, and the one that asks it to read its configuration again.

use super::Node;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const STOP_SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// SIGTERM and SIGINT, caught from here on.
pub struct StopSignals(Signals);

impl StopSignals {
    /// Catches the signals. Done before a node starts, so that none finds it without a handler.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn catch() -> io::Result<Self> {
        Signals::new(STOP_SIGNALS).map(Self)
    }

    /// Catches SIGHUP too, which ends the process otherwise.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn catch_with_reload() -> io::Result<Self> {
        Signals::new(STOP_SIGNALS.into_iter().chain([SIGHUP])).map(Self)
    }
}

impl Node {
    /// Serves until a signal comes, then drains. A second signal ends the process at once.
    ///
    /// # Errors
    /// When the second signal cannot be prepared for.
    pub fn run_until(self, signals: StopSignals) -> io::Result<()> {
        self.run_reloading(signals, |_| {})
    }

    /// The same, and calls `reload` for each SIGHUP.
    ///
    /// # Errors
    /// As [`Self::run_until`].
    pub fn run_reloading(self, mut signals: StopSignals, mut reload: impl FnMut(&Self)) -> io::Result<()> {
        for signal in signals.0.forever() {
            if signal == SIGHUP {
                reload(&self);
                continue;
            }
            let again = Arc::new(AtomicBool::new(true));
            for signal in STOP_SIGNALS {
                signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&again))?;
            }
            tracing::info!("draining");
            break;
        }
        drop(self);
        Ok(())
    }
}

//! The services of a node, as every core's guests reach them.

use orama_runtime::services::{Host, Scheduler};
use std::sync::Arc;

/// What all cores share of a [`Host`].
pub(crate) struct Services {}

impl Services {
    /// The host of one core.
    pub(crate) fn host(&self, scheduler: Arc<dyn Scheduler>) -> Host {
        Host::without_services(scheduler)
    }
}

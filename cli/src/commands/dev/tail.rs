//! The logs of all functions as they come: looks for new invocations several times a second.

use crate::args::Target;
use crate::client::Client;
use crate::commands::follow::{Page, Seen};
use crate::commands::logs::Filter;
use jiff::Timestamp;
use orama_runtime::names::FunctionName;
use orama_server::limits::LOGS_LIMIT;
use orama_server::platform::registry::Which;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The functions whose logs are shown.
pub type Names = Arc<Mutex<Vec<FunctionName>>>;

/// Shows each invocation from now on, once, when it has ended, until `tell` says that nobody listens. It is given the function's
/// name and the lines.
pub fn start(client: Arc<Client>, names: Names, tell: impl Fn(&str, String) -> bool + Send + 'static) {
    let begun = Timestamp::now();
    thread::spawn(move || {
        let mut seen: BTreeMap<FunctionName, Seen> = BTreeMap::new();
        loop {
            thread::sleep(LOOK_EVERY);
            let wanted = names.lock().clone();
            seen.retain(|name, _| wanted.contains(name));
            for name in wanted {
                let seen = seen.entry(name.clone()).or_default();
                if !look(&client, &name, begun, seen, &tell) {
                    return;
                }
            }
        }
    });
}

/// Looks once. A node that does not answer now is asked again at the next look.
fn look(
    client: &Client,
    name: &FunctionName,
    begun: Timestamp,
    seen: &mut Seen,
    tell: &impl Fn(&str, String) -> bool,
) -> bool {
    let filter = Filter {
        limit: Some(LOGS_LIMIT.max),
        since: seen.since().max(Some(begun)),
        status: None,
        request_id: None,
    };
    let target = Target { name: name.clone(), which: Which::Live };
    let Ok(page) = Page::fetch(client, &target, &filter) else { return true };
    seen.take(page.entries).iter().all(|entry| tell(name.as_str(), entry.shown(false)))
}

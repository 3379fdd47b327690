//! How functions start, and why not otherwise: what the details of a function say.

use orama_runtime::Start;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Notes kept; at more, they start anew. Each is about 200 bytes.
const NOTES_MAX: usize = 10_000;

/// Notes by version id, since the node started.
#[derive(Debug, Default)]
pub struct StartNotes(Mutex<HashMap<String, String>>);

impl StartNotes {
    /// Notes something of a version.
    pub fn put(&self, version_id: &str, note: String) {
        let mut notes = self.0.lock();
        if notes.len() >= NOTES_MAX {
            notes.clear();
        }
        notes.insert(version_id.to_owned(), note);
    }

    /// Notes what is known of a version's start.
    pub fn put_start(&self, version_id: &str, start: &Start) {
        self.put(
            version_id,
            match start {
                Start::Snapshot(snapshot) => {
                    let (resumed, whole) = (snapshot.resumed_time(), snapshot.start_time());
                    format!(
                        "starts from a snapshot: {} us instead of {} us",
                        resumed.as_micros(),
                        whole.as_micros()
                    )
                }
                Start::Whole(why) => format!("no snapshot of the start: {why}"),
            },
        );
    }

    /// What was noted of a version.
    pub fn get(&self, version_id: &str) -> Option<String> {
        self.0.lock().get(version_id).cloned()
    }
}

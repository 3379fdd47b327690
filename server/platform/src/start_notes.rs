//! Why functions are started by their requests although they could be parked: what the details of a function say.

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

    /// What was noted of a version.
    pub fn get(&self, version_id: &str) -> Option<String> {
        self.0.lock().get(version_id).cloned()
    }
}

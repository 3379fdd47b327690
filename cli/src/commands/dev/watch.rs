//! Watches folders, and tells of what changed in them a moment after the last change.

use crate::error::{CliError, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// How long nothing changes before the changes are told. Programs save a file in several steps, within a millisecond.
const QUIET: Duration = Duration::from_millis(15);

/// How long changes are collected at most, where something changes all the time.
const COLLECTED_MAX: Duration = Duration::from_millis(90);

/// What changed within a moment.
#[derive(Debug)]
pub struct Changes {
    /// When the first change was noticed.
    pub since: Instant,
    /// Files and folders that were written, made, moved or removed.
    pub paths: BTreeSet<PathBuf>,
    /// Whether the system lost count: anything may have changed.
    pub are_unknown: bool,
}

/// A watcher of folders, each without the folders in it.
pub struct Watch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Starts with no folder. `tell` is called on a thread of its own, until it says that nobody listens any more.
    ///
    /// # Errors
    /// When the system cannot watch.
    pub fn start(tell: impl Fn(Changes) -> bool + Send + 'static) -> Result<Self> {
        let (events, noticed) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error is one of a single folder, such as one that was just removed.
            if let Some(event) = event.ok().filter(is_change) {
                drop(events.send(event));
            }
        })
        .map_err(|error| CliError::failed("cannot watch files").caused_by(error))?;
        std::thread::spawn(move || while collect(&noticed).is_some_and(&tell) {});
        Ok(Self { watcher, watched: BTreeSet::new() })
    }

    /// Watches these folders and no others. Returns why some cannot be watched.
    pub fn keep(&mut self, wanted: BTreeSet<PathBuf>) -> Option<CliError> {
        for gone in self.watched.difference(&wanted) {
            // It fails where the folder was removed, with which the system stopped.
            drop(self.watcher.unwatch(gone));
        }
        let mut failed = None;
        let new: Vec<PathBuf> = wanted.difference(&self.watched).cloned().collect();
        self.watched.retain(|dir| wanted.contains(dir));
        for dir in new {
            match self.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(dir)),
                Err(_) if !dir.is_dir() => {}
                Err(error) => failed = Some(not_watched(&dir, error)),
            }
        }
        failed
    }

    /// Whether a folder is watched. When it was moved or removed, it is not any more, also if there is one again.
    pub fn forget(&mut self, dir: &Path) -> bool {
        let was_watched = self.watched.remove(dir);
        if was_watched {
            drop(self.watcher.unwatch(dir));
        }
        was_watched
    }
}

fn not_watched(dir: &Path, error: notify::Error) -> CliError {
    CliError::failed(format!("changes in {} are not noticed", dir.display()))
        .caused_by(error)
        .hint("where the system's limit is met, raise fs.inotify.max_user_watches with sysctl")
}

/// Whether an event can mean that a file has another content.
fn is_change(event: &Event) -> bool {
    let is_of_content =
        !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)));
    is_of_content || event.need_rescan()
}

/// Waits for a change, and then until nothing changes; `None` when the watcher is gone.
fn collect(noticed: &Receiver<Event>) -> Option<Changes> {
    let mut next = Some(noticed.recv().ok()?);
    let since = Instant::now();
    let mut changes = Changes { since, paths: BTreeSet::new(), are_unknown: false };
    while let Some(event) = next.take() {
        changes.are_unknown |= event.need_rescan();
        changes.paths.extend(event.paths);
        let left = (since + COLLECTED_MAX).saturating_duration_since(Instant::now());
        next = noticed.recv_timeout(QUIET.min(left)).ok();
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn watching(dir: &Path) -> (Watch, Receiver<Changes>) {
        let (tell, told) = mpsc::channel();
        let mut watch = Watch::start(move |changes| tell.send(changes).is_ok()).unwrap();
        assert!(watch.keep([dir.to_owned()].into()).is_none());
        (watch, told)
    }

    #[test]
    fn a_file_that_is_saved_in_steps_is_told_once_and_reading_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, kept) = (dir.path().join("a.go"), dir.path().join("b.go"));
        fs::write(&kept, "b").unwrap();
        let (_watch, told) = watching(dir.path());
        fs::read(&kept).unwrap();
        let aside = dir.path().join("a.go.tmp");
        fs::write(&aside, "1").unwrap();
        fs::rename(&aside, &file).unwrap();
        fs::write(&file, "2").unwrap();
        let changes = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(changes.paths, [aside, file].into());
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_folder_that_was_removed_and_made_again_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("f");
        fs::create_dir(&dir).unwrap();
        let (mut watch, told) = watching(root.path());
        let both: BTreeSet<PathBuf> = [root.path().to_owned(), dir.clone()].into();
        assert!(watch.keep(both.clone()).is_none());
        fs::remove_dir(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(told.recv_timeout(PATIENCE).unwrap().paths.contains(&dir));
        assert!(watch.forget(&dir) && !watch.forget(&dir));
        assert!(watch.keep(both).is_none());
        fs::write(dir.join("a.go"), "").unwrap();
        let until = Instant::now() + PATIENCE;
        while !told.recv_timeout(until - Instant::now()).unwrap().paths.contains(&dir.join("a.go")) {}
    }
}

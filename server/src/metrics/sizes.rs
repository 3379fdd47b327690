//! How much of the disk the node's data take. Databases of namespaces count together, as anyone may read the metrics.

use super::Text;
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a look at the folders is used: with many namespaces it takes milliseconds.
const KNOWN_FOR: Duration = Duration::from_secs(15);

/// The databases of the node: what they are for, and the files in the folder of the data. Their logs have the same names with an
/// ending.
const DATABASES: [(&str, &[&str]); 3] = [
    ("registry", &["registry.db", "registry-copy.db"]),
    ("events", &["events.db", "events-copy.db"]),
    ("records", &["records.db"]),
];
const LOGS: [&str; 3] = ["", "-wal", "-shm"];

/// Sizes on the disk, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SizeGauges {
    /// What may still be written; `None` where the system does not tell.
    pub disk_free: Option<u64>,
    /// The node's own databases, by what they are for.
    pub databases: Vec<(&'static str, u64)>,
    /// The databases of all namespaces.
    pub namespaces: u64,
    /// Compiled modules and snapshots of their starts.
    pub artifacts: u64,
}

/// Looks at the folders of a node, not more often than it must.
#[derive(Debug)]
pub struct Sizes {
    data: PathBuf,
    last: Mutex<Option<(Instant, SizeGauges)>>,
}

impl Sizes {
    /// Of a folder of data.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self { data, last: Mutex::default() }
    }

    /// The sizes of a moment ago. Blocks.
    #[must_use]
    pub fn now(&self) -> SizeGauges {
        let mut last = self.last.lock();
        if let Some((_, sizes)) = last.as_ref().filter(|(when, _)| when.elapsed() < KNOWN_FOR) {
            return sizes.clone();
        }
        let sizes = self.look();
        *last = Some((Instant::now(), sizes.clone()));
        sizes
    }

    fn look(&self) -> SizeGauges {
        let of_file = |name: &str| fs::metadata(self.data.join(name)).map_or(0, |file| file.len());
        let of_database = |files: &[&str]| -> u64 {
            files.iter().flat_map(|file| LOGS.map(|log| of_file(&format!("{file}{log}")))).sum()
        };
        SizeGauges {
            disk_free: None,
            databases: DATABASES.map(|(name, files)| (name, of_database(files))).to_vec(),
            namespaces: of_folder(&self.data.join("databases"), 1),
            artifacts: of_folder(&self.data.join("artifacts"), 1),
        }
    }
}

/// The files of a folder and of so many levels of folders in it. What goes while it is looked at counts nothing.
fn of_folder(folder: &Path, levels: u32) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() && levels > 0 => of_folder(&entry.path(), levels - 1),
        Ok(data) if data.is_file() => data.len(),
        _ => 0,
    });
    sizes.sum()
}

pub(super) fn render(text: &mut Text, sizes: &SizeGauges) {
    if let Some(free) = sizes.disk_free {
        text.single("orama_disk_free_bytes", "gauge", "Space of the disk that may still be written.", free);
    }
    let name = "orama_database_bytes";
    text.head(name, "gauge", "Files of the node's databases, with their logs.");
    for (database, bytes) in &sizes.databases {
        text.line(name, &[("database", database)], bytes);
    }
    text.line(name, &[("database", "namespaces")], sizes.namespaces);
    text.single("orama_artifacts_bytes", "gauge", "Compiled modules and snapshots on disk.", sizes.artifacts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_with_their_logs_and_namespaces_together() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        };
        write("registry.db", 1);
        write("registry.db-wal", 2);
        write("registry-copy.db", 4);
        write("records.db", 8);
        write("databases/a/data.db", 16);
        write("databases/b/data.db-wal", 32);
        write("artifacts/x", 64);
        let sizes = Sizes::new(dir.path().to_owned());
        let seen = sizes.now();
        assert_eq!(seen.databases, [("registry", 7), ("events", 0), ("records", 8)]);
        assert_eq!((seen.namespaces, seen.artifacts), (48, 64));
        write("artifacts/y", 1);
        assert_eq!(sizes.now(), seen, "not looked at again");
    }
}

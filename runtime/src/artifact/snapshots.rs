//! Snapshots of starts on disk, beside the artifacts of their modules and under tags of the same key.
//!
//! A file holds the image of the memory in whole pages, its facts as JSON, their length, the tag, and a mark. A start that cannot
//! be kept has a file too, without an image, so that no restart tries again.

use super::{ArtifactStore, TAG_BYTES, open_if_exists, remove_if_exists, with_path, write_atomically};
use crate::engine::Engine;
use crate::function::WasmHash;
use crate::limits::SNAPSHOTS_OF_NAMESPACE_MAX_BYTES;
use crate::memory::MemoryImage;
use crate::module::LoadedModule;
use crate::snapshot::make::{Made, NoSnapshot};
use crate::snapshot::{Facts, Place, Snapshot, SnapshotKey, Start};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ends each file and names the version of its format.
const MARK: &[u8; 8] = b"orama-s1";
const EXTENSION: &str = "snapshot";
/// The unit in which the system counts what a file takes of the disk.
const DISK_BLOCK_BYTES: u64 = 512;
const LENGTH_BYTES: usize = size_of::<u32>();
const TRAILER_BYTES: u64 = (LENGTH_BYTES + TAG_BYTES + MARK.len()) as u64;

/// What a file says of itself.
#[derive(Serialize, Deserialize)]
enum Kept {
    Snapshot { facts: Facts, image: Range<u64> },
    Whole { why: String },
}

impl ArtifactStore {
    /// The beginning of the names of all snapshots of a module.
    fn snapshot_stem(&self, engine: &Engine, hash: &WasmHash) -> String {
        let artifact = self.path(engine, hash);
        artifact.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn snapshot_path(&self, engine: &Engine, hash: &WasmHash, key: &SnapshotKey) -> PathBuf {
        let start = blake3::Hash::from(*key.as_bytes()).to_hex();
        let name = format!(
            "{}{}{}.{EXTENSION}",
            self.snapshot_stem(engine, hash),
            of_owner(key.owner),
            &start[..16]
        );
        self.dir.join(name)
    }

    /// The start of a tag, which covers engine, module, function and content.
    fn snapshot_tag(&self, engine: &Engine, hash: &WasmHash, key: &SnapshotKey) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(MARK).update(engine.compatibility()).update(hash.as_bytes()).update(key.as_bytes());
        hasher
    }

    /// Stores a snapshot, or why there is none. Removes the namespace's oldest ones where it has too many.
    pub(crate) fn put_snapshot(
        &self,
        engine: &Engine,
        hash: &WasmHash,
        key: &SnapshotKey,
        made: &Result<Made, NoSnapshot>,
    ) -> io::Result<()> {
        let (image, kept) = match made {
            Ok(made) => {
                let (image, bytes) = made.image.padded();
                (bytes, Kept::Snapshot { facts: made.facts.clone(), image })
            }
            Err(why) => (Vec::new(), Kept::Whole { why: why.to_string() }),
        };
        let facts = serde_json::to_vec(&kept)?;
        let length = (facts.len() as u32).to_le_bytes();
        let mut tag = self.snapshot_tag(engine, hash, key);
        let parts: [&[u8]; 3] = [&image, &facts, &length];
        for part in parts {
            tag.update(part);
        }
        let tag = *tag.finalize().as_bytes();
        let path = self.snapshot_path(engine, hash, key);
        write_atomically(&path, &[&image, &facts, &length, &tag, MARK])?;
        let owner = of_owner(key.owner);
        self.remove_old_snapshots(&|name| name.contains(&owner), SNAPSHOTS_OF_NAMESPACE_MAX_BYTES)
    }

    /// Maps a snapshot that this node wrote, or reads why there is none; `None` where there is no valid file. Removes a file that
    /// is damaged, forged, or does not fit the module.
    pub(crate) fn load_snapshot(
        &self,
        engine: &Engine,
        hash: &WasmHash,
        key: &SnapshotKey,
        module: &LoadedModule,
        limit_bytes: u64,
    ) -> io::Result<Option<Start>> {
        let path = self.snapshot_path(engine, hash, key);
        let Some(mut file) = open_if_exists(&path)? else { return Ok(None) };
        let kept = self.verified(engine, hash, key, &mut file).map_err(|error| with_path(&path, error))?;
        let start = match kept {
            Some(Kept::Whole { why }) => Some(Start::Whole(why.into())),
            Some(Kept::Snapshot { facts, image }) => {
                let resume = module.resume.as_ref();
                let fits = resume.is_some_and(|resume| facts.fits(resume, limit_bytes))
                    && image.end <= facts.memory_bytes;
                fits.then(|| map(engine, key.owner, facts, image, file, &path)).transpose()?
            }
            None => None,
        };
        if start.is_none() {
            remove_if_exists(&path)?;
        }
        Ok(start)
    }

    fn verified(
        &self,
        engine: &Engine,
        hash: &WasmHash,
        key: &SnapshotKey,
        file: &mut File,
    ) -> io::Result<Option<Kept>> {
        let Some(length_at) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else { return Ok(None) };
        let mut hasher = self.snapshot_tag(engine, hash, key);
        hasher.update_reader(Read::take(&mut *file, length_at + LENGTH_BYTES as u64))?;
        let (mut tag, mut mark) = ([0; TAG_BYTES], [0; MARK.len()]);
        file.read_exact(&mut tag)?;
        file.read_exact(&mut mark)?;
        // `blake3::Hash` compares in constant time.
        if mark != *MARK || hasher.finalize() != blake3::Hash::from(tag) {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        file.seek(SeekFrom::Start(length_at))?;
        file.read_exact(&mut length)?;
        let Some(facts_at) = length_at.checked_sub(u32::from_le_bytes(length).into()) else {
            return Ok(None);
        };
        let mut facts = vec![0; (length_at - facts_at) as usize];
        file.seek(SeekFrom::Start(facts_at))?;
        file.read_exact(&mut facts)?;
        Ok(serde_json::from_slice(&facts).ok())
    }

    /// Removes all snapshots of a module.
    pub(crate) fn remove_snapshots(&self, engine: &Engine, hash: &WasmHash) -> io::Result<()> {
        let stem = self.snapshot_stem(engine, hash);
        self.remove_old_snapshots(&|name| name.starts_with(&stem), 0)
    }

    /// Removes all snapshots with such names but the newest, which may take `keep_bytes` of the disk.
    fn remove_old_snapshots(&self, is_one: &dyn Fn(&str) -> bool, keep_bytes: u64) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|error| with_path(&self.dir, error))? {
            let entry = entry.map_err(|error| with_path(&self.dir, error))?;
            let path = entry.path();
            let is_meant = path.extension().is_some_and(|extension| extension == EXTENSION)
                && is_one(&entry.file_name().to_string_lossy());
            // One that is gone already needs no removal.
            if let Some(metadata) = is_meant.then(|| entry.metadata().ok()).flatten() {
                found.push((metadata.modified().ok(), metadata.blocks() * DISK_BLOCK_BYTES, path));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        let mut kept_bytes = 0;
        let old = found.iter().skip_while(|(_, bytes, _)| {
            kept_bytes += bytes;
            kept_bytes <= keep_bytes
        });
        old.map(|(_, _, path)| path).try_for_each(|path| remove_if_exists(path))
    }
}

/// The part of the names of a namespace's snapshots.
fn of_owner(owner: u64) -> String {
    format!("-{owner:016x}-")
}

fn map(
    engine: &Engine,
    owner: u64,
    facts: Facts,
    image: Range<u64>,
    file: File,
    path: &Path,
) -> io::Result<Start> {
    let Some(place) = Place::take(owner) else {
        return Ok(Start::Whole(
            "the node has loaded as many snapshots as it may, or as many of this namespace".into(),
        ));
    };
    let image = MemoryImage::of_file(&engine.0.memories, image, file, 0);
    let image = image.map_err(|error| with_path(path, error))?.with_memory(facts.memory_bytes as usize);
    Ok(Start::Snapshot(Arc::new(Snapshot { facts, image: Arc::new(image), _place: Some(place) })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ArtifactKey;

    #[test]
    fn the_oldest_snapshots_of_one_namespace_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path(), ArtifactKey([7; blake3::KEY_LEN])).unwrap();
        let path =
            |owner: u64, name: &str| dir.path().join(format!("module{}{name}.{EXTENSION}", of_owner(owner)));
        let write = |path: &Path, age_s: u64| {
            fs::write(path, vec![1; 64 << 10]).unwrap();
            let at = std::time::SystemTime::now() - std::time::Duration::from_secs(age_s);
            File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        };
        for (index, name) in ["oldest", "middle", "newest"].iter().enumerate() {
            write(&path(1, name), 30 - index as u64);
        }
        write(&path(2, "another"), 1_000);
        let own = of_owner(1);
        let keep = |bytes| store.remove_old_snapshots(&|name| name.contains(&own), bytes).unwrap();
        keep(200 << 10);
        assert!(path(1, "oldest").exists());
        keep(150 << 10);
        assert!(!path(1, "oldest").exists());
        assert!(path(1, "middle").exists() && path(2, "another").exists());
        keep(0);
        assert!(!path(1, "newest").exists() && path(2, "another").exists());
    }
}

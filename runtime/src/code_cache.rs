//! Caches the machine code of single functions on disk. An edited module, or one that shares a language runtime with another, is
//! compiled only where it is new.
//!
//! The key of an entry is Cranelift's hash of everything that determines a function's code, so namespaces can share entries. A
//! file holds batches of entries and is only appended to. When there is no room, the oldest file is evicted; entries of
//! the oldest quarter that are used are written again. Nothing is fsynced: every batch and every entry carries a keyed tag,
//! and an entry that a crash tore or that somebody changed is compiled again.

use crate::artifact::ArtifactKey;
use crate::limits::{CODE_CACHE_BATCH_BYTES, CODE_CACHE_ENTRY_MAX_BYTES, CODE_CACHE_FILES};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The context of the derived key. It includes the version of the file format, so files of another version do not verify.
const CONTEXT: &str = "orama functions, code cache, version 1";
/// Begins each batch.
const MARK: &[u8; 8] = b"orama-c1";
const TAG_BYTES: usize = blake3::OUT_LEN;
/// The head of a batch: the mark, the number of entries, the bytes of their values with tags, and a tag over these and the index.
const HEAD_BYTES: usize = MARK.len() + 4 + 4 + TAG_BYTES;
/// An entry of a batch's index: the key and the length of the value.
const INDEX_ENTRY_BYTES: usize = KEY_BYTES + 4;
const KEY_BYTES: usize = 32;
const EXTENSION: &str = "code";

type Key = [u8; KEY_BYTES];

/// A node's cache of machine code. The first compilation reads its index.
pub struct CodeCache {
    dir: PathBuf,
    key: [u8; blake3::KEY_LEN],
    max_bytes: u64,
    index: OnceLock<RwLock<Index>>,
    batch: Mutex<Batch>,
}

/// The locations of all entries.
#[derive(Default)]
struct Index {
    places: HashMap<Key, Place>,
    /// The oldest first.
    files: VecDeque<CodeFile>,
    /// The first young file. Used entries of older files are written again.
    first_young_file: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    file: u32,
    offset: u32,
    /// Length of the value. Its tag follows it.
    length: u32,
}

struct CodeFile {
    number: u32,
    file: Arc<File>,
    bytes: u64,
}

/// Entries that are not yet written.
#[derive(Default)]
struct Batch {
    index: Vec<(Key, u32)>,
    keys: HashSet<Key>,
    /// Values, each followed by its tag.
    data: Vec<u8>,
}

impl CodeCache {
    /// A cache of at most `max_bytes` in `dir`. The key of its tags is derived from that of the artifacts.
    #[must_use]
    pub fn new(dir: PathBuf, key: &ArtifactKey, max_bytes: u64) -> Self {
        // Cranelift checks the version of an entry only after it received it. With the version in the key, files of another
        // version do not verify at all.
        let material = [key.bytes().as_slice(), cranelift_codegen::VERSION.as_bytes()].concat();
        Self::with_key(dir, blake3::derive_key(CONTEXT, &material), max_bytes)
    }

    /// A cache whose tags have this very key, which another process derived.
    pub(crate) fn with_key(dir: PathBuf, key: [u8; blake3::KEY_LEN], max_bytes: u64) -> Self {
        Self { dir, key, max_bytes, index: OnceLock::new(), batch: Mutex::default() }
    }

    /// What [`Self::with_key`] takes.
    pub(crate) fn settings(&self) -> (&Path, &[u8; blake3::KEY_LEN], u64) {
        (&self.dir, &self.key, self.max_bytes)
    }

    /// Writes the current batch. Called after each compilation of a module.
    pub(crate) fn flush(&self) {
        let batch = std::mem::take(&mut *self.batch());
        self.write(&batch);
    }

    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock()
    }

    fn index(&self) -> &RwLock<Index> {
        self.index.get_or_init(|| RwLock::new(Index::read(self)))
    }

    /// Writes a batch. One that cannot be written is lost, and its functions are compiled again another time.
    fn write(&self, batch: &Batch) {
        if !batch.index.is_empty() {
            let mut index = self.index().write();
            let _ = index.append(self, batch);
        }
    }

    fn file_max_bytes(&self) -> u64 {
        (self.max_bytes / CODE_CACHE_FILES).min(u64::from(u32::MAX))
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08x}.{EXTENSION}"))
    }

    /// The first hashed byte separates the tags of entries from those of indexes.
    fn entry_tag(&self, key: &Key, value: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(&[0]).update(key).update(value).finalize()
    }

    fn index_tag(&self, counts: &[u8], index: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(&[1]).update(counts).update(index).finalize()
    }

    fn read(&self, file: &File, key: &Key, place: Place) -> Option<Vec<u8>> {
        let mut value = vec![0; place.length as usize + TAG_BYTES];
        file.read_exact_at(&mut value, u64::from(place.offset)).ok()?;
        let tag: [u8; TAG_BYTES] = value.split_off(place.length as usize).try_into().ok()?;
        // `blake3::Hash` compares in constant time.
        (self.entry_tag(key, &value) == blake3::Hash::from(tag)).then_some(value)
    }
}

impl wasmtime::CacheStore for CodeCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let key = Key::try_from(key).ok()?;
        let (file, place, is_old) = {
            let index = self.index().read();
            let place = *index.places.get(&key)?;
            let file = index.files.iter().find(|file| file.number == place.file)?;
            (Arc::clone(&file.file), place, place.file < index.first_young_file)
        };
        let value = self.read(&file, &key, place);
        match &value {
            Some(value) if is_old => {
                self.insert(&key, value.clone());
            }
            Some(_) => {}
            None => {
                let mut index = self.index().write();
                if index.places.get(&key) == Some(&place) {
                    index.places.remove(&key);
                }
            }
        }
        value.map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let Ok(key) = Key::try_from(key) else { return false };
        if value.len() > CODE_CACHE_ENTRY_MAX_BYTES {
            return false;
        }
        let tag = self.entry_tag(&key, &value);
        let full = {
            let mut batch = self.batch();
            batch.push(key, &value, &tag);
            (batch.data.len() >= CODE_CACHE_BATCH_BYTES).then(|| std::mem::take(&mut *batch))
        };
        if let Some(batch) = full {
            self.write(&batch);
        }
        true
    }
}

impl std::fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeCache")
            .field("dir", &self.dir)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Batch {
    fn push(&mut self, key: Key, value: &[u8], tag: &blake3::Hash) {
        // A module may contain equal functions, and two threads may compile the same one.
        if !self.keys.insert(key) {
            return;
        }
        // Bounded by `CODE_CACHE_ENTRY_MAX_BYTES`.
        self.index.push((key, value.len() as u32));
        self.data.extend_from_slice(value);
        self.data.extend_from_slice(tag.as_bytes());
    }

    fn encode(&self, cache: &CodeCache) -> Vec<u8> {
        let mut index = Vec::with_capacity(self.index.len() * INDEX_ENTRY_BYTES);
        for (key, length) in &self.index {
            index.extend_from_slice(key);
            index.extend_from_slice(&length.to_le_bytes());
        }
        let counts = [self.index.len() as u32, self.data.len() as u32].map(u32::to_le_bytes).concat();
        let tag = cache.index_tag(&counts, &index);
        [MARK.as_slice(), &counts, tag.as_bytes(), &index, &self.data].concat()
    }
}

impl Index {
    /// Reads the index of every file up to its first batch that does not verify, and truncates the file there.
    fn read(cache: &CodeCache) -> Self {
        let mut index = Self::default();
        let mut numbers: Vec<u32> = fs::read_dir(&cache.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| number_of(&entry.ok()?.path()))
            .collect();
        numbers.sort_unstable();
        for number in numbers {
            let path = cache.path(number);
            let Ok(file) = File::options().read(true).write(true).open(&path) else { continue };
            let bytes = index.read_file(cache, number, &file);
            if bytes == 0 || file.set_len(bytes).is_err() {
                index.places.retain(|_, place| place.file != number);
                let _ = fs::remove_file(&path);
                continue;
            }
            index.files.push_back(CodeFile { number, file: Arc::new(file), bytes });
        }
        // The configured size may be lower than before.
        index.make_room(cache, 0);
        index.update_first_young_file(cache);
        index
    }

    /// Reads the leading batches that verify, and returns their length in bytes.
    fn read_file(&mut self, cache: &CodeCache, number: u32, file: &File) -> u64 {
        let length = file.metadata().map_or(0, |found| found.len()).min(u64::from(u32::MAX));
        let mut at = 0;
        while let Some(bytes) = self.read_batch(cache, number, file, at, length) {
            at += bytes;
        }
        at
    }

    fn read_batch(&mut self, cache: &CodeCache, number: u32, file: &File, at: u64, end: u64) -> Option<u64> {
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, at).ok()?;
        let (mark, rest) = head.split_at(MARK.len());
        let (counts, tag) = rest.split_at(8);
        let count = |from: usize| Some(u32::from_le_bytes(counts.get(from..from + 4)?.try_into().ok()?));
        let (entries, data_bytes) = (count(0)?, count(4)?);
        let index_bytes = entries as usize * INDEX_ENTRY_BYTES;
        let bytes = HEAD_BYTES as u64 + index_bytes as u64 + u64::from(data_bytes);
        if mark != MARK || at + bytes > end {
            return None;
        }
        let mut index = vec![0; index_bytes];
        file.read_exact_at(&mut index, at + HEAD_BYTES as u64).ok()?;
        let tag: [u8; TAG_BYTES] = tag.try_into().ok()?;
        if cache.index_tag(counts, &index) != blake3::Hash::from(tag) {
            return None;
        }
        let mut offset = at + (HEAD_BYTES + index_bytes) as u64;
        for entry in index.chunks_exact(INDEX_ENTRY_BYTES) {
            let (key, length) = entry.split_at(KEY_BYTES);
            let length = u32::from_le_bytes(length.try_into().ok()?);
            let place = Place { file: number, offset: u32::try_from(offset).ok()?, length };
            self.places.insert(key.try_into().ok()?, place);
            offset += u64::from(length) + TAG_BYTES as u64;
        }
        Some(bytes)
    }

    fn append(&mut self, cache: &CodeCache, batch: &Batch) -> io::Result<()> {
        let bytes = batch.encode(cache);
        let length = bytes.len() as u64;
        if length > cache.file_max_bytes() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.make_room(cache, length);
        if self.files.back().is_none_or(|last| last.bytes + length > cache.file_max_bytes()) {
            self.begin_file(cache)?;
        }
        let Some(last) = self.files.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        last.file.write_all_at(&bytes, last.bytes).inspect_err(|_| {
            // A part that stays is truncated when the file is read again.
            let _ = last.file.set_len(last.bytes);
        })?;
        let mut offset = last.bytes + length - batch.data.len() as u64;
        for (key, length) in &batch.index {
            // Below `file_max_bytes`, which 32 bits hold.
            self.places.insert(*key, Place { file: last.number, offset: offset as u32, length: *length });
            offset += u64::from(*length) + TAG_BYTES as u64;
        }
        last.bytes += length;
        self.update_first_young_file(cache);
        Ok(())
    }

    fn begin_file(&mut self, cache: &CodeCache) -> io::Result<()> {
        let number = self.files.back().map_or(Some(0), |last| last.number.checked_add(1));
        let number = number.ok_or(io::ErrorKind::QuotaExceeded)?;
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let path = cache.path(number);
        let file = options.open(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // A confined child cannot make the folder, so its parent has.
            fs::create_dir_all(&cache.dir)?;
            options.open(&path)
        })?;
        let file = Arc::new(file);
        self.files.push_back(CodeFile { number, file, bytes: 0 });
        Ok(())
    }

    fn make_room(&mut self, cache: &CodeCache, bytes: u64) {
        while self.files.iter().map(|file| file.bytes).sum::<u64>() + bytes > cache.max_bytes {
            let Some(oldest) = self.files.pop_front() else { return };
            let _ = fs::remove_file(cache.path(oldest.number));
            self.places.retain(|_, place| place.file != oldest.number);
        }
    }

    fn update_first_young_file(&mut self, cache: &CodeCache) {
        let mut bytes = 0;
        let young_files = self.files.iter().rev().take_while(|file| {
            bytes += file.bytes;
            bytes <= cache.max_bytes / 4 * 3
        });
        self.first_young_file = young_files.last().or(self.files.back()).map_or(0, |file| file.number);
    }
}

fn number_of(path: &Path) -> Option<u32> {
    let is_ours = path.extension().is_some_and(|extension| extension == EXTENSION);
    u32::from_str_radix(path.file_stem()?.to_str()?, 16).ok().filter(|_| is_ours)
}

#[cfg(test)]
mod tests;

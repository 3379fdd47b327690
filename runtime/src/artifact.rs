//! Compiled code on disk. Mapping a forged file would run its code in this process. So every file carries a keyed tag over its
//! content and its identity, which is verified before the file is mapped.

use crate::engine::Engine;
use crate::function::WasmHash;
use crate::mapping::page_bytes;
use crate::memory::{ImageBytes, MemoryImage};
use crate::module::LoadedModule;
use crate::trap;
use crate::validate::ModuleError;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

mod snapshots;

/// Ends each file and names the version of its format. A file holds the code, the image of the memory in whole pages, its facts,
/// the tag, and this mark.
const MARK: &[u8; 8] = b"orama-a5";
const TAG_BYTES: usize = blake3::OUT_LEN;
const TRAILER_BYTES: u64 = (Facts::BYTES + TAG_BYTES + MARK.len()) as u64;

/// What a module was compiled to.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) bytes: Vec<u8>,
    pub(crate) image: ImageBytes,
    /// See [`LoadedModule::extra_pages`].
    pub(crate) extra_pages: u32,
}

/// What a file says of itself.
struct Facts {
    extra_pages: u32,
    /// Where the image begins in the file.
    image_offset: u64,
    /// The part of the memory that it sets.
    image: Range<u64>,
}

impl Facts {
    const BYTES: usize = size_of::<u32>() + 3 * size_of::<u64>();

    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.image_offset, self.image.start, self.image.end];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.extra_pages.to_le_bytes().into_iter().chain(numbers).collect()
    }

    fn read(mut from: &[u8]) -> io::Result<Self> {
        let mut pages = [0; size_of::<u32>()];
        from.read_exact(&mut pages)?;
        let mut number = || {
            let mut number = [0; size_of::<u64>()];
            from.read_exact(&mut number).map(|()| u64::from_le_bytes(number))
        };
        let (image_offset, start, end) = (number()?, number()?, number()?);
        Ok(Self { extra_pages: u32::from_le_bytes(pages), image_offset, image: start..end })
    }
}

/// The artifacts of a node.
pub struct ArtifactStore {
    dir: PathBuf,
    key: ArtifactKey,
}

/// The key of the tags. It never leaves the node.
pub struct ArtifactKey([u8; blake3::KEY_LEN]);

impl ArtifactKey {
    /// Reads the key, or creates one that only this user can read. Several processes may do so at once.
    ///
    /// # Errors
    /// When the file cannot be read or written, or does not have 32 bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::read_or_create(path).map_err(|error| with_path(path, error))
    }

    /// The key, for deriving others.
    pub(crate) fn bytes(&self) -> &[u8; blake3::KEY_LEN] {
        &self.0
    }

    fn read_or_create(path: &Path) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // Held until the whole key is written, so that no other process reads a part of it or creates another one.
        file.lock()?;
        let key = Self::read_or_fill(&mut file, path);
        // Closing the file is not enough: a process that another thread is just starting has the descriptor too.
        file.unlock()?;
        key
    }

    fn read_or_fill(file: &mut File, path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            let mut key = [0; blake3::KEY_LEN];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            file.write_all(&key)?;
            file.sync_all()?;
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                File::open(dir)?.sync_all()?;
            }
            return Ok(Self(key));
        }
        <[u8; blake3::KEY_LEN]>::try_from(bytes).map(Self).map_err(|bytes| {
            let (found, wanted) = (bytes.len(), blake3::KEY_LEN);
            let what =
                format!("the key has {found} bytes instead of {wanted}: remove the file, and modules are compiled again");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }
}

impl ArtifactStore {
    /// Opens the store in `dir`. Creates the directory if it is missing, and removes temporary files that a crash left.
    ///
    /// # Errors
    /// When the directory cannot be created or read. The message names it.
    pub fn open(dir: &Path, key: ArtifactKey) -> io::Result<Self> {
        fs::create_dir_all(dir).map_err(|error| with_path(dir, error))?;
        for entry in fs::read_dir(dir).map_err(|error| with_path(dir, error))? {
            let path = entry.map_err(|error| with_path(dir, error))?.path();
            if path.extension().is_some_and(|extension| extension == TEMPORARY) && is_abandoned(&path) {
                remove_if_exists(&path)?;
            }
        }
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// Engines with other settings use other file names, so nodes and versions can share a directory.
    fn path(&self, engine: &Engine, hash: &WasmHash) -> PathBuf {
        let compatibility = blake3::Hash::from(*engine.compatibility()).to_hex();
        self.dir.join(format!("{hash}-{}.cwasm", &compatibility[..16]))
    }

    /// The start of a tag, which covers engine, module and code. A file under another name does not verify.
    fn tag(&self, engine: &Engine, hash: &WasmHash) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(MARK).update(engine.compatibility()).update(hash.as_bytes());
        hasher
    }

    pub(crate) fn put(&self, engine: &Engine, hash: &WasmHash, code: &Code) -> io::Result<()> {
        let padding = vec![0; code.bytes.len().next_multiple_of(page_bytes()) - code.bytes.len()];
        let image_offset = (code.bytes.len() + padding.len()) as u64;
        let (range, image) = code.image.padded();
        let facts = Facts { extra_pages: code.extra_pages, image_offset, image: range }.to_bytes();
        let mut tag = self.tag(engine, hash);
        for part in [&code.bytes, &padding, &image, &facts] {
            tag.update(part);
        }
        let tag = *tag.finalize().as_bytes();
        write_atomically(&self.path(engine, hash), &[&code.bytes, &padding, &image, &facts, &tag, MARK])
    }

    /// Loads code that exists only in memory.
    ///
    /// # Safety
    /// `engine` must have compiled the code.
    pub(crate) unsafe fn load_from_memory(engine: &Engine, code: &Code) -> Result<LoadedModule, ModuleError> {
        // SAFETY: the caller guarantees that the engine compiled it.
        #[allow(clippy::disallowed_methods)]
        let module = unsafe { wasmtime::Module::deserialize(&engine.0.wasmtime, &code.bytes) };
        let image = MemoryImage::of_bytes(&engine.0.memories, &code.image);
        let mut loaded = LoadedModule::link(engine, &module.map_err(ModuleError::Compile)?, image)?;
        loaded.extra_pages = code.extra_pages;
        Ok(loaded)
    }

    /// Maps the artifact if this node wrote it. Removes one that is damaged, forged or refused by the engine.
    pub(crate) fn load(&self, engine: &Engine, hash: &WasmHash) -> io::Result<Stored> {
        let path = self.path(engine, hash);
        let Some(mut file) = open_if_exists(&path)? else { return Ok(Stored::Nothing) };
        let Some(facts) = self.verify(engine, hash, &mut file).map_err(|error| with_path(&path, error))?
        else {
            remove_if_exists(&path)?;
            return Ok(Stored::Nothing);
        };
        file.seek(SeekFrom::Start(0)).map_err(|error| with_path(&path, error))?;
        let image = file.try_clone().and_then(|file| {
            MemoryImage::of_file(&engine.0.memories, facts.image.clone(), file, facts.image_offset)
        });
        let image = image.map_err(|error| with_path(&path, error))?;
        // SAFETY: the tag shows that this node wrote the file, for this module and an engine with these settings. Files are
        // never changed in place, only replaced, and their directory belongs to the node's user alone.
        let module = unsafe { wasmtime::Module::deserialize_open_file(&engine.0.wasmtime, file) };
        let loaded = match module {
            Ok(module) => LoadedModule::link(engine, &module, image),
            // Nothing is wrong with the file.
            Err(error) if trap::is_out_of_resources(&error) => {
                let error = io::Error::new(io::ErrorKind::OutOfMemory, MappingError(error));
                return Err(with_path(&path, error));
            }
            Err(error) => Err(ModuleError::Compile(error)),
        };
        match loaded {
            Ok(mut loaded) => {
                loaded.extra_pages = facts.extra_pages;
                Ok(Stored::Module(Box::new(loaded)))
            }
            Err(why) => {
                remove_if_exists(&path)?;
                Ok(Stored::Refused(why))
            }
        }
    }

    /// The module's facts, if the file is authentic.
    fn verify(&self, engine: &Engine, hash: &WasmHash, file: &mut File) -> io::Result<Option<Facts>> {
        let Some(code_bytes) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else { return Ok(None) };
        let mut hasher = self.tag(engine, hash);
        hasher.update_reader(file.take(code_bytes))?;
        let (mut facts, mut tag, mut mark) = ([0; Facts::BYTES], [0; TAG_BYTES], [0; MARK.len()]);
        file.read_exact(&mut facts)?;
        file.read_exact(&mut tag)?;
        file.read_exact(&mut mark)?;
        hasher.update(&facts);
        // `blake3::Hash` compares in constant time.
        let is_authentic = mark == *MARK && hasher.finalize() == blake3::Hash::from(tag);
        if is_authentic { Facts::read(&facts).map(Some) } else { Ok(None) }
    }

    /// Reads a module's code, to be sent to another process; `None` where there is no valid artifact.
    pub(crate) fn read(&self, engine: &Engine, hash: &WasmHash) -> io::Result<Option<Code>> {
        let path = self.path(engine, hash);
        let Some(mut file) = open_if_exists(&path)? else { return Ok(None) };
        let Some(facts) = self.verify(engine, hash, &mut file).map_err(|error| with_path(&path, error))?
        else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(0)).map_err(|error| with_path(&path, error))?;
        let mut part = |bytes: u64| {
            let mut part = Vec::new();
            (&mut file).take(bytes).read_to_end(&mut part).map_err(|error| with_path(&path, error))?;
            Ok::<_, io::Error>(part)
        };
        let bytes = part(facts.image_offset)?;
        let image = part(facts.image.end.saturating_sub(facts.image.start))?;
        let image = ImageBytes { start: facts.image.start, bytes: image };
        Ok(Some(Code { bytes, image, extra_pages: facts.extra_pages }))
    }

    /// Removes a module's artifact and its snapshots.
    pub(crate) fn remove(&self, engine: &Engine, hash: &WasmHash) -> io::Result<()> {
        remove_if_exists(&self.path(engine, hash))?;
        self.remove_snapshots(engine, hash)
    }
}

/// What the store holds for a module.
pub(crate) enum Stored {
    /// No artifact, or a damaged one, which was removed.
    Nothing,
    /// An authentic artifact that the engine refused, which was removed.
    Refused(ModuleError),
    /// Mapped and linked code.
    Module(Box<LoadedModule>),
}

/// wasmtime could not map a file.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct MappingError(#[source] wasmtime::Error);

/// An error with the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .path.display())]
struct FileError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// Adds the path to an error. The kind is `OutOfMemory` when the process has reached its limit of files or mappings.
fn with_path(path: &Path, cause: io::Error) -> io::Error {
    let kind = if trap::is_resource_error(&cause) { io::ErrorKind::OutOfMemory } else { cause.kind() };
    io::Error::new(kind, FileError { path: path.to_owned(), cause })
}

fn open_if_exists(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(|error| with_path(path, error)),
    }
}

fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(with_path(path, error)),
        _ => Ok(()),
    }
}

const TEMPORARY: &str = "tmp";

/// Whether nothing writes the file any more. A writer holds a lock, which ends with its process.
fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Attempts of a write. Another process may take the temporary file for abandoned in the moment before it is locked.
const WRITE_ATTEMPTS: u32 = 3;

/// Writes a file atomically, also across a power cut and with several writers at once.
fn write_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        match try_write(path, parts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < WRITE_ATTEMPTS => attempt += 1,
            result => return result.map_err(|error| with_path(path, error)),
        }
    }
}

/// Pages of zeros that are left out together.
const SPARSE_PAGES: usize = 16;

/// Writes bytes, and leaves holes for runs of zeros, which most of a program's memory is.
fn write_sparse(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let page = page_bytes();
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    for run in bytes.chunks(SPARSE_PAGES * page) {
        if run.len() >= page && is_zero(run) {
            file.seek(SeekFrom::Current(run.len() as i64))?;
        } else {
            file.write_all(run)?;
        }
    }
    Ok(())
}

fn try_write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{:016x}.{TEMPORARY}", u64::from_le_bytes(unique)));
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.lock()?;
        for part in parts {
            write_sparse(&mut file, part)?;
        }
        // A hole at the end is part of the file, too.
        let end = file.stream_position()?;
        file.set_len(end)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().inspect_err(|_| {
        // The first error is the one to report. The next start removes a leftover file.
        let _ = fs::remove_file(&temporary);
    })
}

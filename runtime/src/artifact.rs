//! Compiled code on disk. Mapping a forged file would run its code in this process, so every file carries a keyed tag
//! over its content and its identity, and is checked before it is mapped.

use crate::engine::Engine;
use crate::function::WasmHash;
use crate::module::LoadedModule;
use crate::trap;
use crate::validate::ModuleError;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Behind the code stand the pages by which the module's memory is grown, the tag, and this mark, which also tells the
/// file's version.
const MARK: &[u8; 8] = b"orama-a2";
const PAGES_BYTES: usize = size_of::<u32>();
const TAG_BYTES: usize = blake3::OUT_LEN;
const TRAILER_BYTES: u64 = (PAGES_BYTES + TAG_BYTES + MARK.len()) as u64;

/// The node's artifacts.
pub struct ArtifactStore {
    dir: PathBuf,
    key: ArtifactKey,
}

/// The key of the tags; it never leaves the node.
pub struct ArtifactKey([u8; blake3::KEY_LEN]);

impl ArtifactKey {
    /// Reads the key, or makes one, readable by this user alone. Several processes may do so at once.
    ///
    /// # Errors
    /// When the file cannot be read or written, or has another length than 32 bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::read_or_make(path).map_err(|error| at(path, &error))
    }

    /// For keys that are derived from it.
    pub(crate) fn bytes(&self) -> &[u8; blake3::KEY_LEN] {
        &self.0
    }

    fn read_or_make(path: &Path) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // Held until the key is whole, so that nobody reads half of it or makes another one.
        file.lock()?;
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
                format!("has {found} bytes instead of {wanted}: remove it, and compiled code is made anew");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }
}

impl ArtifactStore {
    /// Opens the store in `dir`, which is made if it is not there. Temporary files that a crash left are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read; the message names it.
    pub fn open(dir: &Path, key: ArtifactKey) -> io::Result<Self> {
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
        for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
            let path = entry.map_err(|error| at(dir, &error))?.path();
            if path.extension().is_some_and(|extension| extension == TEMPORARY) && is_abandoned(&path) {
                remove_if_there(&path)?;
            }
        }
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// Artifacts of engines with other settings have other names, so that nodes and versions can share a directory.
    fn path(&self, engine: &Engine, hash: &WasmHash) -> PathBuf {
        let compatibility = blake3::Hash::from(*engine.compatibility()).to_hex();
        self.dir.join(format!("{hash}-{}.cwasm", &compatibility[..16]))
    }

    /// A tag over the code, the module and the engine it belongs to: a file under another name does not verify.
    fn tag(&self, engine: &Engine, hash: &WasmHash) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(MARK).update(engine.compatibility()).update(hash.as_bytes());
        hasher
    }

    pub(crate) fn put(
        &self,
        engine: &Engine,
        hash: &WasmHash,
        code: &[u8],
        extra_pages: u32,
    ) -> io::Result<()> {
        let pages = extra_pages.to_le_bytes();
        let tag = *self.tag(engine, hash).update(code).update(&pages).finalize().as_bytes();
        write_atomically(&self.path(engine, hash), &[code, &pages, &tag, MARK])
    }

    /// Loads code that is nowhere but in memory.
    ///
    /// # Safety
    /// It must be what `engine` has made of a module.
    pub(crate) unsafe fn load_made(engine: &Engine, code: &[u8]) -> Result<LoadedModule, ModuleError> {
        // SAFETY: the caller's promise.
        #[allow(clippy::disallowed_methods)]
        let module = unsafe { wasmtime::Module::deserialize(&engine.0.wasmtime, code) };
        let module = module.map_err(|error| ModuleError::Compile(format!("{error:#}")))?;
        LoadedModule::link(engine, &module)
    }

    /// Maps the artifact when it is this node's. One that is damaged, forged or refused by the engine is removed.
    pub(crate) fn load(&self, engine: &Engine, hash: &WasmHash) -> io::Result<Stored> {
        let path = self.path(engine, hash);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Nothing),
            Err(error) => return Err(at(&path, &error)),
        };
        let mut found = Stored::Nothing;
        if let Some(extra_pages) = self.verify(engine, hash, &mut file).map_err(|error| at(&path, &error))? {
            file.seek(SeekFrom::Start(0)).map_err(|error| at(&path, &error))?;
            // SAFETY: the tag shows that this node wrote the file, for this module and an engine with these settings;
            // files are never changed in place, only replaced, and their directory belongs to the node's user alone.
            let module = unsafe { wasmtime::Module::deserialize_open_file(&engine.0.wasmtime, file) };
            let module = match module {
                Ok(module) => module,
                // Nothing is wrong with the file.
                Err(error) if trap::is_no_room(&error) => {
                    let error = io::Error::new(io::ErrorKind::OutOfMemory, format!("{error:#}"));
                    return Err(at(&path, &error));
                }
                Err(error) => {
                    remove_if_there(&path)?;
                    return Ok(Stored::Refused(ModuleError::Compile(format!("{error:#}"))));
                }
            };
            found = match LoadedModule::link(engine, &module) {
                Ok(mut loaded) => {
                    loaded.extra_pages = extra_pages;
                    return Ok(Stored::Module(Box::new(loaded)));
                }
                Err(why) => Stored::Refused(why),
            };
        }
        remove_if_there(&path)?;
        Ok(found)
    }

    /// The pages that it says, when it is authentic.
    fn verify(&self, engine: &Engine, hash: &WasmHash, file: &mut File) -> io::Result<Option<u32>> {
        let Some(code_bytes) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else { return Ok(None) };
        let mut hasher = self.tag(engine, hash);
        hasher.update_reader(file.take(code_bytes))?;
        let (mut pages, mut tag, mut mark) = ([0; PAGES_BYTES], [0; TAG_BYTES], [0; MARK.len()]);
        file.read_exact(&mut pages)?;
        file.read_exact(&mut tag)?;
        file.read_exact(&mut mark)?;
        hasher.update(&pages);
        // `blake3::Hash` compares in constant time.
        let is_authentic = mark == *MARK && hasher.finalize() == blake3::Hash::from(tag);
        Ok(is_authentic.then_some(u32::from_le_bytes(pages)))
    }

    pub(crate) fn remove(&self, engine: &Engine, hash: &WasmHash) -> io::Result<()> {
        remove_if_there(&self.path(engine, hash))
    }
}

/// What the store has of a module.
pub(crate) enum Stored {
    /// No artifact, or one that was damaged and is gone now.
    Nothing,
    /// This node's artifact, which the engine does not take.
    Refused(ModuleError),
    /// Code that is mapped and linked.
    Module(Box<LoadedModule>),
}

/// The error with its file. One that says that the process has as many files or mappings as it may is of the kind
/// `OutOfMemory`.
fn at(path: &Path, error: &io::Error) -> io::Error {
    let kind = if trap::no_room(error) { io::ErrorKind::OutOfMemory } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

const TEMPORARY: &str = "tmp";

/// Whether nobody writes the file any more: a writer holds a lock, which goes with its process.
fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Tries of a write whose temporary file was taken for abandoned in the moment before it was locked.
const WRITE_TRIES: u32 = 3;

/// Writes a file that is either whole or not there: also after a power cut, and when two write it at once.
fn write_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match try_write(path, parts) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < WRITE_TRIES => tries += 1,
            result => return result.map_err(|error| at(path, &error)),
        }
    }
}

fn try_write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{:016x}.{TEMPORARY}", u64::from_le_bytes(unique)));
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.lock()?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().inspect_err(|_| {
        // The first error is the one worth telling; a leftover is removed at the next start.
        let _ = fs::remove_file(&temporary);
    })
}

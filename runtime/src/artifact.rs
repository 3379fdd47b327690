//! Compiled code on disk. Mapping a forged file would run its code in this process, so every file carries a keyed tag
//! over its content and its identity, and is checked before it is mapped.

use crate::engine::Engine;
use crate::function::WasmHash;
use crate::module::LoadedModule;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Behind the code stand the tag and this mark, which also tells the file's version.
const MARK: &[u8; 8] = b"orama-a1";
const TAG_BYTES: usize = blake3::OUT_LEN;
const TRAILER_BYTES: u64 = (TAG_BYTES + MARK.len()) as u64;

/// The node's artifacts.
pub struct ArtifactStore {
    dir: PathBuf,
    key: ArtifactKey,
}

/// The key of the tags; it never leaves the node.
pub struct ArtifactKey([u8; blake3::KEY_LEN]);

impl ArtifactKey {
    /// Reads the key, or makes one, readable by this user alone.
    ///
    /// # Errors
    /// When the file cannot be read or written, or has another length than 32 bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => <[u8; blake3::KEY_LEN]>::try_from(bytes).map(Self).map_err(|bytes| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} has {} bytes instead of {}: remove it, and compiled code is made anew", path.display(), bytes.len(), blake3::KEY_LEN),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; blake3::KEY_LEN];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                write_atomically(path, &[&key])?;
                Ok(Self(key))
            }
            Err(error) => Err(error),
        }
    }
}

impl ArtifactStore {
    /// Opens the store in `dir`, which is made if it is not there. Temporary files that a crash left are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, key: ArtifactKey) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == TEMPORARY) {
                fs::remove_file(path)?;
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

    pub(crate) fn put(&self, engine: &Engine, hash: &WasmHash, code: &[u8]) -> io::Result<()> {
        let tag = *self.tag(engine, hash).update(code).finalize().as_bytes();
        write_atomically(&self.path(engine, hash), &[code, &tag, MARK])
    }

    pub(crate) fn load(&self, engine: &Engine, hash: &WasmHash) -> io::Result<Option<LoadedModule>> {
        let path = self.path(engine, hash);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.verify(engine, hash, &mut file)? {
            file.seek(SeekFrom::Start(0))?;
            // SAFETY: the tag shows that this node wrote the file, for this module and an engine with these settings;
            // files are never changed in place, only replaced, and their directory belongs to the node's user alone.
            let module = unsafe { wasmtime::Module::deserialize_open_file(&engine.0.wasmtime, file) };
            if let Ok(loaded) = module.map_err(drop).and_then(|m| LoadedModule::link(engine, &m).map_err(drop)) {
                return Ok(Some(loaded));
            }
        }
        fs::remove_file(&path)?;
        Ok(None)
    }

    fn verify(&self, engine: &Engine, hash: &WasmHash, file: &mut File) -> io::Result<bool> {
        let Some(code_bytes) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else { return Ok(false) };
        let mut hasher = self.tag(engine, hash);
        hasher.update_reader(file.take(code_bytes))?;
        let (mut tag, mut mark) = ([0; TAG_BYTES], [0; MARK.len()]);
        file.read_exact(&mut tag)?;
        file.read_exact(&mut mark)?;
        // `blake3::Hash` compares in constant time.
        Ok(mark == *MARK && hasher.finalize() == blake3::Hash::from(tag))
    }

    pub(crate) fn remove(&self, engine: &Engine, hash: &WasmHash) -> io::Result<()> {
        match fs::remove_file(self.path(engine, hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

const TEMPORARY: &str = "tmp";

/// Writes a file that is either whole or not there: also after a power cut, and when two write it at once.
fn write_atomically(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{:016x}.{TEMPORARY}", u64::from_le_bytes(unique)));
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
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

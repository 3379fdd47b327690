//! The tar file. Parts are hashed as they are written and read; the manifest is the last part.

use super::{
    DATABASES, EVENTS, FORMAT, MANIFEST, MODULES, Manifest, OBJECTS, Part, RECORDS, REGISTRY, SECRETS_KEY,
    TransferError,
};
use crate::limits::TRANSFER_MANIFEST_MAX_BYTES;
use blake3::Hasher;
use orama_runtime::names::Namespace;
use orama_store::blob::cid;
use orama_store::causes::Problem;
use orama_store::files;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// Hashes all bytes that pass through.
struct Hashed<T> {
    inner: T,
    hasher: Hasher,
    bytes: u64,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: Hasher::new(), bytes: 0 }
    }

    fn part(&self) -> Part {
        Part { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() }
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}

/// An archive that is being written to a temporary file beside its final place.
pub(super) struct Writer {
    tar: Builder<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
    parts: BTreeMap<String, Part>,
}

impl Writer {
    /// Creates the file. Only its owner can read it, because it contains tenants' data.
    pub(super) fn create(path: &Path) -> Result<Self, TransferError> {
        if path.try_exists().map_err(TransferError::file(path))? {
            return Err(TransferError::Refused(
                format!("{} already exists and is not overwritten; choose another name", path.display())
                    .into(),
            ));
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".unfinished");
        let temporary = PathBuf::from(temporary);
        let file =
            File::options().write(true).create(true).truncate(true).mode(files::FILE_MODE).open(&temporary);
        let file = file.map_err(TransferError::file(&temporary))?;
        let tar = Builder::new(BufWriter::new(file));
        Ok(Self { tar, temporary, path: path.to_owned(), parts: BTreeMap::new() })
    }

    /// Adds a file as a part.
    pub(super) fn file(&mut self, name: &str, from: &Path) -> Result<(), TransferError> {
        let file = File::open(from).map_err(TransferError::file(from))?;
        let bytes = file.metadata().map_err(TransferError::file(from))?.len();
        self.part(name, bytes, file)
    }

    /// Adds a part.
    pub(super) fn part(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), TransferError> {
        let mut from = Hashed::new(from.take(bytes));
        self.append(name, bytes, &mut from)?;
        self.parts.insert(name.to_owned(), from.part());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: u64, from: impl Read) -> Result<(), TransferError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(files::FILE_MODE);
        self.tar.append_data(&mut header, name, from).map_err(TransferError::file(&self.temporary))
    }

    /// Writes the manifest, syncs the file and then gives it its name.
    pub(super) fn finish(mut self, mut manifest: Manifest) -> Result<Manifest, TransferError> {
        manifest.parts = std::mem::take(&mut self.parts);
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| TransferError::store("the manifest", error))?;
        self.append(MANIFEST, text.len() as u64, text.as_slice())?;
        let failed = |source| TransferError::File { path: self.temporary.clone(), source };
        let file = self.tar.into_inner().map_err(failed)?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&self.temporary, &self.path).map_err(failed)?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(TransferError::file(dir))?;
        Ok(manifest)
    }
}

/// Unpacks an archive into an empty folder and checks every part. Also returns the archive's id: the hash of its manifest.
pub(super) fn unpack(path: &Path, into: &Path) -> Result<(Manifest, String), TransferError> {
    let wrong = |problem: String| TransferError::Archive { path: path.to_owned(), problem: problem.into() };
    let cut = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong("the archive is truncated".to_owned()),
        _ => TransferError::Archive {
            path: path.to_owned(),
            problem: Problem::caused(format!("the archive cannot be read: {error}"), error),
        },
    };
    let file = File::open(path).map_err(TransferError::file(path))?;
    let mut tar = Archive::new(BufReader::new(file));
    let (mut parts, mut manifest) = (BTreeMap::new(), None);
    for entry in tar.entries().map_err(cut)? {
        let entry = entry.map_err(cut)?;
        if manifest.is_some() {
            return Err(wrong("the archive has data after its manifest".to_owned()));
        }
        let name = entry.path().ok().and_then(|name| name.to_str().map(str::to_owned)).unwrap_or_default();
        if name == MANIFEST {
            let mut text = Vec::new();
            entry.take(TRANSFER_MANIFEST_MAX_BYTES).read_to_end(&mut text).map_err(cut)?;
            let id = blake3::hash(&text).to_hex().to_string();
            manifest = Some((read_manifest(&text).map_err(wrong)?, id));
            continue;
        }
        if entry.header().entry_type() != EntryType::Regular || !is_part(&name) {
            return Err(wrong(format!("{name:?} is not a part of an Orama archive")));
        }
        let to = into.join(&name);
        if let Some(dir) = to.parent() {
            files::private_dir(dir).map_err(TransferError::file(dir))?;
        }
        let part = store(entry, &to, cut)?;
        if parts.insert(name.clone(), part).is_some() {
            return Err(wrong(format!("{name} is a duplicate")));
        }
    }
    let Some((manifest, id)) = manifest else {
        return Err(wrong(
            "the archive has no manifest: it is truncated, or not an Orama archive".to_owned(),
        ));
    };
    for (name, expected) in &manifest.parts {
        match parts.remove(name) {
            None => return Err(wrong(format!("{name} is missing"))),
            Some(found) if found != *expected => {
                return Err(wrong(format!("{name} is damaged: it differs from the hash in the manifest")));
            }
            Some(_) => {}
        }
    }
    if let Some(name) = parts.keys().next() {
        return Err(wrong(format!("{name} is not in the manifest")));
    }
    for needed in [REGISTRY, EVENTS] {
        if !manifest.parts.contains_key(needed) {
            return Err(wrong(format!("{needed} is missing")));
        }
    }
    Ok((manifest, id))
}

fn read_manifest(text: &[u8]) -> Result<Manifest, String> {
    #[derive(serde::Deserialize)]
    struct Form {
        format: u32,
    }
    let form: Form =
        serde_json::from_slice(text).map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if form.format != FORMAT {
        return Err(format!(
            "it has format {}, and this version reads format {FORMAT}: update this program",
            form.format
        ));
    }
    serde_json::from_slice(text).map_err(|error| format!("its manifest cannot be read: {error}"))
}

/// Checks the name of a part, because it becomes a path.
fn is_part(name: &str) -> bool {
    match name.split_once('/') {
        None => [REGISTRY, EVENTS, RECORDS, SECRETS_KEY].contains(&name),
        Some((MODULES | OBJECTS, id)) => cid::is_valid(id),
        Some((DATABASES, file)) => file.strip_suffix(".db").is_some_and(|name| Namespace::new(name).is_ok()),
        Some(_) => false,
    }
}

fn store(
    from: impl Read,
    to: &Path,
    cut: impl Fn(io::Error) -> TransferError,
) -> Result<Part, TransferError> {
    let mut from = Hashed::new(from);
    let file = File::options().write(true).create(true).truncate(true).mode(files::FILE_MODE).open(to);
    let mut file = file.map_err(TransferError::file(to))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = from.read(&mut buffer).map_err(&cut)?;
        if read == 0 {
            return Ok(from.part());
        }
        file.write_all(buffer.get(..read).unwrap_or_default()).map_err(TransferError::file(to))?;
    }
}
